"""Layers for napari, as plain tuples: no napari is needed to make them."""

import shutil

import numpy as np
import pandas as pd
import pytest

import pyama_dask
from pyama_dask.analysis.fov import Fov
from pyama_dask.analysis.overrides import set_override
from pyama_dask.errors import OutputError
from pyama_dask.files.palette import cell_colours, rgb
from pyama_dask.napari.cells import Cells
from pyama_dask.napari.layers import OURS, fov_layers, layers_at
from pyama_dask.napari.places import Place


def by_name(layers):
    return {name: (data, shown, kind) for data, shown, kind in layers for name in [shown["name"]]}


@pytest.fixture(scope="module")
def fov(finished):
    return Fov(finished / "fov_000")


@pytest.fixture(scope="module")
def layers(fov):
    return by_name(fov_layers(fov, colormap=lambda colours: colours))


def test_all_of_a_fov_is_shown_by_name_and_kind(layers):
    assert {name: kind for name, (_, _, kind) in layers.items()} == {
        "pc_ch_0: Phase": "image",
        "fl_background_ch_1: GFP background": "image",
        "fl_ch_1: GFP": "image",
        "corrected_ch_1: GFP": "image",
        "seg_labeled_ch_0: objects": "labels",
        "seg_tracked_ch_0: cells": "labels",
        "tracks": "tracks",
    }
    visible = {name for name, (_, shown, _) in layers.items() if shown.get("visible", True)}
    assert visible == {"pc_ch_0: Phase", "corrected_ch_1: GFP", "seg_tracked_ch_0: cells", "tracks"}


def test_every_layer_has_scale_units_and_its_origin_and_images_are_lazy(fov, layers):
    for name, (data, shown, kind) in layers.items():
        assert shown["scale"] == pytest.approx((10.0, 0.65, 0.65))
        assert shown["units"] == ("minute", "micrometer", "micrometer")
        assert shown["axis_labels"] == ("t", "y", "x")
        assert shown["metadata"][OURS] == {"fov": str(fov.directory), "group": name.partition(":")[0]}
        if kind != "tracks":
            assert data.chunks[0] == (1,) * data.shape[0]
            assert shown["cache"] is False


def test_limits_are_the_stored_ones_and_make_sense_without(fov, layers, copied):
    _, shown, _ = layers["fl_ch_1: GFP"]
    low, high = shown["contrast_limits"]
    grey = np.asarray(fov.image("fl_ch_1").data)
    assert (low, high) == pytest.approx(np.percentile(grey, (1, 99)), abs=1)
    assert (shown["colormap"], shown["blending"]) == ("green", "additive")
    low, high = layers["corrected_ch_1: GFP"][1]["contrast_limits"]
    corrected = np.asarray(fov.corrected("fl_ch_1").data)
    assert abs(low) < 5 < high < corrected.max()  # where there are no cells, it is black
    group = copied / "fov_000/images.zarr/fl_ch_1/zarr.json"
    text = group.read_text().replace('"omero"', '"other"')  # an output of an older version
    group.write_text(text)
    older = by_name(fov_layers(Fov(copied / "fov_000"), colormap=lambda colours: colours))
    low, high = older["fl_ch_1"][1]["contrast_limits"]
    assert grey.min() <= low < high <= grey.max()
    assert older["fl_ch_1"][1]["colormap"] == "green"


def test_labels_have_a_row_and_a_colour_for_each_cell_and_dropped_objects_are_clear(fov, layers):
    _, shown, _ = layers["seg_tracked_ch_0: cells"]
    table, colours, traces = shown["features"], shown["colormap"], fov.traces()
    assert table["index"].tolist() == list(fov.cells) == sorted(key for key in colours if key)
    assert not colours[None].any()
    assert not colours[0].any()
    row = table[table["index"] == fov.cells[0]].iloc[0]
    of = traces[traces["cell"] == fov.cells[0]]
    assert (row["first"], row["last"], row["frames"]) == (of["frame"].min(), of["frame"].max(), len(of))
    assert row["median area_ch_0"] == of["area_ch_0"].median()
    assert table["good"].all()


def test_tracks_lie_on_their_cells_in_the_colours_of_the_labels(fov, layers):
    data, shown, _ = layers["tracks"]
    labels, label_colours, _ = layers["seg_tracked_ch_0: cells"][0], layers["seg_tracked_ch_0: cells"][1]["colormap"], 0
    ranks, colours = shown["features"]["rank"], shown["colormaps_dict"][shown["color_by"]]
    assert (data[np.lexsort((data[:, 1], data[:, 0]))] == data).all()
    for (cell, frame, y, x), rank in zip(data[::7], ranks[::7], strict=True):
        rows, columns = np.nonzero(np.asarray(labels[int(frame)]) == cell)
        assert rows.min() <= y <= rows.max() + 1
        assert columns.min() <= x <= columns.max() + 1
        assert np.array_equal(colours[round(rank * (len(colours) - 1))], label_colours[int(cell)])
    assert shown["graph"] == {}
    assert {"area_ch_0", "intensity_total_ch_1"} <= shown["features"].keys()


def test_a_bad_cell_is_grey_and_marked_in_its_features(copied):
    fov = Fov(copied / "fov_000")
    set_override(copied / "good.yaml", 0, fov.cells[1], good=False)
    found = by_name(fov_layers(fov, colormap=lambda colours: colours))["seg_tracked_ch_0: cells"][1]
    assert found["features"]["good"].tolist() == [cell != fov.cells[1] for cell in fov.cells]
    assert len(set(found["colormap"][fov.cells[1]][:3])) == 1
    assert found["colormap"][fov.cells[0]][:3] == pytest.approx(np.array(rgb(cell_colours(1)[0])) / 255)


def test_divisions_are_the_graph_of_the_tracks_if_the_mother_was_kept():
    rows = [(cell, frame) for cell in (2, 5, 6, 9) for frame in range(3)]
    table = pd.DataFrame(rows, columns=["cell", "frame"]).assign(
        fov=0, time=0.0, good=True, position_x=1.0, position_y=2.0, area_ch_0=3.0
    )
    table["parent"] = table["cell"].map({2: 0, 5: 2, 6: 2, 9: 7})
    cells = Cells(table)
    assert cells.graph() == {5: [2], 6: [2]}
    assert cells.table()["parent"].tolist() == [0, 2, 2, 7]
    assert cells.features == ["area_ch_0"]


def test_a_single_cell_has_a_rank():
    table = pd.DataFrame({"cell": [4, 4], "frame": [0, 1], "good": True, "position_x": 1.0, "position_y": 1.0})
    assert Cells(table).ranks().tolist() == [0.0, 0.0]


def test_an_output_opens_its_first_fov_with_traces(copied):
    next((copied / "fov_000").glob("*_traces.csv")).unlink()
    found = layers_at(Place(copied), colormap=lambda colours: colours)
    assert {layer[1]["metadata"][OURS]["fov"] for layer in found} == {str(copied / "fov_001")}


def test_a_channel_is_one_visible_layer(fov, finished):
    for group, kind in (("fl_background_ch_1", "image"), ("seg_labeled_ch_0", "labels")):
        ((data, shown, found),) = layers_at(Place(finished, fov.directory, group))
        assert (found, shown["visible"], data.shape) == (kind, True, fov.image(group).data.shape)


@pytest.mark.filterwarnings("ignore::pyama_dask.errors.ResultsWarning")
def test_a_fov_without_traces_or_labels_shows_what_there_is(copied):
    folder = copied / "fov_000"
    next(folder.glob("*_traces.csv")).unlink()
    for group in folder.glob("images.zarr/seg_*"):
        shutil.rmtree(group)
    assert {kind for _, _, kind in fov_layers(Fov(folder))} == {"image"}


def test_an_output_without_a_fov_is_refused(copied):
    for folder in copied.glob("fov_*"):
        shutil.rmtree(folder)
    with pytest.raises(OutputError, match="has no FOV yet"):
        layers_at(Place(copied))
    assert pyama_dask.open_output(copied).fovs == ()


@pytest.mark.parametrize("what", ["pc_ch_0/0/zarr.json", "pc_ch_0/zarr.json", "fl_background_ch_1/0/c.0.0.0"])
def test_damaged_files_are_named_with_the_way_out(copied, what):
    (copied / "fov_000" / "images.zarr" / what).write_bytes(b"")
    with pytest.raises(OutputError, match=r"damaged \(.*\)\. Fix: run 'pyama-dask verify --deep'"):
        fov_layers(Fov(copied / "fov_000"), colormap=lambda colours: colours)
