from __future__ import annotations

import sys
from typing import Literal

import pytest

from trt_dp.errors import UsageError
from trt_dp.plugins import (
    ENGINES,
    LAUNCHERS,
    check,
    check_options,
    convert,
    find,
    names,
    options_of,
)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install packages as pip would: a module, and a dist-info folder with entry points."""
    modules = []

    def add(package: str, entry_points: str, source: str = "") -> None:
        folder = tmp_path / package
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        (folder / f"{package}.py").write_text(source)
        modules.append(package)
        monkeypatch.syspath_prepend(folder)

    yield add
    for module in modules:
        sys.modules.pop(module, None)


def test_the_built_in_plugins_come_by_entry_points():
    """The engine and the launchers that come with trt-dp are found as strangers' are."""
    assert "echo" in [point.name for point in names(ENGINES)]
    assert {"local", "inline"} <= {point.name for point in names(LAUNCHERS)}
    assert find(ENGINES, "echo").__name__ == "EchoEngine"


@pytest.mark.parametrize(
    ("group", "what", "known"), [(ENGINES, "engine", "echo"), (LAUNCHERS, "launcher", "local")]
)
def test_an_unknown_name_lists_the_known_ones(group, what, known):
    """A name that nobody has is refused with the names that there are."""
    for call in (check, find):
        with pytest.raises(UsageError) as caught:
            call(group, "ecko")
        assert f"there is no {what} 'ecko'" in str(caught.value)
        assert known in str(caught.value).partition("known:")[2]


def test_a_name_claimed_by_two_packages_is_refused(install):
    """Two packages with different engines of one name are both named, and neither is loaded."""
    install("first_package", "[trt_dp.engines]\nfast = first_package:Engine\n", "raise SystemExit")
    install(
        "second_package", "[trt_dp.engines]\nfast = second_package:Engine\n", "raise SystemExit"
    )
    with pytest.raises(UsageError) as caught:
        find(ENGINES, "fast")
    assert "several packages" in str(caught.value)
    assert "first_package:Engine" in str(caught.value)
    assert "second_package:Engine" in str(caught.value)
    assert "first_package" not in sys.modules


def test_one_name_in_two_groups_is_no_conflict(install):
    """An engine and a launcher may have the same name."""
    install("own", "[trt_dp.engines]\nlocal = own:Engine\n", "class Engine: pass\n")
    assert find(ENGINES, "local").__module__ == "own"
    assert find(LAUNCHERS, "local").__module__ == "trt_dp.launchers.local"


def test_another_packages_engine_is_found(install):
    """A package that is merely installed adds an engine, which is imported only when it is wanted."""
    install(
        "stranger",
        "[trt_dp.engines]\nstrange = stranger:Engine\n",
        "class Engine:\n    def __init__(self, spec, placement, *, size: int = 1): self.size = size\n",
    )
    assert "strange" in [point.name for point in names(ENGINES)]
    check(ENGINES, "strange")
    assert "stranger" not in sys.modules
    engine = find(ENGINES, "strange")
    assert engine.__module__ == "stranger"
    assert engine(None, None, **convert(engine, {"size": "5"})).size == 5


BROKEN = {
    "missing library": "import a_library_that_is_not_here\n",
    "missing name": "class SomethingElse: pass\n",
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN.keys())
def test_a_plugin_that_cannot_be_imported_is_told_by_name(install, source):
    """A plugin whose module fails to load ends in a sentence that names it, not in a traceback."""
    install("broken_one", "[trt_dp.engines]\nbroken = broken_one:Engine\n", source)
    with pytest.raises(UsageError, match="broken cannot be loaded here"):
        find(ENGINES, "broken")


class Engine:
    def __init__(
        self,
        spec,
        placement,
        *,
        size: int = 1,
        rate: float = 0.5,
        fast: bool = False,
        name: str = "",
        mode: Literal["a", "b"] = "a",
        limit: int | None = None,
        untyped=None,
    ) -> None:
        pass


class Plain:
    def __init__(self, spec, placement) -> None:
        pass


def test_the_keys_of_an_engine_are_its_keyword_parameters():
    """Only keyword-only parameters are options, each with its type, and text where there is none."""
    known = options_of(Engine)
    assert list(known) == ["size", "rate", "fast", "name", "mode", "limit", "untyped"]
    assert (known["size"], known["fast"], known["untyped"]) == (int, bool, str)
    assert options_of(Plain) == {}


VALUES = {
    "whole number": ("size", "12", 12),
    "number": ("rate", "0.25", 0.25),
    "whole number as a number": ("rate", "3", 3.0),
    "true": ("fast", "true", True),
    "one": ("fast", "1", True),
    "false": ("fast", "false", False),
    "text": ("name", "12", "12"),
    "empty text": ("name", "", ""),
    "choice": ("mode", "b", "b"),
    "optional": ("limit", "7", 7),
    "no type": ("untyped", "x=y", "x=y"),
}


@pytest.mark.parametrize(("key", "value", "meant"), VALUES.values(), ids=VALUES.keys())
def test_values_become_what_the_constructor_asks_for(key, value, meant):
    """Text from the command line becomes the parameter's type."""
    converted = convert(Engine, {key: value})
    assert converted == {key: meant}
    assert type(converted[key]) is type(meant)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", "many"),
        ("size", "1.5"),
        ("size", ""),
        ("rate", "x"),
        ("fast", "perhaps"),
        ("mode", "c"),
        ("limit", "x"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(key, value):
    """A value that is not of the type is refused with key and value."""
    with pytest.raises(UsageError) as caught:
        convert(Engine, {key: value})
    assert f"--set {key}={value}: " in str(caught.value)


def test_an_unknown_key_lists_the_known_ones():
    """A mistyped key is refused with the keys that there are; positional parameters are none of them."""
    with pytest.raises(UsageError, match="known: fast, limit, mode, name, rate, size, untyped"):
        convert(Engine, {"sise": "1"})
    with pytest.raises(UsageError, match="known: none"):
        convert(Plain, {"spec": "1"})


def test_no_options_convert_to_none():
    """Without --set the constructor's own defaults stand."""
    assert convert(Engine, {}) == {}


def test_a_mistyped_key_is_met_with_the_nearest_one():
    """A key that is nearly one of the engine's is refused before a run begins, and the near one is named."""
    with pytest.raises(UsageError, match="did you mean 'step_seconds'"):
        check_options(ENGINES, "echo", {"step_second": "1"})
    with pytest.raises(UsageError, match="--set batch=x: "):
        check_options(ENGINES, "echo", {"batch": "x"})
    check_options(ENGINES, "echo", {"batch": "3"})


def test_without_options_an_engine_is_not_even_loaded(install):
    """Checking no options imports nothing."""
    install("quiet_one", "[trt_dp.engines]\nquiet = quiet_one:Engine\n", "raise SystemExit")
    check_options(ENGINES, "quiet", {})
    assert "quiet_one" not in sys.modules
