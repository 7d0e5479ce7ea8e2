"""Warnings about the settings of a run, and about channels that are used as another kind than the file says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pyama_dask.config.models import Config
from pyama_dask.config.units import many, parse_selection
from pyama_dask.plan.resolve import held_until
from pyama_dask.readers import Metadata
from pyama_dask.readers.base import ChannelKind
from pyama_dask.steps.standard import fills_gaps, finds_cells, registers

USES: Mapping[ChannelKind, str] = {"phase": "phase contrast", "fluorescence": "fluorescence"}
"""Uses of the kinds of channels; channels of other kinds may have any use."""


def warnings_of(config: Config, metadata: Metadata) -> Iterator[str]:
    """Yield warnings about settings that have no effect, or not the one that they seem to have.

    Parameters
    ----------
    config
        Resolved, with the number of frames of a block.
    metadata
        Of the movie.
    """
    if config.channels.pc is None and not config.params.copy_only and config.has_seven:
        yield (
            "channels.pc: no phase-contrast channel, so that frames are copied and displayed only: cells cannot be "
            "found, nor the background between them. Fix: set channels.pc if there is one, else copy_only: true"
        )
    if config.params.register == "drift" and not registers(config):
        yield (
            "params.register: drift has no effect, as it is measured to track cells, and no cells are looked for. "
            "Fix: set it to off, or set channels.pc, without copy_only"
        )
    fewest, frames = config.params.tracking_params["min_frames"], len(parse_selection(config.params.frames))
    if finds_cells(config) and fewest > frames:
        yield (
            f"params.tracking_params.min_frames: is {fewest}, but the run has only {many(frames, 'frame')}, so that no "
            "cell will be kept. Fix: lower it"
        )
    block, gap = int(config.storage.block_frames), config.params.tracking_params.get("gap", 0)
    if fills_gaps(config) and block < min(gap, frames):
        yield (
            f"storage.block_frames: is {block}, so that only gaps of up to {many(block, 'frame')} are filled, while "
            f"cells may be missing in {gap} (params.tracking_params.gap). Fix: raise it, or lower the gap"
        )
    channels, fovs = [int(choice.channel) for choice in config.channels.all], parse_selection(config.params.fovs)
    held, chosen = held_until(metadata, fovs, channels, config.params.z), parse_selection(config.params.frames)
    if held < metadata.n_frames and chosen[-1] == held - 1:
        yield (
            f"{metadata.path.name} announces {metadata.n_frames} frames, but no chosen FOV has any after frame "
            f"{held - 1}; these are left out. Fix: use --extend if they arrive later"
        )
    yield from _channel_warnings(config, metadata)


def _channel_warnings(config: Config, metadata: Metadata) -> Iterator[str]:
    """Compare the use of each channel with its kind in the file."""
    pc, fl = config.channels.pc, config.channels.fl
    uses = {"channels.pc": ("phase contrast", pc)} if pc else {}
    uses |= {f"channels.fl.{k}": ("fluorescence", choice) for k, choice in enumerate(fl)}
    for key, (use, choice) in uses.items():
        channel = metadata.channels[int(choice.channel)]
        if (kind := USES.get(channel.kind, use)) != use:
            yield (
                f"{key}: channel {choice.channel} ({channel.name!r}) is used as {use}, but {metadata.path.name} "
                f"describes it as {kind}. Fix: check 'channels'; 'pyama-dask inspect' lists the kinds"
            )
