"""Resolution of a config for a movie: channels by index, all defaults filled in, all values checked."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyama_dask.config.function_names import title_and_name
from pyama_dask.config.method_parameters import lengths_in_pixels, method_parameters, parameter_model
from pyama_dask.config.models import ChannelChoice, Config, StitchParams
from pyama_dask.config.units import as_ranges, parse_selection
from pyama_dask.errors import ConfigError, UnsupportedSourceError
from pyama_dask.kernels.background import background
from pyama_dask.methods import unet
from pyama_dask.methods.device import needs_of
from pyama_dask.methods.registry import Method, find_method, gpu_problem, is_plugin, ready_method
from pyama_dask.methods.tracker_parameters import SHARED, tracking_parameters
from pyama_dask.plan.check_labels import check_found
from pyama_dask.plan.check_pipelines import check_drift, check_halos, check_places, check_shapes
from pyama_dask.plan.find_fovs import check_plate, find_fovs
from pyama_dask.plan.resolve_pipelines import resolve_pipelines
from pyama_dask.readers import Metadata
from pyama_dask.readers.base import planes_of
from pyama_dask.readers.times import NOMINAL, extended, typical_step, usable
from pyama_dask.steps.image_place import frames_of, resizing_step
from pyama_dask.steps.standard import finds_cells, uses_model

PIXEL_TYPES = ("uint8", "uint16")
DEFAULT_INTERVAL = 10.0
"""Minutes between frames if neither file nor config states them."""


def resolve(config: Config, metadata: Metadata) -> Config:
    """Fit a config to a movie.

    Returns
    -------
    The config with channels by index, selections as numbers, and every method parameter written out.

    Raises
    ------
    ConfigError
        If a channel, FOV, frame, plane, method or parameter does not exist; the message names the key.
    UnsupportedSourceError
        If the pixel type of a chosen channel would lose values.
    """
    params, channels = config.params, config.channels
    pc = channels.pc and _resolve_channel(channels.pc, "channels.pc", "phase feature", metadata)
    fl = [
        _resolve_channel(choice, f"channels.fl.{k}", "fluorescence feature", metadata)
        for k, choice in enumerate(channels.fl)
    ]
    chosen = [choice.channel for choice in [*([pc] if pc else []), *fl]]
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"channels: {_listed_twice(chosen, metadata)} is chosen more than once")
    _refuse_equal_columns([*([pc] if pc else []), *fl])
    fovs, numbers = find_fovs(params, metadata), [int(channel) for channel in chosen]
    z = _resolve_plane(_plane(config), set(numbers), metadata)
    check_plate(config, metadata, fovs)
    filled = params.model_copy(
        update={
            "fovs": as_ranges(fovs),
            "wells": "all",
            "exclude_wells": "",
            "sites": "all",
            "stitch_params": _resolve_stitching(params.stitch_params, metadata),
            "frames": _resolve_frames(params.frames, metadata, held_until(metadata, fovs, numbers, z)),
            "z": z,
        }
    )
    resolved = config.model_copy(
        update={"channels": channels.model_copy(update={"pc": pc, "fl": tuple(fl)}), "params": filled}
    )
    if config.pipelines:
        resolved = resolved.model_copy(update={"pipelines": resolve_pipelines(resolved, metadata)})
        check_places(resolved)
        check_halos(resolved)
        check_drift(resolved)
        check_found(resolved)
        check_shapes(resolved, {metadata.fovs[fov].shape for fov in fovs})
    own = resizing_step(resolved, metadata)
    movie = metadata.path.name + (f", whose frames the step {own!r} resizes," if own else "")
    methods = _resolve_methods(resolved, frames_of("segment", resolved, metadata), movie)
    return resolved.model_copy(update={"params": resolved.params.model_copy(update=methods)})


def shared_parameters() -> dict[str, list[str]]:
    """Parameters that every method of a kind takes, for `load_config`."""
    return {"segmentation": [], "tracking": [name for of in SHARED for name in parameter_model(of).model_fields]}


def plugins(config: Config) -> list[str]:
    """List the foreign code that a config runs, each once: kind, name and file."""
    params, channels = config.params, config.channels
    named = [("preprocessor", name) for name in params.preprocess]
    named += [("segmenter", params.segmentation_method), ("tracker", params.tracking_method)]
    named += [("phase feature", name) for name in (channels.pc.features if channels.pc else ())]
    named += [("fluorescence feature", name) for choice in channels.fl for name in choice.features]
    named += [("step", step.do) for pipeline in config.pipelines for step in pipeline.steps if step.found is not None]
    outside = dict.fromkeys((kind, name) for kind, name in named if is_plugin(kind, name))
    return [
        f"{kind} {name} is run from {_file_of(find_method(kind, name))}{_with(kind, name)}" for kind, name in outside
    ]


def _with(kind: str, name: str) -> str:
    ready = ready_method(kind, name)
    return f", with {ready.package} {ready.version}" if ready else ""


def _file_of(method: Method) -> str:
    try:
        return inspect.getfile(inspect.unwrap(method))
    except TypeError:  # built into Python, or an object that can be called
        return f"module {getattr(method, '__module__', None) or type(method).__module__}"


def _refuse_equal_columns(choices: list[ChannelChoice]) -> None:
    for choice in choices:
        names = [title_and_name(name)[0] for name in choice.features]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"channels: feature {twice[0]!r} is chosen twice for channel {choice.channel}")


def resolved_channels(config: Config, metadata: Metadata) -> list[ChannelChoice]:
    """Channels that a config chooses, by index; raises as `resolve`."""
    pc, fl = config.channels.pc, config.channels.fl
    return [
        *([_resolve_channel(pc, "channels.pc", "phase feature", metadata)] if pc else []),
        *(_resolve_channel(of, f"channels.fl.{k}", "fluorescence feature", metadata) for k, of in enumerate(fl)),
    ]


def _resolve_channel(choice: ChannelChoice, key: str, kind: str, metadata: Metadata) -> ChannelChoice:
    names = [channel.name for channel in metadata.channels]
    index = choice.channel
    if isinstance(index, str):
        if names.count(index) != 1:
            held = "is not in" if index not in names else "is the name of several channels in"
            raise ConfigError(f"{key}.channel: {index!r} {held} {metadata.path.name}, which has {_listed(names)}")
        index = names.index(index)
    if index >= len(names):
        raise ConfigError(f"{key}.channel: {index} is not in {metadata.path.name}, which has {_listed(names)}")
    dtype = metadata.channels[index].dtype
    if dtype not in PIXEL_TYPES:
        raise UnsupportedSourceError(
            f"{metadata.path}: channel {index} ({names[index]!r}) has {dtype} pixels, and only "
            f"{' and '.join(PIXEL_TYPES)} can be processed without losing values. "
            "Fix: export it as 16-bit, or leave it out of 'channels'"
        )
    for name in choice.features:
        try:
            find_method(kind, name)
        except ConfigError as error:
            raise ConfigError(f"{key}.features: {error}") from error
    return choice.model_copy(update={"channel": index})


def _resolve_stitching(given: StitchParams, metadata: Metadata) -> StitchParams:
    if given.channel is None:
        return given
    choice = _resolve_channel(ChannelChoice(channel=given.channel), "params.stitch_params", "phase feature", metadata)
    return given.model_copy(update={"channel": choice.channel})


def _listed_twice(chosen: list[int | str], metadata: Metadata) -> str:
    twice = next(int(channel) for channel in chosen if chosen.count(channel) > 1)
    return f"channel {twice} ({metadata.channels[twice].name!r})"


def _listed(names: list[str]) -> str:
    return ", ".join(f"{k}: {name!r}" for k, name in enumerate(names))


def _resolve_frames(selection: str, metadata: Metadata, held: int) -> str:
    """Numbers of frames; `all` means those until the last one that is there."""
    if selection == "all":
        return as_ranges(range(held))
    if (last := parse_selection(selection)[-1]) >= (count := metadata.n_frames):
        raise ConfigError(f"params.frames: {last} is not in {metadata.path.name}, whose frames are 0-{count - 1}")
    return selection


def held_until(metadata: Metadata, fovs: Sequence[int], channels: Sequence[int], z: int | str | None) -> int:
    """Number of frames until the last one that any FOV has: an aborted recording announces more.

    Parameters
    ----------
    metadata
        Of the movie.
    fovs, channels, z
        FOVs, channels and plane that are chosen.

    Returns
    -------
    Number of frames; all that are announced if the FOVs have none.
    """
    planes, count = planes_of(z, metadata.z_planes), metadata.n_frames
    lacking = set(range(count)).intersection(*(metadata.fovs[fov].lacking(channels, planes) for fov in fovs))
    return max(set(range(count)) - lacking, default=count - 1) + 1


def _plane(config: Config) -> int | str | None:
    """Plane that a config asks for: all of them if a step gets them."""
    steps = [step for pipeline in config.pipelines for step in pipeline.steps]
    has_step = any(step.over == "z" for step in steps)
    if has_step and config.params.z not in (None, "all"):
        raise ConfigError(
            f"params.z: is {config.params.z!r}, but a step 'over: z' gets all planes. "
            "Fix: leave out params.z, or set it to all"
        )
    if config.params.z == "all" and not has_step:
        raise ConfigError(
            "params.z: is 'all', but no step makes one plane of them. Fix: add a step 'over: z' to 'pipelines', "
            "such as {do: max_projection, over: z}, or choose a plane, or max"
        )
    return "all" if has_step else config.params.z


def _resolve_plane(z: int | str | None, chosen: set[int], metadata: Metadata) -> int | str:
    if z is None:
        if metadata.z_planes > 1:
            raise ConfigError(
                f"params.z: {metadata.path.name} has {metadata.z_planes} planes. "
                "Fix: choose one, 'z: INDEX', or 'z: max'"
                + (", or 'z: projection', the instrument's own" if metadata.projected else "")
            )
        return 0
    if z == "projection" and (without := sorted(chosen.difference(metadata.projected))):
        name = metadata.channels[without[0]].name
        raise ConfigError(
            f"params.z: {metadata.path.name} has no projections of channel {without[0]} ({name!r}). "
            "Fix: choose a plane, 'z: INDEX', or 'z: max'"
        )
    if z == "all":
        return z
    if z == "max" and metadata.z_planes == 1:
        return 0
    if isinstance(z, int) and z >= metadata.z_planes:
        raise ConfigError(f"params.z: {z} is not in {metadata.path.name}, whose planes are 0-{metadata.z_planes - 1}")
    return z


def _resolve_methods(config: Config, metadata: Metadata, movie: str) -> dict[str, object]:
    params = config.params
    try:
        for name in params.preprocess:
            find_method("preprocessor", name)
        segmenter = find_method("segmenter", params.segmentation_method)
        find_method("tracker", params.tracking_method)
    except ConfigError as error:
        raise ConfigError(f"params: {error}") from error
    return {
        "segmentation_params": _resolve_segmentation(config, metadata, segmenter, movie),
        "segmentation_gpu": _resolve_gpu(config, segmenter),
        "tracking_params": tracking_parameters(params.tracking_method, params.tracking_params),
        "background_params": method_parameters("params.background_params", params.background_params, background),
    }


def _resolve_gpu(config: Config, segmenter: Method) -> Literal["off", 1, "optional"]:
    """Decide whether cells are found on workers with a GPU: as the config says, else as the method does."""
    params, key = config.params, "params.segmentation_gpu"
    needs = needs_of(segmenter, f"params.segmentation_method: {params.segmentation_method}")
    by_parameter = ready_method("segmenter", params.segmentation_method) and params.segmentation_params.get("gpu")
    gpu = params.segmentation_gpu or ("optional" if by_parameter else needs.gpu)
    if gpu == 1 and finds_cells(config) and (problem := gpu_problem("segmenter", params.segmentation_method)):
        raise ConfigError(f"{key}: is 1, but {problem}")
    return gpu


def _resolve_segmentation(config: Config, metadata: Metadata, segmenter: Method, movie: str) -> dict[str, object]:
    """Parameters with lengths in pixels, and what a model decides."""
    key, params = "params.segmentation_params", config.params
    filled = method_parameters(key, params.segmentation_params, segmenter)
    filled = lengths_in_pixels(key, filled, segmenter, metadata.pixel_size_um, movie)
    if not uses_model(config):
        return filled
    try:
        return unet.fitted(filled, metadata.pixel_size_um)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


# ------------------------------------------------------------------------------------------------- time


@dataclass(frozen=True)
class Times:
    """Times of the frames of one FOV."""

    minutes: npt.NDArray[np.float64]
    """(T,) by frame of the output, strictly increasing."""
    source: str
    warning: str | None = None

    @property
    def interval(self) -> float:
        """Median minutes between frames; 1 for a single frame."""
        return float(np.median(np.diff(self.minutes))) if len(self.minutes) > 1 else 1.0


def frame_times(config: Config, metadata: Metadata, fov: int, frames: tuple[int, ...]) -> Times:
    """Find the times of a FOV's frames.

    Times given in the config come first, then the file's stamps, then ``frame_interval`` if it is given, then the
    nominal interval of the file, then `DEFAULT_INTERVAL`.

    Parameters
    ----------
    config
        Resolved config.
    frames
        Frame numbers in the movie.

    Raises
    ------
    ConfigError
        If ``time_mapping`` names a frame that is not processed, or makes times that do not increase.
    """
    params = config.params
    minutes, source, warning = _stamps(config, metadata, fov, frames)
    if params.time_mapping:
        if unknown := sorted(set(params.time_mapping) - set(frames)):
            raise ConfigError(f"params.time_mapping: frame {unknown[0]} is not among the frames {params.frames}")
        minutes = minutes.copy()
        for frame, value in params.time_mapping.items():
            minutes[frames.index(frame)] = value
        if (np.diff(minutes) <= 0).any():
            raise ConfigError(
                "params.time_mapping: with it the times of the frames do not increase. Fix: give all frames"
            )
        if len(params.time_mapping) == len(frames):
            return Times(minutes, "time_mapping")
        source = f"time_mapping, else {source}"
    return Times(minutes, source, warning)


Found = tuple[npt.NDArray[np.float64], str, str | None]
"""Minutes of the chosen frames, their source, and a warning."""


def _stamps(config: Config, metadata: Metadata, fov: int, frames: tuple[int, ...]) -> Found:
    """Take recorded stamps, and estimate those that are missing or out of order; without any, count intervals."""
    source = metadata.source_of(fov)
    if metadata.times_min is None or source in (None, NOMINAL):
        minutes, counted, warning = _counted(config, metadata, fov, frames, "the file has no time stamps")
        return minutes, counted, None if counted == NOMINAL else warning  # no stamps contradict what the file states
    stamps = metadata.times_min[fov]
    good = usable(stamps)
    estimated = [frame for frame in frames if not good[frame]]
    if not estimated:
        return stamps[list(frames)], str(source), None
    fault = _fault(stamps, estimated)
    if good.sum() < min(2, len(stamps)):
        return _counted(config, metadata, fov, frames, fault)
    known = np.flatnonzero(good)
    minutes = extended(np.array(frames), known, stamps[known], typical_step(stamps))
    warning = f"FOV {fov}: {fault}; the times of these frames are estimated from the other stamps"
    return minutes, f"{source}; estimated for {_frames(estimated)}", warning


def _fault(stamps: npt.NDArray[np.float64], bad: list[int]) -> str:
    """Warnings about the stamps of some frames."""
    missing = [frame for frame in bad if not np.isfinite(stamps[frame])]
    others = sorted(set(bad).difference(missing))
    words = [f"{len(missing)} time stamps are missing ({_frames(missing)})"] if missing else []
    return " and ".join(words + ([f"the time stamps do not increase ({_frames(others)})"] if others else []))


def _frames(frames: list[int]) -> str:
    return f"{'frame' if len(frames) == 1 else 'frames'} {as_ranges(frames)}"


def _counted(config: Config, metadata: Metadata, fov: int, frames: tuple[int, ...], fault: str) -> Found:
    """Count intervals from the start of the movie: that of the config, else that of the file, else the default."""
    given, nominal = config.params.frame_interval, metadata.interval_min
    if nominal is not None and (given == "auto" or np.isclose(given, nominal)):
        interval, source = nominal, NOMINAL
    else:
        interval = DEFAULT_INTERVAL if given == "auto" else given
        source = "frame_interval (default)" if given == "auto" else "frame_interval"
    warning = f"FOV {fov}: {fault}; times count from {source}, {interval:g} min"
    if source != NOMINAL and nominal is not None:
        warning += f"; the file's own nominal interval is {nominal:g} min"
    return np.array(frames) * interval, source, warning if len(frames) > 1 else None
