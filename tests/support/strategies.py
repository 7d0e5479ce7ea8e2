"""Hypothesis strategies: selections, movies as metadata, and plans of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pyama_dask.config.load import parse_config
from pyama_dask.plan.plan import Plan, make_plan
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers import Metadata
from pyama_dask.readers.base import Channel, FovInfo

selections = st.sets(st.integers(0, 200), min_size=1, max_size=40)
"""Sets of FOVs or frames."""


def movie(
    fovs: int = 2,
    frames: int = 10,
    channels: int | tuple[Channel, ...] = 2,
    shape: tuple[int, int] = (200, 240),
    **more: Any,
) -> Metadata:
    """Metadata of a movie with phase contrast first, and a frame every 10 minutes."""
    if isinstance(channels, int):
        kinds = ["phase", *["fluorescence"] * (channels - 1)]
        channels = tuple(Channel(f"C{k}", "uint16", kind) for k, kind in enumerate(kinds))
    missing = more.pop("missing", {})
    values: dict[str, Any] = {
        "path": Path("movie.nd2"),
        "format": "ND2",
        "fovs": tuple(FovInfo(f"Pos{k}", shape, missing=tuple(missing.get(k, ()))) for k in range(fovs)),
        "n_frames": frames,
        "channels": channels,
        "times_min": np.tile(np.arange(frames) * 10.0, (fovs, 1)),
        "time_source": "stamps",
    }
    return Metadata(**(values | more))


def plan_of(
    metadata: Metadata, params: Any = None, *, channels: Any = None, memory: int = 2**34, identity="id",
    problems: Any = None, workers: int = 1, **more: Any,
) -> Plan:  # fmt: skip
    """Plan of a run: every channel with its features, unless `channels` says otherwise."""
    n = len(metadata.channels)
    every = {
        "pc": {"channel": 0, "features": ["area"]},
        "fl": [{"channel": k, "features": ["intensity_total"]} for k in range(1, n)],
    }
    document = {
        "input": "movie.nd2",
        "output": "out",
        "channels": channels or every,
        "params": {"tracking_params": {"min_frames": 5}} | (params or {}),
    }
    config = resolve(parse_config(document | more), metadata)
    return make_plan(config, metadata, identity, memory, problems=problems, workers=workers)


CHANNELS = {
    "all": None,
    "phase only": {"pc": {"channel": 0, "features": ["area"]}},
    "fluorescence only": {"fl": [{"channel": 1, "features": ["intensity_total"]}]},
    "no features": {"pc": {"channel": 0}, "fl": [{"channel": 1}]},
}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans over FOVs, frames, channels, blocks and selections."""
    metadata = movie(
        fovs=draw(st.integers(1, 4)),
        frames=draw(st.integers(1, 90)),
        channels=draw(st.integers(2, 4)),
        shape=draw(st.tuples(st.integers(1, 2600), st.integers(1, 2600))),
    )
    params = {
        "copy_only": draw(st.booleans()),
        "fovs": draw(st.just("all") | _some(len(metadata.fovs))),
        "frames": draw(st.just("all") | _some(metadata.n_frames)),
    }
    storage = {"block_frames": draw(st.integers(1, 100) | st.just("auto"))}
    return plan_of(metadata, params, channels=CHANNELS[draw(st.sampled_from(sorted(CHANNELS)))], storage=storage)


def _some(count: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True)
