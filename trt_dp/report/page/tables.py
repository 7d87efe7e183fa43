"""The tables of a run: workers, failures, deaths, the ledger, sittings, energy and environment."""

from __future__ import annotations

from trt_dp.report.page.html import Child, Markup, el, section, table
from trt_dp.report.page.numbers import Numbers, count, percent, rate, seconds

PHASES = {
    "index": "index", "start": "start", "load": "load", "feed": "feed", "drain": "drain",
    "sort": "sort", "stop": "stop",
}  # fmt: skip
_WAYS = ("submitted", "sent", "resent", "never_sent", "answered", "failed", "lost")


def workers(numbers: Numbers) -> Markup | None:
    """What each worker did."""
    if not numbers.report.workers:
        return None
    columns = (
        ("Requests", "requests", count), ("Share", "share", percent), ("Input tokens", "input_tokens", count),
        ("Output tokens", "output_tokens", count), ("Output tokens/s", "output_throughput_tok_s", rate),
        ("Load", "load_seconds", seconds), ("Idle", "idle_seconds", seconds), ("Deaths", "deaths", count),
    )  # fmt: skip
    rows: list[list[Child]] = [
        [
            str(worker.worker),
            ", ".join(worker.devices) or "CPU",
            *(numbers.show(f"workers.{i}.{name}", form) for _, name, form in columns),
        ]
        for i, worker in enumerate(numbers.report.workers)
    ]
    head: list[Child] = [
        "Worker",
        "Devices",
        *(numbers.term(title, f"workers.{name}") for title, name, _ in columns),
    ]
    return section("workers", "Workers", table("Workers", head, rows))


def hosts(numbers: Numbers) -> Markup | None:
    """What each host contributed."""
    if not numbers.report.hosts:
        return None
    columns = (
        ("Workers", "workers", count), ("Requests", "requests", count), ("Share", "share", percent),
        ("Output tokens", "output_tokens", count), ("Output tokens/s", "output_throughput_tok_s", rate),
        ("Load", "load_seconds", seconds), ("Deaths", "deaths", count),
    )  # fmt: skip
    rows: list[list[Child]] = [
        [host.host, *(numbers.show(f"hosts.{i}.{name}", form) for _, name, form in columns)]
        for i, host in enumerate(numbers.report.hosts)
    ]
    head: list[Child] = [
        "Host",
        *(numbers.term(title, f"hosts.{name}") for title, name, _ in columns),
    ]
    return section("hosts", "Hosts", table("Hosts", head, rows))


def failures(numbers: Numbers) -> Markup | None:
    """Failures by reason, with examples."""
    groups = numbers.report.failures
    if not groups:
        return None
    rows: list[list[Child]] = [
        [
            el("span", el("strong", group.kind), ": ", group.message),
            numbers.show(f"failures.{i}.requests", count),
            el("ul", *(el("li", example) for example in group.examples)),
        ]
        for i, group in enumerate(groups)
    ]
    head: list[Child] = [
        "Reason",
        numbers.term("Requests", "failures.requests"),
        "Examples (task_id: reason)",
    ]
    return section(
        "failures", "Failures", table("Failures by reason", head, rows, class_="left-last")
    )


def deaths(numbers: Numbers) -> Markup | None:
    """Every death of a worker."""
    found = numbers.report.deaths
    if not found:
        return None
    rows: list[list[Child]] = [
        [
            str(death.worker),
            numbers.show(f"deaths.{i}.at_seconds", seconds),
            numbers.show(f"deaths.{i}.requests", count),
            numbers.show(f"deaths.{i}.back_after_seconds", seconds),
            death.reason,
        ]
        for i, death in enumerate(found)
    ]
    named = numbers.term
    head: list[Child] = [
        "Worker", named("At", "deaths.at_seconds"), named("In flight", "deaths.requests"),
        named("Back after", "deaths.back_after_seconds"), "Reason",
    ]  # fmt: skip
    return section("deaths", "Deaths", table("Deaths of workers", head, rows, class_="left-last"))


def ledger(numbers: Numbers) -> Markup | None:
    """Every request accounted for."""
    found = numbers.report.ledger
    if found is None:
        return None
    errors = [
        el("p", f"This does not balance: {error}.", class_="advice bad") for error in found.errors
    ]
    good = el("p", "It balances: submitted + sent again = sent + never sent, and sent = answered + failed + lost, "
              "for each worker and in the journal.", class_="note")  # fmt: skip
    rows: list[list[Child]] = [_ledger_row(numbers, "all", "ledger", _WAYS)]
    ways = ("sent", "answered", "failed", "lost")
    rows += [
        _ledger_row(numbers, f"worker {worker.worker}", f"ledger.workers.{i}", ways)
        for i, worker in enumerate(found.workers)
    ]
    titles = [
        numbers.term(way.replace("_", " ").replace("resent", "sent again"), f"ledger.{way}")
        for way in _WAYS
    ]
    shown = table("Requests (input tokens)", ["", *titles], rows)
    return section("ledger", "Ledger", *(errors or [good]), shown)


def _ledger_row(numbers: Numbers, name: str, path: str, ways: tuple[str, ...]) -> list[Child]:
    row: list[Child] = [name]
    for way in _WAYS:
        if way in ways:
            requests = numbers.show(f"{path}.{way}.requests", count)
            tokens = numbers.show(f"{path}.{way}.input_tokens", count)
            row.append(el("span", requests, el("span", " (", tokens, ")", class_="note")))
        else:
            row.append("")
    return row


def sittings(numbers: Numbers) -> Markup | None:
    """What each session of a resumed run did."""
    found = numbers.report.sittings
    if len(found) < 2:
        return None
    rows: list[list[Child]] = [
        [
            sitting.began_utc,
            numbers.show(f"sittings.{i}.seconds", seconds),
            numbers.show(f"sittings.{i}.completed", count),
            numbers.show(f"sittings.{i}.deaths", count),
            sitting.ended,
        ]
        for i, sitting in enumerate(found)
    ]
    named = numbers.term
    head: list[Child] = [
        "Began (UTC)", named("Time", "sittings.seconds"), named("Completed", "sittings.completed"),
        named("Deaths", "sittings.deaths"), named("Ended", "sittings.ended"),
    ]  # fmt: skip
    return section("sittings", "Sessions of this run", table("Sessions", head, rows))


def details(numbers: Numbers) -> Markup:
    """Phases, the coordinator's cost, and where and how the run was made."""
    rows: list[list[Child]] = [
        [
            numbers.term(name, f"phases_seconds.{name}"),
            numbers.show(f"phases_seconds.{name}", seconds),
        ]
        for name in PHASES
        if name in numbers.report.phases_seconds
    ]
    return section(
        "details",
        "Details",
        el("div", table("Phases of the wall time", ["Phase", "Time"], rows), _cost(numbers), _facts(numbers),
           _environment(numbers), class_="columns"),
        _digest(numbers),
    )  # fmt: skip


def _cost(numbers: Numbers) -> Markup:
    lines = (
        ("CPU, in all", "coordinator.cpu_seconds", seconds),
        ("CPU before the first engine was ready", "coordinator.startup_cpu_seconds", seconds),
        (
            "CPU per request after that",
            "coordinator.cpu_us_per_request",
            lambda us: f"{us:,.1f} µs",
        ),
        ("Memory", "coordinator.peak_rss_bytes", lambda size: f"{size / 1e6:,.0f} MB"),
        ("Sending", "sending.busy_seconds", seconds),
        ("Receiving", "receiving.busy_seconds", seconds),
        ("Sorting", "sorting.busy_seconds", seconds),
    )
    rows: list[list[Child]] = [
        [numbers.term(title, path) if path.startswith("c") else title, numbers.show(path, form)]
        for title, path, form in lines
    ]
    return table("What the coordinator cost", ["", ""], rows)


def _facts(numbers: Numbers) -> Markup | None:
    """What the engines say of themselves: one value where all agree."""
    facts: dict[str, list[str]] = {}
    for worker in numbers.report.workers:
        for name, value in worker.facts.items():
            facts.setdefault(name, []).append(str(value))
    rows: list[list[Child]] = [
        [name.replace("_", " "), values[0] if len(set(values)) == 1 else " / ".join(values)]
        for name, values in facts.items()
    ]
    return table("What the engine reports", ["", ""], rows, class_="words") if rows else None


def _environment(numbers: Numbers) -> Markup | None:
    found = numbers.report.environment
    if found is None:
        return None
    rows: list[list[Child]] = [
        [name, str(value)]
        for group in (found.options, found.versions, found.machine)
        for name, value in group.items()
    ]
    return table("Environment", ["", ""], rows, class_="words")


def _digest(numbers: Numbers) -> Markup | None:
    digest = numbers.report.results_sha256
    return el("p", "results_sha256 ", el("code", digest), class_="note") if digest else None
