"""Images and tables of pipelines as `open_output`, notebooks and napari show them."""

from pathlib import Path

import numpy as np
import pytest
from support import steps
from support.movies import as_nd2, config, pixels

import pyama_dask
from pyama_dask.errors import OutputError, ResultsWarning
from pyama_dask.napari.layers import fov_layers
from pyama_dask.napari.start import layers_to_view
from pyama_dask.store.ledger import Ledger

MINE = Path(steps.__file__).as_posix()
PIPELINES = [
    {
        "name": "prepare",
        "steps": [
            {"do": f"{MINE}:brighter", "channels": ["GFP"], "checkpoint": True},
            {"do": "max_projection", "over": "z"},
        ],
    },
    {"name": "cells", "input": "prepare", "steps": "seven"},
    {
        "name": "more",
        "input": "cells",
        "steps": [
            {"do": f"{MINE}:light_in_cells", "of": ["GFP", "tracked"], "to": "light"},
            {"do": f"{MINE}:bright_pixels", "channels": ["GFP"], "to": "mask"},
        ],
    },
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Output of a movie of two planes, and its pixels (FOV, T, C, Z, H, W)."""
    folder = tmp_path_factory.mktemp("results")
    data = pixels(fovs=2, frames=5, shape=(150, 170), cells=4)
    both = np.stack([data, data // np.uint16(2)], axis=3)
    movie = as_nd2(folder / "movie.nd2", both)
    report = pyama_dask.run(config(movie, folder / "out", {"pipelines": PIPELINES}))
    assert not report.exit_status
    return folder / "out", both


def test_images_have_axes_scale_and_values(made):
    output, both = made
    fov = pyama_dask.open_output(output)[1]
    assert fov.pipeline_images == ("more/bright_pixels_mask", "prepare/brighter_1")
    assert "images more/bright_pixels_mask, prepare/brighter_1; tables more_light" in repr(fov)
    stack = fov.image("prepare/brighter_1")
    assert (stack.axes, stack.is_labels) == (("t", "z", "y", "x"), False)
    assert dict(stack.scale) == {"t": 10.0, "z": 1.0, "y": 0.65, "x": 0.65}
    assert np.array_equal(stack.data.compute(), both[1, :, 1] + np.uint16(10))
    mask = fov.image("more/bright_pixels_mask")
    assert (mask.axes, mask.is_labels) == (("t", "y", "x"), True)
    assert np.array_equal(mask.data.compute(), both[1, :, 1].max(axis=1) + np.uint16(10) > 120)
    for shown in (stack, mask, fov):
        assert "cannot be shown" not in shown._repr_html_()
    assert "prepare/brighter_1" in fov._repr_html_()
    assert "more_light" in fov._repr_html_()


def test_tables_of_a_fov_are_known_without_the_records_of_others(made, monkeypatch):
    asked, of_fov = [], Ledger.of_fov
    monkeypatch.setattr(Ledger, "of_fov", lambda self, fov: asked.append(fov) or of_fov(self, fov))
    assert pyama_dask.open_output(made[0])[1].tables == ("more_light",)
    assert asked == [1]


def test_tables_of_a_fov_and_of_all(made):
    output = pyama_dask.open_output(made[0])
    assert output.tables == output[0].tables == ("more_light",)
    both = output.table("more_light")
    assert both["fov"].tolist() == sorted(both["fov"])
    assert {*both["fov"]} == {0, 1}
    one = both[both["fov"] == 1].reset_index(drop=True)
    assert one.equals(output[1].table("more_light"))
    assert "tables more_light" in repr(output)
    assert "more_light" in output._repr_html_()


def test_the_recorded_config_is_that_of_the_run(made, call):
    """The resolved pipelines can be read again, also steps with `of`."""
    status, said, error = call("plan", made[0])
    assert (status, error) == (0, "")
    assert "tasks:   0 left of " in said


def test_tables_and_steps_in_status_and_report(made, tmp_path, call):
    output, _ = made
    rows = len(pyama_dask.open_output(output).table("more_light"))
    assert f"Tables: more_light ({rows} rows of 2 FOVs)" in call("status", output)[1]
    page = pyama_dask.write_report_page(output, tmp_path / "report.html").read_text()
    assert f"more_light ({rows} rows of 2 FOVs)" in page
    assert "more.bright_pixels" in page
    _, said, _ = call("top", output)
    assert "more.light_in_cells  " in said


@pytest.mark.parametrize(
    ("call_", "said"),
    [
        (lambda output: output[0].image("prepare/gaussian_1"), "choose one at level 0: more/bright_pixels_mask"),
        (lambda output: output[0].image("prepare/brighter_1", level=1), "no image prepare/brighter_1.*at level 1"),
        (lambda output: output[0].table("more_lights"), "no table more_lights. Fix: choose one of: more_light;"),
        (lambda output: output.table("light"), "no table light. Fix: choose one of: more_light;"),
    ],
)
def test_names_that_are_not_there(made, call_, said):
    with pytest.raises(OutputError, match=said):
        call_(pyama_dask.open_output(made[0]))


def test_layers_in_napari(made):
    """Beside (T, H, W), napari would take the time of (T, Z, H, W) for z, so that planes are layers of their own."""
    output, both = made
    fov = pyama_dask.open_output(output)[0]
    layers = {
        shown["name"].partition(":")[0]: (data, shown, kind) for data, shown, kind in fov_layers(fov, lambda _: None)
    }
    data, shown, kind = layers["prepare/brighter_1 z 1 of 0-1"]
    assert (kind, shown["scale"], shown["visible"]) == ("image", (10.0, 0.65, 0.65), False)
    assert np.array_equal(data.compute(), both[0, :, 1, 1] + np.uint16(10))
    assert layers["more/bright_pixels_mask"][2] == "labels"
    ((alone, shown, kind),) = layers_to_view(fov.directory / "prepare.zarr/brighter_1", None)
    assert (alone.ndim, shown["scale"], shown["visible"], kind) == (4, (10.0, 1.0, 0.65, 0.65), True, "image")
    assert len(layers_to_view(fov.directory / "prepare.zarr", None, lambda _: None)) == len(layers)


def test_a_failed_step_names_file_and_line_of_what_failed(made, tmp_path, call):
    """It is found only where cells are, as made images of the trial are darker."""
    failing = {"do": f"{MINE}:refuses_large_frames", "channels": ["GFP"]}
    output, _ = made
    movie = str(output.parent / "movie.nd2")
    again = config(movie, tmp_path / "out", {"pipelines": [{"name": "a", "steps": [failing]}], "params.z": 0})
    report = pyama_dask.run(again)
    reasons = [fov.reason for fov in report.fovs]
    line = steps.refuses_large_frames.__code__.co_firstlineno
    for reason in reasons:
        assert f"steps.py, line {line}) failed: ValueError: too bright, in line {line + 3}" in reason
    assert reasons[0] in call("status", tmp_path / "out")[1]
    page = pyama_dask.write_report_page(tmp_path / "out").read_text()
    assert f"too bright, in line {line + 3}" in page
    assert "pipelines without the seven steps and finds no cells" in page
    assert "pipelines of the run have none of the seven steps" in page


def test_missing_frames_and_changed_tables_are_warned_of(made):
    output, _ = made
    fov = pyama_dask.open_output(output)[0]
    (shard, *_) = sorted((fov.directory / "prepare.zarr/brighter_1/0").glob("c.1.1.*"))
    (csv,) = fov.directory.glob("*_more_light.csv")
    kept, text = shard.read_bytes(), csv.read_text()
    shard.unlink()
    csv.write_text(text + "0,0,0.0,99,1\n")
    try:
        with pytest.warns(ResultsWarning, match="1 frames of prepare/brighter_1 are missing and read as 0"):
            fov.image("prepare/brighter_1")
        with pytest.warns(ResultsWarning, match="movie_fov_000_more_light.csv: "):
            fov.table("more_light")
        csv.unlink()
        with pytest.raises(OutputError, match=r"more_light.csv: is missing"):
            pyama_dask.open_output(output).table("more_light")
    finally:
        shard.write_bytes(kept)
        csv.write_text(text)
