"""What is done to one run, drawn from its seed and nothing else."""

from __future__ import annotations

import random

from msgspec import Struct

STALL_SECONDS = 2.0
START_SECONDS = 10.0  # enough for a real start on a busy machine
START = -1.0  # before there is a worker
ONCE = (
    *("mute", "raise_submit", "raise_step", "hang", "leak", "leave", "segfault", "abort", "killed"),
    *("twice", "stranger", "beyond", "negative", "lengths", "ready_again"),
    *("garbage", "noise", "huge", "half_and_die", "half_and_stall"),
)
POISON = (
    "raise_submit",
    "raise_step",
    "leak",
    "leave",
    "segfault",
    "abort",
    "killed",
    "hang",
    "mute",
)
STRIKES = {
    "kill_worker": 8,
    "kill_young": 5,
    "kill_rank": 3,
    "kill_guard": 1.5,
    "stop_guard": 1,
    "kill_coordinator": 3,
    "stop_short": 2,
    "stop_long": 1,
    "stop_coordinator": 1,
    "interrupt": 1,
    "terminate": 1,
    "interrupt_twice": 1,
    "rival": 1,
    "alter_dataset": 0.5,
    "truncate_dataset": 0.5,
    "delete_dataset": 0.5,
}
CLOSE = ("raise", "leave", "segfault", "killed")


class Strike(Struct, frozen=True):
    """Something done from outside when the run has come to `at` of its answers, and `delay` seconds later."""

    kind: str
    at: float
    delay: float = 0.0
    pick: int = 0


class Misdeed(Struct, frozen=True):
    """Something that a worker does itself when it meets this request."""

    kind: str
    index: int


class Plan(Struct, frozen=True):
    """One run: what it is, and what is done to it, from outside and from inside."""

    seed: int
    inner: str
    requests: int
    workers: int
    settings: dict[str, str]
    strikes: tuple[Strike, ...] = ()
    once: tuple[Misdeed, ...] = ()
    poison: tuple[Misdeed, ...] = ()
    conditions: tuple[str, ...] = ()  # of the first sitting, the second, and so on
    stall_seconds: float = STALL_SECONDS
    max_restarts: int = 5
    clock: bool = False
    launcher: str = "local"  # mpi becomes local where there is no MPI
    absent: tuple[int, ...] = ()  # launches, counted over the run, that never connect
    start_seconds: float = START_SECONDS
    form: str = "ids"  # of its dataset: ids or text in JSON lines, or ids in parquet

    @property
    def faults(self) -> int:
        """How many faults are in it, should all of them come to pass."""
        inside = len(self.once) + len(self.poison) + ("close" in self.settings)
        loading = "refuse_at" in self.settings
        starting = len(self.absent) + loading
        return len(self.strikes) + inside + starting + len(self.conditions) + self.clock


def draw(seed: int, *, faults: int = 6, form: str = "ids") -> Plan:
    """The plan of this seed, with about so many faults."""
    chance = random.Random(seed)
    scene = chance.choices(("storm", "poisoned", "crowd", "short"), (16, 2, 1, 3))[0]
    inner = "cpu" if scene == "storm" and chance.random() < 0.25 else "echo"
    requests = chance.randint(60, 160) if inner == "cpu" else chance.randint(300, 1600)
    workers = 64 if scene == "crowd" else chance.choice((1, 2, 2, 2, 3, 4))
    count = max(1, round(chance.gauss(faults, faults / 4)))
    outside = count - chance.randint(0, count // 2)
    return Plan(  # a new draw goes at the end: old seeds keep the rest of their plans
        seed=seed,
        inner=inner,
        requests=requests,
        workers=workers,
        settings=_settings(chance, inner, workers),
        strikes=tuple(_strikes(chance, outside)) if scene != "short" else (),
        once=tuple(_misdeeds(chance, ONCE, count - outside, requests)),
        poison=_poison(chance, scene, requests),
        conditions=_conditions(chance, scene),
        stall_seconds=STALL_SECONDS if workers < 64 else 15.0,
        clock=chance.random() < 0.15,
        launcher=_launcher(chance, scene, inner),
        absent=_absent(chance, scene, workers),
        form=form,
    )


def _launcher(chance: random.Random, scene: str, inner: str) -> str:
    """MPI in every fourth storm over echo."""
    return "mpi" if scene == "storm" and inner == "echo" and chance.random() < 0.25 else "local"


def _absent(chance: random.Random, scene: str, workers: int) -> tuple[int, ...]:
    """One or two launches that never connect, now and then: each costs the start limit."""
    if scene not in ("storm", "poisoned") or chance.random() > 0.2:
        return ()
    return tuple(sorted(chance.sample(range(1, workers + 3), chance.randint(1, 2))))


def _settings(chance: random.Random, inner: str, workers: int) -> dict[str, str]:
    capacity = chance.choice((4, 8, 16, 32))
    settings = {"inner": inner, "capacity": str(capacity)}
    if inner == "echo":
        batch = chance.choice((2, 4, 8))
        settings |= {"batch": str(batch), "step_seconds": f"{chance.uniform(0.004, 0.02):.4f}"}
    if workers < 64 and chance.random() < 0.3:
        settings["load_seconds"] = f"{chance.uniform(0.1, 0.6):.2f}"
    if chance.random() < 0.1:
        settings["refuse_at"] = str(chance.randint(1, 5))
    if chance.random() < 0.15:
        settings["close"] = chance.choice(CLOSE)
    return settings


def _strikes(chance: random.Random, count: int) -> list[Strike]:
    """In the order in which they come; more of them at the very start and near the end than between."""
    kinds = chance.choices(list(STRIKES), list(STRIKES.values()), k=count)
    strikes = []
    for kind in kinds:
        at = chance.choice((START, 0.0, 0.995, 1.0)) if chance.random() < 0.3 else chance.random()
        delay = chance.choice((0.0, chance.uniform(0, 0.05), chance.uniform(0, 0.6)))
        strikes.append(Strike(kind, round(at, 4), round(delay, 4), chance.randrange(1 << 20)))
    return sorted(strikes, key=lambda strike: strike.at)


def _misdeeds(
    chance: random.Random, kinds: tuple[str, ...], count: int, requests: int
) -> list[Misdeed]:
    places = chance.sample(range(requests), count)
    return [Misdeed(chance.choice(kinds), place) for place in places]


def _poison(chance: random.Random, scene: str, requests: int) -> tuple[Misdeed, ...]:
    if scene == "poisoned":
        return tuple(_misdeeds(chance, POISON[:-2], chance.randint(1, 4), requests))
    return tuple(_misdeeds(chance, POISON, int(chance.random() < 0.1), requests))


def _conditions(chance: random.Random, scene: str) -> tuple[str, ...]:
    """A disk too small for the journal or the export, few descriptors, little memory, a folder that takes nothing."""
    if scene != "short":
        return ()
    share = chance.choice((0.0, chance.random(), 1.05))
    kinds = (f"disk={share:.3f}", f"file={chance.random():.3f}", "readonly")
    limits = (f"nofile={chance.randint(12, 40)}", f"as={chance.randint(200, 900) << 20}")
    return tuple(chance.sample(kinds + limits, chance.randint(1, 3)))
