"""Open a page in Chromium without a window, run a script in it, and return what it gives."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars")
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
RESULT = re.compile(r'<pre id="result">(.*?)</pre>', re.DOTALL)
TIMEOUT_S = 300
# Errors are noted from the start; the script runs when the page stands.
BEFORE = "<script>window.problems = []; addEventListener('error', (e) => problems.push(e.message));"
AFTER = """<script>
setTimeout(() => {
  let result = null;
  try { result = (() => { %s })(); } catch (error) { problems.push(String(error)); }
  const pre = document.createElement("pre");
  pre.id = "result";
  pre.textContent = JSON.stringify({ result, problems });
  document.body.append(pre);
}, 100);
</script></body>"""


def run_in_page(page: Path, script: str, *, width: int = 1000, webgl: bool = True) -> object:
    """What ``script`` returns in the page; the test is skipped where there is no Chromium."""
    browser = next((name for name in NAMES if shutil.which(name)), None)
    if browser is None:
        pytest.skip("no Chromium")
    text = page.read_text(encoding="utf-8")
    copy = page.with_name("in_browser.html")
    text = text.replace("<head>", f"<head>{BEFORE}</script>", 1)
    before, after = text.rsplit("</body>", 1)
    copy.write_text(before + AFTER % script + after, encoding="utf-8")
    drawing = SOFTWARE_WEBGL if webgl else ("--disable-3d-apis",)
    command = [
        browser,
        *FLAGS,
        *drawing,
        f"--window-size={width},700",
        "--virtual-time-budget=20000",
        "--dump-dom",
        copy.as_uri(),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    found = RESULT.search(run.stdout)
    assert found, f"the page did not finish: {run.stderr[-500:]}"
    answer = json.loads(html.unescape(found.group(1)))
    assert answer["problems"] == []
    return answer["result"]
