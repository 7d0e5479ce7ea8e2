"""The steps: one table of all their parts, from which tasks, digests, memory and layout are derived."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from pyama_dask.config.models import Config
from pyama_dask.kernels.filling import plan_fills
from pyama_dask.methods import unet
from pyama_dask.methods.device import needs_of
from pyama_dask.methods.objects import looks_at_pixels
from pyama_dask.methods.registry import PHASE, find_method, method_identity, ready_method
from pyama_dask.methods.tracker_parameters import parameters_of
from pyama_dask.store.layout import changed_form
from pyama_dask.workflow.graph import Graph, Held, Part, Step
from pyama_dask.workflow.inputs import Inputs
from pyama_dask.workflow.task import digest, task_key

METHOD_VERSION = 1
"""Version of the kernels; increased when results change, to regenerate those of older versions."""
BRIGHT = 30.0
"""Bytes per pixel of a frame that `bright` holds."""
BATCHED = 6.0
"""Bytes per pixel of a frame and for each frame that a segmenter takes at once: frames, and labels."""
SHADED = 12.0
"""Bytes per pixel of a frame that the removal of shading holds."""
STITCHED = 28.0
"""Bytes per pixel of a well that its stitching holds: the sum of its tiles, their weights, and the nearest pixels of
areas without a tile."""
DRIFTING = 68.0
"""Bytes per pixel of a frame that measuring a shift holds: four frames with their spectra, and products of two."""
SHARD = 4.0
"""Bytes per pixel of a frame of the buffers of an array whose shard is written or read."""
KEPT = 2.5
"""Freed bytes per pixel of a frame that the allocator does not return."""


def finds_cells(config: Config) -> bool:
    """Check for a phase-contrast channel to segment, and for the steps that do it."""
    return config.channels.pc is not None and not config.params.copy_only and config.has_seven


def uses_model(config: Config) -> bool:
    """Check whether cells are found by a network."""
    return finds_cells(config) and config.params.segmentation_method == "unet"


def depends_on_processor(config: Config) -> bool:
    """Check whether cells are found by a network, or with logarithms in single precision, which differ in last bits."""
    return finds_cells(config) and config.params.segmentation_method in ("unet", "bright")


def measures_background(config: Config) -> bool:
    """Check for fluorescence to correct."""
    return finds_cells(config) and bool(config.channels.fl)


def cuts_cells(config: Config) -> bool:
    """Check whether crops are stored."""
    return finds_cells(config) and config.storage.cells != "off"


def corrects_crops(config: Config) -> bool:
    """Check whether crops of fluorescence are stored, which are scaled by their levels above background."""
    return cuts_cells(config) and bool(config.channels.fl)


def fills_gaps(config: Config) -> bool:
    """Check whether cells get masks in frames in which they are missing."""
    method, given = config.params.tracking_method, config.params.tracking_params
    return finds_cells(config) and bool(given.get("fill_gaps")) and bool(parameters_of(method, given, plan_fills))


def registers(config: Config) -> bool:
    """Check whether the drift of the stage is measured, and removed from the boxes of cells before these are linked."""
    return finds_cells(config) and config.params.register == "drift"


def makes_plate(config: Config) -> bool:
    """Check whether the images of all wells are written as one plate."""
    return config.storage.layout == "plate"


def labels_plate(config: Config) -> bool:
    """Check whether the images of the plate have labels."""
    return makes_plate(config) and finds_cells(config)


def shows(config: Config) -> bool:
    """Check whether display levels are stored."""
    return config.storage.display == "on"


def is_deep(config: Config) -> bool:
    """Check for chunks with all frames of a block, which are compressed when the last frame is there."""
    return config.storage.chunks == "block"


def form_of_images(config: Config) -> list[str]:
    """Settings of how arrays at full size are stored; empty by default, so that outputs of earlier versions stay."""
    return [f"{key}: {value}" for key, value in changed_form(config.storage).items()]


def form_of_background(config: Config) -> list[str]:
    """Settings of how backgrounds are stored; those of planes have no meaning if there are only tiles."""
    which = config.storage.background
    return [which, *(form_of_images(config) if which == "full" else ())]


def needs_gpu(config: Config) -> bool:
    """Check whether cells are found on workers with a GPU, if there are any; of a resolved config."""
    return finds_cells(config) and config.params.segmentation_gpu in (1, "optional")


# ------------------------------------------------------------------------------------------------- digests
# These are written out, and not derived from the needs, so that outputs of earlier versions can be resumed.


def _copied(of: Inputs) -> str:
    def base() -> str:
        config = of.config
        chosen = [choice.channel for choice in config.channels.all]
        return digest(
            METHOD_VERSION, of.movie, of.fov, of.shape, config.params.z, config.storage.codec,
            config.channels.pc is None, chosen,
        )  # fmt: skip

    return digest("copy", of.once(_copied, base), of.block_frames, [of.frames], *([of.tiles] if of.tiles else []))


def _segmenter(config: Config) -> str:
    methods = [method_identity("preprocessor", name) for name in config.params.preprocess]
    methods.append(method_identity("segmenter", config.params.segmentation_method))
    params: Mapping[str, object] = config.params.segmentation_params
    return digest("segment", methods, unet.result_parameters(params) if uses_model(config) else params)


def _segmented(of: Inputs) -> str:
    return digest(of.setting(_segmenter), of.digest("copy.frames"))


def _how_background(config: Config, weight: float = 1.0) -> str:
    return digest("background", _segmenter(config), config.params.background_params, weight)


def _how_corrected(config: Config) -> str:
    return _how_background(config, config.params.background_weight)


def _background(of: Inputs) -> str:
    return digest(of.setting(_how_background), of.digest("copy.frames"))


def _corrected(of: Inputs) -> str:
    return digest(of.setting(_how_corrected), of.digest("copy.frames"))


def _tracker(config: Config) -> str:
    return method_identity("tracker", config.params.tracking_method)


def _pairs(of: Inputs) -> str:
    return digest("drift pairs", of.digest("copy.frames"), list(of.earlier))


def _shifts(of: Inputs) -> str:
    return digest("shifts", of.digest("drift.pairs"), of.times_min)


def _drift(of: Inputs) -> list[str]:
    """Digest of the shifts without their times; empty if frames are not registered, as in earlier versions."""
    return [of.digest("drift.pairs")] if registers(of.config) else []


def _tracked(of: Inputs) -> str:
    params = of.config.params
    tracker = of.setting(_tracker)
    return digest("track", of.digest("segment.labels"), tracker, params.tracking_params, *_drift(of))


def _levels(of: Inputs) -> str:
    return digest("levels", of.digest("background.tiles" if finds_cells(of.config) else "copy.frames"))


def _features(config: Config) -> list[list[str]]:
    channels = config.channels
    kinds = [*(["phase feature"] if channels.pc else []), *["fluorescence feature"] * len(channels.fl)]
    return [
        [method_identity(kind, name) for name in choice.features]
        for kind, choice in zip(kinds, channels.all, strict=True)
    ]


def _measured(of: Inputs) -> str:
    return digest("extract", of.digest("track.link"), _corrected(of), of.setting(_features))


def _cut(of: Inputs) -> str:
    return digest("crop", of.digest("track.link"), of.digest("crop.levels"), of.config.params.crop_padding)


def _displayed(of: Inputs) -> str:
    tracks = of.digest("track.link") if finds_cells(of.config) else None
    return digest("cache", of.digest("display.levels"), tracks)


def _table(of: Inputs) -> str:
    return digest("traces", of.digest("extract.rows"), of.times_min, of.name, *of.place, *of.tiles, *_drift(of))


def _frames_in_plate(of: Inputs) -> str:
    return digest("plate", of.digest("copy.frames"), *of.place)


def _labels_in_plate(of: Inputs) -> str:
    return digest("labels in the plate", of.digest("track.link"), *of.place)


def _summarised(of: Inputs) -> str:
    parts = ("copy.frames", "track.link", "extract.rows") if finds_cells(of.config) else ("copy.frames",)
    return digest("summary", *map(of.digest, parts), of.times_min)


# --------------------------------------------------------------------------------------- memory and traffic


def _held_to_copy(config: Config) -> Held:
    once = 0 if config.params.stitch == "off" else STITCHED
    once += 0 if all(choice.flat_field == "off" for choice in config.channels.all) else SHADED
    once += 4 * sum(choice.flat_field == "instrument" for choice in config.channels.all)  # levels of the background
    channels = len(config.channels.all)
    return Held(frame=2 * channels + 2 + KEPT, once=once + channels * SHARD)


def _held_for_plate(config: Config) -> Held:
    held = _held_to_copy(config)
    return replace(held, frame=held.frame + 0.5 * len(config.channels.all))


def _held_to_segment(config: Config) -> Held:
    ready = ready_method("segmenter", config.params.segmentation_method)
    if ready:
        return Held(once=ready.pixel_bytes, fixed=ready.memory)
    if uses_model(config):
        once, fixed = unet.held_memory(config.params.segmentation_params, unet.TOGETHER if needs_gpu(config) else 1)
        return Held(once=once, fixed=fixed)
    if (method := config.params.segmentation_method) == "bright":
        return Held(once=BRIGHT)
    needs = needs_of(find_method("segmenter", method), method)
    return Held(once=BATCHED * needs.frames_at_once(on_gpu=needs_gpu(config)))


def _held_for_drift(_config: Config) -> Held:
    return Held(once=DRIFTING)


def _held_for_background(config: Config) -> Held:
    planes, channels = 4 if config.storage.background == "full" else 0, len(config.channels.fl)
    return Held(frame=2 * channels + 2 + planes + KEPT, once=(channels + 1) * SHARD)  # and labels


def _held_to_finish(config: Config) -> Held:
    labels = 4.5 if finds_cells(config) else 2
    channels, drawn = len(config.channels.all), 12 if fills_gaps(config) else 0
    # drawn: labels with fills, and of frames that these come from
    return Held(frame=2 * channels + labels + KEPT, once=drawn + (channels + 1) * SHARD)


def _held_to_cut(config: Config) -> Held:
    return Held(block=len(config.channels.all))  # boxes of cells on a fourth of the frame


def _measured_channels(config: Config) -> Collection[int]:
    pc = config.channels.pc
    looks = pc is not None and any(looks_at_pixels(find_method(PHASE, name)) for name in pc.features)
    return {int(of.channel) for of in config.channels.all if (looks if of is pc else of.features)}


# --------------------------------------------------------------------------------------------------- table

PARTS = (
    Part(
        "copy.frames", "copy", "block", "pyama_dask.steps.copy_frames:Copy", _copied,
        from_movie=True, form=form_of_images, writes=("raw",), reads=("raw",), memory=_held_to_copy, label="copying",
    ),
    Part(
        "segment.labels", "segment", "block", "pyama_dask.steps.segment:Segmentation", _segmented,
        needs=("copy.frames",), form=form_of_images, writes=("labels",), memory=_held_to_segment, active=finds_cells,
        label="segmentation", by_processor=depends_on_processor,
    ),
    Part(
        "drift.pairs", "drift", "block", "pyama_dask.steps.drift:PairsOfFrames", _pairs,
        needs=("copy.frames",), from_movie=True, memory=_held_for_drift, active=registers,
    ),
    Part(
        "drift.shifts", "drift", "fov", "pyama_dask.steps.drift:find_shifts", _shifts,
        needs=("drift.pairs",), active=registers,
    ),
    Part(
        "track.link", "track", "fov", "pyama_dask.steps.track:link_boxes", _tracked,
        needs=("segment.labels", "drift.shifts"), reads=("labels",), active=finds_cells, label="tracking",
    ),
    Part(
        "track.relabel", "track", "block", "pyama_dask.steps.track:Relabelling", lambda of: of.digest("track.link"),
        needs=("segment.labels", "track.link"), reads_from={"track.link": "pyama_dask.steps.track:ids_by_block"},
        form=form_of_images, writes=("tracks",), reads=("labels",), memory=_held_to_finish, active=finds_cells,
    ),
    Part(
        "background.tiles", "background", "block", "pyama_dask.steps.background:Background", _background,
        needs=("copy.frames", "segment.labels"), form=form_of_background,
        writes=("background",), memory=_held_for_background, active=measures_background,
    ),
    Part(
        "crop.counts", "crop", "block", "pyama_dask.steps.background:CorrectedLevels", _corrected,
        needs=("copy.frames", "background.tiles"), memory=_held_for_background, active=corrects_crops,
        together="background.tiles", label="cropping",
    ),
    Part(
        "crop.levels", "crop", "fov", "pyama_dask.steps.levels:find_crop_windows",
        lambda of: digest("crop levels", of.digest("crop.counts")), needs=("copy.frames", "crop.counts"),
        active=cuts_cells,
    ),
    Part(
        "crop.cut", "crop", "block", "pyama_dask.steps.crop:Crops", _cut,
        needs=("copy.frames", "background.tiles", "track.link", "crop.levels", "track.relabel"),
        reads_from={
            "track.link": "pyama_dask.steps.track:cells_by_block",
            "crop.levels": "pyama_dask.steps.levels:crop_scaling_by_block",
        },
        reads=("raw", "background"), memory=_held_to_cut, active=cuts_cells, temporary=True,
    ),
    Part(
        "crop.store", "crop", "fov", "pyama_dask.steps.crop:store_crops", lambda of: of.digest("crop.cut"),
        needs=("crop.cut",), from_blocks=True, form=lambda config: (config.storage.cells, config.storage.display),
        active=cuts_cells,
    ),
    Part(
        "extract.rows", "extract", "block", "pyama_dask.steps.extract:Extraction", _measured,
        needs=("copy.frames", "segment.labels", "background.tiles", "track.link"),
        reads_from={"track.link": "pyama_dask.steps.track:kept_ids_by_block"}, reads=("raw", "background"),
        channels=_measured_channels, active=finds_cells, together="crop.cut", label="extraction",
    ),
    Part(
        "extract.table", "extract", "fov", "pyama_dask.steps.extract:write_table", _table,
        needs=("extract.rows", "drift.shifts"), from_blocks=True, active=finds_cells,
    ),
    Part(
        "display.levels", "cache", "fov", "pyama_dask.steps.levels:find_display_windows", _levels,
        needs=("copy.frames", "background.tiles"), active=shows, label="caching",
    ),
    Part(
        "display.images", "cache", "block", "pyama_dask.steps.display:Display", _displayed,
        needs=("copy.frames", "background.tiles", "display.levels", "track.link", "track.relabel"),
        reads_from={
            "display.levels": "pyama_dask.steps.levels:display_windows_by_block",
            "track.link": "pyama_dask.steps.track:counts_by_block",
        },
        writes=("display",), reads=("raw", "background"), memory=_held_to_finish, active=shows,
    ),
    Part(
        "summary.numbers", "summary", "fov", "pyama_dask.steps.summary:summarise", _summarised,
        needs=("copy.frames", "segment.labels", "track.link", "extract.rows"), from_blocks=True,
    ),
    Part(
        "plate.frames", "plate", "block", "pyama_dask.steps.plate:FramesInPlate", _frames_in_plate,
        needs=("copy.frames",), form=form_of_images, writes=("half_raw",), reads=("raw",), memory=_held_for_plate,
        active=makes_plate, together="copy.frames",
    ),
    Part(
        "plate.labels", "plate", "block", "pyama_dask.steps.plate:LabelsInPlate", _labels_in_plate,
        needs=("segment.labels", "track.link", "track.relabel"),
        reads_from={"track.link": "pyama_dask.steps.track:ids_by_block"}, form=form_of_images,
        writes=("half_labels", "half_tracks"), reads=("labels",), active=labels_plate, together="track.relabel",
    ),
)  # fmt: skip
GRAPH = Graph(PARTS)
"""Everything that the table implies."""
COPY, TRACKS, CROPS, TRACES, LEVELS = "copy.frames", "track.link", "crop.store", "extract.table", "display.levels"
"""Parts whose results other modules look for: raw frames, tracks, the store of crops, the table of traces, and the grey
levels between which display levels are scaled."""


def label_of(step: Step) -> str:
    """Name of a step in progress bars and reports; steps of a user's own pipelines have their name."""
    return GRAPH.labels.get(step, step)


def in_order(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Each of some steps once: the standard ones in their order, then all others as they come."""
    given = dict.fromkeys(steps)
    return (*(step for step in GRAPH.steps if step in given), *(step for step in given if step not in GRAPH.steps))


def record_of(part: str, fov: int, block: int | None = None) -> tuple[str, Step]:
    """Key of the task, and step, by which the ledger records a part."""
    return task_key(GRAPH.kind_of[part], fov, block), GRAPH.parts[part].step
