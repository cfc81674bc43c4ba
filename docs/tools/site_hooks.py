"""Hooks of mkdocs: pages may link to the rest of the repository, and diagrams need no network.

On the site, a file of the repository that a page links to is under ``repository/``. A Mermaid
diagram is replaced by the drawing that ``draw.py`` made of it, since mkdocs-material would load
Mermaid from another host.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parents[1]
DRAWINGS = DOCS / "drawings"
_LINK = re.compile(r"(?<=\]\()(?:\.\./)+[^)#\s]+")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Have Mermaid's diagrams drawn by :func:`drawn`."""
    fence = {"name": "mermaid", "class": "mermaid", "format": drawn}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that pages link to."""
    for file in files.documentation_pages():
        page = Path(file.src_uri)
        for link in _LINK.findall(file.content_string):
            if (place := _outside(page, link)) and f"repository/{place}" not in files.src_uris:
                source = str(DOCS.parent / place)
                added = File.generated(config, f"repository/{place}", abs_src_path=source)
                files.append(added)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the page's links outside docs/ to where those files are on the site."""
    here = Path(page.file.src_uri)

    def led(found: re.Match[str]) -> str:
        place = _outside(here, found.group(0))
        return os.path.relpath(f"repository/{place}", here.parent) if place else found.group(0)

    return _LINK.sub(led, markdown)


def drawn(source: str, *_: Any, **__: Any) -> str:
    """Return a diagram's drawing, as part of the page."""
    drawing = drawing_of(source)
    if not drawing.is_file():
        raise PluginError(f"{drawing} is not there: docs/tools/draw.py makes it")
    return f'<figure class="diagram">{drawing.read_text(encoding="utf-8")}</figure>'


def drawing_of(source: str) -> Path:
    """Return where a diagram's drawing is: a diagram that was changed has none."""
    name = hashlib.sha256(source.strip().encode()).hexdigest()[:12]
    return DRAWINGS / f"{name}.svg"


def _outside(page: Path, link: str) -> str | None:
    """Return the path in the repository that a link leads to; None if it stays in docs/."""
    place = os.path.normpath(page.parent / link)
    return place.removeprefix("../") if place.startswith("../") else None
