"""Small pieces of HTML that notebooks show in light and dark themes: no script, no colours of text or page."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, Literal, TypeVar

from pyama_dask.files.pictures import data_url

Shown = TypeVar("Shown")

LARGEST = 20_000
"""Characters that the display of one object may have."""
MOST_ROWS, LONGEST = 12, 400
"""Rows of a table that are shown, and characters of a text in it; the rest is counted or cut."""


def table(rows: Iterable[Sequence[object]], header: Sequence[str] = (), left: int = 1) -> str:
    """Table of texts and numbers, which are escaped.

    Parameters
    ----------
    rows
        Values by row.
    header
        Names of the columns; none for a table without a header.
    left
        Number of columns that are aligned to the left; the others are to the right, as numbers are.
    """

    def line(tag: str, values: Sequence[object]) -> str:
        sides = ("left" if k < left else "right" for k in range(len(values)))
        opened = [f'<{tag} style="text-align:{side}">' for side in sides]
        return f"<tr>{''.join(f'{start}{text(v)}</{tag}>' for start, v in zip(opened, values, strict=True))}</tr>"

    head = f"<thead>{line('th', header)}</thead>" if header else ""
    return f"<table>{head}<tbody>{''.join(line('td', row) for row in rows)}</tbody></table>"


def cut(rows: Sequence[Sequence[object]]) -> list[Sequence[object]]:
    """First rows of a long table, and a row that counts the others."""
    left = len(rows) - MOST_ROWS
    rest = [(f"... and {left} more", *("" for _ in rows[0][1:]))] if left > 0 else []
    return [*rows[:MOST_ROWS], *rest]


def text(value: object) -> str:
    """Escape a value as text; a long one is cut."""
    whole = str(value)
    return escape(whole if len(whole) <= LONGEST else f"{whole[:LONGEST]} ...")


def picture(image: bytes, kind: Literal["jpeg", "png"], alt: str, style: str = "") -> str:
    """Element with a picture in it.

    Parameters
    ----------
    image
        File of the picture.
    kind
        Its format.
    alt
        Description for those who do not see it.
    style
        CSS of the element.
    """
    return f'<img src="{data_url(image, kind)}" alt="{text(alt)}" style="max-width:none;{style}">'


def never_failing(show: Callable[[Shown], str]) -> Callable[[Shown], str]:
    """Make a method ``_repr_html_`` return the error as text, so that a damaged output can be displayed, too."""

    @functools.wraps(show)
    def shown(of: Shown) -> str:
        try:
            return show(of)
        except Exception as error:  # noqa: BLE001  (whatever a damaged file raises)
            return f"<p>{text(_plain(of))}: cannot be shown: {text(error)}</p>"

    return shown


def _plain(of: Any) -> str:
    """Text of an object; its type if even that fails."""
    try:
        return repr(of)
    except Exception:  # noqa: BLE001
        return type(of).__name__


class InTables:
    """Base of reports that are one line of text, and in a notebook a table with their warnings."""

    warnings: tuple[str, ...]

    def _shown(self) -> tuple[str, Sequence[str], Sequence[Sequence[object]]]:
        """Contents in a line, and header and rows of the table; the first column is a name."""
        raise NotImplementedError

    def __repr__(self) -> str:
        warned = f"; {len(self.warnings)} warning{'s' * (len(self.warnings) > 1)}" if self.warnings else ""
        return f"<{type(self).__name__}: {self._shown()[0]}{warned}>"

    @never_failing
    def _repr_html_(self) -> str:
        line, header, rows = self._shown()
        said = table(cut([(warning,) for warning in self.warnings]), ("warnings",)) if self.warnings else ""
        return f"<div>{text(line)}</div>{table(cut(rows), header) if rows else ''}{said}"
