"""Digests of steps: everything that a result depends on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pyama_dask.methods.registry import method_identity
from pyama_dask.plan.resolve import Times
from pyama_dask.workflow.graph import Kind, Step, active_steps
from pyama_dask.workflow.task import Job, digest

METHOD_VERSION = 1
"""Raised when a kernel's results change, so that results of older versions are made anew."""


Digests = Mapping[Kind, Sequence[dict[Step, str]]]
"""For every kind of task, and each of its tasks in a FOV, the digest of every step."""


def step_digests(job: Job, movie: str, fov: int, shape: tuple[int, int], times: Times) -> Digests:
    """Digests of all that the result of each step of a FOV depends on.

    What a block is ingested from are its own frames, so that it stays as it is when others are added.

    Parameters
    ----------
    movie
        Identity that the movie had when its output was begun.
    """
    config, params, storage = job.config, job.config.params, job.config.storage
    chosen = [choice.channel for choice in config.channels.all]
    base = digest(METHOD_VERSION, movie, fov, shape, params.z, storage.codec, config.channels.pc is None, chosen)
    methods = [method_identity("preprocessor", name) for name in params.preprocess]
    methods.append(method_identity("segmenter", params.segmentation_method))
    segmented = digest("segment", methods, params.segmentation_params)
    cleared = digest("background", segmented, params.background_params, params.background_weight)

    def ingested(*frames: Sequence[int]) -> tuple[str, str, str]:
        copy = digest("copy", base, job.block_frames, frames)
        return copy, digest(segmented, copy), digest(cleared, copy)

    copy, segment, back = ingested(job.frames)
    track = digest("track", segment, method_identity("tracker", params.tracking_method), params.tracking_params)
    cells = "segment" in active_steps(config)
    levels = digest("levels", back if cells else copy)
    crop = digest("crop", track, levels, params.crop_padding)
    kinds = [*(["phase feature"] if config.channels.pc else []), *["fluorescence feature"] * len(config.channels.fl)]
    features = [
        [method_identity(kind, name) for name in choice.features]
        for kind, choice in zip(kinds, config.channels.all, strict=True)
    ]
    extract = digest("extract", track, back, features)
    traces = digest("traces", extract, times.minutes.tolist(), job.source.stem)
    cache = digest("cache", levels, track if cells else None)
    blocks = [ingested(job.frames[start:stop]) for start, stop in job.blocks]
    whole: Digests = {
        "ingest": [{"copy": c, "segment": s, "background": digest(b, storage.background)} for c, s, b in blocks],
        "link": [{"track": track, "crop": levels, "cache": levels}],
        "finish": [{"track": track, "crop": crop, "extract": extract, "cache": cache}] * len(blocks),
        "gather": [{"crop": digest(crop, storage.cells, storage.display), "extract": traces}],
    }
    return _only(whole, active_steps(config))


def _only(digests: Digests, steps: Collection[Step]) -> Digests:
    return {kind: [{s: d for s, d in of.items() if s in steps} for of in tasks] for kind, tasks in digests.items()}
