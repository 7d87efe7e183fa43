"""Energy: a recorded NVML with a known power curve gives known joules; what is not measured is absent."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from planted import Plan, observe
from recorded_nvml import Nvml

from trt_dp.coordinator.record.gpu_meter import GpuMeter
from trt_dp.report.columns import Columns
from trt_dp.report.energy import Consumption, energy
from trt_dp.report.page.energy import joules_text
from trt_dp.report.sections import Energy

EDGES = np.linspace(0.0, 40.0, 41)
TRUE_JOULES = 40 * 100 + 20 * 400


def columns(last: float = 30.0) -> list[Columns]:
    """Two requests: of worker 0 until `last`, of worker 1 until second 36."""
    (found,) = observe(Plan([100, 100], workers=1)).columns
    return [
        msgspec.structs.replace(
            found, worker=np.array([0, 1], np.int32), answered_at=np.array([last, 36.0])
        )
    ]


def measured(nvml: Nvml, devices=("0",), price: float | None = None) -> Energy | None:
    meter = GpuMeter(devices, nvml, nvml.clock)
    for tenth in range(401):
        nvml.now = tenth / 10
        meter.sample()
    used = Consumption(gpus=meter.samples(), devices=[["0"], ["1"]], price_per_gpu_hour=price)
    return energy(used, columns(), EDGES, 36.0)


@pytest.mark.parametrize("counter", [True, False])
def test_energy_is_that_of_the_power_curve(counter):
    """By the GPU's counter exactly, by its power samples within one percent."""
    found = measured(Nvml(counter=counter))
    assert found.joules == pytest.approx(TRUE_JOULES, rel=0.01)
    assert found.gpus[0].average_watts == pytest.approx(TRUE_JOULES / 40, rel=0.01)
    assert found.joules_per_output_token == pytest.approx(TRUE_JOULES / 200, rel=0.01)


def test_the_idle_tail_is_what_a_gpu_used_after_its_last_answer():
    """GPU 0 waited from second 30 to second 36 at 100 W."""
    assert measured(Nvml()).idle_tail_joules == pytest.approx(600, rel=0.05)


def test_the_curve_is_kept_over_time():
    """Power, utilisation, memory and clock have a value for each interval."""
    gpu = measured(Nvml()).gpus[0]
    assert gpu.watts[5] == 100.0
    assert gpu.watts[20] == 500.0
    assert (gpu.utilisation[5], gpu.utilisation[20]) == (0.0, 1.0)
    assert gpu.average_utilisation == pytest.approx(0.5, abs=0.01)
    assert gpu.peak_memory_bytes == 8 << 30
    assert set(gpu.clock_mhz) == {1980.0}
    assert gpu.name == "Recorded GPU"


def test_what_is_not_sampled_is_null_and_not_zero():
    """An interval without a sample has no power."""
    nvml = Nvml()
    meter = GpuMeter(["0"], nvml, nvml.clock)
    for second in (0.5, 39.5):
        nvml.now = second
        meter.sample()
    used = Consumption(gpus=meter.samples(), devices=[["0"]])
    watts = energy(used, columns(), EDGES, 36.0).gpus[0].watts
    assert watts[0] == 100.0
    assert watts[1:39] == [None] * 38


def test_without_nvml_or_gpu_there_are_no_rows():
    """No library, no driver, a GPU that NVML does not know, and no GPU at all: absent, not zero."""
    assert GpuMeter(["0"], Nvml(present=False)).samples() == []
    assert measured(Nvml(), devices=["7"]).gpus == []
    assert measured(Nvml(), devices=["7"]).joules is None
    assert energy(Consumption(gpus=[], devices=[[], []]), columns(), EDGES, 36.0) is None


def test_cost_is_gpu_hours_times_price():
    """Two GPUs for 40 seconds at 90 an hour cost 2."""
    found = measured(Nvml(), price=90.0)
    assert found.gpu_hours == pytest.approx(80 / 3600)
    assert found.cost == pytest.approx(2.0)


def test_a_meter_samples_in_a_thread_and_stops():
    """While it is open there are samples; after it is closed no thread is left."""
    nvml = Nvml()
    with GpuMeter(["0", "GPU-uuid"], nvml, nvml.clock) as meter:
        pass
    assert [len(samples.at) for samples in meter.samples()] == [2, 2]
    assert not meter._thread.is_alive()


def test_joules_are_told_as_a_person_says_them():
    """Joules, kilojoules and kilowatt hours."""
    assert [joules_text(j) for j in (5.0, 12_345.0, 7.2e6)] == ["5 J", "12.3 kJ", "2.00 kWh"]
