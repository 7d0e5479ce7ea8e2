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


@pytest.mark.parametrize(
    ("names", "together"),
    [
        (
            ["m_fov0_t01_y00_x00.tif", "m_fov1_t01_y00_x00.tif", "m_fov1_t09_y00_x00.tif", "m_fov0_t09_y00_x00.tif"],
            "abba",
        ),
        (
            ["m_fov0_t01_y00_x00.tif", "m_fov0_t01_y64_x00.tif", "m_fov0_t09_y00_x00.tif", "m_fov0_t09_y64_x00.tif"],
            "aabb",
        ),
    ],
)
def test_windows_of_one_fov_or_frame_are_held_back_together(names, together):
    for fold in folds(examples(4), names, np.random.default_rng(0)):
        assert len({together[part.index] for part in fold.held}) == 1
        assert len(fold.held) == 2


def test_windows_of_one_frame_are_held_back_one_by_one():
    names = [f"m_fov0_t01_y00_x{x:02d}.tif" for x in range(4)]
    found = folds(examples(4), names, np.random.default_rng(0))
    assert sorted(part.index for fold in found for part in fold.held) == [0, 1, 2, 3]


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


def test_frames_without_cells_are_learned_and_not_judged_alone():
    full, empty = examples(1)[0], Example(np.zeros((96, 160), np.float32), np.zeros((96, 160), np.int32))
    assert folds([full, empty], ["a", "b"], np.random.default_rng(0)) == []
    assert len(folds([full, empty, full, empty], list("aabb"), np.random.default_rng(0))) == 2
    assert not random_batch(np.random.default_rng(0), [empty], 64, 8).maps.any()


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
