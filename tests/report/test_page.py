"""report.html: every figure is report.json's, nothing foreign is markup, nothing is fetched."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import msgspec
import pytest
from conftest import run_echo, write_dataset
from planted import Plan, observe
from report_parts import counts, whole

from trt_dp import api
from trt_dp.errors import UsageError
from trt_dp.report.counts import Story
from trt_dp.report.page import page
from trt_dp.report.page.compare import front, half_width
from trt_dp.report.page.html import Markup, el, text
from trt_dp.report.page.marks import ticks
from trt_dp.report.schema import Report
from trt_dp.report.sections import FailureGroup, Sitting
from trt_dp.report.summary import summarise

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x1b[31m\u202e"


class Reader(HTMLParser):
    """What a page has: elements, their attributes, and the numbers that carry a path."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.numbers: list[tuple[int, str, str]] = []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        given = dict(attrs)
        if tag == "data":
            self.numbers.append((int(given["data-run"]), given["data-path"], given["value"]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run with failures and a death."""
    folder = tmp_path_factory.mktemp("page")
    dataset = write_dataset(folder / "requests.jsonl", 200)
    run_echo(dataset, folder / "run", {"fail": "3,17", "crash": "40", "capacity": "8"})
    return folder / "run"


def report_of(**story) -> Report:
    run = observe(Plan([100] * 200, deaths=[(1, 2.0, 1.0)]))
    seen = counts(
        columns=run.columns, wasted=run.wasted, states=run.states, workers=counts().workers * 2
    )
    return summarise(
        whole(phases={**run.phases, "start": 0.0, "stop": 0.0}, began=0.0, devices=[[]] * 4),
        seen,
        Story(**story),
    )


def test_every_figure_of_the_page_stands_in_report_json(finished):
    """Each number carries its path and its value, and report.json has that value there."""
    written = json.loads((finished / "report.json").read_text())
    numbers = Reader((finished / "report.html").read_text()).numbers
    assert len(numbers) > 100
    for _, path, value in numbers:
        found = written
        for name in path.split("."):
            found = found[int(name)] if isinstance(found, list) else found[name]
        assert float(value) == found, path


def test_the_page_fetches_nothing_and_runs_nothing(finished):
    """There is no script, no link to elsewhere, and a policy that forbids both."""
    content = (finished / "report.html").read_text()
    found = Reader(content)
    assert not {"script", "link", "img", "iframe", "object", "a", "form"} & set(found.tags)
    assert not [
        n for n, v in found.attributes if n in ("src", "href", "action") or n.startswith("on")
    ]
    assert ("http-equiv", "Content-Security-Policy") in found.attributes
    assert "url(" not in content
    assert "@import" not in content


def test_what_happened_is_on_the_page(finished):
    """Failures with their reasons, the death, the ledger that balances, and the worker's rows."""
    content = (finished / "report.html").read_text()
    for wanted in (
        "echo was told to fail this request",
        "killed by SIGKILL",
        "It balances",
        "worker 1",
    ):
        assert wanted in content, wanted


def test_hostile_text_is_text():
    """Markup in names, reasons, facts and options changes nothing but the text that is shown."""
    friendly, hostile = (
        report_of(
            failures=[FailureGroup(kind=word, message=word, requests=3, examples=[word])],
            sittings=[Sitting(began_utc=word, seconds=1.0, completed=1, deaths=0, ended=word)] * 2,
        )
        for word in ("x", HOSTILE)
    )
    hostile = msgspec.structs.replace(hostile, engine=HOSTILE, dataset=HOSTILE)
    for names in (["x"], ["x", "y"]):
        good = Reader(page([(name, friendly) for name in names]))
        bad = Reader(page([(name + HOSTILE, hostile) for name in names]))
        assert good.tags == bad.tags
        assert [n for n, _ in good.attributes] == [n for n, _ in bad.attributes]
    assert "\x1b" not in page([(HOSTILE, hostile)])


def test_text_is_escaped_once_and_markup_never():
    """A text becomes safe, and what was made here stays as it is."""
    assert text("<b>&") == "&lt;b&gt;&amp;"
    assert el("p", Markup("<b>x</b>"), "<") == "<p><b>x</b>&lt;</p>"
    assert el("p", title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;"></p>'


def test_a_report_of_an_older_version_is_drawn(finished):
    """A report.json without timelines, losses and ledger loads, and its page has what it has."""
    old = json.loads((finished / "report.json").read_text())
    new = {"began_utc", "losses", "ledger", "timeline", "tail", "histograms", "failures", "sittings",
           "environment", "energy"}  # fmt: skip
    old = {name: value for name, value in old.items() if name not in new}
    report = msgspec.json.decode(json.dumps(old), type=Report)
    content = page([("old", report)])
    assert "Latencies and lengths" in content
    assert "Where the time went" not in content
    assert "Side by side" in page([("old", report), ("older", report)])


def test_several_runs_are_compared(finished, tmp_path):
    """Runs stand side by side; repeats of the same run have a confidence interval."""
    path = api.write_page([finished, finished, finished], tmp_path / "all.html")
    content = path.read_text()
    assert "3 runs" in content
    assert "95 % confidence interval" in content
    assert {run for run, _, _ in Reader(content).numbers} == {0, 1, 2}


def test_a_page_that_cannot_be_written_is_one_sentence(finished, tmp_path):
    """A folder that is not there is the user's mistake."""
    with pytest.raises(UsageError, match=r"cannot write .*No such file"):
        api.write_page([finished], tmp_path / "no" / "page.html")


def test_the_confidence_interval_is_students():
    """Three values with deviation 1 are known to 4.303 / sqrt(3)."""
    assert half_width([9.0, 10.0, 11.0]) == pytest.approx(4.303 / 3**0.5)


def test_the_front_holds_what_nothing_beats():
    """A run that is slower and answers later than another is not on it."""
    assert front([(1, 5, "a"), (2, 9, "b"), (3, 8, "c")]) == {"a", "b"}


@pytest.mark.parametrize(
    ("low", "high"), [(0, 7.65), (0, 123456), (6.85, 7.4), (0, 0.0031), (3, 3)]
)
def test_ticks_are_round_and_inside(low, high):
    """Axis marks lie within their axis, and there are few of them."""
    found = ticks(low, high)
    assert 1 <= len(found) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
