"""What `trt-dp doctor` finds: plugins that fail in every way, and a TensorRT-LLM that is not the recorded one."""

from __future__ import annotations

import json
import os
import sys

import msgspec
import pytest
from conftest import trt_dp

from trt_dp.display import doctor as display_doctor
from trt_dp.doctor import examine as doctor
from trt_dp.doctor import probe
from trt_dp.doctor.examine import Ability, Examination
from trt_dp.doctor.probe import Answer
from trt_dp.engines.trtllm import signatures
from trt_dp.engines.trtllm.differences import recorded
from trt_dp.engines.trtllm.signatures import Record, differences, overloads, parse, split
from trt_dp.launchers.mpi import launcher as mpi
from trt_dp.plugins import ENGINES, LAUNCHERS

_STRANGERS = {
    "missing": "import a_library_that_is_not_there",
    "raising": "raise OSError('libmissing.so.9: cannot open shared object file')",
    "aborting": "import os; print('no device', flush=True); os.abort()",
    "hanging": "import time; time.sleep(600)",
    "choosy": "class Engine:\n    @staticmethod\n    def why_not(): return 'it wants an oracle'",
    "willing": "class Engine: ...",
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install modules as a package, for this process and those that it starts."""

    def add(package: str, modules: dict[str, str], points: str = "", version: str = "1.0") -> None:
        info = tmp_path / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(points)
        for name, source in modules.items():
            file = tmp_path / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return add


def test_each_way_of_not_running_has_its_line(install) -> None:
    """An engine that misses a library, raises, aborts, hangs or declines is named with the reason."""
    points = "[trt_dp.engines]\n" + "".join(f"{n} = stranger_{n}:Engine\n" for n in _STRANGERS)
    install("strangers", {f"stranger_{n}": code for n, code in _STRANGERS.items()}, points)
    why = {
        name: doctor._answer(ENGINES, name, 1.0 if name == "hanging" else 60.0).why
        for name in _STRANGERS
    }
    assert "No module named 'a_library_that_is_not_there'" in why["missing"]
    assert why["raising"].startswith("OSError: libmissing.so.9")
    assert "status -6: no device" in why["aborting"]
    assert why["hanging"] == "it did not load in 1 s"
    assert why["choosy"] == "it wants an oracle"
    assert why["willing"] == ""


def test_a_launcher_says_what_it_misses(monkeypatch) -> None:
    """The launcher mpi without an mpirun is not able, in its own words."""
    monkeypatch.setattr(mpi, "find_mpirun", lambda: None)
    said = probe.ask(LAUNCHERS, "mpi")
    assert "needs mpirun" in said.why
    assert said.facts == {"mpirun": "no mpirun"}
    assert probe.ask(LAUNCHERS, "local") == Answer()


def test_an_engine_for_gpus_needs_one(monkeypatch) -> None:
    """TensorRT-LLM's engines cannot run without the library, nor with it on a machine without a GPU."""
    monkeypatch.setitem(sys.modules, "tensorrt_llm", None)
    for name in ("trtllm", "trtllm-torch"):
        assert "TensorRT-LLM is" in probe.ask(ENGINES, name).why
        assert probe.ask(ENGINES, name).needs_gpu
    for setting, why in (("", "there is no GPU here"), ("0", "")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
        assert doctor._ability("engine", "trtllm", Answer(needs_gpu=True)).why == why


def test_the_command_tells_all(install) -> None:
    """Versions, machine, engines and launchers are named; the exit status says that a real engine can run."""
    install("more", {"more": "class Engine: ..."}, "[trt_dp.engines]\nmore = more:Engine\n")
    as_json = trt_dp("doctor", "--json")
    assert as_json.returncode == 0, as_json.stderr
    found = msgspec.json.decode(as_json.stdout, type=Examination)
    assert found.versions["trt-dp"]
    assert {"cores", "memory", "/dev/shm", "CUDA_VISIBLE_DEVICES"} <= set(found.machine)
    assert Ability("engine", "more", able=True) in found.abilities
    assert Ability("launcher", "local", able=True) in found.abilities
    printed = display_doctor.told(found)
    for word in ("installed", "machine", "GPUs", "engines", "launchers", "mpirun", "more"):
        assert word in printed


def test_echo_alone_is_not_health() -> None:
    """An engine without a model runs everywhere, so it does not count; the table says what stops the others."""
    echo = Ability("engine", "echo", able=True, has_model=False)
    ill = Ability("engine", "cpu", able=False, why="OpenVINO is not installed")
    found = Examination({}, {}, [], [echo, ill], {})
    assert not found.healthy
    assert "no: OpenVINO is not installed" in display_doctor.told(found)
    assert "TensorRT-LLM" not in display_doctor.told(found)


# ── TensorRT-LLM as it was recorded, and not ─────────────────────────────────────────────────────

_BOUND = '''
class _Bound:
    """A method as a binding leaves it: no signature, but a text that tells."""
    def __init__(self, text): self.__doc__ = text
    def __get__(self, it, kind=None): return self
    def __call__(self, *args, **kwargs): ...
    __signature__ = "none"
'''


def _class(name: str, known: signatures.Recorded, *, bound: bool) -> str:
    """Source of a class of this shape, written in Python or as a binding would be."""
    lines = [f"class {name}:", "    pass"]
    functions = {**({"__init__": known.call} if known.call is not None else {}), **known.methods}
    for function, call in functions.items():
        texts = ["self", *[text.partition(" @")[0] for text in call]]
        if bound:
            text = f"{function}({', '.join(texts)}) -> object"
            lines.append(f"    {function} = _Bound({text!r})")
        else:
            plain = [t.partition("=")[0] + "=None" * ("=" in t) for t in texts]
            lines.append(f"    def {function}({', '.join(plain)}): ...")
    members = [name.partition(" @")[0] for name in (*known.attributes, *known.members)]
    lines += [f"    {member} = None" for member in members]
    return "\n".join(lines) + "\n"


def _modules(record: Record) -> dict[str, str]:
    """A TensorRT-LLM as recorded."""
    modules = {
        "tensorrt_llm/__init__": "__version__ = '1.2.1'\nprint('[TensorRT-LLM] version 1.2.1')\n",
        "tensorrt_llm/bindings/__init__": "",
    }
    for module, classes in record.modules.items():
        bound = "bindings" in module
        path = module.replace(".", "/") + ("" if bound else "/__init__")
        sources = [_class(name, known, bound=bound) for name, known in classes.items()]
        modules[path] = "\n".join([_BOUND, *sources])
    return modules


def _tool(tmp_path, monkeypatch, flags: list[str]) -> None:
    tool = tmp_path / "bin" / "trtllm-build"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text("#!/bin/sh\necho 'usage: trtllm-build " + " ".join(flags) + "'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")


def test_a_library_as_recorded_shows_no_difference(tmp_path, install, monkeypatch) -> None:
    """What has every recorded name, in Python or in a binding's docstring, is found to be as recorded."""
    record = recorded()
    install("tensorrt_llm", _modules(record), version="1.2.1")
    _tool(tmp_path, monkeypatch, record.flags["trtllm-build"])
    assert doctor._differences("trtllm", 60) == []


def test_each_difference_is_named(tmp_path, install, monkeypatch) -> None:
    """A class, parameter, method, attribute, member, module or flag that is gone or changed is named where it was."""
    record = recorded()
    modules = _modules(record)
    bindings = "tensorrt_llm/bindings/executor"

    def change(module: str, old: str, new: str) -> None:
        assert old in modules[module], old
        modules[module] = modules[module].replace(old, new)

    change(bindings, "class OutputConfig", "class OtherConfig")
    change(bindings, "pad_id=None", "padding_id=None")
    change(bindings, "    shutdown = ", "    stop = ")
    change(bindings, "    output_token_ids = ", "    token_ids = ")
    change(bindings, "    STOP_WORDS = ", "    STOPPED = ")
    change(bindings, "await_responses(self, timeout=None)", "await_responses(self, timeout)")
    change(
        "tensorrt_llm/runtime/__init__",
        "from_dir(self, engine_dir",
        "from_dir(self, engine_dir, plan",
    )
    change("tensorrt_llm/runtime/__init__", "rank=None", "world_rank=None")
    change(bindings, "enqueue_request(self, request)", "enqueue_request(self, request, /)")
    modules["tensorrt_llm/llmapi/__init__"] = "raise RuntimeError('no device')"
    install("tensorrt_llm", modules, version="1.2.1")
    flags = record.flags["trtllm-build"]
    _tool(tmp_path, monkeypatch, [flag for flag in flags if flag != "--gemm_plugin"])
    where = "tensorrt_llm.bindings.executor"
    assert sorted(doctor._differences("trtllm", 60)) == sorted(
        [
            f"{where}.OutputConfig is not there",
            f"{where}.Request has no parameter 'pad_id'",
            f"{where}.Executor has no method 'shutdown'",
            f"{where}.Executor.await_responses now requires 'timeout'",
            f"{where}.Executor.enqueue_request takes 'request' by position only",
            f"{where}.Result has no attribute 'output_token_ids'",
            f"{where}.FinishReason has no member 'STOP_WORDS'",
            "tensorrt_llm.runtime.ModelRunnerCpp.from_dir has no parameter 'rank'",
            "tensorrt_llm.runtime.ModelRunnerCpp.from_dir requires 'plan', which is new",
            "tensorrt_llm.llmapi does not load: RuntimeError: no device",
            "trtllm-build has no flag --gemm_plugin",
        ]
    )


def test_a_library_that_crashes_costs_only_its_probe(install) -> None:
    """A TensorRT-LLM that ends the process when it is imported is one line, with its last words."""
    code = "import os\nprint('MPI_Init failed', flush=True)\nos._exit(3)"
    install("tensorrt_llm", {"tensorrt_llm/__init__": code}, version="1.2.1")
    (line,) = doctor._differences("trtllm", 60)
    assert "status 3: MPI_Init failed" in line


def test_versions_decide_what_is_expected() -> None:
    """A name that came later, or left before, is not missed in a version that cannot have it."""
    recorded = ["a", "b=None @1.1", "c @<1.2"]
    assert signatures.current(recorded, (1, 0)) == ["a", "c"]
    assert signatures.current(recorded, (1, 1)) == ["a", "b=None", "c"]
    assert signatures.current(recorded, (1, 2)) == ["a", "b=None"]


def test_docstrings_of_bindings_are_read() -> None:
    """Types, defaults, overloads and objects in a binding's text do not confuse its parameters."""
    text = (
        "a: Callable[[int, str], None], b: str = 'x, y', c = <Kind.A: 1>, *, d: dict[str, int] = {}"
    )
    assert [part[0] for part in split(text)] == ["a", "b", "c", "*", "d"]

    class Function:
        __doc__ = (
            "wait(*args, **kwargs)\nOverloaded function.\n\n"
            "1. wait(self: m.E, timeout: Optional[timedelta] = None) -> List[m.R]\n\n"
            "2. wait(self: m.E, id: int, timeout: Optional[timedelta] = None) -> List[m.R]\n"
        )

    found = overloads("wait", Function())
    assert [[one.name for one in call] for call in found] == [["timeout"], ["id", "timeout"]]
    assert differences(parse(["timeout=None"]), found) == []
    assert differences(parse(["id", "timeout=None"]), found) == []
    assert differences(parse(["key"]), []) == ["does not say what it takes"]
    only_by_name = overloads("f", eval("lambda *, a=1: a"))  # noqa: S307
    assert differences(parse(["a=1"]), only_by_name) == ["takes 'a' by name only"]
    anything = overloads("f", lambda **_: 0)
    assert differences(parse(["a=1"]), anything) == []


def test_a_real_binding_is_read() -> None:
    """A class that pybind11 made, OpenVINO's, tells of its constructors and methods."""
    openvino = pytest.importorskip("openvino")
    calls = overloads("get_version", openvino._pyopenvino.get_version)
    assert calls == [[]]
    shapes = overloads("__init__", openvino.Dimension.__init__)
    assert ["min_dimension", "max_dimension"] in [[one.name for one in call] for call in shapes]


def test_the_record_is_one_that_can_be_read() -> None:
    """The package's data is a record, and says that nothing of it was run."""
    record = recorded()
    assert "nothing of it was run" in record.about
    assert json.dumps(record.flags)
