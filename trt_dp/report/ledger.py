"""Every request accounted for, from two sides: what was sent, and what the journal holds (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from trt_dp.report.sections import Account, Ledger, WorkerLedger


class Books(Struct, frozen=True, kw_only=True):
    """What was counted in one sitting: requests and input tokens that went each way."""

    submitted: Account
    never_sent: Account
    resent: Account
    journal_answered: int
    journal_failed: int
    failed_unsent: int
    workers: Sequence[WorkerLedger]


def balance(books: Books) -> Ledger:
    """The ledger of a sitting; `errors` says in sentences what does not balance."""
    sent, answered = _sum(books, "sent"), _sum(books, "answered")
    failed, lost = _sum(books, "failed"), _sum(books, "lost")
    return Ledger(
        submitted=books.submitted,
        sent=sent,
        resent=books.resent,
        never_sent=books.never_sent,
        answered=answered,
        failed=failed,
        lost=lost,
        journal_answered=books.journal_answered,
        journal_failed=books.journal_failed,
        workers=list(books.workers),
        errors=_errors(books, (sent, answered, failed, lost)),
    )


def _sum(books: Books, way: str) -> Account:
    accounts = [getattr(worker, way) for worker in books.workers]
    return Account(
        requests=sum(account.requests for account in accounts),
        input_tokens=sum(account.input_tokens for account in accounts),
    )


def _errors(books: Books, totals: tuple[Account, Account, Account, Account]) -> list[str]:
    sent, answered, failed, _ = totals
    checks = [
        ("submitted + sent again", books.submitted.requests + books.resent.requests,
         "sent + never sent", sent.requests + books.never_sent.requests),
        ("input tokens submitted + sent again",
         books.submitted.input_tokens + books.resent.input_tokens,
         "sent + never sent", sent.input_tokens + books.never_sent.input_tokens),
        ("answered by workers", answered.requests, "answers in the journal", books.journal_answered),
        ("failed", failed.requests + books.failed_unsent, "failures in the journal", books.journal_failed),
    ]  # fmt: skip
    for worker in books.workers:
        checks += _of_worker(worker)
    return [
        f"{one}: {left:,}, but {other}: {right:,}"
        for one, left, other, right in checks
        if left != right
    ]


def _of_worker(worker: WorkerLedger) -> list[tuple[str, int, str, int]]:
    ways = (worker.answered, worker.failed, worker.lost)
    name = f"worker {worker.worker}"
    other = "answered + failed + lost"
    return [
        (f"{name}: requests sent", worker.sent.requests, other, sum(w.requests for w in ways)),
        (f"{name}: input tokens sent", worker.sent.input_tokens, other,
         sum(w.input_tokens for w in ways)),
    ]  # fmt: skip
