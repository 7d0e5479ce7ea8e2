"""Grids of FOVs."""

import json

import pytest

from pyama_dask.runs.snapshot import FovProgress, cells_of


def fovs(*states, tasks=4, done=2):
    return [
        FovProgress(k, f"Pos{k}", state, tasks, tasks if state == "done" else done) for k, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("count", "most", "size", "cells"),
    [(0, 10, None, 0), (10, 10, 1, 10), (11, 10, 2, 6), (21, 10, 5, 5), (1000, 10, 100, 10)],
)
def test_cells_hold_as_many_fovs_as_they_must(count, most, size, cells):
    found = cells_of(fovs(*["done"] * count), most)
    assert len(found) == cells
    assert {cell.size for cell in found} == ({size} if size else set())
    assert [fov for cell in found for fov in range(cell.first, cell.last + 1)] == list(range(count))


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["done", "done"], "done"),
        (["done", "failed"], "failed"),
        (["in work", "failed"], "failed"),
        (["to do", "in work"], "in work"),
        (["to do", "done"], "partial"),
        (["to do", "to do"], "to do"),
    ],
)
def test_the_state_of_a_cell_is_the_one_to_look_at(states, state):
    (cell,) = cells_of(fovs(*states), 1)
    assert cell.state == state
    assert cell.done == (1.0 if states == ["done", "done"] else 0.75 if "done" in states else 0.5)


def test_a_fov_without_tasks_is_no_fault():
    (cell,) = cells_of([FovProgress(3, "Pos3", "failed", 0, 0)], 5)
    assert json.dumps(cell.__dict__) == '{"first": 3, "last": 3, "state": "failed", "done": 0.0, "size": 1}'
