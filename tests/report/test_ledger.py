"""The ledger balances when the books are true, and names what does not when one of them is not."""

from __future__ import annotations

import pytest
from msgspec import structs

from trt_dp.report.ledger import Books, balance
from trt_dp.report.sections import Account, WorkerLedger


def account(requests: int) -> Account:
    """So many requests of ten input tokens each."""
    return Account(requests=requests, input_tokens=10 * requests)


def worker(number: int, answered: int, failed: int, lost: int) -> WorkerLedger:
    """A worker whose own books balance."""
    return WorkerLedger(
        worker=number,
        sent=account(answered + failed + lost),
        answered=account(answered),
        failed=account(failed),
        lost=account(lost),
    )


TRUE = Books(
    submitted=account(100),
    never_sent=account(5),
    resent=account(7),
    journal_answered=90,
    journal_failed=6,
    failed_unsent=1,
    workers=[worker(0, 60, 2, 7), worker(1, 30, 3, 0)],
)


def test_true_books_balance():
    """Submitted and sent again equal sent and never sent, and every worker accounts for what it was sent."""
    ledger = balance(TRUE)
    assert ledger.errors == []
    assert (ledger.sent, ledger.answered, ledger.lost) == (account(102), account(90), account(7))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"submitted": account(101)}, "submitted + sent again: 108, but sent + never sent: 107"),
        ({"never_sent": account(4)}, "submitted + sent again: 107, but sent + never sent: 106"),
        ({"resent": account(8)}, "submitted + sent again: 108, but sent + never sent: 107"),
        (
            {"submitted": Account(requests=100, input_tokens=999)},
            "input tokens submitted + sent again: 1,069, but sent + never sent: 1,070",
        ),
        ({"journal_answered": 89}, "answered by workers: 90, but answers in the journal: 89"),
        ({"journal_failed": 7}, "failed: 6, but failures in the journal: 7"),
        ({"failed_unsent": 0}, "failed: 5, but failures in the journal: 6"),
    ],
)
def test_one_wrong_entry_is_named_with_both_numbers(changes, said):
    """Whichever entry is wrong, the ledger says which sums differ and by what."""
    assert said in balance(structs.replace(TRUE, **changes)).errors


@pytest.mark.parametrize("way", ["answered", "failed", "lost"])
def test_a_worker_whose_answers_do_not_add_up_is_named(way):
    """A request that a worker was sent and that nobody accounts for is noticed at that worker."""
    first, second = TRUE.workers
    wrong = structs.replace(second, **{way: account(getattr(second, way).requests + 1)})
    errors = balance(structs.replace(TRUE, workers=[first, wrong])).errors
    assert "worker 1: requests sent: 33, but answered + failed + lost: 34" in errors
    assert "worker 1: input tokens sent: 330, but answered + failed + lost: 340" in errors
