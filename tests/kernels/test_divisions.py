"""A division is a track that begins beside one that goes on, if both are smaller than that was."""

import numpy as np

from pyama_dask.kernels import lap
from pyama_dask.kernels.divisions import divided

MOTHER = [100, 100, 120, 140]
LEFT, RIGHT = [100, 96, 120, 118], [100, 122, 120, 144]
OTHER = [300, 300, 320, 340]


def movie(*frames):
    return [np.array(frame, float).reshape(-1, 4) for frame in frames]


def test_a_mother_ends_and_two_daughters_begin():
    ids, parents = lap.link(movie(*[[OTHER, MOTHER]] * 4, *[[LEFT, RIGHT, OTHER]] * 3), divide=True)
    assert [of.tolist() for of in ids] == [[1, 2]] * 4 + [[4, 3, 1]] * 3
    assert parents == {3: 2, 4: 2}


def test_daughters_divide_again():
    small = [[100, 96, 110, 118], [111, 96, 121, 118]]
    ids, parents = lap.link(movie(*[[MOTHER]] * 4, *[[LEFT, RIGHT]] * 4, *[[*small, RIGHT]] * 2), divide=True)
    assert len({*np.concatenate(ids).tolist()}) == 5
    assert sorted(parents.values()).count(1) == 2
    grandchildren = [daughter for daughter, mother in parents.items() if mother != 1]
    assert len(grandchildren) == 2
    assert {parents[parents[daughter]] for daughter in grandchildren} == {1}
    assert [of.tolist() for of in ids][-1] == [of.tolist() for of in ids][-2]


def test_nothing_divides_where_areas_or_places_do_not_fit():
    for late in ([MOTHER, OTHER], [LEFT, OTHER], [LEFT, [100, 180, 120, 202]], [LEFT, [100, 122, 104, 126]]):
        assert lap.link(movie(*[[MOTHER]] * 4, *[late] * 3), divide=True)[1] == {}
    assert lap.link(movie(*[[MOTHER]] * 2, *[[LEFT, RIGHT]] * 3), divide=True)[1] == {}  # seen in two frames only


def test_two_mothers_and_one_daughter():
    apart = [[100, 146, 120, 186]]
    _, parents = lap.link(movie(*[[MOTHER, *apart]] * 4, *[[LEFT, RIGHT, *apart]] * 3), divide=True)
    assert set(parents.values()) == {1}


def test_no_divisions_without_objects():
    assert divided([], []) == ([], {})
    none = np.zeros(0, np.int64)
    ids, parents = divided(movie([], []), [none, none])
    assert [of.tolist() for of in ids] == [[], []]
    assert parents == {}
