"""Draws the Mermaid diagrams of the docs, in a browser: ``python docs/tools/draw.py MERMAID_JS``.

``MERMAID_JS`` is the address of mermaid.min.js, or the file. The drawings are kept beside their
pages' sources, so that a reader of the site needs neither Mermaid nor a network. A drawing's name
is of its diagram's text: a diagram that was changed has no drawing, and the site is not built.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from site_hooks import DOCS, DRAWINGS, drawing_of

_FENCE = re.compile(r"^```mermaid\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SCRIPT = """
const [source, done] = arguments;
mermaid.initialize({startOnLoad: false, theme: "neutral", flowchart: {htmlLabels: false}});
mermaid.render("diagram", source).then(drawn => done(drawn.svg), failed => done("" + failed));
"""


def main(mermaid: str) -> None:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    address = mermaid if "://" in mermaid else Path(mermaid).resolve().as_uri()
    page = DRAWINGS / "draw.html"
    DRAWINGS.mkdir(exist_ok=True)
    page.write_text(f'<meta charset="utf-8"><script src="{address}"></script>', encoding="utf-8")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.get(page.as_uri())
        for source in [
            source
            for path in sorted(DOCS.rglob("*.md"))
            for source in _FENCE.findall(path.read_text(encoding="utf-8"))
        ]:
            svg = driver.execute_async_script(_SCRIPT, source)
            assert svg.startswith("<svg"), svg
            drawing_of(source).write_text(svg + "\n", encoding="utf-8")
    finally:
        driver.quit()
        page.unlink()


if __name__ == "__main__":
    main(sys.argv[1])
