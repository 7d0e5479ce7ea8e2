"""Methods that a config names, at work: what goes wrong in one names it and what it ran on."""

import re

import numpy as np
import pytest
from support.strategies import movie, plan_of

from pyama_dask.errors import AlgorithmError, OutOfMemoryError
from pyama_dask.kernels.features import measure_shapes
from pyama_dask.kernels.morphology import boxes
from pyama_dask.methods.call import Chosen
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.extract import measured_columns
from pyama_dask.steps.segment import segmented
from pyama_dask.steps.track import follow

METHODS = """
import numpy as np


def fails(data):
    return 1 // 0


def hungry(data):
    raise MemoryError("too much")


def nothing(data):
    return None


def ragged(data):
    return [[1], [2, 3]]


def same(data):
    return data


def half(frame):
    return frame[::2]


def fractions(frame):
    return frame / 2


def with_probabilities(frame):
    return frame, np.full(frame.shape, 0.5, np.float32)


def ids(per_frame, *, first: int = 1):
    return [first + np.arange(len(boxes)) for boxes in per_frame]


def as_lists(per_frame):
    return (list(range(1, len(boxes) + 1)) for boxes in per_frame)


def breaks_off(per_frame):
    yield list(range(1, len(per_frame[0]) + 1))
    yield 1 // 0


def with_mothers(per_frame, *, mother: object = 2):
    return ([1, 2, 3], [], [4, 5]), {np.int64(4): mother, 5: 2}


def one_frame(per_frame):
    return ids(per_frame)[:1]


def odd_ids(per_frame):
    return [part / 2 for part in ids(per_frame)]


def too_few(per_frame):
    return [part[1:] for part in ids(per_frame)]


def twice(per_frame):
    return [np.minimum(part, 2) for part in ids(per_frame)]


class OnDevice:
    def __array__(self, *_, **__):
        raise RuntimeError("requires grad")


def on_device(frame):
    return OnDevice()


def one_number(shapes):
    return 7


def words(shapes):
    return ["a" for _ in shapes.area]


def areas_as_list(shapes):
    return [float(area) for area in shapes.area]
"""
LABELS = np.zeros((6, 8), "uint16")
LABELS[1:3, 1:3], LABELS[1:3, 5:7], LABELS[4:6, 1:7] = 1, 2, 3
FOUND = [boxes(LABELS), np.zeros((0, 4), "int32"), boxes(LABELS)[:2]]


@pytest.fixture
def chosen(tmp_path):
    """Give a method of the file above by its name."""
    file = tmp_path / "some_methods.py"
    file.write_text(METHODS)
    return lambda kind, name, **given: Chosen(kind, f"{file}:{name}", **given)


@pytest.fixture
def bench():
    plan = plan_of(movie(frames=6), {"frames": "2-4"})
    return TaskContext(plan.fovs[1].stage("link")[0], plan.job)


def refused(where, kind, name, what):
    place = r"\(.*some_methods\.py, line \d+\)"
    return pytest.raises(AlgorithmError, match=rf"^{where}: the {kind} '.*some_methods\.py:{name}' {place} {what}")


class TestSegmentation:
    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("fails", "failed: ZeroDivisionError: "),
            ("ragged", r"returned list \(.*\), but must return an array"),
            ("on_device", r"returned OnDevice \(RuntimeError: requires grad\), but must return an array"),
            ("half", r"returned uint16 \(3, 8\), but must return uint8 or uint16 \(6, 8\)"),
            ("fractions", r"returned float64 \(6, 8\), but must return uint8"),
            ("nothing", r"returned object \(\), but must return uint8"),
        ],
    )
    def test_a_preprocessor(self, chosen, name, what):
        good = chosen("preprocessor", "same")
        with refused("FOV 1, frame 3", "preprocessor", name, what):
            segmented([good, chosen("preprocessor", name)], good, LABELS, "FOV 1, frame 3")

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("fails", "failed: ZeroDivisionError: "),
            ("half", r"returned uint16 \(3, 8\), but must return whole-number labels of shape \(6, 8\)"),
            ("fractions", r"returned float64 \(6, 8\), but must return whole-number labels"),
        ],
    )
    def test_a_segmenter(self, chosen, name, what):
        with refused("FOV 1, frame 3", "segmenter", name, what):
            segmented([], chosen("segmenter", name), LABELS, "FOV 1, frame 3")

    def test_what_is_right_is_taken(self, chosen):
        labels, found, areas = segmented([chosen("preprocessor", "same")], chosen("segmenter", "same"), LABELS, "here")
        assert np.array_equal(labels, LABELS)
        assert np.array_equal(found, FOUND[0])
        assert areas.tolist() == np.bincount(LABELS.ravel())[1:].tolist()

    def test_probabilities_beside_labels_are_not_used(self, chosen):
        labels, found, _ = segmented([], chosen("segmenter", "with_probabilities"), LABELS, "here")
        assert np.array_equal(labels, LABELS)
        assert np.array_equal(found, FOUND[0])

    def test_gaps_are_closed(self, chosen):
        labels, found, areas = segmented([], chosen("segmenter", "same"), LABELS.astype(np.int64) * 1000, "here")
        assert areas.tolist() == np.bincount(LABELS.ravel())[1:].tolist()
        assert labels.dtype == np.uint16
        assert np.array_equal(labels, LABELS)
        assert np.array_equal(found, FOUND[0])


class TestTracker:
    @pytest.mark.parametrize(
        ("name", "given", "where", "what"),
        [
            ("fails", {}, "FOV 1", "failed: ZeroDivisionError: "),
            ("nothing", {}, "FOV 1", r"returned NoneType \(.*\), but must return one array per frame"),
            ("breaks_off", {}, "FOV 1", "failed: ZeroDivisionError: "),
            ("one_frame", {}, "FOV 1", "returned 1 arrays, but must return one for each of 3 frames"),
            ("odd_ids", {}, "0", r"returned float64 \(3,\), but must return one whole number for each of 3 boxes"),
            ("too_few", {}, "0", r"returned int64 \(2,\), but must return one whole number for each of 3 boxes"),
            ("twice", {}, "0", "returned id 2 to several boxes, but must return each id at most once per frame"),
            ("ids", {"first": 0}, "0", "returned ids 0 to 2, but must return ids of 1 to 4294967295"),
            ("ids", {"first": 2**32 - 2}, "0", "returned ids 4294967294 to 4294967296, but must return ids of 1 to"),
        ],
    )
    def test_what_is_wrong_is_refused(self, bench, chosen, name, given, where, what):
        place = where if where == "FOV 1" else r"FOV 1, frame 0 \(frame 2 of the movie\)"
        with refused(place, "tracker", name, what):
            follow(chosen("tracker", name, **given), FOUND, "FOV 1", bench.at)

    @pytest.mark.parametrize("name", ["ids", "as_lists"])
    def test_what_is_right_is_taken(self, bench, chosen, name):
        found = follow(chosen("tracker", name), FOUND, "FOV 1", bench.at)
        assert [ids.tolist() for ids in found.ids] == [[1, 2, 3], [], [1, 2]]
        assert {ids.dtype for ids in found.ids} == {np.dtype("int64")}
        assert found.parents is None

    def test_mothers_are_taken(self, bench, chosen):
        found = follow(chosen("tracker", "with_mothers"), FOUND, "FOV 1", bench.at)
        assert [ids.tolist() for ids in found.ids] == [[1, 2, 3], [], [4, 5]]
        assert found.parents == {4: 2, 5: 2}

    @pytest.mark.parametrize("mother", [4, 7, "first", [2]])
    def test_wrong_mothers_are_refused(self, bench, chosen, mother):
        what = f"returned {re.escape(repr(str(mother)))} as the mother of '4', but must return mothers as "
        with refused("FOV 1", "tracker", "with_mothers", what):
            follow(chosen("tracker", "with_mothers", mother=mother), FOUND, "FOV 1", bench.at)


class TestFeature:
    @pytest.mark.parametrize("kind", ["phase feature", "fluorescence feature"])
    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("fails", "failed: ZeroDivisionError: "),
            ("one_number", r"returned int64 \(\), but must return one number for each of 3 objects"),
            ("words", r"returned <U1 \(3,\), but must return one number for each of 3 objects"),
            ("nothing", r"returned object \(\), but must return one number"),
        ],
    )
    def test_what_is_wrong_is_refused(self, chosen, kind, name, what):
        shapes = measure_shapes(LABELS, FOUND[0])
        with refused("FOV 1, frame 3", kind, name, what):
            measured_columns([chosen(kind, name)], 2, "FOV 1, frame 3", shapes, 3)

    def test_what_is_right_is_a_column(self, chosen):
        shapes = measure_shapes(LABELS, FOUND[0])
        columns = measured_columns([chosen("phase feature", "areas_as_list")], 2, "here", shapes, 3)
        assert {name: values.tolist() for name, values in columns.items()} == {"areas_as_list_ch_2": [4, 4, 12]}


def test_too_little_memory_names_the_method_and_is_no_fault_of_it(chosen):
    with pytest.raises(OutOfMemoryError, match=r"^FOV 1, frame 3: the segmenter .* failed: MemoryError: too much$"):
        chosen("segmenter", "hungry").array("FOV 1, frame 3", LABELS)
