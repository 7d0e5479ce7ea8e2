"""Remarks on settings: the best one, equal ones, and cells that touch."""

import numpy as np
from support.movies import config
from support.strategies import movie

from pyama_dask.config.load import parse_config
from pyama_dask.kernels.plausibility import Seen
from pyama_dask.previews.grid import full_key, settings
from pyama_dask.previews.notes import best, judged, notes, set_options, with_equals
from pyama_dask.previews.objects import Fate
from pyama_dask.previews.panel import Extent, Panel

PICTURE = np.zeros((4, 4, 3), np.uint8)
APART = Seen(count=20, covered=0.2, largest=0.02, unevenness=1.1, agreement=np.nan)
MERGED = Seen(count=3, covered=0.66, largest=0.61, unevenness=900.0, agreement=np.nan)


def panels(grid, found, **changes):
    """Panels of a grid; `found` gives plausibility, digest and more by position."""
    every = settings(parse_config(config("movie.nd2", "out", changes)), grid, movie(frames=3), tracks=False)
    nothing = {fate: Extent(0, 0.0) for fate in Fate if fate}
    made = []
    for setting, (plausibility, digest, *more) in zip(every, found, strict=True):
        values = {"merged": APART, "largest_times": 2.0, "extents": nothing} | (more[0] if more else {})
        made.append(Panel(setting, 0, PICTURE, plausibility=plausibility, digest=digest, **values))
    return made


def said(grid, found, given=(), **changes):
    return list(notes(judged(panels(grid, found, **changes)), [full_key(key) for key in grid], given))


MORPH = {"morph_iterations": [0, 1, 2]}


def test_the_best_setting_is_written_as_options_with_those_that_were_given():
    (line,) = said(MORPH, [(0.5, "a"), (0.6, "b"), (0.9, "c")], ["params.z=1", "output=a b"])
    given = "--set params.z=1 --set 'output=a b'"
    assert line == f"Best (plausibility 0.90): {given} --set params.segmentation_params.morph_iterations=2"
    assert set_options(["params.segmentation_params={model: a.onnx}"]) == (
        "--set 'params.segmentation_params={model: a.onnx}'"
    )


def test_of_equal_merit_the_current_setting_is_best():
    assert said(MORPH, [(0.9, "a"), (0.9, "b"), (0.9, "c")]) == ["The current setting is best (plausibility 0.90)"]


def test_with_truth_the_score_decides():
    found = [
        (0.9, "a", {"seg": 0.2, "f1": 0.1}),
        (0.1, "b", {"seg": 0.7, "f1": 0.8}),
        (0.5, "c", {"seg": 0.3, "f1": 0.3}),
    ]
    assert said(MORPH, found) == ["The current setting is best (SEG 0.70)"]
    assert best(judged(panels(MORPH, found))).setting.is_current


def test_settings_that_fail_are_never_best():
    found = [(0.0, "", {"failure": "no"}), (0.3, "b"), (0.2, "c")]
    assert said(MORPH, found) == ["No setting looks right", "The current setting is best (plausibility 0.30)"]
    assert said(MORPH, [(0.0, "", {"failure": "no"})] * 3)[-1] == "The method fails"
    assert said({"morph_iterations": [0, 2]}, [(0.0, "a"), (0.0, "b")]) == [
        "The current setting of the config is not among these", "No object is kept"
    ]  # fmt: skip


def test_merged_cells_are_told_in_numbers():
    merged = {"merged": MERGED, "largest_times": 936.0}
    touching = (
        "objects cover 66% of the frame, and the largest 61%, 936 times the median. "
        "Fix: try '--grid segmentation_method=logstd,bright,unet', or train a model"
    )
    (one,) = said(MORPH, [(0.5, "a", merged), (0.2, "b", merged), (0.1, "c", merged)])
    assert one.startswith(f"No setting here separates the cells: {touching}")
    (one,) = said({}, [(0.1, "a", merged)])
    assert one.startswith(f"Cells touch: {touching}")
    assert said(MORPH, [(0.5, "a", merged), (0.8, "b"), (0.9, "c", merged)]) == [
        "The current setting is best (plausibility 0.80)"
    ]


def test_debris_does_not_count_as_separated_cells():
    merged = {"merged": MERGED, "largest_times": 936.0}
    lines = said({"segmentation_method": ["logstd", "bright", "unet"]}, [(0.5, "a", merged), (0.03, "b"), (0.2, "c")])
    assert lines[0].startswith("No setting here separates the cells: ")
    assert lines[0].endswith("Fix: train a model ('pyama-dask annotate', 'pyama-dask train')")


def test_much_that_is_dropped_as_too_large_is_merged_unless_it_is_alike():
    lost = {fate: Extent(1, 0.3) for fate in Fate if fate}
    few = Seen(count=2, covered=0.3, largest=0.2, unevenness=1.0, agreement=np.nan)
    (one,) = said({}, [(0.6, "a", {"extents": lost, "merged": few})])
    assert one.startswith("Cells touch: ")
    assert said({}, [(0.6, "a", {"extents": lost})]) == []
    assert said({}, [(0.0, "a", {"extents": lost})]) == [
        "No object is kept: objects on 30% of the frame are too large. Fix: raise max_object_size"
    ]


def test_settings_that_fail_are_not_called_equal():
    fails = (0.0, "", {"failure": "no"})
    assert said(GRID, [fails, fails, fails, (0.5, "d"), (0.6, "e"), (0.9, "f")]) == [
        "The current setting is best (plausibility 0.90)"
    ]
    assert all(not panel.equal_to for panel in with_equals(panels(GRID, [fails] * 6)))


GRID = {"morph_size": [3, 5, 7], "morph_iterations": [0, 1]}


def test_keys_without_effect_are_named():
    found = [(0.5, "a"), (0.5, "a"), (0.5, "a"), (0.5, "d"), (0.6, "e"), (0.9, "f")]
    assert said(GRID, found)[0] == "morph_size has no effect with morph_iterations: 0"
    every = with_equals(panels(GRID, found))
    assert [panel.equal_to for panel in every] == ["", "morph_size 3", "morph_size 3", "", "", ""]
    assert list(every[1].words())[-1] == "the same as with morph_size 3"
    assert said(GRID, [(0.5, "a")] * 3 + [(0.6, "b")] * 3)[0] == "morph_size has no effect here"
    assert said(MORPH, [(0.5, "a")] * 3)[0] == "morph_iterations has no effect here"


def test_values_that_give_the_same_are_named():
    found = [(0.5, "a"), (0.5, "b"), (0.5, "b"), (0.5, "c"), (0.6, "d"), (0.9, "d")]
    assert said(GRID, found)[0] == "morph_size 5 and 7 give the same"
