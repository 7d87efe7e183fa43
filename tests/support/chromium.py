"""Headless Chromium, as Debian ships it: opens a page, and tells what it logged and what it asked the network for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).parents[2] / "build/browser/node_modules/axe-core/axe.min.js"
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
_OWN = re.compile(r"(file|chrome|data|devtools):|https?://[\w.-]+\.(google|googleapis|gvt1)\.com/")
"""The page itself, and what Chromium asks of its maker whatever page is open; it gets no answer here."""

_RUN_AXE = """
axe.run(document).then(found => {
  const told = document.createElement('pre');
  told.id = 'axe-result';
  const place = node => node.html.slice(0, 200);
  told.textContent = JSON.stringify(found.violations.map(v => [v.impact, v.id, v.nodes.map(place)]));
  document.body.append(told);
});
"""


def chromium(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page with a profile of its own."""
    assert CHROMIUM
    with tempfile.TemporaryDirectory() as profile:
        line = [CHROMIUM, *_QUIET, f"--user-data-dir={profile}", *flags, page.as_uri()]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)


def opened(page: Path, folder: Path) -> tuple[str, list[str], list[str]]:
    """The page as Chromium sees it, the messages on its console, and the addresses that it asked for the page."""
    log = folder / "net.json"
    done = chromium(
        page,
        "--dump-dom",
        "--enable-logging=stderr",
        f"--log-net-log={log}",
        "--net-log-capture-mode=Default",
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    asked = re.findall(r'"url":"([^"]+)"', log.read_text())
    return done.stdout, console, [address for address in asked if not _OWN.match(address)]


def accessibility(page: Path, folder: Path, *flags: str) -> list[tuple[str, str, list[str]]]:
    """What axe-core finds: impact, rule and places; on a copy of the page that may run it."""
    content = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    script = f"<script>{AXE.read_text()}</script><script>{_RUN_AXE}</script>"
    copy = folder / "axe.html"
    copy.write_text(content.replace("</body>", script + "</body>"))
    dom = chromium(copy, "--dump-dom", "--virtual-time-budget=60000", *flags).stdout
    found = re.search(r'<pre id="axe-result">(.*?)</pre>', dom, re.DOTALL)
    assert found, "axe did not finish"
    told = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return [(impact, rule, places) for impact, rule, places in json.loads(told)]
