"""From rows to prompts: what templates see, which examples are drawn, and what is said of gaps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workflows import Flow, document, lines, load, say, write_prompt, write_rows

from trt_dp.errors import RequestRefused, UsageError
from trt_dp.workflow.prompts.messages import Prompts, as_roles, empty_names

SHOTS = [{"context": {"t": f"q{n}"}, "assistant": f"a{n}", "id": n} for n in range(6)]


def requests(name: str = "say") -> list[dict[str, object]]:
    return [json.loads(line) for line in lines(f"o/a/{name}.run/1/requests.jsonl")]


def prompts(flow: Flow, **params: object) -> Prompts:
    """What makes the prompts of the node, without a run."""
    write_rows(Path("d/in.jsonl"), [])
    seed = params.pop("seed", 0)
    return flow.check(document([load(), say(**params)]), seed=seed)[1].prepared.prompts


def user(messages: list[dict[str, str]]) -> str:
    return messages[-1]["content"]


def test_templates_are_filled_as_the_format_says(flow):
    """Blocks leave no blank lines, the last line break goes, nothing is escaped, objects look as in Python."""
    write_prompt(
        "say", "{% if t %}\n  {% set x = 1 %}\n{{ t }}\n{% endif %}\n{{ o }}\n", "S {{ t }}\n"
    )
    messages = prompts(flow).messages({"id": 1, "t": "<b>", "o": {"k": True}}, "1")
    assert as_roles(messages) == "system: S <b>\nuser: <b>\n{'k': True}\nassistant:"


def test_only_mapped_names_are_seen(flow):
    """With a map, a field that is not in it is empty, and that is said with its count and reason."""
    rows = [{"id": 1, "t": "x", "u": "y"}, {"id": 2, "u": "z"}]
    write_prompt("say", "{{ v }}|{{ t }}")
    made = prompts(flow, template_context_map={"v": "t"})
    assert [user(made.messages(row, "")) for row in rows] == ["x|", "|"]
    assert empty_names(made, rows) == [
        "`t` in user_prompt.txt is empty in 2 of 2 prompts: template_context_map does not name it",
        (
            "`v` in user_prompt.txt is empty in 1 of 2 prompts: template_context_map says it is the field "
            "'t', which the rows lack"
        ),
    ]


def test_a_mapped_field_that_no_row_has_is_refused(flow):
    """All prompts would have a gap where the document says there is none; nothing is asked."""
    write_rows(Path("d/in.jsonl"), [{"id": 1, "text": "x"}])
    write_prompt("say", "{{ v }}")
    with pytest.raises(UsageError) as refusal:
        flow(document([load(), say(template_context_map={"v": "txet"})]))
    place = "a.json: nodes[1].params.template_context_map.v"
    said = "no row has a field 'txet' (did you mean 'text'?); known: id, text"
    assert str(refusal.value) == f"{place}: {said}"
    assert flow.heard("Node 'say' finished with status: failed")


def test_with_strict_an_empty_place_is_refused_before_anything_is_asked(flow):
    """The sentence names the variable and the template."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}])
    write_prompt("say", "{{ t }}")
    with pytest.raises(UsageError, match=r"nodes\[1\]: `t` in user_prompt.txt is empty"):
        flow(document([load(), say()]), strict=True)
    assert not Path("o/a/say.run").exists()


def test_a_row_whose_template_cannot_be_filled_fails_alone(flow):
    """The others are answered, and the reason is the template's."""
    write_rows(Path("d/in.jsonl"), [{"id": 1, "n": 0}, {"id": 2, "n": 2}])
    write_prompt("say", "{{ 4 / n }}")
    assert flow.statuses(document([load(), say()]))[1] == "completed_with_errors"
    assert lines("o/a/say.jsonl") == ['{"id":"2","output":"2.0","n":2}']
    (failure,) = map(json.loads, lines("o/a/say.failures.jsonl"))
    assert failure["id"] == "1"
    assert failure["error"]["kind"] == "template_error"
    assert "user_prompt.txt cannot be filled in: division by zero" in failure["error"]["message"]


@pytest.mark.parametrize(
    "template",
    ["{{ ''.__class__.__mro__ }}", "{{ cycler.__init__.__globals__ }}", "{{ t.append(1) }}"],
)
def test_a_template_reaches_nothing_outside_of_its_values(flow, template):
    """It runs in a sandbox, and cannot change a row either."""
    write_prompt("say", template)
    with pytest.raises(RequestRefused, match=r"cannot be filled in: .*unsafe"):
        prompts(flow).messages({"id": 1, "t": []}, "1")


def test_examples_come_before_the_row_and_are_the_same_in_every_run(flow):
    """They are drawn by the seed and the row's key: another seed draws others, another row too."""
    write_prompt("say", "Q {{ t }}")
    write_rows(Path("p/say/few_shot.jsonl"), SHOTS)
    made = prompts(flow, num_few_shots=2)
    first, *others = [made.messages({"t": f"t{n}"}, str(n)) for n in range(8)]
    roles = ["system", *["user", "assistant"] * 2, "user"]
    assert [message["role"] for message in first] == roles
    assert first[1]["content"].replace("Q q", "a") == first[2]["content"]
    assert user(first) == "Q t0"
    assert any(one[1:5] != first[1:5] for one in others)
    assert prompts(flow, num_few_shots=2).messages({"t": "t0"}, "0") == first
    again = [
        prompts(flow, num_few_shots=2, seed=seed).messages({"t": "t0"}, "0") for seed in range(1, 9)
    ]
    assert any(one != first for one in again)


def test_examples_that_cannot_be_used_are_said(flow):
    """As many as there are, are used; with --strict that is refused."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}])
    write_prompt("say", "x")
    write_rows(Path("p/say/few_shot.jsonl"), [{"question": "q"}, {"context": {}}, SHOTS[0]])
    path = document([load(), say(num_few_shots=2)])
    flow.check(path)
    assert flow.heard("skipped examples of few_shot.jsonl: 2 (line 1: it has no object 'context'")
    assert flow.heard("num_few_shots is 2, and few_shot.jsonl has 1 that can be used")
    with pytest.raises(UsageError, match="skipped examples"):
        flow.check(path, strict=True)


def test_a_model_with_a_chat_template_gets_chats(flow, model, tmp_path):
    """Its own template writes the prompt, unless the node asks for lines of roles; either is said."""
    import shutil

    folder = shutil.copytree(model, tmp_path / "chatty")
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    (folder / "chat_template.jinja").write_text(template)
    write_rows(Path("d/in.jsonl"), [{"id": 1, "t": "hi"}])
    write_prompt("say", "{{ t }}")
    flow(document([load(), say()]), engine_path=folder)
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": "hi"}]
    assert requests()[0]["messages"] == messages
    assert lines("o/a/say.jsonl") == ['{"id":"1","output":"hi","t":"hi"}']
    assert flow.heard("Prompts are written by the chat template of")
    flow(document([load(), say(prompt_form="roles")]), engine_path=folder, fresh=True)
    assert requests()[0]["prompt"] == "system: \nuser: hi\nassistant:"
    assert flow.heard("Prompts are lines of `role: content`: prompt_form says so")


def test_chats_that_are_asked_for_need_a_template(flow):
    """The sentence names the parameter and the model."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}])
    write_prompt("say", "x")
    with pytest.raises(UsageError, match=r"nodes\[1\].params.prompt_form: .* has no chat template"):
        flow.check(document([load(), say(prompt_form="chat")]))
