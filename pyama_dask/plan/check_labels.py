"""Checks of steps that replace the labels of the segmentation."""

from __future__ import annotations

from collections.abc import Mapping

from pyama_dask.config.models import Config
from pyama_dask.config.pipelines import Step
from pyama_dask.errors import ConfigError
from pyama_dask.methods.made_images import ImageType
from pyama_dask.steps.demand import is_of_stacks
from pyama_dask.steps.flow import LABELS, TRACKED, Flow


def check_replaced(
    step: Step, given: Mapping[str, ImageType], before: ImageType | None, standard: str, where: str
) -> None:
    """Refuse a step that would replace the labels or the tracked labels, where it cannot.

    Parameters
    ----------
    step
        Resolved.
    given
        Types of the images that it gives, by name.
    before
        Type of the labels before it; None without any.
    standard
        The one of the seven steps that comes before it in its pipeline; '' if none does.
    where
        Pipeline and step, for messages.

    Raises
    ------
    ConfigError
        If it would.
    """
    if TRACKED in given:
        raise ConfigError(
            f"{where}: would replace 'tracked', whose numbers are those of the cells in the traces. "
            "Fix: name its result with 'to', or replace 'labels' between the steps segment and track"
        )
    if (labels := given.get(LABELS)) is None:
        return
    if before is None or standard != "segment":
        raise ConfigError(
            f"{where}: would replace 'labels', which only steps between segment and track can. "
            "Fix: move it there, or give its result another name with 'to'"
        )
    if not labels.is_labels:
        raise ConfigError(
            f"{where}: gives grey levels ({labels.dtype}) instead of labels. "
            "Fix: annotate its result as Labels, and return whole numbers: 0 for background, and one for each object"
        )
    if labels.shape != before.shape:
        h, w = labels.shape
        raise ConfigError(
            f"{where}: gives labels of {h} x {w} pixels for frames of {before.shape[0]} x {before.shape[1]}. "
            "Fix: return labels of the same size; to change that of all frames, put the step before copy"
        )
    if is_of_stacks(step):
        raise ConfigError(
            f"{where}: takes stacks, but labels are replaced frame by frame. "
            "Fix: let it take one frame, annotated as Labels"
        )
    if step.found and step.found.fovs != "all" and LABELS not in (*step.of, *step.channels):
        raise ConfigError(
            f"{where}: makes labels in some wells or sites only, and does not get those that the others keep. "
            "Fix: name 'labels' in 'of', too, or leave out 'wells' and 'sites'"
        )


def check_found(config: Config) -> None:
    """Refuse steps that need the labels as the segmenter finds them, where other labels are stored.

    Parameters
    ----------
    config
        Resolved.

    Raises
    ------
    ConfigError
        If there is one that is not needed for the new labels alone.
    """
    flow = Flow(config)
    if flow.relabelled is None:
        return
    for own in flow.own:
        is_asked = own.is_stored or not own.gives or is_of_stacks(own.step)
        if is_asked and any(image.is_of_found for of in own.gets for image in of):
            raise ConfigError(
                f"pipelines: step {own.name!r} gets the labels before {flow.relabelled.of[0].made_by!r} replaces them. "
                "They are not stored, so that only images of single frames without 'checkpoint' and 'gpu' may be made "
                "from them. Fix: move the step after the other one"
            )
