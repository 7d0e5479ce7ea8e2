"""A first look at a movie: which built-in segmentation method suits its cells, judged on three frames without truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.load import parse_config
from pyama_dask.config.models import Params
from pyama_dask.config.units import as_ranges
from pyama_dask.errors import AlgorithmError, ConfigError, MissingFrameError
from pyama_dask.kernels.plausibility import Seen, look, plausibility
from pyama_dask.methods.onnx_model import shipped_models
from pyama_dask.methods.registry import BUILT_IN
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers import Metadata
from pyama_dask.runs.one_frame import FrameSegmenter, phase_frames

FRAMES = 3
"""Consecutive frames that are looked at."""
LARGEST = 2048
"""Height and width in pixels of the centre of a frame that is looked at."""
CLOSE = 0.75
"""Plausibility relative to the best one at which the default method is taken."""
CLOSE_SCALE = 0.9
"""The same for the usual scale of a method, compared with its other scales."""
HOPELESS = 0.1
"""Plausibility on the first frame up to which a method is not tried on the others."""
DOUBTFUL = 0.4
"""Plausibility below which no method is called suitable."""
DIAMETERS = (8, 14, 28, 56)
"""Diameters in pixels that are tried for compact cells; their cells should fit at least ten times into a frame."""
ZOOMS = (1.0, 0.7, 1.4)
"""Factors by which the usual zoom of a network is changed."""

Labels = npt.NDArray[np.integer]


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


def first_look(
    metadata: Metadata, channel: int, z: int | str | None, tell: Callable[[str], None] = lambda _: None
) -> FirstLook | None:
    """Try the built-in methods on three frames of a movie.

    Parameters
    ----------
    metadata
        Of the movie.
    channel
        Index of the channel with the cells.
    z
        Plane, as in the config.
    tell
        Called with what is being done.

    Returns
    -------
    Method that suits best; None if the movie has no frames that can be judged, or no method finds anything.
    """
    for fov in dict.fromkeys([0, len(metadata.fovs) // 2]):
        try:
            found = _look_at_fov(metadata, fov, channel, z, tell)
        except (MissingFrameError, ConfigError):
            continue
        if found and found.chosen.seen.count:
            return found
    return None


def _look_at_fov(
    metadata: Metadata, fov: int, channel: int, z: int | str | None, tell: Callable[[str], None]
) -> FirstLook | None:
    numbers = middle_frames(metadata, fov)
    tell(f"Reading frames {as_ranges(numbers)} of FOV {fov}")
    with phase_frames(metadata.path, channel, z) as movie:
        frames = [_centre(movie.read(fov, number)) for number in numbers]
    if not frames:
        return None
    segmenters = _Segmenters(metadata, channel)
    textured = _covered(segmenters.find(Candidate("logstd", {"max_object_size": None}), frames))
    tried = []
    for candidate in candidates(frames[0].shape, segmenters.network_zooms()):
        tell(f"Trying {candidate} on frames {as_ranges(numbers)} of FOV {fov}")
        with suppress(ConfigError, AlgorithmError):  # such as of a frame that is too small for a method
            tried.append(_try(candidate, segmenters, frames, textured))
    chosen, others = choose(tried)
    return FirstLook(fov, tuple(numbers), textured, tried[0], chosen, tuple(others))


def _try(candidate: Candidate, segmenters: _Segmenters, frames: Sequence[np.ndarray], textured: float) -> Tried:
    """Try a candidate on all frames, or on the first one only if that is hopeless."""
    labels = segmenters.find(candidate, frames[:1])
    seen = look(labels)
    if plausibility(seen, textured) > HOPELESS or candidate == default_candidate():
        seen = look([*labels, *segmenters.find(candidate, frames[1:])])
    return Tried(candidate, seen, plausibility(seen, textured))


class _Segmenters:
    """Segmentation of frames by candidates.

    Parameters
    ----------
    metadata, channel
        Of the movie; pixel sizes decide the scale of networks.
    """

    def __init__(self, metadata: Metadata, channel: int) -> None:
        self._metadata, self._channel = metadata, channel

    def find(self, candidate: Candidate, frames: Sequence[np.ndarray]) -> list[Labels]:
        """(H, W) labels of each frame."""
        segmenter = FrameSegmenter(self._resolved(candidate))
        return [segmenter.find(frame, f"frame {k}")[0] for k, frame in enumerate(frames)]

    def network_zooms(self) -> dict[str, float]:
        """Zoom that fits the movie, for each model of this package that can be opened."""
        found = {}
        for name in shipped_models() if "unet" in BUILT_IN["segmenter"] else ():
            try:
                params = self._resolved(Candidate("unet", {"model": name})).params.segmentation_params
            except ConfigError:
                continue
            found[name] = float(params["zoom"])
        return found

    def _resolved(self, candidate: Candidate) -> Any:
        document = {
            "input": self._metadata.path,
            "output": f"{self._metadata.path.name}_results",
            "channels": {"pc": {"channel": self._channel}},
            "params": {"segmentation_method": candidate.method, "segmentation_params": dict(candidate.params)},
        }
        return resolve(parse_config(document, source=""), self._metadata)


def middle_frames(metadata: Metadata, fov: int) -> list[int]:
    """Numbers of consecutive frames in the middle of a FOV that are all in the file; fewer if there are not three."""
    gone = set(metadata.fovs[fov].missing)
    for count in range(min(FRAMES, metadata.n_frames), 0, -1):
        starts = range(metadata.n_frames - count + 1)
        middle = (metadata.n_frames - count) // 2
        for start in sorted(starts, key=lambda start: abs(start - middle)):
            if not gone.intersection(range(start, start + count)):
                return list(range(start, start + count))
    return []


def _centre(frame: np.ndarray) -> np.ndarray:
    """Centre of a large frame."""
    height, width = (min(length, LARGEST) for length in frame.shape)
    top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
    return np.ascontiguousarray(frame[top : top + height, left : left + width])


def _covered(labels: Sequence[Labels]) -> float:
    return float(np.mean([np.count_nonzero(frame) / frame.size for frame in labels]))


# --------------------------------------------------------------------------------------------- words


def describe(found: FirstLook) -> Iterator[str]:
    """Describe in two lines what was seen, and what was chosen."""
    where, chosen = f"FOV {found.fov}, frames {as_ranges(found.frames)}", found.chosen.candidate
    if found.is_default:
        yield f"{where}: {found_words(found.chosen)}"
        yield f"Chosen: {chosen}, the default method"
        return
    yield f"{where}: {fault_of(found.default, found.textured)}; {found_words(found.chosen)}"
    said = f"Chosen: {chosen}"
    if found.is_dense:
        said += ", tracker lap; cells at the border are kept (border_margin: 0)"
    if found.chosen.plausibility < DOUBTFUL:
        said += ". No method looks right. Fix: correct some windows ('pyama-dask annotate') and train a model"
    yield said


def found_words(tried: Tried) -> str:
    """Objects that a candidate has found, in words."""
    seen = tried.seen
    many = "object" if round(seen.count) == 1 else "objects"
    said = f"{tried.candidate} finds {seen.count:.0f} {many} per frame on {_percent(seen.covered)} of it"
    return said if np.isnan(seen.agreement) else f"{said}, which overlap by {seen.agreement:.0%} from frame to frame"


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0 < share < 0.01 else f"{share:.0%}"


def fault_of(tried: Tried, textured: float) -> str:
    """The main reason why a candidate is not plausible, in words."""
    seen, name = tried.seen, tried.candidate
    if not seen.count:
        return f"{name} finds no object on {textured:.0%} of texture" if textured else f"{name} finds no object"
    shares = f"objects on {_percent(seen.covered)} of the frame, texture on {textured:.0%}"
    faults = {
        f"{name} leaves out most of the texture ({shares})": seen.covered / textured if textured else 1.0,
        f"{name} finds objects of very different size, as if cells were merged": 2.0 / seen.unevenness,
        f"{name} finds objects that change from frame to frame (overlap {seen.agreement:.0%})": seen.agreement,
    }
    return min(faults, key=lambda words: float(np.nan_to_num(faults[words], nan=1.0)))
