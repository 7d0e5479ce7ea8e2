"""Config of a script's run: its settings and pipelines, and else what 'pyama-dask init' would write."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pyama_dask.api.openhcs.pipelines import Translated
from pyama_dask.api.openhcs.settings import GlobalPipelineConfig
from pyama_dask.readers import Metadata
from pyama_dask.runs.template import fitting_params, guess_channels, notes_on_channels

log = logging.getLogger("pyama_dask")


def config_document(
    settings: GlobalPipelineConfig, metadata: Metadata, script: Translated | None, wells: Sequence[str] | str | None
) -> dict[str, Any]:
    """Keys of a config, without ``input`` and ``output``, unless ``input`` states facts about the plate.

    Parameters
    ----------
    settings
        Of the script.
    metadata
        Of the plate.
    script
        Pipelines that it compiles; None for services only.
    wells
        Wells to process; None for all.
    """
    has_seven = script is not None and script.has_seven
    more = dict(settings.pyama)
    storage: dict[str, Any] = settings.zarr.keys()
    storage |= {"layout": "plate"} if has_seven and settings.zarr.write_plate_metadata else {}
    return {
        "channels": more.pop("channels", None) or _channels(metadata, has_seven=has_seven),
        "params": _params(metadata, script, wells) | more.pop("params", {}),
        "storage": storage | more.pop("storage", {}), "cluster": settings.cluster(), **more,
    }  # fmt: skip


def _params(
    metadata: Metadata, script: Translated | None, wells: Sequence[str] | str | None
) -> Mapping[str, Any]:  # fmt: skip
    """Parameters that suit the plate, and the wells."""
    params: dict[str, Any] = {}
    fitting = fitting_params(metadata)
    if script is not None and script.takes_planes:
        fitting.pop("z", None)  # these steps get all planes
    for dotted, value in fitting.items():
        group, _, name = dotted.rpartition(".")
        (params.setdefault(group, {}) if group else params)[name] = value
    return params | ({"wells": wells if isinstance(wells, str) else ", ".join(wells)} if wells else {})


def _channels(metadata: Metadata, *, has_seven: bool) -> dict[str, Any]:
    """Channels as 'pyama-dask init' guesses them; without the seven steps, all of them."""
    if not has_seven:
        kinds = [channel.kind for channel in metadata.channels]
        phase = kinds.index("phase") if "phase" in kinds else None
        fl = [{"channel": channel} for channel in range(len(kinds)) if channel != phase]
        return {"pc": None if phase is None else {"channel": phase}, "fl": fl}
    for note in notes_on_channels(metadata):
        log.warning("%s: %s", metadata.path, note)
    return guess_channels(metadata)
