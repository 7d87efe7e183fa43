"""What the pages say is true of the repository: links, files, commands and options exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from trt_dp.cli.main import app
from trt_dp.serving.own import __main__ as own_server

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "datasets").glob("*.md")),
]
NAMED = r"(?<![\w/.])((?:scripts|engines|datasets|tests|docs)/[\w./-]+\.(?:toml|py|md))"
COMMANDS = typer.main.get_command(app)
KINDS = COMMANDS.commands["prepare-dataset"].commands
OF_OTHERS = {
    "--stdin",
    "--hypothesis-profile",
    "--version",
    "--word",
    "--twice",
    "--additional-sampling-params",
    "--max-num-completed-requests",
    "--mean-input-tokens",
    "--mean-output-tokens",
    "--no-kill",
    "--num-concurrent-requests",
    "--save-detailed",
}  # pytest's, Slurm's, those of docs/extending.md, and those of LLMPerf and vLLM


def texts(pattern: str) -> list[tuple[Path, str]]:
    """Everything that a pattern finds in the pages, each once, with its page."""
    flags = re.DOTALL | re.MULTILINE
    return sorted(
        {(page, text) for page in PAGES for text in re.findall(pattern, page.read_text(), flags)}
    )


def shown(found: list[tuple[Path, str]]) -> dict[str, object]:
    """The arguments of a parametrized test, with names that say where each comes from."""
    return {
        "argvalues": found,
        "ids": [f"{page.name}:{text.splitlines()[0][:60]}" for page, text in found],
    }


def command_lines() -> list[tuple[Path, str]]:
    """Every line of code that starts with `trt-dp`, continuation lines included, with its page."""
    code = texts(r"^```\n(.*?)^```$") + texts(r"^    (\S(?:[^\n]*\\\n)*[^\n]*)$")
    lines = [
        (page, line) for page, block in code for line in block.replace("\\\n", " ").splitlines()
    ]
    lines = [(page, line.removeprefix("$ ").partition(" #")[0]) for page, line in lines]
    return sorted({(page, line) for page, line in lines if line.startswith("trt-dp ")})


def options_of(words: list[str]) -> set[str]:
    """The options of the command that a line calls, and of its sub-command."""
    context = typer.Context(COMMANDS)
    command, names = COMMANDS, {"--help", "-h"}
    for word in ["", *words]:
        command = getattr(command, "commands", {}).get(word, command)
        for param in command.get_params(context):
            names |= {*param.opts, *param.secondary_opts}
    return names


@pytest.mark.parametrize(("page", "block"), **shown(texts(r"^```\w*\n(.*?)^```$")))
def test_no_block_is_a_placeholder(page, block):
    """Every block of code, commands or output has more than a word in it."""
    assert len(block.split()) > 1, page


@pytest.mark.parametrize(("page", "link"), **shown(texts(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")))
def test_every_file_that_is_linked_is_there(page, link):
    """A link to a file of the repository leads somewhere."""
    assert (page.parent / link).exists()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_page_is_found(page):
    """Some other page links to each page of docs."""
    assert any(one != page and f"{page.name})" in one.read_text() for one in PAGES)


@pytest.mark.parametrize(("page", "name"), **shown(texts(NAMED)))
def test_every_file_that_is_named_is_there(page, name):
    """A file that a command or a sentence names is in the repository."""
    assert (ROOT / name).exists(), page


@pytest.mark.parametrize(("page", "line"), **shown(command_lines()))
def test_every_command_that_is_shown_has_its_options(page, line):
    """The command of a line exists, and so does each option that the line gives it."""
    words = shlex.split(line)[1:]
    words = words[: words.index("--")] if "--" in words else words
    assert words[0] in {*COMMANDS.commands, "--help", "--version"}, page
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given - options_of(words) <= OF_OTHERS, page


@pytest.mark.parametrize(("page", "option"), **shown(texts(r"`(--[a-z][a-z-]+)[ `=]")))
def test_every_option_that_is_named_exists(page, option):
    """An option that a sentence names is one of trt-dp's, or of the script or tool that the page is about."""
    known = {
        name
        for words in (["prepare-dataset", kind] for kind in KINDS)
        for name in options_of(words)
    }
    known |= {name for command in COMMANDS.commands for name in options_of([command])}
    known |= {name for action in own_server._parser()._actions for name in action.option_strings}
    elsewhere = any(
        option in script.read_text() for script in (ROOT / "scripts").iterdir() if script.is_file()
    )
    assert option in known | OF_OTHERS or elsewhere, page
