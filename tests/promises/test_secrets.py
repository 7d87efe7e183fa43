"""Values of secret settings are used, and neither shown nor stored."""

from __future__ import annotations

import pytest
from conftest import run_echo

from trt_dp import plugins
from trt_dp.engines.echo import EchoEngine
from trt_dp.errors import EngineRefused, FolderError, NoWorkersLeft, RequestRefused, UsageError
from trt_dp.system.redact import REDACTED, is_secret, redact_all, scrub

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "name",
    ["api_key", "API-KEY", "apikey", "key", "hf_token", "token", "client_secret", "password",
     "db_passwd", "credentials", "credential_json", "authorization", "bearer_value", "api_keys"],
)  # fmt: skip
def test_names_of_secrets_are_recognised(name):
    """A setting named like a key, token, secret, password or credential is one."""
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    ["capacity", "max_tokens", "max_num_tokens", "tokens_per_block", "keyboard", "tokenizer"],
)
def test_other_names_are_not_taken_for_secrets(name):
    """A number of tokens is no token."""
    assert not is_secret(name)


def test_only_values_of_secrets_are_hidden():
    """The names stay, and every other setting as it is."""
    shown = redact_all({"api_key": SECRET, "capacity": "3"})
    assert shown == {"api_key": REDACTED, "capacity": "3"}


def test_secrets_are_hidden_in_any_text():
    """A secret value is hidden wherever a text quotes it; a value too short to be one is no reason to."""
    settings = {"api_key": SECRET, "token": "a", "capacity": "3333"}
    assert scrub(f"a 3333 {SECRET}!", settings) == f"a 3333 {REDACTED}!"


class Keyed:
    """Echo behind a key: it answers only when it was given one."""

    def __init__(
        self,
        spec,
        placement,
        *,
        api_key: str = "",
        pin_key: int = 0,  # noqa: ARG002 - only its type counts
        fails: str = "",
    ) -> None:
        assert api_key
        self._engine = EchoEngine(spec, placement)
        self.capacity = self._engine.capacity
        self.submit, self.step, self.close = (
            self._engine.submit,
            self._engine.step,
            self._engine.close,
        )
        self._fail(api_key, fails)

    def _fail(self, api_key, fails):
        """Quote the key in an error, as a library does that is refused by its server."""
        if fails == "load":
            msg = f"the key {api_key} is not known"
            raise EngineRefused(msg)
        error = {"step": RuntimeError, "submit": RequestRefused}.get(fails)
        if error:
            setattr(self, fails, lambda *_: _raise(error(f"the key {api_key} is not known")))


def _raise(error):
    raise error


@pytest.fixture
def keyed(monkeypatch):
    """The engine echo is one that needs a key, in workers that are threads of this process."""
    find = plugins.find

    def found(group, name):
        return Keyed if group == plugins.ENGINES else find(group, name)

    monkeypatch.setattr(plugins, "find", found)


def run_keyed(dataset, tmp_path, options):
    return run_echo(dataset, tmp_path / "run", options, launcher="inline", workers=1)


@pytest.mark.usefixtures("keyed")
def test_a_secret_reaches_the_engine_and_no_file(tmp_path, dataset):
    """The engine gets the value of a secret setting; nothing in the run folder holds it."""
    outcome = run_keyed(dataset, tmp_path, {"api_key": SECRET})
    assert outcome.report.requests.answered == 200
    files = [path for path in outcome.folder.rglob("*") if path.is_file()]
    assert {"run.json", "report.json", "worker-0.log"} <= {path.name for path in files}
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert REDACTED in (outcome.folder / "run.json").read_text()


@pytest.mark.usefixtures("keyed")
def test_a_run_is_resumed_with_another_key(tmp_path, dataset):
    """A secret that changed is the same run; one that is missing is another, and its value is not told."""
    run_keyed(dataset, tmp_path, {"api_key": SECRET})
    run_keyed(dataset, tmp_path, {"api_key": "another"})
    with pytest.raises(FolderError, match="--set api_key=") as caught:
        run_keyed(dataset, tmp_path, {})
    assert SECRET not in str(caught.value)


@pytest.mark.usefixtures("keyed")
def test_a_refused_value_of_a_secret_is_not_told(tmp_path, dataset):
    """A value of the wrong type is refused by name."""
    with pytest.raises(UsageError, match="--set pin_key=") as caught:
        run_keyed(dataset, tmp_path, {"api_key": SECRET, "pin_key": SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize("fails", ["load", "step", "submit"])
def test_a_secret_in_an_error_of_the_engine_is_hidden(tmp_path, dataset, fails):
    """An exception that quotes a key is told and written without it, wherever the engine raises it."""
    told = ""
    try:
        outcome = run_keyed(dataset, tmp_path, {"api_key": SECRET, "fails": fails})
        told = outcome.failures.read_text()
    except (EngineRefused, NoWorkersLeft) as error:
        told = str(error)
    assert f"the key {REDACTED} is not known" in told
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
