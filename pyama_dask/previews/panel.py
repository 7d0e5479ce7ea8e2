"""One panel of a preview: what a setting finds in a frame, in numbers and words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import many, percent
from pyama_dask.files.palette import Picture
from pyama_dask.kernels import scores
from pyama_dask.kernels.plausibility import Seen, look_at_areas, plausibility
from pyama_dask.previews.grid import Setting
from pyama_dask.previews.objects import Fate, Found
from pyama_dask.previews.trails import Tracks

SHOWN = (Fate.TOO_LARGE, Fate.TOO_SMALL, Fate.BORDER)
"""Fates of objects that do not become cells, in the order of captions."""


@dataclass(frozen=True)
class Extent:
    """Objects of one fate."""

    count: int
    share: float
    """Fraction of the frame."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Objects of a setting in one frame, or the reason why the method failed."""

    setting: Setting
    frame: int
    picture: Picture
    """(H, W, 3) what is shown of the frame, with outlines."""
    labels: npt.NDArray[np.integer] | None = None
    """(H, W) labels as a run stores them; None if a method failed."""
    extents: Mapping[Fate, Extent] = field(default_factory=dict)
    """Objects by fate; empty if a method failed."""
    median_px: float = float("nan")
    """Median area of the kept objects."""
    merged: Seen | None = None
    """Labels and objects that were dropped as too large, among which are merged cells."""
    largest_times: float = float("nan")
    """Area of the largest of these, divided by their median."""
    plausibility: float = 0.0
    """0 to 1, judged without truth; see `kernels.plausibility`."""
    seg: float = float("nan")
    """SEG of the Cell Tracking Challenge, 0 to 1; NaN without truth."""
    f1: float = float("nan")
    """F1 at an intersection over union above 0.5, 0 to 1; NaN without truth."""
    tracks: Tracks | None = None
    equal_to: str = ""
    """Values of an earlier setting that finds the same in this frame."""
    digest: str = ""
    """Equal for panels with the same objects and tracks."""
    warnings: tuple[str, ...] = ()
    failure: str = ""
    """Reason if a method failed."""

    def row(self) -> dict[str, Any]:
        """One row of the table of a preview."""
        found = {f"{fate.name.lower()}{end}": getattr(self.extents.get(fate), name, np.nan)
                 for fate in (Fate.KEPT, *SHOWN) for end, name in (("", "count"), ("_share", "share"))}  # fmt: skip
        return {
            **{key.removeprefix("params."): value for key, value in self.setting.values.items()},
            "current": self.setting.is_current, "frame": self.frame, **found, "median_px": self.median_px,
            "plausibility": self.plausibility, "seg": self.seg, "f1": self.f1,
            "tracks": np.nan if self.tracks is None else len(self.tracks),
            "warnings": "; ".join(self.warnings), "failure": self.failure,
        }  # fmt: skip

    def words(self) -> Iterator[str]:
        """Lines of the caption: what is kept, what is dropped and why, and scores."""
        if not self.extents:
            return
        kept = self.extents[Fate.KEPT]
        median = f", median {self.median_px:.0f} px" if kept.count else ""
        yield f"{kept.count} kept on {percent(kept.share)}{median}"
        dropped = [
            f"{of.count} {fate.words} on {percent(of.share)}" for fate in SHOWN if (of := self.extents[fate]).count
        ]
        if dropped:
            yield ", ".join(dropped)
        if self.tracks is not None:
            frames, tracks = len(self.tracks.ids), len(self.tracks)
            yield f"{many(tracks, 'track')} in {frames} frames, {self.tracks.through_all} of them in every one"
        if self.equal_to:
            yield f"the same as with {self.equal_to}"
        if not np.isnan(self.seg):
            yield f"SEG {self.seg:.2f}, F1 {self.f1:.2f}"

    def said(self) -> list[str]:
        """Warnings of the methods, and the reason if one failed."""
        return [f"warning: {one}" for one in self.warnings] + ([f"failed: {self.failure}"] if self.failure else [])


def measure(found: Found, textured: float, truth: npt.NDArray[np.integer] | None) -> dict[str, Any]:
    """Numbers of a panel.

    Parameters
    ----------
    found
        Objects of a frame.
    textured
        Fraction of the frame that has texture.
    truth
        (H, W) true labels, if there are any.

    Returns
    -------
    Values by name of the field of `Panel`.
    """
    of_fate = {fate: found.areas(fate) for fate in Fate if fate}
    kept, large = of_fate[Fate.KEPT], found.areas(Fate.KEPT, Fate.BORDER, Fate.TOO_LARGE)
    pixels = found.labels.size
    seen = look_at_areas([found.label_areas], pixels)
    dropped = found.dropped_areas[found.dropped_fates[1:] == Fate.TOO_LARGE]
    match = [] if truth is None else [scores.match(truth, found.labels)]
    return {
        "labels": found.labels,
        "extents": {fate: Extent(len(of), float(of.sum()) / pixels) for fate, of in of_fate.items()},
        "median_px": float(np.median(kept)) if kept.size else float("nan"),
        "merged": look_at_areas([np.concatenate([found.label_areas, dropped])], pixels),
        "largest_times": float(large.max() / np.median(large)) if large.size else float("nan"),
        "plausibility": plausibility(seen, textured),
        "seg": scores.seg(match),
        "f1": scores.f1(match),
        "digest": digest(found.labels, found.fates, found.dropped, found.dropped_fates),
        "warnings": found.warnings,
    }


def digest(*arrays: np.ndarray) -> str:
    """Digest of the content of arrays."""
    summed = hashlib.blake2b(digest_size=16)
    for array in arrays:
        summed.update(f"{array.dtype}{array.shape}".encode())
        summed.update(np.ascontiguousarray(array).tobytes())
    return summed.hexdigest()
