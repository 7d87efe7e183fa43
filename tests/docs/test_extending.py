"""The engine, the builder and the launcher of docs/extending.md, used as a reader would."""

from __future__ import annotations

import json

import pytest
from conftest import trt_dp, write_dataset
from documented import install


@pytest.fixture
def env(tmp_path):
    """An environment in which the page's package is installed."""
    return install(tmp_path / "site")


def build(tmp_path, env, *words):
    return trt_dp("build", "--engine", "shout", *words, cwd=tmp_path, env=env)


def test_the_plugins_of_the_page_are_listed(env):
    """`trt-dp plugins` shows all three."""
    listed = trt_dp("plugins", env=env).stdout
    for value in ("shout.engine:ShoutEngine", "shout.builder", "shout.launcher:NiceLauncher"):
        assert value in listed


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--word", "9", "--twice"], 18),
        (["--set", "word=9"], 9),
        (["--recipe", "r.toml"], 22),
        ([], 7),
    ],
)
def test_a_built_model_answers_under_the_pages_launcher(tmp_path, env, words, word):
    """Built with its own flags, --set or a recipe, recognised by its folder, and run with its own options."""
    (tmp_path / "r.toml").write_text('word = 11\ntwice = true\nengine = "shout"\n')
    done = build(tmp_path, env, *words)
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "engines/default/trt_dp.json").read_text())
    assert (made["engine"], made["built"]) == ("shout", {"word": word})
    dataset = write_dataset(tmp_path / "requests.jsonl", 20)
    done = trt_dp(
        "run", "--request-path", dataset, "--output-dir", "run", "--launcher", "nice",
        "--set", "volume=3", cwd=tmp_path, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "run/results.jsonl").read_text().splitlines()
    assert [json.loads(line)["output_ids"] for line in lines] == [[3 * word] * 8] * 20


def test_the_builders_flags_are_in_the_help(tmp_path, env):
    """They stand under the builder's name, with their help texts."""
    text = build(tmp_path, env, "--help").stdout
    mine = text.partition("Options for shout:")[2].partition("Options for")[0]
    assert "--word" in mine
    assert "The id to shout." in mine
    assert "--twice" in mine


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--word", "loud"], "'--word'"),
        (
            ["--set", "word=loud"],
            "options of the builder shout: `word` must be a whole number, not text",
        ),
        (["--set", "words=3"], "did you mean '--word'?"),
        (["--tp-size", "2"], "the builder shout has no option --tp-size"),
        (["--check"], "the builder shout does not offer --check"),
        (["--dry-run"], "the builder shout does not offer --dry-run"),
        (["--", "--loud"], "the builder shout has no option -- EXTRA"),
    ],
)
def test_what_the_builder_does_not_take_is_refused(tmp_path, env, words, sentence):
    """A wrong value, an unknown option, and what only other builders offer, end with status 2 and one sentence."""
    done = build(tmp_path, env, *words)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "engines").exists() or not list((tmp_path / "engines").iterdir())
