"""The figures of many runs under faults: what was lost (nothing), and how soon each death was noticed and made good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from havoc.trial import Trial

Figures = dict[str, object]
_KILLS = {"kill_worker", "kill_young"}


def summarise(trials: Iterable[Trial]) -> Figures:
    """All of it, ready for JSON."""
    trials = list(trials)
    faults: Counter[str] = Counter()
    for trial in trials:
        faults.update(trial.faults)
    deaths = [death for trial in trials for death in trial.report.get("deaths", [])]
    detected = sorted(seconds for trial in trials for seconds in detections(trial))
    back = sorted(d["back_after_seconds"] for d in deaths if d["back_after_seconds"] is not None)
    held = [death["requests"] for death in deaths]
    return {
        "runs": len(trials),
        "faulted_runs": sum(bool(trial.faults) for trial in trials),
        "sittings": sum(trial.sittings for trial in trials),
        "requests": sum(trial.plan.requests for trial in trials),
        "faults": faults.total(),
        "faults_by_kind": dict(sorted(faults.items())),
        "lost": sum(trial.verdict.lost for trial in trials),
        "doubled": sum(trial.verdict.doubled for trial in trials),
        "wrong": sum(len(trial.verdict.wrong) for trial in trials),
        "bad_seeds": [trial.plan.seed for trial in trials if not trial.verdict.good],
        "innocent_given_up": sum(trial.verdict.blamed for trial in trials),
        "deaths_reported": len(deaths),
        "kills_timed": len(detected),
        "detected_p50_seconds": _quantile(detected, 0.5),
        "detected_p99_seconds": _quantile(detected, 0.99),
        "detected_max_seconds": _quantile(detected, 1.0),
        "back_p50_seconds": _quantile(back, 0.5),
        "back_max_seconds": _quantile(back, 1.0),
        "redone_per_death": round(sum(held) / len(held), 2) if held else None,
        "seconds": round(sum(trial.seconds for trial in trials), 1),
    }


def detections(trial: Trial) -> Iterator[float]:
    """From each SIGKILL of a worker in the last sitting until the coordinator had noticed the death."""
    report = trial.report
    if not report:
        return
    began, deaths = report["began_monotonic_seconds"], list(report["deaths"])
    for hit in trial.struck:
        if hit.kind not in _KILLS or hit.moment < began:
            continue
        for death in deaths:
            noticed = began + death["at_seconds"]
            if death["worker"] == hit.worker and noticed >= hit.moment:
                deaths.remove(death)
                if "SIGKILL" in death["reason"]:
                    yield noticed - hit.moment
                break


def as_text(figures: Figures) -> str:
    """The figures in a few lines; the last is the summary."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in figures["faults_by_kind"].items())
    ms = {name: _ms(value) for name, value in figures.items() if name.endswith("_seconds")}
    return (
        f"faults: {kinds}\n"
        f"deaths: {figures['deaths_reported']} in finished sittings, {figures['kills_timed']} kills timed: "
        f"noticed after {ms['detected_p50_seconds']} (p50), {ms['detected_p99_seconds']} (p99), "
        f"{ms['detected_max_seconds']} (max); work again after {ms['back_p50_seconds']} (p50), "
        f"{ms['back_max_seconds']} (max); {figures['redone_per_death']} requests redone for each\n"
        f"{figures['runs']} runs ({figures['sittings']} sittings, {figures['requests']:,} requests, "
        f"{figures['seconds']} s), {figures['faults']} faults: {figures['lost']} lost, "
        f"{figures['doubled']} doubled, {figures['wrong']} wrong, "
        f"{figures['innocent_given_up']} innocent given up"
    )


def _quantile(values: list[float], share: float) -> float | None:
    return round(values[min(len(values) - 1, int(len(values) * share))], 4) if values else None


def _ms(seconds: object) -> str:
    return f"{seconds * 1e3:.0f} ms" if isinstance(seconds, float) else "?"
