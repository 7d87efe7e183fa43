"""The report as a person sees it: opened in headless Chromium."""

from __future__ import annotations

import json
import re

import pytest
from chromium import AXE, CHROMIUM, accessibility, chromium, opened
from conftest import run_echo, write_dataset
from measured import outcome

from trt_dp import api
from trt_dp.bench.sweep.grid import Setting
from trt_dp.bench.sweep.outcome import Outcome
from trt_dp.bench.sweep.page import page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing: scripts/browser-test"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A run with failures and deaths, a comparison of two, and a sweep with a setting that failed."""
    folder = tmp_path_factory.mktemp("pages")
    dataset = write_dataset(folder / "<i>requests.jsonl", 300)
    options = {"fail": "3,17", "crash": "40", "capacity": "16", "step_seconds": "0.01"}
    run_echo(dataset, folder / "run", options)
    api.write_page([folder / "run", folder / "run"], folder / "both.html")
    good = [outcome(Setting(1, dp, 1), 100.0 * dp, ttft=12.0 * dp) for dp in (1, 2, 4)]
    bad = Outcome(setting=Setting(8, 1, 1), failed="<script>console.error('no')</script>")
    swept = page("<b>Sweep", [*good, bad], good[1], "trt-dp serve '<m>' --n-workers 2")
    (folder / "sweep.html").write_text(swept)
    run, both = folder / "run" / "report.html", folder / "both.html"
    return {"one": run, "both": both, "sweep": folder / "sweep.html"}


@pytest.mark.parametrize("which", ["one", "both", "sweep"])
def test_the_page_opens_without_an_error_or_a_request(pages, tmp_path, which):
    """Nothing is logged on the console, and no address but the file's own is asked for."""
    dom, console, addresses = opened(pages[which], tmp_path)
    assert console == []
    assert addresses == []
    assert "</main>" in dom


def test_a_page_that_asks_for_something_would_be_noticed(tmp_path):
    """The same look at a page with an image from elsewhere and a broken script finds both."""
    page = tmp_path / "bad.html"
    page.write_text("<img src=http://127.0.0.1:9/x.png><script>console.error('no')</script>")
    _, console, addresses = opened(page, tmp_path)
    assert any("127.0.0.1:9" in address for address in addresses)
    assert console


def test_every_figure_that_chromium_shows_stands_in_report_json(pages, tmp_path):
    """The numbers of the opened page are those of report.json, at the paths that they carry."""
    dom, _, _ = opened(pages["one"], tmp_path)
    written = json.loads(pages["one"].with_name("report.json").read_text())
    shown = re.findall(r'<data value="([^"]+)" data-path="([^"]+)"', dom)
    assert len(shown) > 100
    for value, path in shown:
        found = written
        for name in path.split("."):
            found = found[int(name)] if isinstance(found, list) else found[name]
        assert float(value) == found


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is missing: scripts/browser-test")
@pytest.mark.parametrize("which", ["one", "both", "sweep"])
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_axe_finds_no_serious_problem(pages, tmp_path, which, scheme):
    """No accessibility problem that axe-core calls serious or critical, in light and dark."""
    found = accessibility(pages[which], tmp_path, f"--blink-settings=preferredColorScheme={scheme}")
    assert [problem for problem in found if problem[0] in ("serious", "critical")] == []


@pytest.mark.parametrize("width", [360, 1180])
@pytest.mark.parametrize("which", ["one", "sweep"])
def test_the_page_is_drawn_and_prints(pages, tmp_path, which, width):
    """A screenshot and a PDF come out, on a phone's width and on a desk's."""
    chromium(pages[which], f"--window-size={width},1600", f"--screenshot={tmp_path / 'shot.png'}")
    assert (tmp_path / "shot.png").stat().st_size > 20_000
    chromium(pages[which], f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
