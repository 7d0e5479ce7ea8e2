"""Scores equal those of py-ctcmetrics, and those that are worked out by hand."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
import tifffile
from ctc_metrics.scripts.evaluate import evaluate_sequence
from hypothesis import given
from hypothesis import strategies as st

from pyama_dask.kernels import scores


def squares(*at, shape=(40, 40), side=10):
    """Labels of squares: (label, y, x)."""
    labels = np.zeros(shape, np.uint16)
    for label, y, x in at:
        labels[y : y + side, x : x + side] = label
    return labels


def matched(truth, found):
    return [scores.match(a, b) for a, b in zip(truth, found, strict=True)]


# ------------------------------------------------------------------------------------ one frame


def test_a_pair_is_measured():
    one = scores.match(squares((3, 0, 0), (7, 20, 20)), squares((9, 0, 2)))
    assert one.true.tolist() == [3, 7]
    assert one.found.tolist() == [9]
    assert one.true_area.tolist() == [100, 100]
    assert (one.row.tolist(), one.column.tolist(), one.shared.tolist()) == ([0], [0], [80])
    assert one.iou.tolist() == [80 / 120]
    assert scores.seg([one]) == pytest.approx(80 / 120 / 2)
    assert scores.count([one]) == scores.Counts(hits=1, false=0, missed=1)
    assert scores.f1([one]) == pytest.approx(2 / 3)
    assert scores.count([one]).found_per_true == 0.5


def test_half_of_an_object_does_not_cover_it():
    one = scores.match(squares((1, 0, 0)), squares((1, 0, 5)))
    assert scores.seg([one]) == 0
    assert scores.det([one]) == 0


def plain_pairs(truth, found):
    return {
        (int(a), int(b)): int(((truth == a) & (found == b)).sum())
        for a in np.unique(truth[truth > 0])
        for b in np.unique(found[found > 0])
        if ((truth == a) & (found == b)).any()
    }


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3, 70_000]))
def test_match_is_the_plain_definition(seed, height, width, largest):
    rng = np.random.default_rng(seed)
    truth, found = (rng.integers(0, 4, (height, width)) * (largest // 3 or 1) for _ in range(2))
    one = scores.match(truth, found.astype(np.int32))
    pairs = zip(one.true[one.row].tolist(), one.found[one.column].tolist(), one.shared.tolist(), strict=True)
    assert {(a, b): n for a, b, n in pairs} == plain_pairs(truth, found)
    assert one.true.tolist() == np.unique(truth[truth > 0]).tolist()
    assert one.true_area.tolist() == [int((truth == a).sum()) for a in one.true]
    assert one.found_area.tolist() == [int((found == a).sum()) for a in one.found]


def test_labels_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), but true labels \(3, 2\)"):
        scores.match(np.zeros((3, 2), int), np.zeros((2, 3), int))


def test_nothing_to_judge_is_nan():
    empty = [scores.match(squares(), squares((1, 0, 0)))]
    assert np.isnan([scores.seg(empty), scores.det(empty), scores.tra(empty), scores.count(empty).found_per_true]).all()
    assert scores.f1(empty) == 0
    assert np.isnan(scores.f1([]))
    assert np.isnan(scores.whole_traces([]).share)


# --------------------------------------------------------------------------------- py-ctcmetrics


def write_ctc(folder, pattern, table, frames, lines):
    folder.mkdir(parents=True)
    for t, labels in enumerate(frames):
        tifffile.imwrite(folder / pattern.format(t), labels.astype(np.uint16))
    text = "".join(" ".join(map(str, line)) + "\n" for line in lines)
    (folder / table).write_text(text)


def tracks(frames, parents):
    """Lines of the challenge's table of tracks without gaps."""
    seen = {}
    for t, labels in enumerate(frames):
        for label in np.unique(labels[labels > 0]).tolist():
            seen.setdefault(label, []).append(t)
    assert all(times == list(range(times[0], times[-1] + 1)) for times in seen.values())
    return [(label, times[0], times[-1], parents.get(label, 0)) for label, times in sorted(seen.items())]


def by_the_challenge(tmp_path, truth, found, true_parents, found_parents):
    """SEG, DET and TRA by py-ctcmetrics."""
    write_ctc(tmp_path / "GT/TRA", "man_track{:03d}.tif", "man_track.txt", truth, tracks(truth, true_parents))
    write_ctc(tmp_path / "GT/SEG", "man_seg{:03d}.tif", "unused.txt", truth, [])
    write_ctc(tmp_path / "RES", "mask{:03d}.tif", "res_track.txt", found, tracks(found, found_parents))
    with redirect_stdout(io.StringIO()):
        found = evaluate_sequence(str(tmp_path / "RES"), str(tmp_path / "GT"), ["SEG", "DET", "TRA"], threads=1)
    return [found[name] for name in ("SEG", "DET", "TRA")]


def ours(truth, found, true_parents, found_parents):
    pairs = matched(truth, found)
    return [scores.seg(pairs), scores.det(pairs), scores.tra(pairs, true_parents, found_parents)]


def moving(rng, n_frames=8, shape=(96, 96)):
    """Frames of cells that drift, divide once and end, and the parents of the daughters."""
    frames, parents = [], {}
    cells = {k: rng.integers(8, 80, 2) for k in range(1, 8)}
    for t in range(n_frames):
        if t == n_frames // 2:
            mother = next(iter(cells))
            at = cells.pop(mother)
            cells |= {20: at, 21: at + 9}
            parents = {20: mother, 21: mother}
        if t == 5:
            cells.pop(next(iter(cells)))
        labels = np.zeros(shape, np.uint16)
        for label, at in cells.items():
            at[:] += rng.integers(-2, 3, 2)
            y, x = np.clip(at, 0, 85)
            free = labels[y : y + 9, x : x + 9] == 0
            labels[y : y + 9, x : x + 9][free] = label
        frames.append(labels)
    gone = [label for label in np.unique(frames) if label and not continuous(frames, label)]
    frames = [np.where(np.isin(labels, gone), 0, labels) for labels in frames]
    return frames, {child: parent for child, parent in parents.items() if not {child, parent} & set(gone)}


def continuous(frames, label):
    times = [t for t, labels in enumerate(frames) if (labels == label).any()]
    return times == list(range(times[0], times[-1] + 1))


def disturbed(rng, frames, parents):
    """A result with missed, false and merged objects, swapped tracks, and gaps that split tracks."""
    found = []
    for t, frame in enumerate(frames):
        labels = np.roll(frame, rng.integers(-2, 3), axis=1)
        present = np.unique(labels[labels > 0])
        labels[np.isin(labels, rng.choice(present, 1))] = 0
        if t in (3, 4):
            a, b = rng.choice(present, 2, replace=False)
            labels[labels == a] = b
        if t >= 5:
            a, b = present[:2]
            labels[:] = np.select([labels == a, labels == b], [b, a], labels)
        labels[88:94, 88:94] = 60
        found.append(labels)
    return split(found, parents)


def split(frames, parents):
    """Give tracks a new label after each gap, as a child of the one before."""
    current, last, children, following = {}, {}, dict(parents), 100
    out = [np.zeros_like(labels) for labels in frames]
    for t, labels in enumerate(frames):
        for label in np.unique(labels[labels > 0]).tolist():
            if label in last and last[label] != t - 1:
                children[following] = current[label]
                current[label], following = following, following + 1
            out[t][labels == label] = current.setdefault(label, label)
            last[label] = t
    present = set(np.unique(out).tolist())
    first = {label: next(t for t, f in enumerate(out) if (f == label).any()) for label in present if label}
    end = {label: max(t for t, f in enumerate(out) if (f == label).any()) for label in first}
    kept = {c: p for c, p in children.items() if c in first and p in first and end[p] < first[c]}
    return out, kept


@pytest.mark.parametrize("seed", range(12))
def test_scores_are_those_of_the_challenge(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth, true_parents = moving(rng)
    found, found_parents = disturbed(rng, truth, true_parents)
    theirs = by_the_challenge(tmp_path, truth, found, true_parents, found_parents)
    assert ours(truth, found, true_parents, found_parents) == pytest.approx(theirs, abs=1e-12)
    assert 0 < theirs[2] < 1


@pytest.mark.parametrize("drop", [0.05, 0.5])
def test_links_over_gaps_are_children_of_the_challenge(tmp_path, drop):
    rng = np.random.default_rng(3)
    truth, parents = moving(rng)
    gaps = [np.where(np.isin(f, rng.choice(30, int(30 * drop))), 0, f) for f in truth]
    pieces, pieces_parents = split(gaps, {})
    theirs = by_the_challenge(tmp_path, truth, pieces, parents, pieces_parents)
    assert ours(truth, gaps, parents, {}) == pytest.approx(theirs, abs=1e-12)


# ------------------------------------------------------------------------------------ whole traces


def row(*labels):
    """A frame with one square per place, by label; 0 leaves the place empty."""
    return squares(*((label, 15, 15 * k) for k, label in enumerate(labels) if label), shape=(40, 80))


def whole(truth, found, **options):
    counted = scores.whole_traces(matched([row(*t) for t in truth], [row(*f) for f in found]), **options)
    return counted.tracks, counted.followed, counted.whole


TWO = [(1, 2)] * 10


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(5, 6)] * 10, (2, 2, 2)),
        ([(5, 6)] * 8 + [(0, 6)] * 2, (2, 2, 2)),  # missing in two of ten frames
        ([(5, 6)] * 7 + [(0, 6)] * 3, (2, 1, 1)),
        ([(5, 6)] * 9 + [(7, 6)], (2, 2, 1)),  # a second id
        ([(5, 6)] * 9 + [(6, 5)], (2, 2, 0)),  # swapped once
        ([(5, 6)] * 9 + [(0, 6, 5)], (2, 2, 1)),  # the id goes on as a false object
        ([(5, 6, 8)] * 10, (2, 2, 2)),  # a false object with another id
        ([(0, 0)] * 10, (2, 0, 0)),
    ],
    ids=str,
)
def test_whole_traces(found, expected):
    assert whole(TWO, found) == expected


def test_short_tracks_do_not_count():
    truth = [(1, 2)] * 9 + [(1, 0)]
    assert whole(truth, truth) == (1, 1, 1)
    assert whole(truth, truth, min_frames=9) == (2, 2, 2)
    assert whole(truth, [(5, 0), (6, 0), *[(0, 0)] * 8], share=0.0) == (1, 1, 0)
