"""The tracker `lap`: exact small cases, and the share of traces that it keeps whole in crowded movies."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import frames
from support.dense import Found, made_masks, mean_share

from pyama_dask.kernels import lap, tracking

COMPOSITE = Path(__file__).parents[3] / "shared/data/composite/labels_PTYX.npz"
A, B = [10, 10, 30, 30], [10, 60, 30, 80]


def linked(*per_frame, **parameters):
    boxes = [np.array(of, np.int32).reshape(-1, 4) for of in per_frame]
    ids = lap.link(boxes, **parameters)
    return [of.tolist() for of in ids]


def moved(box, dy, dx=0):
    return [box[0] + dy, box[1] + dx, box[2] + dy, box[3] + dx]


def test_cells_that_stay_appear_and_disappear():
    assert linked([A, B], [B, A], [B], [A, B]) == [[1, 2], [2, 1], [2], [1, 2]]
    assert linked([A, B], [B, A], [B], [A, B], gap=0) == [[1, 2], [2, 1], [2], [3, 2]]
    assert linked([A], [A, B]) == [[1], [1, 2]]
    assert linked([A], [B]) == [[1], [2]]


@pytest.mark.parametrize("missing", range(6))
def test_gaps_of_up_to_gap_frames_are_closed(missing):
    last = 1 if missing <= 3 else 2
    assert linked([A], *[[]] * missing, [moved(A, 2)]) == [[1], *[[]] * missing, [last]]


def test_the_cost_grows_with_the_gap_and_the_distance():
    assert linked([A], [], [moved(A, 20)]) == [[1], [], [1]]
    assert linked([A], [], [moved(A, 60)]) == [[1], [], [2]]
    assert linked([A], [moved(A, 20)]) == [[1], [1]]
    assert linked([A], [moved(A, 20)], far=0.9) == [[1], [2]]


def test_a_merged_object_is_left_alone_and_both_cells_go_on():
    c, d = [10, 10, 30, 30], [10, 30, 30, 50]
    merged = [10, 10, 30, 50]
    ids = linked(*[[c, d]] * 3, [merged], *[[c, d]] * 3)
    assert ids[0] == ids[-1] == [1, 2]


def test_a_jump_of_the_stage_breaks_no_track():
    cells = np.random.default_rng(0).uniform(0, 500, (40, 2))
    boxes = np.hstack([cells, cells + 20]).astype(np.int32)
    ids = lap.link([boxes, boxes + 60, boxes[::-1] + 60])
    assert ids[1].tolist() == list(range(1, 41))
    assert ids[2].tolist() == list(range(40, 0, -1))
    assert lap.link([boxes, boxes + 60], max_shift=0)[1].tolist() != ids[1].tolist()


def test_without_objects():
    assert linked() == []
    assert linked([]) == [[]]
    assert linked([], []) == [[], []]
    assert linked([A]) == [[1]]
    assert linked([], [A], []) == [[], [1], []]


@given(st.lists(frames.box_sets(), max_size=6))
def test_ids_are_valid_and_the_same_each_time(per_frame):
    ids, parents = lap.link(per_frame, divide=True)
    assert [len(of) for of in ids] == [len(of) for of in per_frame]
    assert all(len(set(of.tolist())) == len(of) for of in ids)
    every = sorted({*np.concatenate([*ids, np.zeros(0, np.int64)]).tolist()})
    assert every == list(range(1, len(every) + 1))
    assert {*parents, *parents.values()} <= set(every)
    again, _ = lap.link(per_frame, divide=True)
    assert all(np.array_equal(one, other) for one, other in zip(ids, again, strict=True))


@given(frames.box_sets(), frames.box_sets(), st.sampled_from([0.2, 0.5, 1.0, 1.3, 1.8]))
def test_no_pair_below_the_limit_is_overlooked(a, b, limit):
    a, b = a.astype(float), b.astype(float)
    pairs = set(zip(*(of.tolist() for of in lap.near_pairs(a, b, limit)), strict=True))
    rows, columns = (of.ravel() for of in np.indices((len(a), len(b))))
    costs = lap.box_costs(a[rows], b[columns])
    below = {(r, c) for r, c, cost in zip(rows.tolist(), columns.tolist(), costs, strict=True) if cost < limit}
    assert below <= pairs


def test_costs_of_known_boxes():
    a = np.array([[0.0, 0.0, 4.0, 4.0]] * 3)
    b = np.array([[0.0, 0.0, 4.0, 4.0], [0.0, 4.0, 4.0, 8.0], [0.0, 8.0, 4.0, 12.0]])
    assert lap.box_costs(a, b) == pytest.approx([0, 1, 1 + 16 / 48])


# ------------------------------------------------------------------------------------------- whole traces


@pytest.fixture(scope="module")
def made():
    return [Found.of(made_masks())]


@pytest.fixture(scope="module")
def composite():
    if not COMPOSITE.exists():
        pytest.skip("the composite is not here")
    return [Found.of(masks) for masks in np.load(COMPOSITE)["labels"]]


SPOILED = {
    "missing": (lambda found, seed: found.with_faults(seed, missing=0.05), 0.72),
    "all faults": (lambda found, seed: found.with_faults(seed, missing=0.05, merged=0.03, false=0.05), 0.65),
    "jumps": (lambda found, seed: found.with_jumps(seed), 0.80),
    "missing and jumps": (lambda found, seed: found.with_faults(seed, missing=0.05).with_jumps(seed), 0.72),
}


@pytest.mark.parametrize("what", SPOILED)
def test_share_of_whole_traces_of_a_made_movie(made, what):
    spoil, share = SPOILED[what]
    assert mean_share(made, spoil, lap.link) >= share
    assert mean_share(made, spoil, tracking.link) < 0.25


@pytest.mark.parametrize("what", SPOILED)
def test_share_of_whole_traces_of_real_cells(composite, what):
    spoil, share = SPOILED[what]
    assert mean_share(composite, spoil, lap.link) >= share
