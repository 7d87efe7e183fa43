"""The answers alone, as text: each is followed by a newline, and a request without an answer is an empty line."""

from __future__ import annotations

from typing import BinaryIO

from trt_dp.dataset.writers.contract import Answers


class Text:
    """Answers for people and pipes; where several have lines of their own, another format tells them apart."""

    name = "answers.txt"
    errors = None
    needs_text = True

    def write(self, answers: Answers, out: BinaryIO, errors: BinaryIO | None) -> None:
        """Write all answers."""
        del errors
        for answered in answers:
            failed = answered.line.error is not None
            texts = [""] if failed else [each.text or "" for each in answered.line.all_outputs]
            out.writelines(text.encode() + b"\n" for text in texts)
