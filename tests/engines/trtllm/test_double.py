"""The double is as strict as the record: these are the mistakes that it must not let pass."""

from __future__ import annotations

import datetime as dt
import importlib

import pytest
from trtllm_engines import make_engine

NOW = dt.timedelta(0)


@pytest.fixture
def api(double):
    """tensorrt_llm.bindings.executor of the double, in the version asked for."""

    def load(version: str = "1.2.1"):
        double(version)
        return importlib.import_module("tensorrt_llm.bindings.executor")

    return load


def executor(api, folder, **config):
    return api.Executor(folder, api.ModelType.DECODER_ONLY, api.ExecutorConfig(**config))


def request(api, ids=(1, 2), count=2, **more):
    return api.Request(list(ids), count, **more)


MISTAKES = {
    "unknown parameter": lambda api: api.Request([1], 1, max_new_tokens=1),
    "by place what goes by name": lambda api: api.Request([1], 1, True),
    "no array for ids": lambda api: api.Request((1, 2), 1),
    "numpy's numbers": lambda api: api.Request([1.0], 1),
    "unknown config": lambda api: api.ExecutorConfig(max_batch=1),
    "missing parameter": lambda api: api.DynamicBatchConfig(enable_batch_size_tuning=True),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_calls_are_bound_against_the_record(api, mistake):
    """A call that the record does not allow raises TypeError."""
    with pytest.raises(TypeError):
        mistake(api())


BAD_VALUES = {
    "no prompt": lambda api: api.Request([], 1),
    "no output": lambda api: api.Request([1], 0),
    "top_p of zero": lambda api: api.SamplingConfig(top_p=0.0),
    "negative seed": lambda api: api.SamplingConfig(seed=-1),
    "static batching": lambda api: api.ExecutorConfig(batching_type=api.BatchingType.STATIC),
}


@pytest.mark.parametrize("mistake", BAD_VALUES.values(), ids=BAD_VALUES)
def test_values_are_checked(api, mistake):
    """A value that the library's constructor refuses raises its error."""
    with pytest.raises(RuntimeError, match="Assertion failed"):
        mistake(api())


def test_newer_parameters_are_absent_in_older_versions(api):
    """What 1.1 added is unknown to 1.0."""
    api("1.1.0").Request([1], 1, cache_salt_id=None)
    with pytest.raises(TypeError):
        api("1.0.0").Request([1], 1, cache_salt_id=None)
    with pytest.raises(TypeError):
        api("1.0.0").KvCacheConfig(max_gpu_total_bytes=1)


def test_engine_path_ends_with_1_3(api):
    """1.3 has neither Executor nor ModelRunnerCpp."""
    assert not hasattr(api("1.3.0"), "Executor")
    assert not hasattr(importlib.import_module("tensorrt_llm.runtime"), "ModelRunnerCpp")


def test_unknown_attributes_raise(api, tmp_path):
    """An attribute that is not recorded can be neither read nor set."""
    api = api()
    made = executor(api, make_engine(tmp_path / "e"))
    for wrong in (lambda: made.submit, lambda: api.FinishReason.EOS, lambda: api.GptSession):
        with pytest.raises(AttributeError):
            wrong()
    with pytest.raises(AttributeError):
        api.ExecutorConfig().max_batch = 1


def test_responses_have_their_traps(api, tmp_path):
    """has_error is a method, result raises on an error, error_msg without one, and ids come once."""
    api = api()
    made = executor(api, make_engine(tmp_path / "e"), enable_chunked_context=True)
    good, bad = made.enqueue_requests([request(api), request(api, [1] * 96)])
    found = {one.request_id: one for one in made.await_responses() + made.await_responses()}
    assert callable(found[good].has_error)
    with pytest.raises(RuntimeError):
        _ = found[good].error_msg
    with pytest.raises(RuntimeError):
        _ = found[bad].result
    assert found[bad].error_msg.startswith("Encountered an error when fetching new request")
    assert made.await_responses(timeout=NOW) == []


def test_result_is_as_it_was_asked_for(api, tmp_path):
    """The prompt is part of the output, and metrics are none, unless asked otherwise."""
    api = api()
    made = executor(api, make_engine(tmp_path / "e"))
    made.enqueue_request(request(api))
    result = made.await_responses()[0].result
    assert result.output_token_ids[0][:2] == [1, 2]
    assert result.request_perf_metrics is None
    assert result.finish_reasons == [api.FinishReason.LENGTH]


def test_too_long_is_shortened_in_silence(api, tmp_path):
    """Prompt and output beyond max_seq_len give fewer tokens, and no error."""
    api = api()
    made = executor(api, make_engine(tmp_path / "e"))
    output = api.OutputConfig(exclude_input_from_output=True)
    made.enqueue_request(request(api, [1] * 60, 50, output_config=output))
    assert len(made.await_responses()[0].result.output_token_ids[0]) == 36


def test_timeout_is_a_timedelta(api, tmp_path):
    """A number of seconds is not taken for a timeout."""
    with pytest.raises(TypeError):
        executor(api(), make_engine(tmp_path / "e")).await_responses(timeout=0.1)


def test_statistics_are_drained(api, tmp_path):
    """The second look finds nothing."""
    api = api()
    made = executor(api, make_engine(tmp_path / "e"))
    made.enqueue_request(request(api))
    made.await_responses()
    assert [one.iter for one in made.get_latest_iteration_stats()] == [1, 2]
    assert made.get_latest_iteration_stats() == []


def test_everything_raises_after_shutdown(api, tmp_path):
    """A closed Executor takes nothing and gives nothing."""
    api = api()
    made = executor(api, make_engine(tmp_path / "e"))
    made.shutdown()
    assert not made.can_enqueue_requests()
    for call in (
        lambda: made.enqueue_request(request(api)),
        lambda: made.await_responses(timeout=NOW),
        made.get_latest_iteration_stats,
    ):
        with pytest.raises(RuntimeError, match="Shutdown called"):
            call()


def test_loading_has_its_rules(api, tmp_path):
    """A batch beyond the engine's, chunks without paged context, and ranks without a world do not load."""
    api = api()
    with pytest.raises(RuntimeError, match="must not exceed engine max batch size"):
        executor(api, make_engine(tmp_path / "a"), max_batch_size=9)
    with pytest.raises(RuntimeError, match="paged context"):
        executor(api, make_engine(tmp_path / "b", paged=False), enable_chunked_context=True)
    with pytest.raises(RuntimeError, match="kLEADER, MPI worldSize"):
        executor(api, make_engine(tmp_path / "c", tp=2))
