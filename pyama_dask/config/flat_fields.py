"""The built-in step ``flat_field``: shading is removed while frames are read, as ``channels.*.flat_field`` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyama_dask.config.pipelines import Pipeline, Step

FLAT_FIELD = "flat_field"


def with_flat_fields(document: Mapping[str, Any], pipelines: tuple[Pipeline, ...]) -> dict[str, Any]:
    """Config document in which channels have the shading that the first steps of pipelines name.

    Parameters
    ----------
    document
        Keys of a config, as users write them.
    pipelines
        Its pipelines.

    Raises
    ------
    ValueError
        If such a step is not the first one on the images of the movie, has other parameters, or names an unknown
        channel.
    """
    if not (profiles := _profiles(pipelines)):
        return dict(document)
    channels = dict(document.get("channels") or {})
    channels |= {"pc": _shaded(channels["pc"], profiles)} if channels.get("pc") else {}
    channels |= {"fl": [_shaded(choice, profiles) for choice in channels["fl"]]} if channels.get("fl") else {}
    choices = [choice for choice in (channels.get("pc"), *(channels.get("fl") or ())) if isinstance(choice, Mapping)]
    names = [choice.get("channel", "") for choice in choices]
    if unknown := [name for name in profiles if name != "all" and name not in names]:
        raise ValueError(
            f"step flat_field: channel {unknown[0]!r} is not among 'channels', where it is written as one of {names}. "
            "Fix: write it in the same way in both"
        )
    return {**document, "channels": channels}


def _profiles(pipelines: tuple[Pipeline, ...]) -> dict[str | int, str]:
    """Profiles by channel, or for ``all``, that steps name."""
    found: dict[str | int, str] = {}
    for pipeline in pipelines:
        for k, step in enumerate(pipeline.steps):
            if step.do == FLAT_FIELD:
                _check_place(pipeline, k)
                found |= dict.fromkeys(_channels(step), _profile(pipeline, step))
    if found:
        _check_alike(pipelines)
    return found


def _shaded(choice: Any, profiles: Mapping[str | int, str]) -> Any:
    """Keys of a channel, with the profile that is named for it; what is no channel stays as it is."""
    plain = choice.model_dump(exclude_unset=True) if hasattr(choice, "model_dump") else choice
    if not isinstance(plain, Mapping):
        return plain
    profile = profiles.get(plain.get("channel", ""), profiles.get("all"))
    return dict(plain) if profile is None else {**plain, "flat_field": profile}


def without_flat_fields(document: Mapping[str, Any], pipelines: tuple[Pipeline, ...]) -> dict[str, Any]:
    """Config document whose channels have no shading of these pipelines any more: the reverse of `with_flat_fields`."""
    steps = [step for pipeline in pipelines for step in pipeline.steps if step.do == FLAT_FIELD]
    names = {name for step in steps for name in _channels(step)}

    def plain(choice: Any) -> Any:
        if not isinstance(choice, Mapping) or not names & {"all", choice.get("channel")}:
            return choice
        return {key: value for key, value in choice.items() if key != "flat_field"}

    channels = dict(document.get("channels") or {})
    channels |= {"pc": plain(channels["pc"])} if "pc" in channels else {}
    channels |= {"fl": [plain(choice) for choice in channels["fl"] or ()]} if "fl" in channels else {}
    return {**document, "channels": channels}


def _channels(step: Step) -> tuple[str | int, ...]:
    return ("all",) if step.channels == "all" else step.channels


def _check_place(pipeline: Pipeline, k: int) -> None:
    if pipeline.input is not None or any(step.do != FLAT_FIELD for step in pipeline.steps[:k]):
        raise ValueError(
            f"pipeline {pipeline.name!r}: flat_field comes after other steps, but shading is removed from frames as "
            "they are in the movie. Fix: make it the first step of a pipeline without 'input'"
        )


def _check_alike(pipelines: tuple[Pipeline, ...]) -> None:
    """Refuse pipelines on the movie with different shading: frames are read once, for all of them."""
    steps = {
        pipeline.name: [step.model_dump() for step in pipeline.steps if step.do == FLAT_FIELD]
        for pipeline in pipelines
        if pipeline.input is None
    }
    first, *others = steps
    if other := next((name for name in others if steps[name] != steps[first]), None):
        raise ValueError(
            f"pipelines {first!r} and {other!r} both begin with the frames of the movie, but differ in flat_field, "
            "which is done while these are read. Fix: begin both with the same flat_field, "
            "or let one take the other as 'input'"
        )


def _profile(pipeline: Pipeline, step: Step) -> str:
    """Profile that a step names: ``estimate`` by default, or a file."""
    usual = Step(do=FLAT_FIELD, channels=step.channels, params=step.params, name=step.name, found=step.found)
    if without_effect := [key for key, value in step if value != getattr(usual, key)]:
        raise ValueError(
            f"pipeline {pipeline.name!r}: {without_effect[0]!r} has no effect on flat_field, which is done "
            "while frames are read, for all FOVs. Fix: leave it out"
        )
    given = dict(step.params)
    profile = str(given.pop("profile", "estimate"))
    if given:
        raise ValueError(
            f"pipeline {pipeline.name!r}: flat_field has no parameter {min(given)!r}. Fix: 'profile' is the only one; "
            "the dark level is params.dark_level"
        )
    return profile
