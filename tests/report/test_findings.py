"""Findings on made summaries: each fault is found, told apart from the others, and nothing is found in quiet runs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.summaries import made_summary

from pyama_dask.report.drift import Drift
from pyama_dask.report.findings import find, weights
from pyama_dask.store.summary import AREA_EDGES

NAMES = {0: "Phase", 1: "GFP"}


def quiet(seed, frames=40, **changes):
    """Summary with noise, dividing cells, fluorescence that rises, and a lamp that drifts by a tenth."""
    rng, t = np.random.default_rng(seed), np.linspace(0, 1, frames)
    found = rng.poisson(40 * (1 + t))
    level = np.array([8000 * (1 + 0.1 * t), 500 + 300 * t * rng.uniform(0, 3)]) * rng.normal(1, 0.01, (2, frames))
    spread = level * rng.normal(0.1, 0.004, (2, frames))
    sharpness = 900 * (1 + 0.5 * t) * rng.normal(1, 0.08, frames) * rng.uniform(0.8, 1.25)
    held = {"found": found, "kept": found - 5, "level": level, "spread": spread, "sharpness": sharpness, "cells": 35}
    return made_summary(frames, **(held | {"tracks": 60, "short": 15, "border": 10} | changes))


def texts(fovs):
    return [finding.text for finding in find(fovs, NAMES)]


def blurred(of, start, stop=None, by=0.2):
    sharpness = of.sharpness.copy()
    sharpness[start:stop] *= by
    return replace(of, sharpness=sharpness)


def dark(of, row, start, stop=None, level=100.0):
    levels, spreads, sharpness = of.level.copy(), of.spread.copy(), of.sharpness.copy()
    levels[row, start:stop], spreads[row, start:stop] = level, 3.0
    if row == 0:
        sharpness[start:stop] = 18.0
    return replace(of, level=levels, spread=spreads, sharpness=sharpness)


@pytest.fixture
def run():
    return {fov: quiet(fov) for fov in range(4)}


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1, 2, 7, 16, 40, 180]))
def test_nothing_is_found_in_quiet_runs(seed, fovs, frames):
    assert texts({fov: quiet(seed + fov, frames) for fov in range(fovs)}) == []


def test_no_fovs_have_no_findings():
    assert find({}, NAMES) == []


@pytest.mark.parametrize(("unknown", "weight"), [([4, 9], 1), (range(5, 40), 2)])
def test_frames_without_a_measured_drift_are_found(run, unknown, weight):
    run[2] = replace(run[2], frames=run[2].frames + 100)
    times, shifts = np.arange(40.0), np.zeros((40, 2))
    drifts = {fov: [Drift("", times, shifts, ~np.isin(np.arange(40), unknown if fov == 2 else []))] for fov in run}
    (found,) = find(run, NAMES, drifts)
    assert (found.weight, found.frame, found.index) == (weight, unknown[0] + 100, unknown[0])
    frames = "104, 109" if weight == 1 else "105-139"
    assert found.text == f"drift of the stage not measured in FOV 2 at frames {frames}, where it is interpolated"


def test_three_faults_are_told_apart(run):
    run[2], run[1] = blurred(run[2], 20), dark(run[1], 1, 12)
    run[0] = replace(run[0], lost=np.full(40, 0.61), too_large=np.ones(40, int))
    assert [text.partition(" (")[0] for text in texts(run)] == [
        "light off in FOV 1 from frame 12",
        "cells merged in FOV 0: one object covers 61% of the frame, dropped as too large",
        "out of focus in FOV 2 from frame 20",
    ]
    heaviest = weights(find(run, NAMES))
    assert heaviest[1] > heaviest[2]
    assert 3 not in heaviest


class TestFocus:
    def test_frames_that_recover_are_named(self, run):
        run[0] = blurred(run[0], 10, 16)
        (finding,) = find(run, NAMES)
        assert finding.text.startswith("out of focus in FOV 0 from frame 10 to 15 (")
        assert finding.weight == 2
        assert 10 <= finding.index <= 15

    def test_frames_are_those_of_the_movie(self, run):
        run[0] = replace(blurred(run[0], 10), frames=np.arange(40) * 3 + 100)
        (finding,) = find(run, NAMES)
        assert finding.frame == 130
        assert "from frame 130 (" in finding.text

    def test_two_blurred_frames_are_no_finding(self, run):
        run[0] = blurred(run[0], 10, 12)
        assert texts(run) == []

    def test_a_fov_is_compared_with_the_others_if_all_its_frames_are_blurred(self, run):
        run[3] = blurred(run[3], 0, by=0.1)
        (text,) = texts(run)
        assert text.startswith("out of focus in FOV 3 in all frames, or empty (")

    def test_without_phase_contrast_there_is_no_focus(self, run):
        assert texts({fov: replace(of, sharpness=np.full(40, np.nan)) for fov, of in run.items()}) == []


class TestLight:
    def test_phase_contrast_in_the_dark_is_not_called_out_of_focus(self, run):
        run[0] = dark(run[0], 0, 30)
        assert texts(run) == ["light off in FOV 0 from frame 30 (Phase: 1% of its start)"]

    def test_a_camera_with_a_large_offset_hides_no_dark_frames(self, run):
        of = run[0]
        level = of.level.copy()
        level[1] = 2000 + np.linspace(0, 300, 40) + np.random.default_rng(0).normal(0, 2, 40)
        of = replace(of, level=level, spread=np.where(of.spread > 0, 120.0, 0))
        run[0] = dark(of, 1, 25, level=1600.0)
        (text,) = texts(run)
        assert text.startswith("light off in FOV 0 from frame 25 (GFP: ")

    def test_bleaching_is_not_a_lamp_that_is_off(self, run):
        of = run[0]
        fade = np.exp(-np.linspace(0, 2.5, 40))
        run[0] = replace(
            of, level=of.level * np.array([np.ones(40), fade]), spread=of.spread * np.array([np.ones(40), fade])
        )
        assert texts(run) == []

    def test_several_fovs_are_one_finding(self, run):
        found = find({fov: dark(of, 1, 12, level=50) for fov, of in run.items()}, NAMES)
        assert [finding.fovs for finding in found] == [(0, 1, 2, 3)]
        assert found[0].text.startswith("light off in FOVs 0-3 from frame 12")


class TestCells:
    def test_hardly_a_cell_is_said_with_the_reasons(self):
        alone = quiet(0, cells=1, tracks=18, border=15, short=2)
        assert texts({0: alone}) == ["hardly a cell in FOV 0 (1 of 18 tracks kept, 15 at the border, 2 too short)"]

    def test_no_cell_at_all(self):
        assert texts({0: made_summary(9, cells=0, tracks=0, short=0, border=0)}) == ["no cell found in FOV 0"]

    def test_a_run_that_finds_no_cells_lacks_none(self):
        unknown = np.full(9, -1)
        copied = made_summary(9, found=unknown, kept=unknown, cells=0, tracks=0, short=0, border=0)
        assert texts({0: copied}) == []

    def test_fewer_cells_than_in_other_fovs(self, run):
        run[1] = replace(run[1], cells=4)
        assert texts(run) == ["few cells in FOV 1 (4; other FOVs have 35)"]

    def test_objects_that_merge_late(self, run):
        lost = np.zeros(40)
        lost[30:] = 0.4
        run[1] = replace(run[1], lost=lost, too_large=(lost > 0).astype(int))
        assert texts(run) == ["cells merged in FOV 1 from frame 30: 40% of the frame is dropped as too large"]

    def test_one_object_that_is_kept_although_no_cell_is_so_large(self, run):
        areas = np.zeros(len(AREA_EDGES) - 1, int)
        areas[np.searchsorted(AREA_EDGES, 120_000) - 1] = 40
        run[1] = replace(run[1], areas=areas, foreground=np.full(40, 0.45))
        (text,) = texts(run)
        assert text == "cells merged in FOV 1: an object of more than 10% of the frame, not dropped"

    def test_cells_that_get_lost(self, run):
        found = np.r_[np.full(30, 40), np.full(10, 3)]
        run[1] = replace(run[1], found=found)
        (finding,) = find(run, NAMES)
        assert finding.text == "cells get lost in FOV 1: 40 objects at the start, 3 in the end"
        assert finding.frame == 30

    def test_short_tracks(self, run):
        run[1] = replace(run[1], tracks=100, short=60 + 5)
        assert texts(run) == ["most tracks are too short in FOV 1 (65 of 100)"]
