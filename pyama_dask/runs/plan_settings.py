"""Settings that results depend on, as a plan's document has them, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyama_dask.config.models import Config
from pyama_dask.store.layout import changed_form


def settings_of(config: Config) -> dict[str, Any]:
    """Settings of a resolved config that its results depend on, as plain values; not which FOVs are processed.

    Nor on which workers cells are found. Stitched wells depend on the table of positions, and not on how it was made;
    lengths are in pixels by then.
    """
    resolved = config.model_dump(mode="json", include={"channels", "params", "storage"})
    for key in ("fovs", "wells", "exclude_wells", "sites", "stitch", "stitch_params", "pixel_size", "segmentation_gpu"):
        del resolved["params"][key]
    if config.params.register == "off":  # as in plans of older versions
        del resolved["params"]["register"]
    for key in ("layout", "direct_io"):  # a separate step writes the plate, and the bytes of a file are the same
        del resolved["storage"][key]
    changed = changed_form(config.storage)
    for key in {"level", "shuffle", "chunks"} - changed.keys():  # as in plans of older versions
        del resolved["storage"][key]
    _without_shading(resolved, config)
    if config.pipelines:
        resolved["pipelines"] = [pipeline.model_dump(mode="json") for pipeline in config.pipelines]
    return resolved


def _without_shading(resolved: dict[str, Any], config: Config) -> None:
    """Leave out settings of shading that is not removed, as in plans of older versions."""
    if all(choice.flat_field == "off" for choice in config.channels.all):
        del resolved["params"]["dark_level"]
        for choice in (resolved["channels"]["pc"], *resolved["channels"]["fl"]):
            if choice:
                del choice["flat_field"]


def other_frames(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str | None:
    """Frames of earlier settings if nothing else differs from the present ones, else None."""
    if not before or not now or before["params"]["frames"] == now["params"]["frames"]:
        return None
    return str(before["params"]["frames"]) if without_frames(before) == without_frames(now) else None


def without_frames(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings apart from those that the number of frames decides, which are None."""
    only_frames: dict[str, dict[str, Any]] = {"params": {"frames": None}, "storage": {"block_frames": None}}
    return {**settings, **{part: settings[part] | new for part, new in only_frames.items()}}
