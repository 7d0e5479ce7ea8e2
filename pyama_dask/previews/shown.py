"""Content of a preview, from which picture and page are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from pyama_dask.config.units import as_ranges
from pyama_dask.previews.grid import Setting
from pyama_dask.previews.panel import Panel


@dataclass(frozen=True, eq=False)
class Shown:
    """Panels of frames by settings, and the words about them."""

    movie: str
    """Name of the movie's file."""
    fov: int
    frames: tuple[int, ...]
    """Numbers of the frames that are shown."""
    keys: tuple[str, ...]
    """Dotted keys of the grid: across, and down."""
    panels: tuple[Panel, ...]
    """All frames of the first setting, then those of the next one."""
    notes: tuple[str, ...]
    """Remarks: best and equal settings, and cells that touch."""
    best: Setting | None
    """Setting that looks best; None if all fail or find nothing."""
    shape: tuple[int, int]
    """(H, W) of the frames."""
    has_truth: bool
    """True if objects are compared with true ones."""
    crop: tuple[int, int, int, int]
    """Top, left, height and width of the part that is shown, in pixels."""
    title: str
    """Name of the FOV in messages, such as ``FOV 3 (B02 s2)``."""

    @property
    def head(self) -> str:
        """Movie, FOV and frames, for titles."""
        shown = f"frame{'s' if len(self.frames) > 1 else ''} {as_ranges(self.frames)}"
        top, left, height, width = self.crop
        part = "" if self.crop == (0, 0, *self.shape) else f", {height} x {width} px from row {top}, column {left}"
        return f"{self.movie}, {self.title}, {shown}{part}"

    @property
    def has_several_frames(self) -> bool:
        """True if panels show different frames."""
        return len({panel.frame for panel in self.panels}) > 1
