"""Names of wells: a row of letters and a column with at least two digits, as ``B02`` or ``AA10``."""

from __future__ import annotations

import re

from pyama_dask.config.units import quoted

LAST = 26 * 27, 99
"""Rows and columns of the largest plate whose wells have names, up to ``ZZ99``."""
_NAME = re.compile(r"([A-Za-z]{1,2})0*([1-9]\d?)", re.ASCII)


def parse_well(text: str) -> tuple[int, int]:
    """Row and column of a well; the tuples sort as wells do.

    Parameters
    ----------
    text
        Name in any case, with or without zeros before the column: ``B02``, ``b2``.

    Returns
    -------
    (row, column), both from 0; row 26 is ``AA``.

    Raises
    ------
    ValueError
        If the text is not the name of a well.
    """
    match = _NAME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{quoted(text)} is not a well. Fix: write the row and the column, such as 'B02'")
    row = 0
    for letter in match[1].upper():
        row = 26 * row + ord(letter) - ord("A") + 1
    return row - 1, int(match[2]) - 1


def well_name(row: int, column: int) -> str:
    """Name of the well at a row and a column, both from 0: ``B02`` for 1, 1."""
    return f"{row_name(row)}{column + 1:02}"


def row_name(row: int) -> str:
    """Letters of a row from 0: ``A`` to ``Z``, then ``AA`` to ``ZZ``."""
    first, last = divmod(row, 26)
    return (chr(ord("A") + first - 1) if first else "") + chr(ord("A") + last)


def plate_shape(rows: str, columns: str) -> tuple[int, int] | None:
    """Rows and columns of a plate from their texts in a file; None if these are no numbers of a plate."""
    if not all(text.isascii() and text.isdigit() for text in (rows, columns)):
        return None
    shape = int(rows), int(columns)
    return shape if 0 < shape[0] <= LAST[0] and 0 < shape[1] <= LAST[1] else None
