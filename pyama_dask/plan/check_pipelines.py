"""Checks of resolved pipelines as a whole: neighbouring frames, places of results, and shapes of frames."""

from __future__ import annotations

from collections.abc import Iterable

from pyama_dask.config.models import Config
from pyama_dask.errors import ConfigError
from pyama_dask.steps.flow import Flow
from pyama_dask.steps.own_arrays import own_places


def check_halos(config: Config) -> None:
    """Refuse functions that would get labels of neighbouring frames: other blocks may not have made them yet.

    Raises
    ------
    ConfigError
        If there is one.
    """
    for own in Flow(config).own:
        by = own.gives[0].by if own.gives else None
        if by is not None and any(by.stored_labels()):
            raise ConfigError(
                f"pipelines: step {own.name!r} would measure the drift in {by.name!r}, which is made from labels; "
                "other blocks may not have made those of neighbouring frames yet. Fix: name a channel with 'by'"
            )
        for image in (image for of in own.gets for image in of):
            for label, reach in image.stored_labels():
                if reach + (own.step.halo or 0):
                    raise ConfigError(
                        f"pipelines: step {own.name!r} would get {label!r} of neighbouring frames, which other blocks "
                        "may not have made yet. Fix: leave out its 'halo', and that of steps before it on this image"
                    )


def check_drift(config: Config) -> None:
    """Refuse steps `drift` after which cells and channels would not lie over each other, or boxes move twice.

    Raises
    ------
    ConfigError
        If there is one.
    """
    seen, pc = Flow(config).seen, config.channels.pc
    if pc is None or config.params.copy_only or "segment" not in seen:
        return
    copied, found = (seen[step][str(int(pc.channel))].moved_by for step in ("copy", "segment"))
    if config.params.register == "drift" and found != copied:
        raise ConfigError(
            f"params.register: drift would move cells back once more, as step {found[-1]!r} moves the frames in which "
            "they are found. Fix: set params.register to off, or move the step before 'copy'"
        )
    for step in ("background", "crop", "extract"):
        for image in seen[step].values():
            if image.name.isdigit() and image.moved_by != found:
                other = next(iter({*image.moved_by} ^ {*found}))
                raise ConfigError(
                    f"pipelines: step {step!r} gets channel {image.name} and cells that do not lie over each other, as "
                    f"step {other!r} moves only one of them. Fix: apply 'drift' to all channels, before 'segment'"
                )


def check_places(config: Config) -> None:
    """Refuse steps whose images or tables would have the same place in an output; upper case counts as lower case.

    Raises
    ------
    ConfigError
        If there are two; the message names both.
    """
    found: dict[str, str] = {}
    for own in Flow(config).own:
        for place in own_places(own):
            other = found.setdefault(place.lower(), own.name)
            if other != own.name:
                raise ConfigError(
                    f"pipelines: steps {other!r} and {own.name!r} would both write {place}. "
                    "Fix: give one of their pipelines, steps, images or tables another name"
                )


def check_shapes(config: Config, shapes: Iterable[tuple[int, int]]) -> None:
    """Refuse pipelines whose channels have different shapes when the seven steps get them.

    Parameters
    ----------
    config
        Resolved.
    shapes
        (H, W) of the FOVs in the movie.

    Raises
    ------
    ConfigError
        If they have, or if their shape changes after they were copied.
    """
    for shape in shapes:
        copied: set[tuple[int, int]] = set()
        for step, images in Flow(config).seen.items():
            found = {name: image.shape(shape) for name, image in images.items() if name.isdigit()}
            if len(set(found.values())) > 1:
                listed = ", ".join(f"{name}: {h} x {w}" for name, (h, w) in found.items())
                raise ConfigError(
                    f"pipelines: step {step!r} gets channels of different sizes ({listed}). "
                    "Fix: apply steps that change the size to all channels"
                )
            copied = copied or set(found.values())
            if set(found.values()) != copied:
                (now,), (before,) = set(found.values()), copied
                raise ConfigError(
                    f"pipelines: step {step!r} gets frames of {now[0]} x {now[1]} pixels, but those that were copied "
                    f"have {before[0]} x {before[1]}. Fix: move the step that changes the size before 'copy'"
                )
