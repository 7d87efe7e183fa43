from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from chat_templates import CHATS, SETTINGS, SPECIAL, TEMPLATES
from msgspec import Raw

from trt_dp.errors import RequestRefused, UsageError
from trt_dp.text.chat_template import ChatTemplate, check, read_source

pytest.importorskip("jinja2")

ASK = [{"role": "user", "content": "Hi"}]


def folder_of(place: Path, template: str | None, **files: object) -> Path:
    """An engine's folder with this template."""
    place.mkdir(exist_ok=True)
    config = {**SPECIAL, **({"chat_template": template} if template is not None else {})}
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (place / name.replace("__", ".")).write_text(text)
    return place


def raw(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))


def written(folder: Path, chat: object = None, settings: object = None, system: str | None = None):
    return ChatTemplate(folder).prompt(raw(chat or ASK), raw(settings or {}), system)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", TEMPLATES)
def test_prompts_are_those_of_transformers(family, tmp_path):
    """Each chat, with each setting, is the same prompt, or is refused by both."""
    chat_template_utils = pytest.importorskip("transformers.utils.chat_template_utils")
    template = TEMPLATES[family]
    ours = ChatTemplate(folder_of(tmp_path / "f", template))
    for chat in CHATS.values():
        for settings in SETTINGS:
            asked = {"add_generation_prompt": True, **settings}
            try:
                (expected,), _ = chat_template_utils.render_jinja_template(
                    [chat], chat_template=template, **asked, **SPECIAL
                )
            except Exception:  # noqa: BLE001 - whatever they raise, we refuse
                with pytest.raises(RequestRefused):
                    ours.prompt(raw(chat), raw(settings))
                continue
            assert ours.prompt(raw(chat), raw(settings)) == expected


@pytest.mark.parametrize("family", TEMPLATES)
def test_every_family_writes_a_prompt(family, tmp_path):
    """The question is in the prompt, whatever the template."""
    assert "Hi" in written(folder_of(tmp_path / "f", TEMPLATES[family]))


def test_a_chat_that_the_template_refuses_is_refused_with_its_words(tmp_path):
    """raise_exception is that request's failure, in the template's own sentence."""
    folder = folder_of(tmp_path / "f", TEMPLATES["gemma"])
    with pytest.raises(RequestRefused, match="System role not supported"):
        written(folder, CHATS["system"])


def test_the_runs_system_message_comes_first_unless_there_is_one(tmp_path):
    """--system is for chats that have no system message of their own."""
    folder = folder_of(tmp_path / "f", TEMPLATES["chatml"])
    assert "system\nRUN" in written(folder, system="RUN")
    assert "RUN" not in written(folder, CHATS["system"], system="RUN")


def test_parts_of_text_become_text_where_the_template_knows_no_parts(tmp_path):
    """Lists of parts are joined for a template that writes text, and given as they are to one that reads them."""
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    chat = [{"role": "user", "content": parts}]
    assert "one\ntwo" in written(folder_of(tmp_path / "a", TEMPLATES["chatml"]), chat)
    assert "onetwo" in written(folder_of(tmp_path / "b", TEMPLATES["gemma3"]), chat)


def test_a_template_cannot_reach_out(tmp_path):
    """A hostile template gets neither attributes of Python nor changes to its input."""
    for hostile in (
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for i in range(10**9) %}{% endfor %}",
    ):
        with pytest.raises(RequestRefused):
            written(folder_of(tmp_path / "f", hostile))


def test_a_template_is_found_wherever_models_keep_it(tmp_path):
    """chat_template.jinja wins, then tokenizer_config.json (with one or several), then chat_template.json."""
    assert read_source(folder_of(tmp_path / "a", "A", chat_template__jinja="J")) == "J"
    assert (
        read_source(folder_of(tmp_path / "b", "A", chat_template__json={"chat_template": "C"}))
        == "A"
    )
    assert (
        read_source(folder_of(tmp_path / "c", None, chat_template__json={"chat_template": "C"}))
        == "C"
    )
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    assert read_source(folder_of(tmp_path / "d", named)) == "D"  # type: ignore[arg-type]
    assert read_source(folder_of(tmp_path / "e", None)) is None


def test_a_missing_or_broken_template_is_said_in_a_sentence(tmp_path):
    """A folder without a template is refused before anything is loaded, a broken one when it is."""
    bare = folder_of(tmp_path / "a", None)
    with pytest.raises(UsageError, match="has no chat template"):
        check(bare, "chats.jsonl holds chats")
    with pytest.raises(UsageError, match="cannot be used"):
        ChatTemplate(folder_of(tmp_path / "b", "{% if %}"))
