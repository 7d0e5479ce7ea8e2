"""Made summaries of FOVs."""

from dataclasses import replace

import numpy as np

from pyama_dask.store.summary import AREA_EDGES, QUANTILES, FovSummary

FEATURES = ("area_ch_0", "intensity_total_ch_1")


def made_summary(frames=6, *, channels=(0, 1), features=FEATURES, **changes):
    """Summary of a quiet FOV: 10 cells of 12 objects in every frame, with made levels and features."""
    t = np.arange(frames)
    level = 1000.0 * (1 + np.arange(len(channels)))[:, None] + t
    features_ = np.arange(1.0, len(features) + 1)[:, None, None] * np.array(QUANTILES)[:, None] * (1 + t)
    lengths, kept_lengths, areas = (np.zeros(n, np.int64) for n in (frames + 1, frames + 1, len(AREA_EDGES) - 1))
    lengths[[1, frames]], kept_lengths[frames], areas[40] = (2, 12), 10, 12 * frames
    found = FovSummary(
        frames=t, times_min=10.0 * t, found=np.full(frames, 12), kept=np.full(frames, 10),
        too_small=np.full(frames, 3), too_large=np.zeros(frames, np.int64), lost=np.zeros(frames),
        foreground=np.full(frames, 0.2), sharpness=np.full(frames, 900.0), channels=np.array(channels),
        level=level, spread=level / 10, tracks=14, cells=10, short=1, border=3, lengths=lengths,
        kept_lengths=kept_lengths, areas=areas, features=tuple(features), quantiles=features_,
    )  # fmt: skip
    return replace(found, **changes)
