"""The choice of a segmentation method for a movie, from what each candidate has found, and its description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyama_dask.config.models import Params
from pyama_dask.config.units import as_ranges, percent
from pyama_dask.kernels.plausibility import Seen

CLOSE = 0.75
"""Plausibility relative to the best one at which the default method is taken."""
CLOSE_SCALE = 0.9
"""The same for the usual scale of a method, compared with its other scales."""
DOUBTFUL = 0.4
"""Plausibility below which no method is called suitable."""
DIAMETERS = (8, 14, 28, 56)
"""Diameters in pixels that are tried for compact cells; their cells should fit at least ten times into a frame."""
METHODS = ("logstd", "bright", "unet")
"""Methods of the candidates."""
ZOOMS = (1.0, 0.7, 1.4)
"""Factors by which the usual zoom of a network is changed."""


@dataclass(frozen=True)
class Candidate:
    """A method with the parameters that differ from its defaults."""

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    is_usual: bool = False
    """True for the usual scale of the method, which is preferred to its other scales."""

    def __str__(self) -> str:
        given = ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.params.items()
        )
        return f"{self.method} ({given})" if given else self.method


@dataclass(frozen=True)
class Tried:
    """A candidate, and what it found."""

    candidate: Candidate
    seen: Seen
    plausibility: float
    """0 to 1; see `kernels.plausibility`."""


@dataclass(frozen=True)
class FirstLook:
    """The method that suits a movie best, and the best of each other method."""

    fov: int
    frames: tuple[int, ...]
    textured: float
    """Fraction of a frame that has texture."""
    default: Tried
    """The default method."""
    chosen: Tried
    others: tuple[Tried, ...]

    @property
    def place(self) -> str:
        """FOV and frames, for messages."""
        return place_of(self.fov, self.frames)

    @property
    def is_default(self) -> bool:
        """True if the default method with its default parameters suits the movie."""
        return self.chosen is self.default

    @property
    def params(self) -> dict[str, Any]:
        """Keys of ``params`` in a config that select the method."""
        chosen = self.chosen.candidate
        return {"segmentation_method": chosen.method, "segmentation_params": dict(chosen.params)}

    @property
    def is_dense(self) -> bool:
        """True if another method than the default one suits the movie better: its cells touch."""
        return self.chosen.candidate.method != self.default.candidate.method


def place_of(fov: int, frames: Sequence[int]) -> str:
    """FOV and frames, for messages."""
    return f"FOV {fov}, frame{'s' if len(frames) > 1 else ''} {as_ranges(frames)}"


def default_candidate() -> Candidate:
    """The method that is used if none is named, with its default parameters."""
    return Candidate(Params.model_fields["segmentation_method"].default, is_usual=True)


def candidates(shape: tuple[int, int], network_zooms: Mapping[str, float]) -> list[Candidate]:
    """Methods and scales that are worth trying on frames of a movie, the default one first.

    Parameters
    ----------
    shape
        (H, W) of the frames.
    network_zooms
        Usual zoom of each model that comes with this package, by name.
    """
    fitting = [diameter for diameter in DIAMETERS if 10 * diameter <= min(shape)]
    return [
        default_candidate(),
        Candidate("logstd", {"morph_size": 3, "morph_iterations": 1}),
        *(Candidate("bright", {"diameter": float(diameter)}) for diameter in fitting),
        *(Candidate("bright", {"diameter": float(diameter), "invert": True}) for diameter in fitting),
        *(_network(name, zoom, factor) for name, zoom in network_zooms.items() for factor in ZOOMS),
    ]  # fmt: skip


def _network(name: str, zoom: float, factor: float) -> Candidate:
    """Network at its usual zoom, which the plan of a run finds again, or at another one."""
    if factor == 1:
        return Candidate("unet", {"model": name}, is_usual=True)
    return Candidate("unet", {"model": name, "zoom": round(zoom * factor, 2)})


def choose(tried: Sequence[Tried]) -> tuple[Tried, list[Tried]]:
    """Choose a method.

    Parameters
    ----------
    tried
        Results, the default method first.

    Returns
    -------
    The one that suits best, where the default is taken if it comes close; and the best of each other method, in order
    of plausibility, the default included.
    """
    default, best = tried[0], dict[str, Tried]()
    for one in tried:
        other = best.get(one.candidate.method)
        bar = other.plausibility / (CLOSE_SCALE if other.candidate.is_usual else 1.0) if other else -1.0
        if one.plausibility > bar:
            best[one.candidate.method] = one
    ranked = sorted(best.values(), key=lambda one: -one.plausibility)
    chosen = default if default.plausibility >= CLOSE * ranked[0].plausibility else ranked[0]
    return chosen, [one for one in ranked if one.candidate.method != chosen.candidate.method]


# --------------------------------------------------------------------------------------------- words


def describe(found: FirstLook) -> Iterator[str]:
    """Describe the fault of the default method, if it is not chosen, what the chosen one found, and the choice."""
    chosen = found.chosen.candidate
    if not found.is_default:
        yield f"{found.place}: {fault_of(found.default, found.textured)}"
    yield f"{found.place}: {found_words(found.chosen)}"
    said = f"Chosen: {chosen}" + (", the default method" if found.is_default else "")
    if found.is_dense:
        said += ", tracker lap; cells at the border are kept (border_margin: 0)"
    if found.chosen.plausibility < DOUBTFUL:
        said += ". No method looks right. Fix: correct some windows ('pyama-dask annotate') and train a model"
    yield said


def found_words(tried: Tried) -> str:
    """Description of the objects that a candidate found."""
    seen = tried.seen
    many = "object" if round(seen.count) == 1 else "objects"
    text = f"{tried.candidate} finds {seen.count:.0f} {many} per frame on {percent(seen.covered)} of it"
    return text if np.isnan(seen.agreement) else f"{text}, which overlap by {seen.agreement:.0%} from frame to frame"


def fault_of(tried: Tried, textured: float) -> str:
    """Description of the main fault of a candidate's objects."""
    seen, name = tried.seen, tried.candidate
    if not seen.count:
        return f"{name} finds no object on {textured:.0%} of texture" if textured else f"{name} finds no object"
    shares = f"objects on {percent(seen.covered)} of the frame, texture on {textured:.0%}"
    faults = {
        f"{name} leaves out most of the texture ({shares})": seen.covered / textured if textured else 1.0,
        f"{name} finds objects of very different size, as if cells were merged": 2.0 / seen.unevenness,
        f"{name} finds objects that change from frame to frame (overlap {seen.agreement:.0%})": seen.agreement,
    }
    return min(faults, key=lambda words: float(np.nan_to_num(faults[words], nan=1.0)))
