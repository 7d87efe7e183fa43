"""Classes as they were recorded: a call that the record does not allow raises TypeError, as the real one would."""

import ast
import enum
import functools
import inspect
import json
import os
from pathlib import Path

VERSION = os.environ.get("TRTLLM_DOUBLE_VERSION", "1.2.1")
NUMBERS = tuple(int(part) for part in VERSION.split(".")[:2])
_NAME = "trtllm_signatures.json"
_INSTALLED = Path(__file__).parent / _NAME  # by tests/doubles/install.py
_FILE = _INSTALLED if _INSTALLED.exists() else Path(__file__).parents[3] / "data" / _NAME
RECORD = json.loads(_FILE.read_text())


def signature(recorded: list[str]) -> inspect.Signature:
    """The signature of a recorded list of parameters, without those that this version does not have yet."""
    kind, parameters = inspect.Parameter.POSITIONAL_OR_KEYWORD, []
    for text in recorded:
        text, _, since = text.partition(" @")
        if since and tuple(map(int, since.split("."))) > NUMBERS:
            continue
        if text == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
        elif text.startswith("**"):
            parameters.append(inspect.Parameter(text[2:], inspect.Parameter.VAR_KEYWORD))
        else:
            name, has_default, default = text.partition("=")
            value = _value(default) if has_default else inspect.Parameter.empty
            parameters.append(inspect.Parameter(name, kind, default=value))
    return inspect.Signature(parameters)


def _value(text: str):
    try:
        return ast.literal_eval(text)
    except (
        ValueError,
        SyntaxError,
    ):  # an enum's member or an object: what matters is that there is a default
        return None


def bind(recorded: list[str], args, kwargs) -> dict:
    """The arguments by name, defaults included; raises TypeError for a call that is not allowed."""
    bound = signature(recorded).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def recorded(module: str):
    """A class with the methods of its record, each checked, and none beside."""

    def decorate(cls):
        record = RECORD["modules"][module][cls.__name__]
        for name, parameters in record.get("methods", {}).items():
            setattr(cls, name, _checked(getattr(cls, name, None), name, parameters))
        if "call" in record:
            cls.__init__.__signature__ = cls.__signature__ = signature(record["call"])
        extra = [n for n in vars(cls) if not n.startswith("_") and n not in _public(record)]
        assert not extra, f"{cls.__name__} has {extra}, which the record does not"
        cls.__module__ = module
        return cls

    return decorate


def _public(record: dict) -> set[str]:
    return {*record.get("methods", {}), *record.get("overloads", {}), *record.get("attributes", [])}


def _checked(method, name, parameters):
    if method is None:

        def method(self, **_):
            raise NotImplementedError(f"the double has no {name}")

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        return method(self, **bind(parameters, args, kwargs))

    call.__signature__ = signature(parameters)
    return call


class Values:
    """An object whose attributes are the recorded parameters of its constructor, and nothing else."""

    def __init__(self, *args, **kwargs) -> None:
        record = RECORD["modules"][self._module][type(self).__name__]
        values = bind(record["call"], args, kwargs)
        self._names = frozenset({*values, *record.get("attributes", [])})
        for name, value in values.items():
            setattr(self, name, value)
        self._check()

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and name not in self._names:
            raise AttributeError(f"{type(self).__name__} has no {name!r} to set")
        super().__setattr__(name, value)

    def _check(self) -> None:
        pass


def values(module: str, name: str, check=None) -> type:
    """A class of such objects."""

    def make(self, *args, **kwargs) -> None:
        Values.__init__(self, *args, **kwargs)

    record = RECORD["modules"][module][name]
    make.__signature__ = signature(record["call"])
    extra = {"_check": check} if check else {}
    own = {"_module": module, "__module__": module, "__init__": make}
    shown = {"__signature__": make.__signature__, "__annotations__": _named(record)}
    return type(name, (Values,), {**own, **shown, **extra})


def readable(module: str, name: str) -> type:
    """A class that is only ever seen as a value: it has its name and its attributes' names."""
    record = RECORD["modules"][module][name]
    return type(name, (), {"__module__": module, "__annotations__": _named(record)})


def _named(record: dict) -> dict[str, type]:
    return dict.fromkeys(record.get("attributes", []), object)


class Read:
    """An object with the recorded attributes, all given at once."""

    def __init__(self, module: str, name: str, **given) -> None:
        known = RECORD["modules"][module][name]["attributes"]
        assert set(given) <= set(known), set(given) - set(known)
        self.__dict__.update(dict.fromkeys(known), **given)


def enums(module: str) -> dict[str, type[enum.Enum]]:
    """The recorded enums."""
    found = RECORD["enums"][module]
    return {name: enum.Enum(name, members, module=module) for name, members in found.items()}
