"""The config: what a person writes in ``run.yaml``, as frozen models that refuse what they do not know.

Method parameters (`Params.segmentation_params` and its kin) are keyword-only arguments of the method's own
function. Their types and limits stand in its signature, and `method_parameters` checks against that, so that a
default stands in one place and a plugin's parameters are checked like the built-in ones.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    StrictInt,
)
from pydantic import model_validator as validates_model

from pyama_dask.config.base import Model
from pyama_dask.config.cluster import Cluster
from pyama_dask.config.units import (
    AnyPath,
    Count,
    Fraction,
    Minutes,
    Moment,
    Selection,
    Whole,
    as_switch,
)


class ChannelChoice(Model):
    """A channel by index or name, and the features measured in it."""

    channel: Annotated[StrictInt, Field(ge=0)] | str
    features: tuple[str, ...] = ()


class Channels(Model):
    """The phase-contrast channel and the fluorescence channels."""

    pc: ChannelChoice | None = None
    fl: tuple[ChannelChoice, ...] = ()

    @validates_model(mode="after")
    def _each_once(self) -> Self:
        chosen = [choice.channel for choice in self.all]
        for channel in chosen:
            if chosen.count(channel) > 1:
                raise ValueError(f"channel {channel!r} is chosen more than once")
        if not chosen:
            raise ValueError("choose at least one channel: 'pc: {channel: 0}'")
        return self

    @property
    def all(self) -> tuple[ChannelChoice, ...]:
        """The phase channel, if there is one, then the fluorescence channels."""
        return (*((self.pc,) if self.pc else ()), *self.fl)


class Params(Model):
    """What is computed, and how."""

    fovs: Selection = "all"
    frames: Selection = "all"
    z: Whole | Literal["max"] | None = None
    copy_only: bool = False
    preprocess: tuple[str, ...] = ()
    segmentation_method: str = "logstd"
    segmentation_params: dict[str, Any] = Field(default_factory=dict)
    tracking_method: str = "iou"
    tracking_params: dict[str, Any] = Field(default_factory=dict)
    background_params: dict[str, Any] = Field(default_factory=dict)
    background_weight: Fraction = 1.0
    frame_interval: Minutes | Literal["auto"] = "auto"
    time_mapping: dict[Whole, Moment] | None = None
    crop_padding: Annotated[Whole, Field(le=10_000)] = 0


class Storage(Model):
    """How arrays lie on disk."""

    codec: Literal["lz4", "zstd", "none"] = "lz4"
    background: Literal["full", "grid"] = "full"
    cells: Annotated[Literal["directory", "zip", "off"], BeforeValidator(as_switch)] = "directory"
    display: Annotated[Literal["on", "off"], BeforeValidator(as_switch)] = "on"
    block_frames: Count | Literal["auto"] = "auto"


class Config(Model):
    """One run: which movie, where to, which channels, and how."""

    input: AnyPath
    output: AnyPath
    channels: Channels
    params: Params = Params()
    storage: Storage = Storage()
    cluster: Cluster = Cluster()

    @validates_model(mode="after")
    def _paths_differ(self) -> Self:
        if os.path.realpath(self.input) == os.path.realpath(self.output):
            raise ValueError("'input' and 'output' are the same path; choose another 'output'")
        return self
