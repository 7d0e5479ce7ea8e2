"""Linking and the choice of cells equal the plain definitions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import frames, reference

from pyama_dask.kernels import tracking

NONE = np.zeros((0, 4), np.int32)


def box(*rows):
    return np.array(rows, np.int32).reshape(-1, 4)


def linked(*per_frame, **parameters):
    return [ids.tolist() for ids in tracking.link(per_frame, **parameters)]


def same_links(per_frame, min_iou=0.1):
    found, plain = tracking.link(per_frame, min_iou=min_iou), reference.link(per_frame, min_iou)
    assert [ids.tolist() for ids in found] == [ids.tolist() for ids in plain]
    return found


# -------------------------------------------------------------------------------------------- overlap


@given(frames.box_sets(), frames.box_sets())
def test_box_iou(a, b):
    iou = tracking.box_iou(a, b)
    assert iou.shape == (len(a), len(b))
    assert ((iou >= 0) & (iou <= 1)).all()
    np.testing.assert_array_equal(iou, tracking.box_iou(b, a).T)
    np.testing.assert_array_equal(iou, reference.box_iou(a.astype(np.int64), b.astype(np.int64)))
    assert (np.diag(tracking.box_iou(a, a)) == 1).all()


def test_box_iou_of_known_boxes():
    a = box([0, 0, 4, 4])
    b = box([0, 0, 4, 4], [0, 2, 4, 6], [0, 4, 4, 8], [1, 1, 3, 3], [9, 9, 10, 10])
    np.testing.assert_array_equal(tracking.box_iou(a, b), [[1, 8 / 24, 0, 4 / 16, 0]])


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_box_iou_of_large_boxes_does_not_overflow(dtype):
    a, b = np.array([[0, 0, 60000, 60000]], dtype), np.array([[30000, 0, 60000, 65535]], dtype)
    inter, union = 30000 * 60000, 60000 * 60000 + 30000 * 65535 - 30000 * 60000
    assert tracking.box_iou(a, b)[0, 0] == inter / union
    apart = np.array([[60001, 60001, 60100, 60100]], dtype)
    assert tracking.box_iou(a, apart)[0, 0] == tracking.box_iou(apart, a)[0, 0] == 0


# -------------------------------------------------------------------------------------------- linking


def test_cells_that_stay_appear_disappear_and_come_back():
    a, b = [0, 0, 10, 10], [50, 50, 60, 60]
    assert linked(box(a, b), box(b, a), box(b), box(a, b)) == [[1, 2], [2, 1], [2], [3, 2]]
    assert linked(NONE, box(a), NONE, box(a), NONE) == [[], [1], [], [2], []]
    assert linked() == []
    assert linked(NONE) == [[]]


def test_a_cell_that_splits_goes_on_as_its_larger_part():
    whole, large, small = [0, 0, 10, 10], [0, 0, 10, 7], [0, 7, 10, 10]
    assert linked(box(whole), box(large, small)) == [[1], [1, 2]]
    assert linked(box(whole), box(small, large)) == [[1], [2, 1]]
    assert linked(box(large, small), box(whole)) == [[1, 2], [1]]  # and cells that merge
    assert linked(box(small, large), box(whole)) == [[1, 2], [2]]


def test_the_sum_of_overlaps_decides_not_the_best_pair():
    first, second = [0, 10, 10, 20], [0, 15, 10, 25]
    left, right = [0, 5, 10, 15], [0, 12, 10, 22]
    assert tracking.box_iou(box(first), box(right)) > tracking.box_iou(box(second), box(right))
    assert linked(box(first, second), box(left, right)) == [[1, 2], [1, 2]]


def test_pairs_below_the_limit_do_not_match():
    a, b = box([0, 0, 10, 10]), box([0, 5, 10, 15])  # 1/3
    assert linked(a, b, min_iou=0.33) == [[1], [1]]
    assert linked(a, b, min_iou=0.34) == [[1], [2]]
    assert linked(a, a, min_iou=1.0) == [[1], [1]]
    assert linked(a, a + np.int32(50), min_iou=0.0) == [[1], [2]]
    assert linked(a, b, min_iou=50 / 150) == [[1], [1]]


@settings(max_examples=150)
@given(st.lists(frames.box_sets(), max_size=8), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
def test_link_is_the_plain_definition(per_frame, min_iou):
    same_links(per_frame, min_iou)


@given(st.integers(1, 6), st.integers(1, 6), frames.seeds)
def test_ties_are_resolved_as_by_the_plain_definition(before, after, seed):
    order = np.random.default_rng(seed)
    grid = box(*([4 * y, 4 * x, 4 * y + 8, 4 * x + 8] for y in range(4) for x in range(4)))
    same_links([order.permutation(grid)[:before], order.permutation(grid)[:after], np.repeat(grid[:1], after, axis=0)])


def walk(seed, count=300, times=12):
    """Many cells that drift, leave and come."""
    rng = np.random.default_rng(seed)
    corner, size = rng.integers(0, 900, (count, 2)), rng.integers(5, 40, (count, 2))
    for _ in range(times):
        corner = corner + rng.integers(-6, 7, corner.shape)
        there = rng.permutation(np.flatnonzero(rng.uniform(size=count) < 0.9))
        yield np.concatenate([corner, corner + size], axis=1)[there].astype(np.int32)


def test_many_cells():
    per_frame = [*walk(0), NONE, *walk(1)]
    tracks = same_links(per_frame)
    ids, counts = np.unique(np.concatenate(tracks), return_counts=True)
    assert ids.tolist() == list(range(1, ids.size + 1))
    assert (counts > 5).sum() > 100  # there is something to link
    assert all(np.unique(frame).size == frame.size for frame in tracks)


# --------------------------------------------------------------------------------- choice of the cells


def plain_choice(per_frame, tracks, shape, **rules):
    rows = [
        {"cell": cell, "frame": t, "bbox_y0": y0, "bbox_x0": x0, "bbox_y1": y1, "bbox_x1": x1}
        for t, (ids, found) in enumerate(zip(tracks, per_frame, strict=True))
        for cell, (y0, x0, y1, x1) in zip(ids, found, strict=True)
    ]
    kept = reference.quality_filter(pd.DataFrame(rows), shape, **rules)
    return sorted(set(kept["cell"])) if len(kept) else []


@given(
    st.lists(frames.box_sets(), max_size=8),
    st.integers(10, 24),
    st.integers(10, 24),
    st.integers(1, 6),
    st.integers(0, 6),
)
def test_keep_cells_is_the_plain_definition(per_frame, h, w, min_frames, border_margin):
    tracks = reference.link(per_frame)
    rules = {"min_frames": min_frames, "border_margin": border_margin}
    kept = tracking.keep_cells(per_frame, tracks, (h, w), **rules)
    assert kept.tolist() == plain_choice(per_frame, tracks, (h, w), **rules)
    judged = tracking.judge_tracks(per_frame, tracks, (h, w), **rules)
    at_least_once = plain_choice(per_frame, tracks, (h, w), min_frames=1, border_margin=border_margin)
    every = plain_choice(per_frame, tracks, (h, w), min_frames=1, border_margin=-100)
    assert judged.kept.tolist() == kept.tolist()
    assert judged.short.tolist() == [cell for cell in at_least_once if cell not in kept]
    assert judged.border.tolist() == [cell for cell in every if cell not in at_least_once]
    assert judged.frames[1:].tolist() == [sum((ids == cell).sum() for ids in tracks) for cell in every]


@pytest.mark.parametrize(("min_frames", "border_margin"), [(1, 0), (5, 20), (12, 50), (13, 0), (5, 200)])
def test_keep_cells_of_many(min_frames, border_margin):
    per_frame = list(walk(2))
    tracks = reference.link(per_frame)
    rules = {"min_frames": min_frames, "border_margin": border_margin}
    kept = tracking.keep_cells(per_frame, tracks, (700, 1000), **rules)
    assert kept.tolist() == plain_choice(per_frame, tracks, (700, 1000), **rules)
    assert (len(kept) == 0) == (min_frames == 13)


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ([5, 5, 95, 195], [1]),
        ([4, 5, 95, 195], []),
        ([5, 4, 95, 195], []),
        ([5, 5, 96, 195], []),
        ([5, 5, 95, 196], []),
    ],
    ids=str,
)
def test_the_margin_begins_at_its_own_width(found, kept):
    per_frame = [box(found)] * 3
    tracks = [np.array([1])] * 3
    assert tracking.keep_cells(per_frame, tracks, (100, 200), min_frames=3, border_margin=5).tolist() == kept
    inside = [box([40, 40, 50, 50])]
    once = tracking.keep_cells(per_frame[:1] + inside * 2, tracks, (100, 200), min_frames=3, border_margin=5)
    assert once.tolist() == kept  # once near the border is enough
    assert not tracking.keep_cells(per_frame, tracks, (100, 200), min_frames=4, border_margin=5).size


def test_no_cells_at_all():
    for per_frame in ([], [NONE], [NONE] * 4):
        kept = tracking.keep_cells(per_frame, tracking.link(per_frame), (100, 100))
        assert kept.shape == (0,)
        assert kept.dtype.kind == "i"


def test_objects_outside_all_tracks_and_numbers_that_do_not_occur_are_no_tracks():
    per_frame = [np.array([[0, 0, 5, 5], [40, 40, 50, 50], [60, 60, 70, 70]])] * 2
    tracks = [np.array([0, 3, 7]), np.array([5, 3, 0])]
    judged = tracking.judge_tracks(per_frame, tracks, (100, 100), min_frames=2, border_margin=5)
    assert (judged.kept.tolist(), judged.short.tolist(), judged.border.tolist()) == ([3], [7], [5])
    assert judged.frames.tolist() == [0, 0, 0, 2, 0, 1, 0, 1]


def test_labels_of_a_damaged_frame_lead_nowhere():
    labels, out = np.array([[0, 1, 65535, 2, 3]], np.uint16), np.empty((1, 5), np.uint16)
    tracking.relabel(labels, np.array([0, 7, 9], np.uint16), out)
    assert out.tolist() == [[0, 7, 0, 9, 0]]
    assert tracking.label_areas(labels, 2).tolist() == [1, 1]
