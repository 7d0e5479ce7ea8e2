"""Comparison of labels with true ones: segmentation scores of all frames, and tracking scores of movies."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyama_dask.analysis.label_sets import Frames, LabelMovie, open_labels
from pyama_dask.config.units import as_ranges, many
from pyama_dask.errors import ImageError
from pyama_dask.files.html import InTables
from pyama_dask.kernels import scores
from pyama_dask.kernels.scores import Correction, Match, Traces


@dataclass(frozen=True)
class Scores:
    """Scores of one movie, or of all together; NaN without anything to judge."""

    name: str
    frames: int
    true: int
    """True objects of all frames."""
    found: int
    """Found objects of all frames."""
    seg: float
    """SEG of the Cell Tracking Challenge, 0 to 1."""
    f1: float
    """F1 of objects at an intersection over union above 0.5, 0 to 1."""
    found_per_true: float
    det: float
    """DET of the Cell Tracking Challenge, 0 to 1."""
    tra: float | None = None
    """TRA of the Cell Tracking Challenge, 0 to 1; None without tracks."""
    tracks: int | None = None
    """True tracks that are long enough to be judged; None without tracks."""
    followed: int | None = None
    """True tracks that are found under one id in most of their frames."""
    whole: int | None = None
    """True tracks that are also found under no other id, and whose id has nothing foreign."""


@dataclass(frozen=True, repr=False)
class ScoreReport(InTables):
    """Scores of all movies."""

    labels: Path
    truth: Path
    movies: tuple[Scores, ...]
    overall: Scores
    """Scores of all movies together: objects, links and tracks are pooled."""
    min_frames: int
    """Frames that a true track must have to be judged."""
    share: float
    """Fraction of its frames in which it must be found under one id."""
    warnings: tuple[str, ...]

    def _shown(self) -> tuple[str, Sequence[str], Sequence[Sequence[object]]]:
        of = self.overall
        line = f"SEG {of.seg:.3f}, F1 {of.f1:.3f} over {many(of.frames, 'frame')}; {of.found} objects, {of.true} true"
        names = ("name", "frames", "true", "found", "seg", "f1", "det", "tra", "tracks", "followed", "whole")
        held = [name for name in names if getattr(of, name) is not None]
        movies = self.movies if len(self.movies) == 1 else (*self.movies, of)
        return line, held, [[_rounded(getattr(movie, name)) for name in held] for movie in movies]

    def document(self) -> dict[str, Any]:
        """Scores as plain values for JSON; NaN becomes None."""
        plain = asdict(self) | {"labels": str(self.labels), "truth": str(self.truth)}
        plain["overall"] = _without_nan(plain["overall"])
        plain["movies"] = [_without_nan(movie) for movie in plain["movies"]]
        return plain


def _rounded(value: object) -> object:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else value


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(of, float) and math.isnan(of) else of for name, of in values.items()}


def score_labels(
    labels: str | Path, truth: str | Path, *, tracks: bool | None = None, min_frames: int = 10, share: float = 0.8
) -> ScoreReport:
    """Compare labels with true ones.

    Parameters
    ----------
    labels, truth
        Label images (TIFF, PNG, NPY, NPZ) of (H, W), (frame, H, W) or (FOV, frame, H, W); folders of label images;
        folders of the Cell Tracking Challenge; or outputs of runs.
    tracks
        True to score tracks, False not to; None to score them where a movie has several frames and labels are not
        known to be of single frames.
    min_frames
        Frames that a true track must have to be judged.
    share
        Fraction of its frames in which a true track must be found under one id.

    Raises
    ------
    ImageError
        If labels cannot be read, or have other shapes than the true ones.
    """
    found, true = open_labels(Path(labels)), open_labels(Path(truth), as_truth=True)
    pairs, warnings = _paired(found, true, Path(labels), Path(truth))
    compared = [_Compared.of(*pair, tracks) for pair in pairs]
    warnings += [f"{one.name}: {warning}" for one in compared for warning in one.warnings]
    scored = partial(_scores, min_frames=min_frames, share=share)
    movies, overall = tuple(scored(one.name, [one]) for one in compared), scored("all", compared)
    if not overall.true:
        warnings.append(f"{truth}: has no objects, so that SEG, DET and TRA have no value")
    return ScoreReport(Path(labels), Path(truth), movies, overall, min_frames, share, tuple(warnings))


def _paired(
    found: dict[str, LabelMovie], true: dict[str, LabelMovie], labels: Path, truth: Path
) -> tuple[list[tuple[LabelMovie, LabelMovie]], list[str]]:
    """Movies of the same name, or else of the same number; the only ones if both have one."""
    if len(found) == len(true) == 1:
        return list(zip(found.values(), true.values(), strict=True)), []
    if not found.keys() & true.keys() and min(len(found), len(true)) > 1:
        found, true = _by_number(found), _by_number(true)
    common = [key for key in true if key in found]
    if not common:
        raise ImageError(
            f"{labels}: has no labels of the same name as those of {truth} ({_some(found)}; {_some(true)}). "
            "Fix: give both the same names"
        )
    warnings = [
        f"{path}: no counterpart of {_some(alone)}, which is not scored"
        for path, alone in ((labels, true.keys() - found.keys()), (truth, found.keys() - true.keys()))
        if alone
    ]
    return [(found[key], true[key]) for key in common], warnings


def _by_number(movies: dict[str, LabelMovie]) -> dict[str, LabelMovie]:
    """Movies by the last number in their name; by the name where numbers are missing or not unique."""
    numbers = [re.findall(r"\d+", name)[-1:] for name in movies]
    keys = {str(int(number[0])) for number in numbers if number}
    if len(keys) < len(movies):
        return movies
    return {str(int(number[0])): movie for number, movie in zip(numbers, movies.values(), strict=True)}


def _some(names: Any) -> str:
    shown = sorted(map(str, names))
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


@dataclass(frozen=True)
class _Compared:
    """Matches of one movie."""

    name: str
    matches: list[Match]
    outlined: list[Match]
    """Matches with exact outlines, for SEG."""
    is_tracked: bool
    parents: tuple[Mapping[int, int], Mapping[int, int]]
    """Parents of the true and of the found tracks."""
    warnings: list[str]

    @classmethod
    def of(cls, found: LabelMovie, true: LabelMovie, tracks: bool | None) -> _Compared:
        """Compare all frames that both have."""
        numbers, warnings = _common(found.frames, true.frames)
        matches = [_match(found, of, true.frames[t], t) for t, of in numbers.items()]
        outlined = matches
        if true.outlined:
            outlined = [_match(found, numbers[t], true.outlined[t], t) for t in true.outlined if t in numbers]
        known = [one.is_tracked for one in (found, true)]
        is_tracked = (len(matches) > 1 and False not in known) if tracks is None else tracks
        return cls(found.name, matches, outlined, is_tracked, (true.parents, found.parents), warnings)


def _common(found: Frames, true: Frames) -> tuple[dict[int, int], list[str]]:
    """Number of the found frame for each true one, and warnings of those without a counterpart."""
    both = {t: t for t in true if t in found}
    if len(found) == len(true) and len(both) < len(true):  # a stack of the processed frames only
        both = dict(zip(sorted(true), sorted(found), strict=True))
    if not both:
        raise ImageError(
            f"frames {as_ranges(found)} have no truth, which has frames {as_ranges(true)}. "
            "Fix: give labels of the same frames"
        )
    without = [t for t in true if t not in both]
    return both, [f"frames {as_ranges(without)} have no labels and are not scored"] if without else []


def _match(found: LabelMovie, number: int, true: Any, t: int) -> Match:
    try:
        return scores.match(true(), found.frames[number]())
    except ValueError as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{found.name}, frame {t}: {error}. Fix: compare labels of the same frames") from error


def _scores(name: str, compared: Sequence[_Compared], *, min_frames: int, share: float) -> Scores:
    """Scores of some movies together."""
    matches = [match for one in compared for match in one.matches]
    counts = scores.count(matches)
    tracked = [one for one in compared if one.is_tracked]
    of_tracks: dict[str, Any] = {}
    if tracked:
        cost = sum((scores.correction(one.matches, *one.parents) for one in tracked), Correction(0.0, 0.0))
        traces = sum(
            (scores.whole_traces(one.matches, min_frames=min_frames, share=share) for one in tracked), Traces(0, 0, 0)
        )
        of_tracks = {"tra": cost.score} | asdict(traces)
    return Scores(
        name, len(matches), counts.hits + counts.missed, counts.hits + counts.false,
        scores.seg(match for one in compared for match in one.outlined), counts.f1, counts.found_per_true,
        scores.det(matches), **of_tracks,
    )  # fmt: skip
