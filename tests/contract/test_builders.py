"""What every builder must do: the built-in ones, and the one of docs/extending.md."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import documented
import msgspec
import pytest

from trt_dp import demo, plugins
from trt_dp.builders.build import Build, build
from trt_dp.builders.options import EXTRA, make, options_of, struct_of
from trt_dp.engines.choose import recognise
from trt_dp.engines.folder import fingerprint, provenance
from trt_dp.errors import UsageError

BUILDERS = ["cpu", "trtllm", "shout"]
RUNNABLE = ["cpu", "shout"]  # trtllm needs its tools: tests/builders/trtllm has doubles of them


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch) -> Iterator[None]:
    """The page's package is installed."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    documented.install(tmp_path / "site")
    yield
    documented.forget()


@pytest.fixture
def model(tmp_path) -> Path:
    """The demo model's checkpoint."""
    folder = tmp_path / "model"
    folder.mkdir()
    demo.write_demo(folder)
    return folder


def quiet(*_: object) -> None:
    """Show no progress."""


@pytest.mark.parametrize("name", BUILDERS)
def test_options_have_defaults_types_and_help(name):
    """Each option is declared once, can be left away, and explains itself."""
    builder = plugins.find(plugins.BUILDERS, name)
    assert make(name, builder, {}) == struct_of(builder)()
    for option in options_of(builder):
        assert option.kind in (bool, int, float, str)
        assert option.help.endswith((".", "]"))
        assert option.name != EXTRA


@pytest.mark.parametrize("name", BUILDERS)
def test_text_becomes_the_options_type(name):
    """A value from the command line or a recipe becomes a number or a boolean where one was declared."""
    builder = plugins.find(plugins.BUILDERS, name)
    words = {bool: "true", int: "3", float: "0.5", str: "text"}
    given = {option.name: words[option.kind] for option in options_of(builder)}
    options = make(name, builder, given)
    for option in options_of(builder):
        assert type(getattr(options, option.name)) is option.kind


@pytest.mark.parametrize("name", BUILDERS)
def test_an_unknown_option_is_refused(name):
    """An option that only another builder has, or none, is a usage error."""
    builder = plugins.find(plugins.BUILDERS, name)
    with pytest.raises(UsageError, match=f"the builder {name} has no option --no-such"):
        make(name, builder, {"no_such": "1"})


@pytest.mark.parametrize("name", RUNNABLE)
def test_what_it_builds_is_its_engines(name, model, tmp_path):
    """The folder is recognised as its engine's, says where it comes from, and is the same when built again."""
    if name == "cpu":
        pytest.importorskip("openvino")
    marks = []
    for number in range(2):
        output = tmp_path / f"engine{number}"
        built = build(Build(output, model=str(model), engine=name), quiet)
        assert (built.folder, recognise(output)) == (output, name)
        assert msgspec.json.encode(provenance(output)["built"])
        marks.append(fingerprint(output))
    assert marks[0] == marks[1]
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.parametrize("name", BUILDERS)
def test_listing_its_options_loads_nothing_heavy(name):
    """`trt-dp build --help` imports the builder, so that must not import numpy, OpenVINO or TensorRT-LLM."""
    if name == "shout":
        return
    code = (
        "import sys; from trt_dp import plugins; from trt_dp.builders.options import options_of\n"
        f"options_of(plugins.find(plugins.BUILDERS, {name!r}))\n"
        "print(sorted({'numpy', 'openvino', 'torch', 'tensorrt_llm'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
