"""The --set keys of the engine vllm: which there are, and what is wrong with one, said before vLLM is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest
from vllm_double import FOLDER, use_double

from trt_dp import plugins
from trt_dp.engines.vllm import arguments
from trt_dp.engines.vllm.arguments import Settings, settings_of
from trt_dp.engines.vllm.library import sentence
from trt_dp.errors import UsageError

SOURCE = '''
class Other:
    nothing: int = 1

@config
class EngineArgs:
    """Arguments."""
    model: str = ModelConfig.model
    max_num_seqs: int | None = None
    share: float = get_field(CacheConfig, "share")
    eager: bool = False
    dtype: ModelDType | None = None
    _private: int = 0
    prefix: ClassVar[str] = "x"

    def method(self) -> None:
        inner: int = 5
'''


def refused(**options: str) -> str:
    """Why these are refused."""
    with pytest.raises(UsageError) as error:
        settings_of(options)
    return str(error.value)


def test_the_fields_are_read_from_the_source():
    """Public fields with their kind, and nothing else of that file."""
    assert arguments.fields_in(SOURCE) == {
        "model": "",
        "max_num_seqs": "int",
        "share": "float",
        "eager": "bool",
        "dtype": "",
    }


def test_keys_are_those_of_the_installed_version(monkeypatch):
    """What the installed vLLM has is an option, and what it has not is none, whatever other versions have."""
    use_double(monkeypatch)
    assert settings_of({"max_num_seqs": "4", "window": "3"}) == Settings(
        window=3, arguments={"max_num_seqs": "4"}
    )
    assert "every field of EngineArgs of the installed vLLM" in refused(block_size="32")


@pytest.mark.skipif(arguments._source() is not None, reason="vLLM is installed here")
def test_without_vllm_the_recorded_fields_count():
    """A misspelled key is refused all the same, and the message says by which list."""
    assert settings_of({"block_size": "32"}).arguments == {"block_size": "32"}
    said = refused(gpu_mem_utilization="0.5")
    assert "did you mean 'gpu_memory_utilization'" in said
    assert "vLLM 0.32, as none is installed" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_num_seqs": "many"}, "--set max_num_seqs=many: it must be a whole number"),
        ({"max_num_seqs": "-3"}, "it must be 1 or more"),
        ({"tensor_parallel_size": "0"}, "it must be 1 or more"),
        ({"gpu_memory_utilization": "7"}, "above 0 and at most 1"),
        ({"gpu_memory_utilization": "x"}, "it must be a number"),
        ({"gpu_memory_utilization": "auto"}, "it must be a number"),
        ({"enforce_eager": "maybe"}, "it must be true or false"),
        ({"window": "-1"}, "0 (automatic) or more"),
        ({"window": "4k"}, "0 (automatic) or more, in digits"),
        ({"dp_master_port": "99999"}, "at most 65535"),
        ({"model": "x"}, "--engine-path names the model"),
        ({"data_parallel_size": "2"}, "--n-workers"),
        ({"max-num-seqs": "2"}, "did you mean 'max_num_seqs'"),
        ({"_api_process_count": "2"}, "there is no option"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(monkeypatch, options, said):
    """Each mistake is a sentence with the key, before any worker starts."""
    use_double(monkeypatch)
    assert said in refused(**options)


def test_numbers_may_have_vllms_suffixes(monkeypatch):
    """4k is a number to vLLM, so it is one here."""
    use_double(monkeypatch)
    assert settings_of({"max_model_len": "4k"}).arguments == {"max_model_len": "4k"}


def test_checking_options_does_not_load_vllm():
    """The coordinator checks --set without importing vLLM, which takes seconds."""
    code = (
        f"import sys; sys.path.insert(0, {str(FOLDER)!r})\n"
        "from trt_dp import plugins\n"
        "plugins.check_options(plugins.ENGINES, 'vllm', {'max_num_seqs': '3'})\n"
        "print('vllm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_engine_class_may_convert_its_options_itself():
    """`convert_options` of a class replaces the parameters of its constructor."""

    class Own:
        @staticmethod
        def convert_options(options):
            return {"all": sorted(options)}

    assert plugins.convert(Own, {"b": "1", "a": "2"}) == {"all": ["a", "b"]}


def test_json_that_vllm_does_not_read_is_called_json():
    """A sentence of vLLM names a function of Python and where it is in memory."""
    said = (
        "argument --compilation-config: Value { cannot be converted to <function loads at 0x7f5e>."
    )
    assert sentence(ValueError(said)).endswith("Value { cannot be converted to JSON.")
