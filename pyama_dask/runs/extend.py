"""Check that a changed movie is the same acquisition with more frames; a plate may have more FOVs, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pyama_dask.config.models import Config
from pyama_dask.config.yaml_text import load_yaml
from pyama_dask.errors import MissingFrameError, OutputError, SourceError, StoreError
from pyama_dask.files.atomic import read_file
from pyama_dask.readers import Metadata, Reader, Snapshot, is_file_format, reopen
from pyama_dask.readers.frames import digest_of, read_planes, read_stacks
from pyama_dask.runs.output_dir import CONFIG
from pyama_dask.runs.status import LEDGER, read_blocks, read_plan
from pyama_dask.runs.verify import find_faults
from pyama_dask.store.arrays import read_attributes, read_frame
from pyama_dask.store.layout import IMAGES, channel_of, is_raw_group
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import fov_name

SAMPLES = 64
"""Number of recorded frames that are compared with the movie, evenly spread."""


def first_identity(config: Config, metadata: Metadata, movie: Snapshot, *, extend: bool) -> str:
    """Identity that the movie had when the output was begun.

    Parameters
    ----------
    config
        Resolved config.
    metadata, movie
        Content and snapshot of the movie as it is now.
    extend
        True to accept a movie with more frames than before.

    Raises
    ------
    OutputError
        If it is another movie, or has grown and `extend` is False.
    """
    recorded = recorded_movie(config.output) or {"identity": movie.identity, "first": movie.identity}
    if movie.has_identity(recorded["identity"]):
        return recorded["first"]
    if not extend:
        raise OutputError(
            f"{config.output}: holds the results of another movie, or of {config.input.path.name} before it changed. "
            "Fix: choose another 'output', or use --extend if the same acquisition has more frames now, or files of it "
            "were replaced that could not be read"
        )
    ledger = Ledger(config.output / LEDGER)
    if not ledger.receipts:  # nothing was made from the movie as it was
        return movie.identity
    check_grown(config.output, ledger, config.input.path, metadata)
    return recorded["first"]


def recorded_movie(output: Path) -> dict[str, str]:
    """Identity of the movie of an output; empty if nothing is done yet.

    Raises
    ------
    OutputError
        If results are recorded, but damage has left no identity of their movie.
    """
    ledger = Ledger(output / LEDGER)
    if ledger.movie or not ledger.receipts:
        return ledger.movie
    try:
        plan = read_plan(output)
    except OutputError as error:
        raise OutputError(
            f"{output}: its records are damaged and do not name its movie. Fix: choose another 'output'"
        ) from error
    return {"identity": str(plan["identity"]), "first": str(plan["first_identity"])}


def keep_zero(metadata: Metadata, output: Path) -> Metadata:
    """Count the times of a plate from the moment they were counted from when the output was begun.

    A FOV that arrives later may have been taken first.
    """
    times = metadata.times_min
    if times is None or is_file_format(metadata.path):
        return metadata
    recorded = {fov: of for fov in range(len(times)) if (of := _recorded_times(output, metadata, fov))}
    shifts = [minutes[0] - times[fov, frames[0]] for fov, (frames, minutes) in recorded.items()]
    shift = next((shift for shift in shifts if np.isfinite(shift)), 0.0)
    times = times + shift
    for fov, (frames, minutes) in recorded.items():  # the same to the last digit, so that tables stay
        now = times[fov, list(frames)]
        times[fov, list(frames)] = np.where(np.isclose(now, minutes, rtol=0, atol=1e-6), minutes, now)
    return replace(metadata, times_min=times)


def _recorded_times(output: Path, metadata: Metadata, fov: int) -> tuple[list[int], list[float]] | None:
    """Frames of a FOV that were processed, and their minutes; None if they are not the movie's own."""
    with suppress(OSError, ValueError, LookupError):
        recorded = read_attributes(output / fov_name(fov) / IMAGES)
        if recorded["time_source"] == metadata.source_of(fov) and recorded["frames"][-1] < metadata.n_frames:
            return recorded["frames"], recorded["times_min"]
    return None


def check_grown(output: Path, ledger: Ledger, movie: Path, metadata: Metadata) -> None:
    """Check that a movie is the one of an output, with frames added.

    Its metadata, its time stamps and the pixels of a sample of copied frames must agree with those recorded earlier.

    Parameters
    ----------
    output
        Output directory.
    ledger
        Its records.
    movie, metadata
        The movie as it is now.

    Raises
    ------
    OutputError
        If it is another one; the message names the difference.
    """
    try:
        before = load_yaml(read_file(output / CONFIG))["metadata"]
        difference = _difference(before, metadata) or _other_frames(output, ledger, metadata)
    except (SourceError, MissingFrameError) as error:
        raise OutputError(f"{output}: cannot be compared with the movie: {error}") from error
    except (OSError, yaml.YAMLError, LookupError, TypeError, StoreError) as error:
        raise OutputError(
            f"{output}: cannot be compared with the movie, because its records are damaged: {error}"
        ) from error
    if difference:
        raise OutputError(
            f"{output}: cannot be extended, as {movie} is not its movie with frames added: {difference}. "
            "Fix: choose another 'output'"
        )


def _difference(before: dict[str, Any], now: Metadata) -> str | None:
    """Differences between the movie now and before; None if it only has more frames, or a plate more FOVs."""
    most = None if is_file_format(now.path) else len(before["fovs"])
    pairs = {
        "format": (before["format"], now.format),
        "number of z planes": (before["z_planes"], now.z_planes),
        "pixel size": (before["pixel_size_um"], now.pixel_size_um),
        "set of channels": (
            [(channel["name"], channel["dtype"]) for channel in before["channels"]],
            [(channel.name, channel.dtype) for channel in now.channels],
        ),
        "set of FOVs": (
            [(fov["name"], None if fov.get("tiles") else tuple(fov["shape"])) for fov in before["fovs"]],
            [(fov.name, None if fov.tiles else fov.shape) for fov in now.fovs][:most],
        ),
    }
    for what, (then, today) in pairs.items():
        if then != today:
            return f"it has another {what}"
    if now.n_frames < before["n_frames"]:
        return f"it has {now.n_frames} frames, and had {before['n_frames']}"
    return None


def _other_frames(output: Path, ledger: Ledger, now: Metadata) -> str | None:
    """Compare a sample of copied frames with those of the movie now.

    Frames of a plate that cannot be read harm no other FOVs, unless all of the sample are among them.
    """
    unread: list[SourceError | MissingFrameError] = []
    copied = list(_copied_frames(output, ledger))
    chosen = [copied[k] for k in np.unique(np.linspace(0, len(copied) - 1, SAMPLES).astype(int))] if copied else []
    with reopen(now) as reader:
        for fov, k, settings, crc in chosen:
            images = output / fov_name(fov) / IMAGES
            recorded = read_attributes(images)
            if _seen_otherwise(recorded, now, fov):
                continue
            frame = recorded["frames"][k]
            where = f"FOV {fov}, frame {frame}"
            if _other_time(recorded, k, now, fov, frame):
                return f"{where} was taken at another time"
            try:
                if settings.get("pipelines"):  # they may have changed what is stored
                    other = crc is not None and _read_digest(reader, fov, frame, settings) != crc
                else:
                    other = _other_pixels(reader, images, fov, frame, k, settings["params"]["z"])
                if other:
                    return f"{where} has other pixels"
            except (SourceError, MissingFrameError) as error:
                unread.append(error)
    if unread and (len(unread) == len(chosen) or is_file_format(now.path)):
        raise unread[0]
    return None


def _seen_otherwise(recorded: dict[str, Any], now: Metadata, fov: int) -> bool:
    """True if a FOV is regenerated because its sites were moved, or the shading is another one."""
    shading = now.flat_field.digest if now.flat_field else None
    tiles = [list(tile) for tile in now.fovs[fov].tiles]
    return bool(recorded.get("tiles", []) != tiles or recorded.get("flat_field") != shading)


def _copied_frames(output: Path, ledger: Ledger) -> Iterator[tuple[int, int, dict[str, Any], int | None]]:
    """Yield FOV, frame in the output, settings, and recorded digest of the first frame of every copied block."""
    plan = read_plan(output, ledger)
    for fov in plan["fovs"]:
        settings = plan["settings"][fov["settings"]]
        for block, key in read_blocks(ledger, fov):
            if not find_faults(output, ledger, [key]):
                crc = next(iter(ledger.task(key).frames_read), None)
                yield fov["fov"], block * settings["storage"]["block_frames"], settings, crc


def _other_time(recorded: dict[str, Any], k: int, now: Metadata, fov: int, frame: int) -> bool:
    if recorded["time_source"] != now.source_of(fov) or now.times_min is None:
        return False  # they were not, or are not, the movie's own, or some of them were estimated
    return bool(abs(recorded["times_min"][k] - now.times_min[fov, frame]) > 1e-6)


def _read_digest(reader: Reader, fov: int, frame: int, settings: dict[str, Any]) -> int:
    """Digest of a frame of the movie, as it is recorded when a block is copied."""
    chosen, z = settings["channels"], settings["params"]["z"]
    channels = [choice["channel"] for choice in (chosen["pc"], *chosen["fl"]) if choice]
    read = read_stacks(reader, fov, frame, channels) if z == "all" else read_planes(reader, fov, frame, channels, z)
    return digest_of(read)


def _other_pixels(reader: Reader, images: Path, fov: int, frame: int, k: int, z: int | str) -> bool:
    groups = [group.name for group in images.iterdir() if is_raw_group(group.name)]
    planes = read_planes(reader, fov, frame, [channel_of(group) for group in groups], z)
    stored = [read_frame(images, f"{group}/0", k) for group in groups]
    return any(not np.array_equal(a, b) for a, b in zip(planes, stored, strict=True))
