"""The ledger's entries: what a sitting found in the journal when it began, and what is there when it ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from msgspec import Struct

from trt_dp.coordinator.record.journal import Journal, Mask
from trt_dp.coordinator.record.tally import Tally
from trt_dp.dataset.line_table import Column
from trt_dp.report.ledger import Books
from trt_dp.report.sections import Account


class Opening(Struct, frozen=True):
    """What was not completed when a sitting began, and how many had been answered or had failed."""

    pending: Mask
    answered: int
    failed: int


def opening(journal: Journal) -> Opening:
    """The state of the journal before a sitting changes it."""
    completed, failed = journal.completed, int(journal.failed.sum())
    return Opening(~completed, int(completed.sum()) - failed, failed)


def books(before: Opening, journal: Journal, tally: Tally, input_tokens: Column | None) -> Books:
    """What this sitting did, from both sides."""
    after = opening(journal)
    return Books(
        submitted=_account(before.pending, input_tokens),
        resent=tally.resent.account(),
        never_sent=_account(before.pending & ~tally.was_sent, input_tokens),
        journal_answered=after.answered - before.answered,
        journal_failed=after.failed - before.failed,
        failed_unsent=tally.failed_unanswered,
        workers=tally.ledgers(),
    )


def how_to_resume(what: str, journal: Journal, folder: Path) -> str:
    """What ended a run, with what is saved of it and what to do."""
    completed = int(journal.completed.sum())
    return (
        f"{what}. {completed:,} of {len(journal.completed):,} requests are completed and saved in {folder}. "
        f"To resume, repeat the command with --output {folder}"
    )


def _account(which: Mask, input_tokens: Column | None) -> Account:
    tokens = 0 if input_tokens is None else int(input_tokens[which].sum(dtype=np.int64))
    return Account(requests=int(which.sum()), input_tokens=tokens)
