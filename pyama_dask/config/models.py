"""The config: the content of ``run.yaml``, as frozen models that refuse unknown keys.

Method parameters (`Params.segmentation_params` and its kin) are keyword-only arguments of the method's own
function. Their types and limits stand in its signature, and `method_parameters` checks against that, so that a
default stands in one place and a plugin's parameters are checked like the built-in ones.
"""

from __future__ import annotations

import os
import warnings
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictInt, TypeAdapter, ValidationError
from pydantic import model_validator as validates_model
from pydantic_core import InitErrorDetails, PydanticCustomError

from pyama_dask.config.base import Model
from pyama_dask.config.cluster import Cluster
from pyama_dask.config.flat_fields import with_flat_fields
from pyama_dask.config.fov_selection import FovSelection, WellSelection
from pyama_dask.config.movie_input import Input
from pyama_dask.config.pipelines import Pipelines
from pyama_dask.config.units import (
    AnyPath,
    Chunks,
    Count,
    Fraction,
    Minutes,
    Moment,
    NeedOfGpu,
    PixelSize,
    Selection,
    Whole,
    as_switch,
)


class ChannelChoice(Model):
    """A channel by index or name, and the features measured in it."""

    channel: Annotated[StrictInt, Field(ge=0)] | str = Field(description="index or name")
    features: tuple[str, ...] = Field((), description="names of the features to measure")
    flat_field: Annotated[str, Field(min_length=1), BeforeValidator(as_switch)] = Field(
        "off", description="shading to remove: off, estimate, instrument, or a TIFF file with the light of each pixel"
    )


class Channels(Model):
    """The phase-contrast channel and the fluorescence channels."""

    pc: ChannelChoice | None = Field(None, description="phase contrast: where cells are found")
    fl: tuple[ChannelChoice, ...] = Field((), description="fluorescence: what is measured in the cells")

    @validates_model(mode="after")
    def _each_once(self) -> Self:
        chosen = [choice.channel for choice in self.all]
        for channel in chosen:
            if chosen.count(channel) > 1:
                raise ValueError(f"channel {channel!r} is chosen more than once. Fix: choose it once")
        if not chosen:
            raise ValueError("has no channel. Fix: choose at least one: 'pc: {channel: 0}'")
        return self

    @property
    def all(self) -> tuple[ChannelChoice, ...]:
        """The phase channel, if there is one, then the fluorescence channels."""
        return (*((self.pc,) if self.pc else ()), *self.fl)


class StitchParams(Model):
    """Settings by which the sites of wells are registered."""

    method: Literal["ncc", "multiview-stitcher"] = Field(
        "ncc", description="ncc: normalised cross-correlation; multiview-stitcher: that package"
    )
    channel: Annotated[StrictInt, Field(ge=0)] | str | None = Field(
        None, description="channel to register by; null: phase contrast"
    )
    frames: Count = Field(3, description="number of frames whose mean is registered, spread over the movie")
    max_shift: Count = Field(30, description="largest error of the stage between neighbouring sites, in pixels")


warnings.filterwarnings("ignore", 'Field name "register" in "Params"', UserWarning)  # it hides `ABCMeta.register`


class Params(Model):
    """Settings of the processing."""

    fovs: FovSelection = Field("all", description="all, or numbers such as 0-5, 7, or names such as B02 s1")
    wells: WellSelection = Field("all", description="of a plate: all, or wells such as 'B02, C03:D05, row:E, col:1-6'")
    exclude_wells: WellSelection = Field("", description="of a plate: wells to leave out")
    sites: Selection = Field("all", description="of a plate: all, or numbers of sites in each well such as 1-4")
    stitch: Annotated[Literal["off", "stage", "register"], BeforeValidator(as_switch)] = Field(
        "off", description="of a plate: off; stage or register: stitch the sites of a well to one FOV"
    )
    stitch_params: StitchParams = Field(StitchParams(), description="how sites are registered, once per well")
    frames: Selection = Field("all", description="all, or a selection such as 0-99")
    z: Whole | Literal["max", "projection", "all"] | None = Field(
        None,
        description="plane of a movie with z: an index, max, projection (the instrument's own), or all (a step over z)",
    )
    pixel_size: PixelSize | None = Field(
        None, description="micrometres per pixel, if the movie does not state it, or states it wrongly"
    )
    dark_level: Annotated[float, Field(ge=0, le=65535)] = Field(
        0.0, description="grey level of the camera without light, which has no shading"
    )
    copy_only: bool = Field(default=False, description="true: copy frames and make display levels, nothing else")
    preprocess: tuple[str, ...] = Field(
        (),
        description="functions applied to a phase frame before segmentation: module:function or file.py:function",
    )
    segmentation_method: str = Field(
        "logstd", description="logstd, bright, unet, cellpose, or module:function or file.py:function"
    )
    segmentation_params: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the segmentation method"
    )
    segmentation_gpu: NeedOfGpu | None = Field(
        None,
        description="1: find cells on workers with a GPU; optional: if there are any; off; null: as the method says",
    )
    register: Annotated[Literal["off", "drift"], BeforeValidator(as_switch)] = Field(
        "off", description="off; drift: measure the drift of the stage, and track cells without it"
    )
    tracking_method: str = Field("iou", description="iou, lap, btrack, or module:function or file.py:function")
    tracking_params: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the tracking method, and which cells are kept"
    )
    background_params: dict[str, Any] = Field(
        default_factory=dict, description="how the background between cells is measured"
    )
    background_weight: Fraction = Field(1.0, description="0 to 1: how much of the background is subtracted")
    frame_interval: Minutes | Literal["auto"] = Field(
        "auto",
        description="minutes, used without usable time stamps; auto: the file's nominal interval, else 10",
    )
    time_mapping: dict[Whole, Moment] | None = Field(
        None, description="{frame: minutes}: times of these frames, instead of the file's time stamps"
    )
    crop_padding: Annotated[Whole, Field(le=10_000)] = Field(
        0, description="pixels added around the boxes of cropped cells"
    )


class Storage(Model):
    """Settings of the storage of arrays."""

    codec: Literal["lz4", "zstd", "none"] = Field("lz4", description="lz4 (fast), zstd (small) or none")
    level: Annotated[Count, Field(le=9)] | Literal["auto"] = Field(
        "auto", description="effort of the codec, 1 (fast) to 9 (small); auto: 5 for lz4, 1 for zstd"
    )
    shuffle: Annotated[Literal["auto", "on", "off"], BeforeValidator(as_switch)] = Field(
        "auto", description="before compression: auto, on: sort raw pixels by bits, and others by bytes; off: do not"
    )
    chunks: Chunks = Field(
        "auto",
        description="auto: tiles of 1024 pixels per frame; tiles of N; frame; block: all its frames, in tiles of 256",
    )
    background: Literal["full", "grid"] = Field(
        "full", description="full; grid: only the tile medians, from which Python rebuilds the background"
    )
    cells: Annotated[Literal["directory", "zip", "off"], BeforeValidator(as_switch)] = Field(
        "directory", description="directory; zip: one file per FOV; off: no crops"
    )
    display: Annotated[Literal["on", "off"], BeforeValidator(as_switch)] = Field(
        "on", description="on; off: no half-size levels for viewers"
    )
    block_frames: Count | Literal["auto"] = Field(
        "auto", description="frames per task; auto adapts to the memory of the workers"
    )
    direct_io: Annotated[Literal["auto", "on", "off"], BeforeValidator(as_switch)] = Field(
        "auto", description="bypass the page cache for images; auto: on local disks that support it; on; off"
    )
    layout: Literal["fovs", "plate"] = Field(
        "fovs", description="fovs: a folder per FOV; plate: also the images of all wells as one OME-Zarr plate"
    )

    @validates_model(mode="after")
    def _compresses(self) -> Self:
        for key, value in (("level", self.level), ("shuffle", self.shuffle)):
            if self.codec == "none" and value not in ("auto", "off"):
                raise ValueError(
                    f"'{key}: {value}' has no meaning with 'codec: none'. "
                    f"Fix: set 'codec' to lz4 or zstd, or '{key}' to auto"
                )
        return self


class Config(Model):
    """One run: which movie, where to, which channels, and how."""

    input: Input = Field(
        description="the movie: a file, a folder such as that of a plate, or a pattern such as img_p{fov}_t{frame}.tif"
    )
    output: AnyPath = Field(description="directory for the results; created if it does not exist")
    channels: Channels = Field(description="by index or name; 'pyama-dask inspect' lists them")
    params: Params = Field(Params(), description="what is computed, and how")
    storage: Storage = Field(Storage(), description="how results are stored")
    pipelines: Pipelines = Field(
        (), description="steps of your own before, between and after the seven steps; empty: the seven alone"
    )
    cluster: Cluster = Field(Cluster(), description="where the work runs")

    @validates_model(mode="before")
    @classmethod
    def _flat_fields(cls, given: Any) -> Any:
        """Give channels the shading that steps of pipelines name."""
        if not isinstance(given, dict) or not given.get("pipelines"):
            return given
        try:
            pipelines = TypeAdapter(Pipelines).validate_python(given["pipelines"])
        except ValidationError:
            return given  # the key itself says what is wrong, beside all others
        try:
            return with_flat_fields(given, pipelines)
        except ValueError as error:
            fault = PydanticCustomError("value_error", "{error}", {"error": str(error)})
            place = InitErrorDetails(type=fault, loc=("pipelines",), input=given["pipelines"])
            raise ValidationError.from_exception_data("Config", [place]) from error

    @property
    def has_seven(self) -> bool:
        """True if the seven steps are among what is done: without pipelines, they are all."""
        return not self.pipelines or any(pipeline.has_seven for pipeline in self.pipelines)

    @validates_model(mode="after")
    def _paths_differ(self) -> Self:
        if os.path.realpath(self.input.path) == os.path.realpath(self.output):
            raise ValueError("'input' and 'output' are the same path. Fix: choose another 'output'")
        return self

    @validates_model(mode="after")
    def _stated_once(self) -> Self:
        for key, unset in (("pixel_size", None), ("frame_interval", "auto")):
            stated, processed = getattr(self.input, key), getattr(self.params, key)
            if stated is not None and processed not in (unset, stated):
                raise ValueError(
                    f"'input.{key}' is {stated:g}, and 'params.{key}' is {processed:g}. Fix: leave out 'params.{key}'"
                )
        return self
