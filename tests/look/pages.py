"""Pages in Chromium, and checks of how they look."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Page, sync_playwright

WIDTHS = {"phone": 380, "tablet": 800, "desktop": 1280}
"""Widths of screens in pixels."""

CUT_OFF = """() => [...document.querySelectorAll('body *')]
  .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'hidden' && e.clientWidth)
  .map(e => e.tagName + ': ' + e.textContent.trim().slice(0, 60))"""
OVERLAPPING = """() => {
  const texts = [...document.querySelectorAll('svg')].flatMap((svg, k) => [...svg.querySelectorAll('text')]
    .map(e => [k, e.getBoundingClientRect(), e.textContent]).filter(([, r]) => r.width && r.height));
  const found = [];
  texts.forEach(([k, a, one], i) => texts.slice(i + 1).forEach(([l, b, other]) => {
    const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (k === l && w > 1 && h > 2) found.push(one + ' / ' + other);
  }));
  return found;
}"""
OUTSIDE = """() => [...document.querySelectorAll('svg text')].filter(e => {
  const r = e.getBoundingClientRect(), s = e.ownerSVGElement.getBoundingClientRect();
  return r.width && (r.left < s.left - 1 || r.right > s.right + 1 || r.top < s.top - 1 || r.bottom > s.bottom + 1);
}).map(e => e.textContent)"""
CONTRAST = """() => {
  const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length === 4 ? m : [...m, 1]; };
  const light = c => { const f = c.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const behind = e => { for (let p = e; p; p = p.parentElement) {
    const c = parse(getComputedStyle(p).backgroundColor); if (c[3] > 0.99) return c; }
    return matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18, 1] : [255, 255, 255, 1]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, style = getComputedStyle(e);
    if (!walker.currentNode.textContent.trim() || ['SCRIPT', 'STYLE', 'TITLE'].includes(e.tagName)) continue;
    if (!e.getClientRects().length || style.visibility === 'hidden') continue;
    const ink = parse(e instanceof SVGElement ? style.fill : style.color), back = behind(e);
    const mixed = ink.slice(0, 3).map((v, i) => v * ink[3] + back[i] * (1 - ink[3]));
    const [a, b] = [light(mixed), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(ratio.toFixed(2) + ': ' + walker.currentNode.textContent.trim().slice(0, 60));
  }
  return found;
}"""


class Browser:
    """A Chromium that opens pages of files; each request to a network is refused and counted.

    Parameters
    ----------
    program
        Path of Chromium.
    """

    def __init__(self, program: str) -> None:
        self._program = program

    def __enter__(self) -> Self:
        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(executable_path=self._program, args=["--no-sandbox"])
        return self

    def __exit__(self, *_: object) -> None:
        self._chromium.close()
        self._playwright.stop()

    @contextmanager
    def page(self, file: Path | str, *, width: int = 1280, dark: bool = False, height: int = 900) -> Any:
        """Open a file, or a URL of this machine, and yield a `Shown`."""
        scheme: Any = "dark" if dark else "light"
        context = self._chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        page, requests, errors = context.new_page(), [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(file if isinstance(file, str) else file.absolute().as_uri())
        try:
            yield Shown(page, requests, errors)
        finally:
            context.close()


class Shown:
    """An open page.

    Parameters
    ----------
    page
        The page of playwright.
    requests, errors
        Addresses that were asked for, and errors of scripts; both grow.
    """

    def __init__(self, page: Page, requests: list[str], errors: list[str]) -> None:
        self.page, self.requests, self.errors = page, requests, errors

    @property
    def foreign(self) -> list[str]:
        """Requests that leave this machine or this file."""
        return [url for url in self.requests[1:] if not url.startswith(("data:", "blob:", "http://127.0.0.1"))]

    def faults(self) -> list[str]:
        """Everything that is wrong with how the page looks."""
        of = self.page.evaluate
        found = [f"request to {url}" for url in self.foreign] + [f"script: {error}" for error in self.errors]
        wider = of("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        found += [f"page is {wider} px wider than the screen"] if wider > 1 else []
        checks = {"cut off": CUT_OFF, "texts overlap": OVERLAPPING, "text outside its figure": OUTSIDE}
        checks["contrast below 4.5"] = CONTRAST
        return found + [f"{what}: {one}" for what, check in checks.items() for one in of(check)]

    def screenshot(self, file: Path) -> Path:
        """Picture of the whole page."""
        self.page.screenshot(path=file, full_page=True)
        return file
