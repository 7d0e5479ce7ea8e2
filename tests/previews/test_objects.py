"""Objects of a run, and those that its limits drop."""

import numpy as np
import pytest
from support.bright_cells import bright_movie
from support.movies import config
from support.strategies import movie

from pyama_dask.config.load import parse_config
from pyama_dask.kernels.bright import segment_bright
from pyama_dask.kernels.segmentation import segment
from pyama_dask.plan.resolve import resolve
from pyama_dask.previews.objects import Fate, Finder


def finder(**params):
    changes = {f"params.{key}": value for key, value in params.items()}
    return Finder(resolve(parse_config(config("movie.nd2", "out", changes)), movie(frames=3)))


@pytest.fixture(scope="module")
def frame():
    """Disks of texture with known areas: radius 3, 8, 15, and one in the corner."""
    rng = np.random.default_rng(0)
    y, x = np.indices((240, 260))
    inside = np.zeros((240, 260), bool)
    for cy, cx, radius in ((60, 60, 3), (60, 130, 8), (150, 130, 15), (200, 60, 8), (0, 250, 12)):
        inside |= (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
    return np.where(inside, rng.normal(3000, 600, inside.shape), rng.normal(3000, 10, inside.shape)).astype(np.uint16)


def test_what_the_limits_drop_is_found_and_the_labels_are_those_of_the_method(frame):
    given = {"morph_iterations": 1, "morph_size": 3, "min_object_size": 80, "max_object_size": 500}
    found = finder(segmentation_params=given, tracking_params={"border_margin": 5}).find(frame, "frame 0")
    assert (found.labels == segment(frame, **given)).all()
    every = segment(frame, **given | {"min_object_size": None, "max_object_size": None})
    assert ((found.labels > 0) | (found.dropped > 0) == (every > 0)).all()
    assert {fate: len(found.areas(fate)) for fate in Fate if fate} == {
        Fate.KEPT: 2, Fate.TOO_LARGE: 1, Fate.TOO_SMALL: 1, Fate.BORDER: 1
    }  # fmt: skip
    (large,), (small,) = found.areas(Fate.TOO_LARGE), found.areas(Fate.TOO_SMALL)
    assert large == np.bincount(every.ravel())[1:].max() > 500
    assert small == np.bincount(every.ravel())[1:].min() < 80
    assert found.dropped_fates[found.dropped[150, 130]] == Fate.TOO_LARGE
    assert found.fates[found.labels[3, 250]] == Fate.BORDER


def test_limits_of_tracking_count(frame):
    limits = {"border_margin": 0, "min_size": 100, "max_size": 400}
    given = {"morph_iterations": 1, "morph_size": 3, "min_object_size": 5, "max_object_size": None}
    found = finder(segmentation_params=given, tracking_params=limits).find(frame, "frame 0")
    areas = np.bincount(found.labels.ravel())[1:]
    assert ((found.fates[1:] == Fate.TOO_SMALL) == (areas < 100)).all()
    assert ((found.fates[1:] == Fate.TOO_LARGE) == (areas > 400)).all()
    assert {*found.fates.tolist()} == {Fate.NOTHING, Fate.KEPT, Fate.TOO_LARGE, Fate.TOO_SMALL}


def test_without_limits_nothing_is_dropped(frame):
    given = {"min_object_size": None, "max_object_size": None}
    assert not finder(segmentation_params=given).find(frame, "frame 0").dropped.any()


def test_a_method_of_another_file_has_no_limits(frame, tmp_path):
    file = tmp_path / "own.py"
    file.write_text("def cut(frame, *, min_object_size: int = 9):\n    return (frame > 3300).astype('uint8')\n")
    changes = {"segmentation_method": f"{file}:cut", "segmentation_params": {}}
    found = finder(**changes).find(frame, "frame 0")
    assert (len(found.fates), found.dropped.any()) == (2, False)


def test_specks_beyond_number_leave_what_is_too_large():
    specks = np.full((1560, 1560), 1000, np.uint16)
    specks[3::6, 3::6] = 9000  # 67600 of them
    specks[600:640, 600:640] = np.random.default_rng(0).integers(1000, 9000, (40, 40))
    given = {"morph_iterations": 0, "max_object_size": 500}
    with pytest.raises(OverflowError):
        segment(specks, **given | {"min_object_size": None})
    found = finder(segmentation_params=given).find(specks, "frame 0")
    assert not found.labels.any()
    assert (len(found.areas(Fate.TOO_LARGE)), len(found.areas(Fate.TOO_SMALL))) == (1, 0)


def test_small_objects_of_the_method_for_compact_cells():
    frame = bright_movie((200, 200), cells=20)[0][0]
    given = {"diameter": 14.0, "min_object_size": 150}
    found = finder(segmentation_method="bright", segmentation_params=given).find(frame, "frame 0")
    assert (found.labels == segment_bright(frame, **given)).all()
    small = found.areas(Fate.TOO_SMALL)
    assert len(small)
    assert small.max() < 150 <= np.bincount(found.labels.ravel())[1:].min()
