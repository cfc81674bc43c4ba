"""The pages in a real browser: two widths, both themes, keyboard, print, hostile texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import Browser, needs_chromium
from support.pages import SHAPES, comparison_page, page_of
from support.reports import HOSTILE

from vecmigrate.report.formatting import trimmed

pytestmark = needs_chromium

PAGES = [*SHAPES, "comparison"]
LOOKS = [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")]
FEWER_LOOKS = [(390, "dark"), (1280, "light")]
PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 27)"}

# Of every element that holds text itself: its least contrast with what is behind it. SVG text is
# painted by fill. Backgrounds of ours are opaque, or none at all.
CONTRASTS = """
const light = c => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const luminance = c => 0.2126 * light(c[0]) + 0.7152 * light(c[1]) + 0.0722 * light(c[2]);
const numbers = c => c.match(/[\\d.]+/g).map(Number);
const behind = e => {
  for (; e; e = e.parentElement) {
    const c = numbers(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c;
  }
  return [255, 255, 255];
};
const out = [];
for (const e of document.body.querySelectorAll("*")) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (!own || !e.getClientRects().length) continue;
  const style = getComputedStyle(e);
  const ink = numbers(e instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [luminance(ink), luminance(behind(e))];
  out.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName, e.textContent.trim().slice(0, 40)]);
}
return out;
"""  # noqa: E501


@pytest.fixture(scope="module")
def paths() -> dict[str, Path]:
    return {**{shape: page_of(shape) for shape in SHAPES}, "comparison": comparison_page()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    opened = Browser()
    yield opened
    opened.quit()


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_asked_for_and_nothing_goes_wrong(
    page: str, browser: Browser, paths: dict[str, Path]
) -> None:
    browser.open(paths[page])
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    # The page itself, and the empty icon that keeps a browser from asking for one.
    asked = [url for url in browser.requests() if not url.startswith("data:,")]
    assert asked == [paths[page].resolve().as_uri()]
    assert browser.run("return performance.getEntriesByType('resource').length") == 0
    assert browser.console() == []


@pytest.mark.parametrize(
    ("page", "width", "theme"),
    [(page, *look) for page in ("full", "hostile") for look in LOOKS]
    + [(page, *look) for page in ("minimal", "comparison") for look in FEWER_LOOKS],
)
def test_readable_at_every_width_and_in_both_themes(
    page: str, width: int, theme: str, browser: Browser, paths: dict[str, Path]
) -> None:
    browser.open(paths[page])
    browser.look(width=width, theme=theme)
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == PAPER[theme]
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.run("return document.documentElement.scrollWidth") <= width

    outside = browser.run(
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .plot')"
        " && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML)"
    )
    assert outside == []

    contrasts: list[list[Any]] = browser.run(CONTRASTS)
    assert len(contrasts) > 50
    assert [found for found in contrasts if found[0] < 4.5] == []

    sizes: list[dict[str, float]] = browser.run(
        "return [...document.querySelectorAll('.plot svg')].map(e => e.getBoundingClientRect())"
    )
    assert len(sizes) == {"full": 8, "minimal": 2, "hostile": 8, "comparison": 2}[page]
    assert all(size["width"] > 250 and size["height"] > 90 for size in sizes)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", ["full", "comparison"])
def test_text_of_plots_is_large_enough_and_within_the_plot(
    page: str, width: int, browser: Browser, paths: dict[str, Path]
) -> None:
    browser.open(paths[page])
    browser.look(width=width, theme="light")
    smallest = browser.run(
        "return Math.min(...[...document.querySelectorAll('.plot text')].map(t =>"
        " parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getScreenCTM().a))"
    )
    assert smallest >= 10
    cut = browser.run(
        "return [...document.querySelectorAll('.plot text')].filter(t => {"
        " const s = t.ownerSVGElement.getBoundingClientRect(), r = t.getBoundingClientRect();"
        " return r.left < s.left - 1 || r.right > s.right + 1 || r.top < s.top - 1"
        " || r.bottom > s.bottom + 1; }).map(t => t.textContent)"
    )
    assert cut == []


@pytest.mark.parametrize("page", ["full", "comparison"])
def test_texts_of_plots_do_not_overlap(page: str, browser: Browser, paths: dict[str, Path]) -> None:
    browser.open(paths[page])
    browser.look(width=390, theme="light")
    overlapping = browser.run(
        "const out = []; for (const svg of document.querySelectorAll('.plot svg')) {"
        " const ts = [...svg.querySelectorAll('text')].map(t => [t.textContent,"
        " t.getBoundingClientRect()]);"
        " for (const [i, [a, p]] of ts.entries()) for (const [b, q] of ts.slice(i + 1))"
        " if (Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1"
        " && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3) out.push([a, b]); }"
        " return out"
    )
    assert overlapping == []


def test_the_keyboard_reaches_the_skip_link_and_every_table(
    browser: Browser, paths: dict[str, Path]
) -> None:
    browser.open(paths["full"])
    browser.look(width=390, theme="light")
    browser.press_tab()
    skip = browser.run(
        "const e = document.activeElement; return [e.className, e.getBoundingClientRect().top]"
    )
    assert skip[0] == "skip"
    assert skip[1] >= 0
    browser.press_enter()
    assert browser.run("return document.activeElement.id") == "content"

    reached = set()
    for _ in range(80):
        browser.press_tab()
        label, outline = browser.run(
            "const e = document.activeElement;"
            " return [e.getAttribute('aria-label'), getComputedStyle(e).outlineStyle]"
        )
        if label in reached:
            break
        if label:
            reached.add(label)
            assert outline == "solid"
    visible = browser.run(
        "return [...document.querySelectorAll('.scroll')].filter(e => e.checkVisibility("
        "{contentVisibilityAuto: true})).map(e => e.getAttribute('aria-label'))"
    )
    assert set(visible) <= reached
    assert len(visible) >= 5


def test_hostile_texts_are_texts(browser: Browser, paths: dict[str, Path]) -> None:
    browser.open(paths["hostile"])
    shown = browser.run("return document.body.textContent.replace(/\\s+/g, ' ')")
    for text in HOSTILE:
        assert trimmed(text, 220) in shown
    assert browser.run("return document.querySelectorAll('script, img, [onmouseover]').length") == 0
    in_plots = browser.run(
        "return [...document.querySelectorAll('svg text')].map(t => t.textContent).join('|')"
    )
    assert "<script>alert" in in_plots


@pytest.mark.parametrize("page", ["full", "comparison"])
def test_it_prints(page: str, browser: Browser, paths: dict[str, Path]) -> None:
    browser.open(paths[page])
    browser.look(width=1280, theme="dark")
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page\b", printed))
    assert {"full": 8, "comparison": 1}[page] <= pages <= {"full": 30, "comparison": 3}[page]
