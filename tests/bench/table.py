"""The table that ``make bench`` prints."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path

Row = tuple[str, str, str]
"""A figure, what was found, and the target."""


def machine() -> str:
    """What the figures were found on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{os.cpu_count()} cores, {model or platform.machine()}, Python {platform.python_version()}"


def print_table(rows: Iterable[Row], noise: str = "") -> None:
    """Print the rows as Markdown, with a warning if the machine was busy."""
    print(f"{machine()}\n")
    if noise:
        print(f"{noise}\n")
    print("| figure | found | target |\n| --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
