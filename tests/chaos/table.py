"""The tables that ``make chaos`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.table import machine


@dataclass
class Table:
    """What one part of the harness found.

    Parameters
    ----------
    columns
        Names of the columns.
    """

    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """All that was not as it must be; empty if the package holds what it promises."""


def print_tables(tables: Sequence[Table]) -> None:
    """Print the tables as Markdown, and the problems below each."""
    print(machine())
    for table in tables:
        print("\n| " + " | ".join(table.columns) + " |\n|" + " --- |" * len(table.columns))
        for row in table.rows:
            print("| " + " | ".join(map(str, row)) + " |")
        print()
        for problem in table.problems:
            print(f"PROBLEM: {problem}")
