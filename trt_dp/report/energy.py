"""What GPUs used, worked out from samples of their power (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct

from trt_dp.report.columns import Columns, Floats
from trt_dp.report.parts import extent
from trt_dp.report.sections import Energy, Gpu


class GpuSamples(Struct, frozen=True, kw_only=True):
    """One GPU: NaN where it does not tell; `counted_joules` is its own energy counter's difference, if it has one."""

    device: str
    name: str
    at: Floats
    watts: Floats
    utilisation: Floats
    memory_bytes: Floats
    clock_mhz: Floats
    counted_joules: float | None = None


class Consumption(Struct, frozen=True, kw_only=True):
    """What is known besides the samples: who ran where, when the run was served, and what an hour costs."""

    gpus: Sequence[GpuSamples]
    devices: Sequence[Sequence[str]]
    price_per_gpu_hour: float | None = None


def energy(
    used: Consumption, columns: Iterable[Columns], edges: Floats, served: float
) -> Energy | None:
    """The energy of a run; None where it had no GPU. What was not measured is null, not zero."""
    devices = {device for worker in used.devices for device in worker}
    if not devices:
        return None
    gpus = [_gpu(one, _last_answer(one.device, used, columns), edges, served) for one in used.gpus]
    joules = sum(gpu.energy_joules for gpu in gpus) if gpus else None
    tokens = int(extent(part.output_tokens for part in columns).total)
    hours = (edges[-1] - edges[0]) * len(devices) / 3600
    price = used.price_per_gpu_hour
    return Energy(
        gpus=gpus,
        joules=joules,
        joules_per_output_token=joules / tokens if joules is not None and tokens else None,
        idle_tail_joules=sum(gpu.idle_tail_joules for gpu in gpus) if gpus else None,
        gpu_hours=float(hours),
        cost=None if price is None else float(hours * price),
    )


def _gpu(samples: GpuSamples, last_answer: float, edges: Floats, served: float) -> Gpu:
    counted = samples.counted_joules
    used = counted if counted is not None else between(samples, edges[0], edges[-1])
    seconds = float(edges[-1] - edges[0])
    return Gpu(
        device=samples.device,
        name=samples.name,
        energy_joules=used,
        average_watts=used / seconds if seconds else 0.0,
        average_utilisation=_mean(samples.utilisation),
        peak_memory_bytes=_peak(samples.memory_bytes),
        idle_tail_joules=between(samples, last_answer, served),
        watts=_binned(samples, samples.watts, edges),
        utilisation=_binned(samples, samples.utilisation, edges),
        memory_bytes=_binned(samples, samples.memory_bytes, edges),
        clock_mhz=_binned(samples, samples.clock_mhz, edges),
    )


def _last_answer(device: str, used: Consumption, columns: Iterable[Columns]) -> float:
    """When the last worker on this GPU answered for the last time; the first moment if none did."""
    mine = [number for number, devices in enumerate(used.devices) if device in devices]
    found = extent(part.answered_at[np.isin(part.worker, mine)] for part in columns)
    return found.largest if found.count else _first_sent(columns)


def _first_sent(columns: Iterable[Columns]) -> float:
    return extent(part.sent_at for part in columns).least


def between(samples: GpuSamples, start: float, end: float) -> float:
    """Joules between two moments; power changes evenly between samples, and not before the first or after the last."""
    known = np.isfinite(samples.watts)
    if end <= start or not known.any() or not np.isfinite(start):
        return 0.0
    at, watts = samples.at[known], samples.watts[known]
    moments = np.unique(np.concatenate(([start, end], at[(at > start) & (at < end)])))
    power = np.interp(moments, at, watts)
    return float(((power[1:] + power[:-1]) / 2 * np.diff(moments)).sum())


def _binned(samples: GpuSamples, values: Floats, edges: Floats) -> list[float | None]:
    """The mean of the samples in each interval; null where there is none."""
    known = np.isfinite(values)
    counts, _ = np.histogram(samples.at[known], edges)
    sums, _ = np.histogram(samples.at[known], edges, weights=values[known])
    return [float(f"{s / n:.4g}") if n else None for s, n in zip(sums, counts, strict=True)]


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _peak(values: Floats) -> int | None:
    known = values[np.isfinite(values)]
    return int(known.max()) if len(known) else None
