"""Names of FOVs that are different from each other, since FOVs can be chosen by name."""

from __future__ import annotations

from collections.abc import Sequence

from pyama_dask.readers.channel_kinds import default_fov_name


def distinct_names(names: Sequence[str]) -> list[str]:
    """Names as they are; all by number if some are empty or equal."""
    if all(names) and len(set(names)) == len(names):
        return list(names)
    return [default_fov_name(fov) for fov in range(len(names))]
