"""Tracking by btrack: Bayesian updates with a Kalman filter, then the best way to join pieces of tracks.

Ulicna et al. 2021, doi:10.3389/fcomp.2021.734559. The models are made here, as btrack would download its own.
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
    """Give every object of every frame its track id; cells are followed by the centres of their boxes.

    Cells move at a steady speed, with noise, and do not divide. What is in no track is a track of its own.

    Parameters
    ----------
    per_frame
        (N, 4) boxes of the objects of every frame.
    max_search_radius
        Pixels from where a cell is expected to where it may be found.
    motion_noise
        Pixels a frame by which a cell may change its way; raise it where cells make wide steps.
    max_lost
        Frames for which a cell may be missing before its track ends.
    accuracy
        Of the integral of probabilities; the wider, the less a cell has to be where it is expected.
    prob_not_assign
        Probability that a cell is not found in the next frame.
    join_distance, join_frames
        Pixels and frames over which pieces of tracks are joined afterwards; 0 frames for not at all.

    Returns
    -------
    For every frame (N,) ids from 1, in the order in which the tracks begin.
    """
    counts = [len(boxes) for boxes in per_frame]
    first = np.arange(sum(counts))  # object with which the track of each begins
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
                raise RuntimeError("btrack found no tracks, and does not say why")
            for track in tracking.refs:
                real = [number for number in track if number >= 0]  # others stand for frames without the cell
                first[real] = min(real, default=0)
    ids = np.unique(first, return_inverse=True)[1].astype(np.int64) + 1
    return np.split(ids, np.cumsum(counts)[:-1]) if counts else []


def check(**_: Any) -> None:
    """See whether btrack's compiled library can be loaded.

    Raises
    ------
    ConfigError
        If not; says why.
    """
    with tracker():
        pass


@contextmanager
def tracker() -> Iterator[Any]:
    """Give a tracker of btrack, which is told to be quiet; see `check` for errors."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of pydantic, in btrack
        import btrack

        log = logging.getLogger("btrack")
        log.handlers, log.propagate = [logging.NullHandler()], False  # it has one of its own, for every step
        try:
            made = btrack.BayesianTracker(verbose=False)
        except Exception as error:
            if not isinstance(error.__cause__, OSError):
                raise
            raise ConfigError(
                f"btrack cannot load its library: {error.__cause__}; version 0.7 needs libstdc++ of GCC 13 or newer, "
                "which Debian 13, Ubuntu 24.04 and environments of conda-forge have"
            ) from error
        with made:
            yield made


def _configuration(**models: Any) -> Any:
    from btrack.config import TrackerConfig

    return TrackerConfig(verbose=False, **models)


def _motion(noise: float, max_lost: int, accuracy: float, prob_not_assign: float) -> Any:
    """Cells that keep their speed, in pixels a frame; z is there, and always 0."""
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
    """What pieces of tracks may be: false, begun, ended, or parts of one; the weights are those of btrack's cells."""
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
    """Extent of x, y and z; the frame's own is not known here, and counts at its border only."""
    bottom, right = np.concatenate([boxes[:, 2:] for boxes in per_frame]).max(0)
    return (0.0, float(right)), (0.0, float(bottom)), (-1e5, 1e5)


def _objects(per_frame: Sequence[Boxes]) -> list[Any]:
    """Centres of boxes as btrack has them, in order; it numbers them so."""
    from btrack.btypes import PyTrackObject

    found = []
    for t, boxes in enumerate(per_frame):
        for y0, x0, y1, x1 in boxes.tolist():
            one = PyTrackObject()
            one.t, one.y, one.x, one.z = t, (y0 + y1) / 2, (x0 + x1) / 2, 0.0
            found.append(one)
    return found
