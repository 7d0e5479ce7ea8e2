"""Text of a comparison of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pyama_dask.analysis.compare import Comparison

_SHOWN = 30
"""Largest number of tests per table that are printed."""


def describe_comparison(found: Comparison) -> str:
    """Tests, written files and warnings of a comparison, as text."""
    lines = list[str]()
    for name, table in found.tests.items():
        rows = [_cells(row) for row in table.to_dict("records")]
        head = ("parameter", "samples", "medians", "Cliff's delta", "p (Holm)")
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines.append(f"{name}, tested by {' and '.join(sorted(set(table['tested'])))}:")
        shown = [head, *rows[:_SHOWN]]
        lines += ["  " + "   ".join(map(str.ljust, row, widths)).rstrip() for row in shown]
        if len(rows) > _SHOWN:
            lines.append(f"  ... and {len(rows) - _SHOWN} more in the table")
    lines.append(f"Tables and figures in {found.files[0].parent}:")
    names: dict[str, list[str]] = {}
    for path in found.files:
        names.setdefault(path.stem, []).append(path.suffix)
    lines += [f"  {name}{', '.join(endings)}" for name, endings in names.items()]
    return "\n".join(lines + [f"warning: {warning}" for warning in found.warnings])


def _cells(test: Mapping[Any, Any]) -> tuple[str, ...]:
    """Columns of a test in words."""
    delta = f"{test['cliffs_delta']:+.2f} ({test['delta_low']:+.2f} to {test['delta_high']:+.2f})"
    p = test["p_holm"]
    return (
        f"{test['parameter']} ({test['unit']})" if test["unit"] else str(test["parameter"]),
        f"{test['sample_a']}, {test['sample_b']}",
        f"{test['median_a']:.3g}, {test['median_b']:.3g}",
        delta if np.isfinite(test["delta_low"]) else "",
        f"{p:.2g}" if np.isfinite(p) else f"not tested: {str(test['note']).removesuffix(': not tested')}",
    )
