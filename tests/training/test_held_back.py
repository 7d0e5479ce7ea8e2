"""Frames that are held back, and thresholds that are fitted on them."""

import numpy as np
import pytest
from support.touching import touching_cells

from pyama_dask.methods.onnx_model import ModelCard
from pyama_dask.training.annotated import Annotated
from pyama_dask.training.augment import Example, random_batch
from pyama_dask.training.card import first_card
from pyama_dask.training.held_back import folds


def examples(count):
    found = [touching_cells(seed, (96, 160)) for seed in range(count)]
    return [Example(frame.astype(np.float32) / 1000, labels) for frame, labels in found]


@pytest.mark.parametrize(("count", "held"), [(2, [1, 1]), (3, [1, 2]), (4, [2, 2]), (5, [1]), (8, [2])])
def test_no_network_is_judged_on_what_it_learned(count, held):
    given = examples(count)
    found = folds(given, list(map(str, range(count))), np.random.default_rng(0))
    assert [len(fold.held) for fold in found] == held
    for fold in found:
        kept = [k for k, one in enumerate(given) if any(one is other for other in fold.examples)]
        assert sorted([*kept, *(part.index for part in fold.held)]) == list(range(count))
    if count <= 4:
        assert sorted(part.index for fold in found for part in fold.held) == list(range(count))


def test_windows_of_a_frame_are_held_back_together():
    given = examples(4)
    for fold in folds(given, ["a", "b", "b", "a"], np.random.default_rng(0)):
        assert [part.index for part in fold.held] in ([0, 3], [1, 2])
    windows_of_one = folds(given, ["a"] * 4, np.random.default_rng(0))
    assert sorted(part.index for fold in windows_of_one for part in fold.held) == [0, 1, 2, 3]


def test_the_frame_of_a_window_is_known_by_its_name():
    frame, labels = np.zeros((9, 9), np.float32), np.ones((9, 9), np.int32)
    for name in ("t/m_fov003_t0090_y0256_x0000.tif", "t/m_fov003_t0090_y0000_x1024.tif"):
        assert Annotated(name, frame, labels).source == "t/m_fov003_t0090.tif"
    assert Annotated("t/a.tif", frame, labels).source == "t/a.tif"


def test_one_frame_is_halved_along_its_longer_side():
    (one,) = examples(1)
    first, second = folds([one], ["a"], np.random.default_rng(0))
    covered = np.zeros(one.labels.shape, int)
    for fold in (first, second):
        region = fold.held[0].region
        covered[region] += 1
        (example,) = fold.examples
        assert (example.labels[region] == -1).all()
        assert (example.labels > 0).any()
        assert region[0] == slice(None)
    assert (covered == 1).all()


def test_a_frame_with_one_cell_is_not_judged_on_an_empty_half():
    labels = np.zeros((40, 80), np.int32)
    labels[10:20, 70] = 1
    assert folds([Example(np.zeros((40, 80), np.float32), labels)], ["a"], np.random.default_rng(0)) == []


def test_batches_are_those_of_the_seed():
    given = examples(2)
    first, again, other = (random_batch(np.random.default_rng(seed), given, 64, 3) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.maps, again.maps)
    assert (first.frames != other.frames).any()
    assert (first.frames.shape, first.maps.shape, first.known.shape) == ((3, 64, 64), (3, 3, 32, 32), (3, 32, 32))
    assert first.frames.dtype == first.maps.dtype == first.known.dtype == np.float32
    assert set(np.unique(first.known)) <= {0, 1}


def test_a_card_has_the_zoom_for_cells_of_its_size():
    def card(side, size=None):
        labels = np.zeros((400, 400), np.int32)
        labels[:side, :side] = 1
        given = Annotated("a", np.zeros((400, 400), np.float32), labels, size)
        return first_card([given, given], ModelCard(name="mine"), seed=3)

    assert card(50, 0.5).zoom == 1
    assert card(50, 0.5).pixel_size_um == 0.5
    small, large = card(12), card(200)
    assert small.zoom == pytest.approx(53 / (12 * 2 / np.pi**0.5), abs=0.01)
    assert large.zoom < 1
    assert small.cell_diameter == pytest.approx(53, abs=0.5)
    assert (small.name, small.seed, small.images) == ("mine", 3, 2)
