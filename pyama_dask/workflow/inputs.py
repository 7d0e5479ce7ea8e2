"""Inputs of digests: what the result of a part may depend on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, TypeVar

from pyama_dask.config.models import Config

Value = TypeVar("Value")


class Inputs(Protocol):
    """Values that a digest may depend on, for one part of one block or FOV."""

    @property
    def config(self) -> Config:
        """Resolved config."""

    @property
    def movie(self) -> str:
        """Identity that the movie had when the output was begun."""

    @property
    def name(self) -> str:
        """Name of the movie, without its suffix."""

    @property
    def fov(self) -> int:
        """Number of the FOV."""

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the FOV's frames in pixels."""

    @property
    def frames(self) -> Sequence[int]:
        """Numbers in the movie of the frames that the part works on."""

    @property
    def earlier(self) -> Sequence[int]:
        """Numbers in the movie of all processed frames before these."""

    def around(self, reach: int) -> Sequence[int]:
        """Frames, and as many before and after them; fewer at the ends of the movie."""

    @property
    def block_frames(self) -> int:
        """Frames of a block."""

    @property
    def times_min(self) -> Sequence[float]:
        """Minutes of the FOV's frames."""

    @property
    def place(self) -> Sequence[object]:
        """Well and site, as they stand in the traces; empty outside of wells."""

    @property
    def tiles(self) -> Sequence[Sequence[int]]:
        """Site, y and x of all tiles of a stitched well; empty for others."""

    def setting(self, function: Callable[[Config], Value]) -> Value:
        """Value of a function of the config, which is called once for a plan."""

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Value that is the same for all blocks of the FOV, which is made once; `key` names it."""

    def digest(self, part: str) -> str:
        """Digest of everything that the result of another part depends on."""
