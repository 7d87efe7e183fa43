"""The files of other tools: names and types as recorded from them, numbers as worked out by hand by their formulas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from measured import BEGAN, measurement, records

from trt_dp.bench.writers import aiperf, llmperf, native, trtllm_bench, vllm

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "bench_files.json").read_text())
KINDS = {str: "string", bool: "boolean", list: "list", dict: "object", type(None): "null"}


def written(form, name: str, found=None):
    content = form.files(found or measurement())[name]
    return (
        json.loads(content) if name.endswith(".json") else [*map(json.loads, content.splitlines())]
    )


def differences(value: dict, recorded: dict, place: str = "") -> list[str]:
    """Fields that are missing, unknown, or of another type."""
    found = [f"{place}{name} missing" for name in recorded.keys() - value.keys()]
    found += [f"{place}{name} unknown" for name in value.keys() - recorded.keys()]
    for name in recorded.keys() & value.keys():
        allowed, one = recorded[name], value[name]
        if isinstance(allowed, dict):
            found += differences(one, allowed, f"{place}{name}.")
        elif KINDS.get(type(one), "number") not in allowed:
            found.append(f"{place}{name} is {one!r}")
    return found


def test_llmperf_has_the_recorded_fields():
    """Summary and individual responses, for both definitions."""
    for folder in ("llmperf", "llmperf-neuron"):
        summary = written(llmperf, f"{folder}/org-model_10_4_summary.json")
        assert summary.pop("additional_sampling_params_ignore_eos") is True
        assert differences(summary, RECORDED["llmperf summary"]) == []
        for row in written(llmperf, f"{folder}/org-model_10_4_individual_responses.json"):
            assert differences(row, RECORDED["llmperf individual response"]) == []


def test_llmperf_by_hand():
    """Both inter-token latencies of the first request, and the summary's throughput and quantiles."""
    rows = written(llmperf, "llmperf/org-model_10_4_individual_responses.json")
    assert rows[0]["inter_token_latency_s"] == pytest.approx(0.9 / 4)
    assert rows[0]["request_output_throughput_token_per_s"] == pytest.approx(4 / 0.9)
    assert rows[0]["number_total_tokens"] == 14
    assert (rows[3]["error_code"], rows[3]["error_msg"]) == (429, "too many")
    patched = written(llmperf, "llmperf-neuron/org-model_10_4_individual_responses.json")
    assert patched[0]["inter_token_latency_s"] == pytest.approx(0.4 / 3)
    assert patched[2]["inter_token_latency_s"] == 0
    told = written(llmperf, "llmperf/org-model_10_4_summary.json")
    assert told["results_ttft_s_quantiles_p50"] == 0.5
    assert told["results_end_to_end_latency_s_stddev"] == pytest.approx(0.40723, abs=1e-5)
    assert told["results_mean_output_throughput_token_per_s"] == pytest.approx(7 / 1.5)
    assert told["results_num_completed_requests_per_min"] == pytest.approx(3 / 1.5 * 60)
    assert told["results_error_code_frequency"] == "{429: 1}"
    assert told["num_concurrent_requests"] == 2


def test_vllm_has_the_recorded_fields():
    """With and without the lists."""
    assert differences(written(vllm, "vllm/result.json"), RECORDED["vllm result"]) == []
    assert differences(written(vllm, "vllm/detailed.json"), RECORDED["vllm detailed"]) == []


def test_vllm_by_hand():
    """Means of vllm bench serve: of time per token over two requests, of gaps over four."""
    told = written(vllm, "vllm/detailed.json")
    assert told["mean_tpot_ms"] == pytest.approx((400 / 3 + 500) / 2)
    assert told["mean_itl_ms"] == pytest.approx((100 + 200 + 100 + 500) / 4)
    assert told["median_e2el_ms"] == pytest.approx(900)
    assert told["itls"] == [pytest.approx([0.1, 0.2, 0.1]), [0.5], [], []]
    assert told["output_lens"] == [4, 2, 1, 0]
    assert told["errors"] == ["", "", "", "too many"]
    assert (told["max_concurrent_requests"], told["max_output_tokens_per_s"]) == (3, 6.0)
    assert (told["request_rate"], told["max_concurrency"]) == ("inf", 2)


def test_vllm_of_an_open_loop():
    """The rate is a number, and nothing bounds what is in flight."""
    told = written(vllm, "vllm/result.json", measurement(batch_size=None, request_rate=3.0))
    assert (told["request_rate"], told["max_concurrency"]) == (3.0, None)


def test_aiperf_has_the_recorded_fields():
    """The summary's metrics with their statistics and units, and every line."""
    told = written(aiperf, "aiperf/profile_export_aiperf.json")
    assert told.pop("error_request_count") == {"unit": "requests", "avg": 1}
    assert differences(told, RECORDED["aiperf summary"]) == []
    units = {
        name: value["unit"]
        for name, value in told.items()
        if isinstance(value, dict) and "unit" in value
    }
    assert units.items() <= RECORDED["aiperf summary units"].items()
    for line in written(aiperf, "aiperf/profile_export.jsonl"):
        line.pop("error", None)
        assert differences(line, RECORDED["aiperf line"]) == []
        units = {name: value["unit"] for name, value in line["metrics"].items()}
        assert units.items() <= RECORDED["aiperf line units"].items()


def test_aiperf_by_hand():
    """AIPerf's ITL is our time per token, its inter-chunk latency our gaps; a single token has neither."""
    first, second, third, failed = written(aiperf, "aiperf/profile_export.jsonl")
    assert first["metrics"]["inter_token_latency"]["value"] == pytest.approx(400 / 3)
    assert first["metrics"]["inter_chunk_latency"]["value"] == pytest.approx([100, 200, 100])
    assert second["metrics"]["output_token_throughput_per_user"]["value"] == pytest.approx(2)
    assert "inter_token_latency" not in third["metrics"]
    assert failed["error"] == {"code": 429, "type": "HTTP 429", "message": "too many"}
    assert failed["metrics"] == {}
    assert second["metadata"]["request_start_ns"] == BEGAN + 250_000_000
    assert second["metadata"]["request_end_ns"] == BEGAN + 1_250_000_000
    told = written(aiperf, "aiperf/profile_export_aiperf.json")
    assert told["request_latency"]["p50"] == pytest.approx(900)
    assert told["request_latency"]["count"] == 3
    assert told["output_token_throughput"]["avg"] == pytest.approx(7 / 1.5)
    assert told["error_summary"][0]["count"] == 1


def test_trtllm_bench_has_the_recorded_fields():
    """The whole report, nested as there."""
    assert (
        differences(
            written(trtllm_bench, "trtllm-bench/report.json"), RECORDED["trtllm-bench report"]
        )
        == []
    )


def test_trtllm_bench_by_hand():
    """Its percentiles are values that occurred; a single token has a time per token of 0 there."""
    told = written(trtllm_bench, "trtllm-bench/report.json")
    assert told["performance"]["request_latency_percentiles_ms"]["p50"] == pytest.approx(900)
    assert told["performance"]["request_latency_percentiles_ms"]["p99"] == pytest.approx(1000)
    assert told["streaming_metrics"]["avg_tpot_ms"] == pytest.approx((400 / 3 + 500 + 0) / 3)
    assert told["performance"]["total_latency_ms"] == pytest.approx(1500)
    assert told["world_info"]["issue_rate"] == pytest.approx(4.0)


def test_our_own_files_hold_every_number_with_its_definition():
    """bench.json explains itself; requests.jsonl has every record."""
    told = written(native, "bench.json")
    assert told["summary"]["ttft_ms"]["p50"] == 500
    assert "first event" in told["definitions"]["ttft_ms"]
    assert [line["number"] for line in written(native, "requests.jsonl")] == [0, 1, 2, 3]


@pytest.mark.parametrize("form", [native, llmperf, aiperf, vllm, trtllm_bench])
def test_nothing_answered_can_still_be_written(form):
    """A measurement in which all failed is valid JSON everywhere, or no file where the format has no way to say it."""
    files = form.files(measurement(records()[3:]))
    for name, content in files.items():
        if name.endswith(".json"):
            json.loads(content)
    assert files or form is trtllm_bench
