"""What became of tracks, in words: for some FOVs or hundreds of them."""

from dataclasses import replace

import pytest

from pyama_dask.runs.outcome import LISTED, NOTABLE, FovTracks, attention, describe_tracks

FOV = FovTracks(fov=0, cells=10, border=6, short=2, lost=0.01, pixels=2048**2)


def many(count, **changes):
    return [replace(FOV, fov=k, **changes) for k in range(count)]


def test_one_fov_has_one_line():
    assert describe_tracks([FOV]) == ["Tracks: 18; kept 10, 6 at the border, 2 too short"]
    assert describe_tracks([replace(FOV, border=0, lost=None)]) == ["Tracks: 12; kept 10, 2 too short"]
    assert describe_tracks([replace(FOV, lost=0.61)])[0].endswith("2 too short; 61% of the frame dropped as too large")
    assert describe_tracks([]) == []


def test_some_fovs_have_a_line_each_after_their_sum():
    assert describe_tracks([FOV, replace(FOV, fov=3, cells=0, border=0, short=0)]) == [
        "Tracks: 18; kept 10, 6 at the border, 2 too short",
        "  FOV 0: 18; kept 10, 6 at the border, 2 too short",
        "  FOV 3: 0; kept 0",
    ]


def test_of_hundreds_only_the_most_notable_have():
    assert describe_tracks(many(500)) == ["Tracks: 9000; kept 5000, 3000 at the border, 1000 too short"]
    fovs = many(500)
    for k in range(100, 100 + 2 * NOTABLE):
        fovs[k] = replace(fovs[k], cells=0)
    fovs[7] = replace(FOV, fov=7, lost=0.4)
    lines = describe_tracks(fovs)
    assert [line.partition(":")[0] for line in lines[1:-1]] == [f"  FOV {k}" for k in range(100, 100 + NOTABLE)]
    assert lines[-1] == f"  ... and {NOTABLE + 1} more FOVs with as little"
    assert len(describe_tracks(many(LISTED))) == 1 + LISTED


@pytest.mark.parametrize(
    ("fovs", "words"),
    [
        ([], ""),
        ([FOV], ""),
        ([replace(FOV, cells=1, pixels=200 * 240)], ""),  # as many as fit
        ([replace(FOV, cells=1)], "HARDLY ANY CELLS: 1 in 1 FOV. Most tracks come close to the border"),
        ([replace(FOV, cells=1, short=9)], "HARDLY ANY CELLS: 1 in 1 FOV. Most tracks are seen in too few frames"),
        (many(2, cells=0, border=0, short=0), "HARDLY ANY CELLS: 0 in 2 FOVs. The segmentation finds no objects."),
        (many(2, cells=1, lost=0.57), "HARDLY ANY CELLS: 2 in 2 FOVs. Objects that are too large cover"),
        ([replace(FOV, cells=9, short=90)], "MOST TRACKS WERE DROPPED: only 9 of 105 are kept. Most tracks are seen"),
        ([replace(FOV, cells=9, short=3)], ""),
        ([replace(FOV, lost=0.4)], "MUCH OF THE FRAMES WAS DROPPED: 40%, as too large for a cell. Objects that"),
        ([FOV, replace(FOV, lost=None), replace(FOV, lost=0.4)], ""),
    ],
)
def test_hardly_a_cell_is_said_loudly(fovs, words):
    said = attention(fovs)
    assert said.startswith(words)
    assert bool(said) == bool(words)
    assert not said or "Fix: " in said
