"""Prints the first questions of a file of chats with the answers of a run."""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

import trt_dp

_SHOWN = 5


def main() -> None:
    """Print a few of them."""
    requests, run = map(Path, sys.argv[1:])
    answers = {answer["task_id"]: answer["text"] for answer in trt_dp.load_results(run)}
    with requests.open() as file:
        for place, line in enumerate(islice(file, _SHOWN)):
            print(f"\nQ: {json.loads(line)['messages'][-1]['content']}")
            print(f"A: {answers.get(place, '(failed)')}")


if __name__ == "__main__":
    main()
