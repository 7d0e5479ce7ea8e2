"""Tracks of a run in words: kept ones, and why others were dropped; a loud line where hardly a cell is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyama_dask.config.units import many

LISTED = 6
"""Largest number of FOVs of which each has its line; of more, only the most notable ones have."""
NOTABLE = 4
"""Number of most notable FOVs that are named then."""
NOTABLE_LOSS = 0.05
"""Fraction of the frames, dropped as too large, from which it is told."""
LARGE_LOSS = 0.3
"""Fraction of the frames, dropped as too large, from which the loud line tells it."""
FEW_KEPT, LEAST_TRACKS = 0.1, 20
"""Kept tracks, as a fraction of all, below which they are few, from this number of tracks."""
SPARSE = 0.5
"""Cells per megapixel of a frame below which there is hardly any, beside one per FOV."""
LOOK = "Fix: 'pyama-dask preview' shows what is dropped in this output, also with other settings"


@dataclass(frozen=True)
class FovTracks:
    """Tracks of a FOV, or of several together."""

    fov: int
    cells: int
    border: int
    short: int
    lost: float | None
    """Fraction of the frames' pixels in objects that were dropped as too large; None if unknown."""
    pixels: int
    """Pixels of a frame."""

    @property
    def tracks(self) -> int:
        """Number of all tracks."""
        return self.cells + self.border + self.short

    @property
    def is_notable(self) -> bool:
        """True if hardly a track is kept, or a good part of the frames is dropped."""
        return self.cells < FEW_KEPT * max(self.tracks, 1) or (self.lost or 0.0) >= 2 * NOTABLE_LOSS

    def __str__(self) -> str:
        dropped = [(self.border, "at the border"), (self.short, "too short")]
        reasons = "".join(f", {count} {why}" for count, why in dropped if count)
        loss = self.lost or 0.0
        lost = f"; {loss:.0%} of the frame dropped as too large" if loss >= NOTABLE_LOSS else ""
        return f"{self.tracks}; kept {self.cells}{reasons}{lost}"


def all_tracks(fovs: Sequence[FovTracks]) -> FovTracks:
    """Sum over FOVs, and mean of the lost fraction over those where it is known."""
    lost = [of.lost for of in fovs if of.lost is not None]
    cells, border, short, pixels = (
        sum(getattr(of, name) for of in fovs) for name in ("cells", "border", "short", "pixels")
    )
    return FovTracks(-1, cells, border, short, sum(lost) / len(lost) if lost else None, pixels)


def describe_tracks(fovs: Sequence[FovTracks]) -> list[str]:
    """Number of tracks, and why some were dropped, as lines: of all FOVs, then of each or of the most notable ones."""
    if not fovs:
        return []
    lines = [f"Tracks: {all_tracks(fovs)}"]
    if len(fovs) <= LISTED:
        return lines + [f"  FOV {of.fov}: {of}" for of in fovs if len(fovs) > 1]
    notable = sorted((of for of in fovs if of.is_notable), key=lambda of: (of.cells / max(of.tracks, 1), of.fov))
    lines += [f"  FOV {of.fov}: {of}" for of in notable[:NOTABLE]]
    if len(notable) > NOTABLE:
        lines.append(f"  ... and {len(notable) - NOTABLE} more FOVs with as little")
    return lines


def attention(fovs: Sequence[FovTracks]) -> str:
    """Loud line if hardly a cell is left of a run that ended well; '' if there are cells."""
    if not fovs:
        return ""
    total = all_tracks(fovs)
    lost = total.lost or 0.0
    if total.cells < max(len(fovs), SPARSE * total.pixels / 1e6):
        what = f"HARDLY ANY CELLS: {total.cells} in {many(len(fovs), 'FOV')}"
    elif total.tracks >= LEAST_TRACKS and total.cells < FEW_KEPT * total.tracks:
        what = f"MOST TRACKS WERE DROPPED: only {total.cells} of {total.tracks} are kept"
    elif lost >= LARGE_LOSS:
        what = f"MUCH OF THE FRAMES WAS DROPPED: {lost:.0%}, as too large for a cell"
    else:
        return ""
    return f"{what}. {_cause(total)}. {LOOK}"


def _cause(total: FovTracks) -> str:
    """Most likely cause, in a sentence without its full stop."""
    if (total.lost or 0.0) >= 2 * NOTABLE_LOSS:
        return "Objects that are too large cover much of the frames: cells touch, or have merged in the segmentation"
    if not total.tracks:
        return "The segmentation finds no objects"
    if total.border > total.short:
        return "Most tracks come close to the border (border_margin)"
    if total.short:
        return "Most tracks are seen in too few frames (min_frames): objects appear and vanish, or frames are few"
    return "The segmentation finds few objects"
