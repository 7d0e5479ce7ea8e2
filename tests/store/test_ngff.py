"""Documents of a store, as viewers read them."""

import json

import numpy as np
import pytest
import zarr

from pyama_dask.config.load import parse_config
from pyama_dask.files.palette import cell_colours, rgb
from pyama_dask.store.layout import layout
from pyama_dask.store.ngff import Look, documents
from pyama_dask.workflow.task import Job

CHANNELS = {"pc": {"channel": 0}, "fl": [{"channel": 1}]}
LOOKS = {
    "pc_ch_0": Look("Phase", window=(3000.5, 5000.0)),
    "fl_background_ch_1": Look("GFP background", "#00FF00", (1.5, 2.5)),
    "seg_tracked_ch_0": Look("cells", ids=(3, 7)),
}


def store(folder, looks=None, **storage):
    document = {"input": "a", "output": "b", "channels": CHANNELS, "storage": storage}
    document["params"] = {"background_params": {"tile_size": 10}}
    specs = layout(Job(folder, folder, parse_config(document), tuple(range(4)), 2), (20, 24))
    for path, content in documents(specs, scale=(10.0, 0.65), attributes={}, looks=looks).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder, specs


def ome(images, group):
    return json.loads((images / group / "zarr.json").read_text())["attributes"].get("ome", {})


def test_a_group_lists_its_grey_levels_only_and_other_arrays_open_by_their_paths(tmp_path):
    images, specs = store(tmp_path)
    root = zarr.open_group(images, mode="r")
    assert sorted(root.group_keys()) == sorted({spec.group for spec in specs.values()})
    for group in root.group_keys():
        assert list(zarr.open(images / group, mode="r").array_keys()) == ["0"]
    for path, spec in specs.items():
        assert path in root
        assert root[path].shape == zarr.open_array(images / path, mode="r").shape == spec.shape
    alone = zarr.open_array(images / "pc_ch_0/0", mode="r").metadata.to_dict()
    assert zarr.open_group(images / "pc_ch_0", mode="r")["0"].metadata.to_dict() == alone


def test_a_group_without_grey_levels_lists_none(tmp_path):
    images, _ = store(tmp_path, background="grid")
    assert list(zarr.open_group(images / "fl_background_ch_1", mode="r").array_keys()) == []
    assert zarr.open_group(images, mode="r")["fl_background_ch_1/tiles"].dtype == "float64"


def test_images_have_name_colour_and_limits_and_labels_have_colours_instead(tmp_path):
    images, _ = store(tmp_path, LOOKS)
    (phase,), (background,), (cells,) = (ome(images, group)["omero"]["channels"] for group in LOOKS)
    assert (phase["label"], phase["color"]) == ("Phase", "FFFFFF")
    assert phase["window"] == {"min": 0, "max": 65535, "start": 3000.5, "end": 5000.0}
    assert background["color"] == "00FF00"
    assert background["window"] == {"min": 1.5, "max": 2.5, "start": 1.5, "end": 2.5}
    assert cells["window"].keys() == {"min", "max"}  # napari-ome-zarr passes limits on, and labels refuse them
    first, second = ome(images, "seg_tracked_ch_0")["image-label"]["colors"]
    assert (first["label-value"], second["label-value"]) == (3, 7)
    assert first["rgba"] == [*rgb(cell_colours(2)[0]), 255] != second["rgba"]
    assert "omero" not in ome(images, "seg_labeled_ch_0")
    assert "colors" not in ome(images, "seg_labeled_ch_0")["image-label"]


def test_groups_are_valid_ome_zarr(tmp_path):
    models = pytest.importorskip("ome_zarr_models.v05")
    images, _ = store(tmp_path, LOOKS)
    for group in LOOKS:
        model = models.ImageLabel if group.startswith("seg_") else models.Image
        found = model.from_zarr(zarr.open_group(images / group, mode="r")).attributes.ome
        assert found.multiscales[0].datasets[0].path == "0"
    assert found.image_label.colors[1].label_value == 7


def test_colours_of_cells_are_far_apart():
    colours = np.array([rgb(colour) for colour in cell_colours(12)], float)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert apart[~np.eye(12, dtype=bool)].min() > 30
