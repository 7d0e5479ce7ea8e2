"""Tracking by btrack: Bayesian updates with a Kalman filter, then globally optimal joining of track fragments.

Ulicna et al. 2021, doi:10.3389/fcomp.2021.734559. The models are defined here, because btrack would download its own.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pyama_dask.config.units import Whole
from pyama_dask.errors import ConfigError

Boxes = npt.NDArray[np.integer]
Pixels = Annotated[float, Field(gt=0, le=1e6)]
Probability = Annotated[float, Field(gt=0, lt=1)]


def link(
    per_frame: Sequence[Boxes],
    *,
    max_search_radius: Pixels = 50.0,
    motion_noise: Pixels = 15.0,
    max_lost: Annotated[int, Field(ge=1, le=10)] = 5,
    accuracy: Annotated[float, Field(ge=0.1, le=10)] = 7.5,
    prob_not_assign: Probability = 0.001,
    join_distance: Pixels = 40.0,
    join_frames: Whole = 2,
) -> list[npt.NDArray[np.int64]]:
    """Assign a track id to every object; cells are followed by the centres of their boxes.

    Cells move at constant speed with noise and do not divide. An object outside all tracks gets a separate track.

    Parameters
    ----------
    per_frame
        (N, 4) boxes of the objects in each frame.
    max_search_radius
        Largest distance in pixels between expected and observed position.
    motion_noise
        Change of motion in pixels per frame; raise it if cells move in large steps.
    max_lost
        Number of frames for which a cell may be missing before its track ends.
    accuracy
        Width of the integration of probabilities; larger values tolerate larger deviations from expected positions.
    prob_not_assign
        Probability that a cell is not found in the next frame.
    join_distance, join_frames
        Largest gaps in pixels and frames over which track fragments are joined; 0 frames for no joining.

    Returns
    -------
    (N,) ids per frame, counting from 1 in the order in which the tracks begin.
    """
    counts = [len(boxes) for boxes in per_frame]
    first = np.arange(sum(counts))  # index of the first object in each object's track
    seen = np.flatnonzero(counts)
    if any(after - before <= max_lost for before, after in pairwise(seen)):
        with tracker() as tracking:
            tracking.configure(
                _configuration(
                    max_search_radius=max_search_radius,
                    motion_model=_motion(motion_noise, max_lost, accuracy, prob_not_assign),
                    hypothesis_model=_hypotheses(join_distance, join_frames),
                    volume=_volume(per_frame),
                )
            )
            tracking.append(_objects(per_frame))
            tracking.track()
            if join_frames:
                tracking.optimise(options={"msg_lev": "GLP_MSG_OFF"})
            if not tracking.n_tracks:
                raise RuntimeError("btrack found no tracks and gave no reason")
            for track in tracking.refs:
                real = [number for number in track if number >= 0]  # negative numbers stand for missing frames
                first[real] = min(real, default=0)
    ids = np.unique(first, return_inverse=True)[1].astype(np.int64) + 1
    return np.split(ids, np.cumsum(counts)[:-1]) if counts else []


def check(**_: Any) -> None:
    """Check that btrack's compiled library can be loaded.

    Raises
    ------
    ConfigError
        If it cannot; the message says why.
    """
    with tracker():
        pass


@contextmanager
def tracker() -> Iterator[Any]:
    """Yield a silent btrack tracker; raises as `check` does."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # from pydantic, in btrack
        import btrack

        log = logging.getLogger("btrack")
        log.handlers, log.propagate = [logging.NullHandler()], False  # its own handler reports every step
        try:
            made = btrack.BayesianTracker(verbose=False)
        except Exception as error:
            if not isinstance(error.__cause__, OSError):
                raise
            raise ConfigError(
                f"btrack cannot load its library: {error.__cause__}. Fix: install libstdc++ of GCC 13 or newer (for "
                "btrack 0.7), as in Debian 13, Ubuntu 24.04 and conda-forge"
            ) from error
        with made:
            yield made


def _configuration(**models: Any) -> Any:
    from btrack.config import TrackerConfig

    return TrackerConfig(verbose=False, **models)


def _motion(noise: float, max_lost: int, accuracy: float, prob_not_assign: float) -> Any:
    """Motion model of constant speed, in pixels per frame; z is always 0."""
    from btrack.models import MotionModel

    return MotionModel(
        name="cells",
        measurements=3,
        states=6,
        A=np.eye(6) + np.eye(6, k=3),
        H=np.eye(3, 6),
        P=2 / 3 * noise**2 * np.diag([0.1, 0.1, 0.1, 1.0, 1.0, 1.0]),
        G=noise * np.array([[0.5, 0.5, 0.5, 1.0, 1.0, 1.0]]),
        R=5.0 * np.eye(3),
        accuracy=accuracy,
        max_lost=max_lost,
        prob_not_assign=prob_not_assign,
    )


def _hypotheses(join_distance: float, join_frames: int) -> Any:
    """Hypotheses about track fragments: false, begun, ended, or linked; the weights are btrack's for cells."""
    from btrack.models import HypothesisModel

    return HypothesisModel(
        name="cells",
        hypotheses=["P_FP", "P_init", "P_term", "P_link"],
        lambda_time=5.0,
        lambda_dist=3.0,
        lambda_link=10.0,
        lambda_branch=50.0,
        eta=1e-10,
        theta_dist=20.0,
        theta_time=5.0,
        dist_thresh=join_distance,
        time_thresh=join_frames,
        apop_thresh=5,
        segmentation_miss_rate=0.1,
        apoptosis_rate=0.001,
        relax=True,
    )


def _volume(per_frame: Sequence[Boxes]) -> tuple[tuple[float, float], ...]:
    """Extent of x, y and z: that of the boxes, because the frame size is unknown here and matters only at borders."""
    bottom, right = np.concatenate([boxes[:, 2:] for boxes in per_frame]).max(0)
    return (0.0, float(right)), (0.0, float(bottom)), (-1e5, 1e5)


def _objects(per_frame: Sequence[Boxes]) -> list[Any]:
    """Centres of boxes as btrack objects, in the order in which btrack numbers them."""
    from btrack.btypes import PyTrackObject

    objects = []
    for t, boxes in enumerate(per_frame):
        for y0, x0, y1, x1 in boxes.tolist():
            one = PyTrackObject()
            one.t, one.y, one.x, one.z = t, (y0 + y1) / 2, (x0 + x1) / 2, 0.0
            objects.append(one)
    return objects
