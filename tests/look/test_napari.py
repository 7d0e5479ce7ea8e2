"""Outputs in a real napari: by our plugin, by its own reader, and by napari-ome-zarr; none of them changes a byte."""

from __future__ import annotations

import gc
import shutil
from importlib.resources import files
from pathlib import Path

import dask
import napari
import numpy as np
import pytest
from napari.layers import Image, Labels, Layer, Tracks
from npe2 import PluginManifest
from qtpy.QtWidgets import QApplication
from support import steps
from support.movies import as_czi, as_nd2, config, pixels, put_in_wells

import pyama_dask
from pyama_dask.analysis.fov import Fov
from pyama_dask.analysis.overrides import load_overrides
from pyama_dask.napari.start import layers_to_view
from pyama_dask.napari.widget import CellsWidget
from pyama_dask.training.annotated import read_annotated

SCALE = (10.0, 0.65, 0.65)
CHANNEL_GROUPS = ("pc_ch_0", "fl_ch_1", "fl_background_ch_1")


@pytest.fixture(scope="session", autouse=True)
def registered():
    """Register the manifest of this checkout, also where another one is installed."""
    from npe2 import PluginManager

    manager = PluginManager.instance()
    manager.discover()
    if "pyama-dask" not in manager:
        manager.register(PluginManifest.from_file(Path(str(files("pyama_dask.napari") / "napari.yaml"))))
    return manager


@pytest.fixture(scope="session")
def small(tmp_path_factory, small_czi):
    """Output of a run with colours of cells and grey levels; to be read only."""
    output = tmp_path_factory.mktemp("look") / "results"
    assert pyama_dask.run(config(small_czi, output)).exit_status == 0
    return output


@pytest.fixture
def untouched(small):
    """The output; after the test, every file in it must have its bytes of before."""

    def contents():
        return {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}

    before = contents()
    yield small
    assert contents() == before


@pytest.fixture
def viewer():
    made = napari.Viewer(show=True)
    made.window.resize(1500, 950)
    yield made
    made.close()
    gc.collect()
    QApplication.processEvents()


def picture(viewer, screenshots, name):
    """Screenshot of the window, for people; and the canvas, to check."""
    for _ in range(5):
        QApplication.processEvents()
    viewer.screenshot(str(screenshots / f"{name}.png"), canvas_only=False, flash=False)
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)


def units(layer):
    return tuple(str(unit) for unit in layer.units)


def test_the_manifest_is_valid_and_all_that_it_names_can_be_imported():
    PluginManifest.from_file(Path(str(files("pyama_dask.napari") / "napari.yaml"))).validate_imports()


class TestOurs:
    def test_a_fov_is_shown_whole(self, untouched, viewer, screenshots):
        viewer.open(str(untouched / "fov_000"), plugin="pyama-dask")
        kinds = {layer.name: type(layer) for layer in viewer.layers}
        assert kinds == {
            "pc_ch_0: Phase": Image,
            "fl_background_ch_1: GFP background": Image,
            "fl_ch_1: GFP": Image,
            "corrected_ch_1: GFP": Image,
            "seg_labeled_ch_0: objects": Labels,
            "seg_tracked_ch_0: cells": Labels,
            "tracks": Tracks,
        }
        for layer in viewer.layers:
            assert tuple(layer.scale) == pytest.approx(SCALE)
            assert units(layer) == ("minute", "micrometer", "micrometer")
            assert tuple(layer.axis_labels) == ("t", "y", "x")
        phase = np.asarray(Fov(untouched / "fov_000").image("pc_ch_0").data)
        assert viewer.layers["pc_ch_0: Phase"].contrast_limits == pytest.approx(np.percentile(phase, (1, 99)), abs=1)
        viewer.dims.set_point(0, 50)
        shown = picture(viewer, screenshots, "napari_fov")
        assert np.ptp(shown, axis=-1).max() > 80  # cells and tracks have colours
        assert 30 < shown.mean() < 200

    @pytest.mark.parametrize(
        "path",
        [".", "processing_config.yaml", "fov_001", "fov_001/images.zarr", "fov_001/images.zarr/seg_tracked_ch_0"],
    )
    def test_dropping_a_folder_offers_our_reader(self, untouched, viewer, registered, path):
        assert "pyama-dask" in {
            reader.plugin_name for reader in registered.iter_compatible_readers(str(untouched / path))
        }
        viewer.open(str(untouched / path), plugin="pyama-dask")
        fov = "fov_001" if "fov_001" in path else "fov_000"
        assert {Path(layer.metadata["pyama_dask"]["fov"]).name for layer in viewer.layers} == {fov}

    def test_other_files_are_not_offered(self, registered):
        assert "pyama-dask" not in {reader.plugin_name for reader in registered.iter_compatible_readers("image.tif")}

    def test_tracks_have_the_colours_of_the_labels(self, untouched, viewer):
        viewer.open(str(untouched / "fov_000"), plugin="pyama-dask")
        labels, tracks = viewer.layers["seg_tracked_ch_0: cells"], viewer.layers["tracks"]
        drawn = {int(cell): colour for cell, colour in zip(tracks.data[:, 0], tracks.track_colors, strict=True)}
        assert len(drawn) == len(labels.features)
        for cell, colour in drawn.items():
            assert np.abs(labels.get_color(cell)[:3] - colour[:3]).max() < 1e-5

    def test_memory_does_not_grow_with_the_frames_that_were_shown(self, untouched, viewer):
        from napari.utils import _dask_utils

        viewer.open(str(untouched / "fov_000"), plugin="pyama-dask")
        held = _dask_utils._DASK_CACHE.cache
        for frame in range(10):
            viewer.dims.set_point(0, frame * 10.0)
            QApplication.processEvents()
        assert held.total_bytes == 0

    def test_features_are_shown_under_the_mouse(self, untouched, viewer):
        viewer.open(str(untouched / "fov_000"), plugin="pyama-dask")
        labels = viewer.layers["seg_tracked_ch_0: cells"]
        cell = int(labels.features["index"][0])
        y, x = np.argwhere(np.asarray(labels.data[0]) == cell).mean(axis=0)
        status = labels.get_status((0, y * 0.65, x * 0.65), world=True)
        assert f"median area_ch_0: {labels.features['median area_ch_0'][0]:.3g}" in status["value"]
        assert status["value"].startswith(f"{cell}; good: True, first: 0, ")


def test_the_command_opens_an_output_with_its_panel(untouched, screenshots, monkeypatch):
    from pyama_dask.napari.start import view

    seen = []

    def look():
        viewer = napari.current_viewer()
        picture(viewer, screenshots, "napari_view")
        seen.append((len(viewer.layers), [*viewer.window.dock_widgets], viewer.title))
        viewer.close()

    monkeypatch.setattr(napari, "run", look)
    monkeypatch.setitem(dask.config.config, "scheduler", "threads")  # and back after the test
    view(untouched, 1)
    assert dask.config.get("scheduler") == "synchronous"
    assert seen == [(7, ["Cells"], "results - pyama_dask")]


class TestWidget:
    @pytest.fixture
    def output(self, small, tmp_path):
        return Path(shutil.copytree(small, tmp_path / "results"))

    @pytest.fixture
    def widget(self, output, viewer):
        viewer.open(str(output), plugin="pyama-dask")
        made = CellsWidget(viewer)
        viewer.window.add_dock_widget(made, name="Cells")
        return made

    def press(self, viewer, key):
        from napari.utils.key_bindings import coerce_keybinding

        viewer.keymap[coerce_keybinding(key)](viewer)

    def test_a_click_chooses_a_cell_and_keys_mark_it(self, output, widget, viewer, screenshots):
        cells = Fov(output / "fov_000").cells
        labels = np.asarray(widget.labels.data[0])
        at = np.argwhere(labels == cells[1]).mean(axis=0)
        self.click(viewer, (0, *(at * 0.65)))
        assert widget.cell == cells[1]
        assert "good" in widget.state.text()
        self.press(viewer, "N")
        assert load_overrides(output).items[-1].model_dump(include={"fov", "cells", "good"}) == {
            "fov": "0", "cells": str(cells[1]), "good": False,
        }  # fmt: skip
        assert not widget.labels.features.set_index("index")["good"][cells[1]]
        assert np.ptp(widget.labels.get_color(cells[1])[:3]) < 1e-6
        assert (
            np.ptp(viewer.layers["tracks"].track_colors[viewer.layers["tracks"].data[:, 0] == cells[1]][0][:3]) < 1e-6
        )
        assert "1 bad" in widget.state.text()
        picture(viewer, screenshots, "napari_widget")
        self.press(viewer, "Y")
        assert load_overrides(output).items[-1].good
        self.press(viewer, "U")
        assert load_overrides(output).items == ()
        self.press(viewer, ".")
        assert widget.cell == cells[2]
        self.press(viewer, ",")
        assert widget.cell == cells[1]

    def click(self, viewer, position, moved=0):
        from types import SimpleNamespace

        event = SimpleNamespace(
            type="mouse_press", position=position, pos=(300, 300), view_direction=None, dims_displayed=[1, 2]
        )
        steps = viewer.mouse_drag_callbacks[-1](viewer, event)
        next(steps)
        if moved:
            event.type, event.pos = "mouse_move", (300 + moved, 300)
            next(steps)
        event.type = "mouse_release"
        with pytest.raises(StopIteration):
            next(steps)

    def test_dragging_chooses_nothing(self, output, widget, viewer):
        at = np.argwhere(np.asarray(widget.labels.data[0]) == Fov(output / "fov_000").cells[0]).mean(axis=0) * 0.65
        self.click(viewer, (0, *at), moved=30)
        assert widget.cell is None
        self.click(viewer, (0, *at), moved=2)
        assert widget.cell == Fov(output / "fov_000").cells[0]

    def test_another_fov_replaces_the_layers(self, output, widget, viewer):
        widget.next_fov()
        folders = {layer.metadata["pyama_dask"]["fov"] for layer in viewer.layers}
        assert folders == {str(output / "fov_001")}
        assert (widget.fov.index, widget.fovs.currentText(), len(viewer.layers)) == (1, "FOV 1", 7)
        widget.next_fov()
        assert widget.fov.index == 1
        widget.previous_fov()
        assert widget.fov.index == 0

    def test_labels_painted_with_the_brush_are_saved_for_training(self, output, widget, viewer, screenshots, tmp_path):
        viewer.dims.set_point(0, 30)
        widget.correct()
        layer = viewer.layers[-1]
        assert (layer.name, tuple(layer.translate)) == ("labels to correct: FOV 0, frame 3", (30.0, 0.0, 0.0))
        layer.selected_label, layer.brush_size = int(layer.data.max()) + 1, 21
        layer.paint((0, 100, 40), layer.selected_label)
        picture(viewer, screenshots, "napari_correct")
        path = widget.save(tmp_path / "training")
        (found,) = read_annotated([path.parent])
        assert found.labels[100, 40] == found.labels.max()
        assert np.array_equal(found.labels > 0, np.asarray(layer.data[0]) > 0)
        assert widget.save(tmp_path / "training", confirm=lambda question: False) is None
        assert widget.save(tmp_path / "training", confirm=lambda question: True) == path

    def test_errors_are_messages(self, output, widget, viewer):
        (output / "good.yaml").write_text("overrides: 3")
        from napari.utils.notifications import notification_manager

        widget.choose(Fov(output / "fov_000").cells[0])
        self.press(viewer, "N")
        assert "good.yaml" in notification_manager.records[-1].message
        assert (output / "good.yaml").read_text() == "overrides: 3"

    def test_a_closed_widget_leaves_the_viewer_as_it_was(self, output, viewer):
        before = (len(viewer.mouse_drag_callbacks), len(viewer.keymap))
        made = CellsWidget(viewer)
        dock = viewer.window.add_dock_widget(made, name="Cells")
        viewer.window.remove_dock_widget(dock)
        made.deleteLater()
        from qtpy.QtCore import QEvent

        QApplication.sendPostedEvents(None, QEvent.DeferredDelete)
        QApplication.processEvents()
        assert (len(viewer.mouse_drag_callbacks), len(viewer.keymap)) == before


class TestBuiltin:
    """napari without any plugin: it knows channels as images; no labels, no FOVs, no units."""

    @pytest.mark.parametrize("group", [*CHANNEL_GROUPS, "seg_tracked_ch_0"])
    def test_a_channel_has_its_own_grey_levels_at_every_zoom(self, untouched, viewer, screenshots, group):
        data = np.asarray(Fov(untouched / "fov_000").image(group).data)
        (layer,) = viewer.open(str(untouched / "fov_000/images.zarr" / group), plugin="napari")
        assert isinstance(layer, Image)
        assert (layer.multiscale, layer.data.shape, layer.dtype) == (False, data.shape, data.dtype)
        low, high = layer.contrast_limits
        assert np.nanmin(data) <= low < high <= np.nanmax(data)
        if group == "pc_ch_0":
            viewer.reset_view()
            far = picture(viewer, screenshots, "napari_builtin").mean()
            viewer.camera.zoom *= 6
            near = picture(viewer, screenshots, "napari_builtin_near")
            assert near.mean() < 230
            assert near.std() > 5
            assert far > 5


class TestOmeZarr:
    @pytest.mark.parametrize("group", CHANNEL_GROUPS)
    def test_a_channel_has_limits_scale_units_and_name(self, untouched, viewer, screenshots, group):
        (layer,) = viewer.open(str(untouched / "fov_000/images.zarr" / group), plugin="napari-ome-zarr")
        assert isinstance(layer, Image)
        assert layer.name.startswith(f"{group}: ")
        assert tuple(layer.scale) == pytest.approx(SCALE)
        assert units(layer) == ("minute", "micrometer", "micrometer")
        data = np.asarray(Fov(untouched / "fov_000").image(group).data)
        assert layer.contrast_limits == pytest.approx(np.nanpercentile(data, (1, 99)), rel=0.01)
        picture(viewer, screenshots, f"napari_ome_zarr_{group}")

    @pytest.mark.filterwarnings("ignore:color_dict did not provide a default color")
    @pytest.mark.parametrize(("group", "name"), [("seg_tracked_ch_0", "cells"), ("seg_labeled_ch_0", "objects")])
    def test_labels_are_visible_and_named_and_nothing_is_written(self, untouched, viewer, screenshots, group, name):
        (layer,) = viewer.open(str(untouched / "fov_000/images.zarr" / group), plugin="napari-ome-zarr")
        assert isinstance(layer, Labels)
        assert (layer.name, layer.visible) == (f"{group}: {name}", True)
        assert tuple(layer.scale) == pytest.approx(SCALE)
        fov = Fov(untouched / "fov_000")
        shown = set(fov.cells) if name == "cells" else set(np.unique(np.asarray(fov.image(group).data))) - {0}
        assert {cell for cell in shown if layer.get_color(int(cell))[3] == 1} == shown
        canvas = picture(viewer, screenshots, f"napari_ome_zarr_{group}")
        assert np.ptp(canvas, axis=-1).max() > 80


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    """Folder of a FOV with images of pipelines, one of which has planes."""
    folder = tmp_path_factory.mktemp("pipelines")
    data = pixels(fovs=1, frames=3, shape=(141, 160), cells=2)
    movie = as_nd2(folder / "movie.nd2", np.stack([data, data // np.uint16(2)], axis=3))
    bright = {"do": f"{Path(steps.__file__).as_posix()}:bright_pixels", "channels": ["GFP"], "to": "mask"}
    two = {"do": "gaussian", "channels": ["GFP"], "checkpoint": True}
    listed = [two, {"do": "max_projection", "over": "z"}, bright]
    changes = {"pipelines": [{"name": "prepare", "steps": listed}]}
    assert pyama_dask.run(config(movie, folder / "out", changes)).exit_status == 0
    return folder / "out/fov_000"


class TestOmeZarrPipelines:
    def test_planes_have_an_axis(self, pipelines, viewer):
        (layer,) = viewer.open(str(pipelines / "prepare.zarr/gaussian_1"), plugin="napari-ome-zarr")
        assert isinstance(layer, Image)
        assert layer.data.shape == (3, 2, 141, 160)
        assert tuple(layer.scale) == pytest.approx((10.0, 1.0, 0.65, 0.65))

    def test_labels_are_labels(self, pipelines, viewer):
        (layer,) = viewer.open(str(pipelines / "prepare.zarr/bright_pixels_mask"), plugin="napari-ome-zarr")
        assert isinstance(layer, Labels)
        assert np.array_equal(np.asarray(layer.data) > 0, Fov(pipelines).image("prepare/bright_pixels_mask").data > 0)

    def test_the_command_shows_an_image_with_its_planes(self, pipelines, viewer):
        ((data, shown, kind),) = layers_to_view(pipelines / "prepare.zarr/gaussian_1", None)
        layer = viewer.add_layer(Layer.create(data, shown, kind))
        assert (viewer.dims.ndim, layer.visible) == (4, True)


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """A plate of four FOVs in two wells, of which one site is not done; to be read only."""
    folder = tmp_path_factory.mktemp("screen")
    movie = as_czi(folder / "screen.czi", pixels(fovs=4, frames=3, shape=(141, 160), cells=2))
    put_in_wells(movie, ("B02", "B02", "C10", "C10"))
    changes = {"storage.layout": "plate", "params.fovs": "0, 1, 3", "params.tracking_params.min_frames": 2}
    assert pyama_dask.run(config(movie, folder / "results", changes)).exit_status == 0
    return folder / "results" / "plate.zarr"


class TestOmeZarrPlate:
    @pytest.mark.filterwarnings("ignore:color_dict did not provide a default color")
    def test_the_whole_plate_is_shown(self, plate, viewer, screenshots):
        layers = viewer.open(str(plate), plugin="napari-ome-zarr")
        assert [type(layer) for layer in layers] == [Image, Image, Labels, Labels]
        assert [layer.name for layer in layers[:2]] == ["P1: Phase", "P1: GFP"]
        for layer in layers:
            assert [level.shape for level in layer.data] == [(3, 8 * 141, 12 * 160), (3, 8 * 70, 12 * 80)]
        shown = np.asarray(layers[0].data[0][1])
        assert shown[141:282, 160:320].all()  # B02
        assert not shown[:141].any()
        canvas = picture(viewer, screenshots, "napari_ome_zarr_plate")
        assert np.ptp(canvas) > 80

    @pytest.mark.filterwarnings("ignore:color_dict did not provide a default color")
    def test_an_image_is_shown_with_its_labels(self, plate, viewer, screenshots):
        layers = viewer.open(str(plate / "B/02/1"), plugin="napari-ome-zarr")
        assert [type(layer) for layer in layers] == [Image, Image, Labels, Labels]
        assert [layer.name.rpartition("/")[2] for layer in layers] == ["P2: Phase", "P2: GFP", "segmentation", "tracks"]
        for layer in layers:
            assert tuple(layer.scale) == pytest.approx(SCALE)
            layer.visible = True
        assert np.ptp(picture(viewer, screenshots, "napari_ome_zarr_image"), axis=-1).max() > 80


class TestPlateInOurs:
    def test_the_plate_of_an_output_opens_its_fovs_by_name(self, plate, viewer, registered, screenshots):
        assert "pyama-dask" in {reader.plugin_name for reader in registered.iter_compatible_readers(str(plate))}
        viewer.open(str(plate), plugin="pyama-dask")
        widget = CellsWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Cells")
        assert [widget.fovs.itemText(k) for k in range(widget.fovs.count())] == [
            "FOV 0 (P1)", "FOV 1 (P2)", "FOV 3 (P4)"
        ]  # fmt: skip
        assert {layer.name.split(" ")[0] for layer in viewer.layers} == {"P1"}
        widget.next_fov()
        assert {layer.name.split(" ")[0] for layer in viewer.layers} == {"P2"}
        widget.correct()
        assert viewer.layers[-1].name == "labels to correct: FOV 1 (P2), frame 1"
        assert np.ptp(picture(viewer, screenshots, "napari_plate_of_output")) > 80

    def test_an_image_of_the_plate_is_its_fov(self, plate, viewer):
        viewer.open(str(plate / "C/10/1"), plugin="pyama-dask")
        assert {Path(layer.metadata["pyama_dask"]["fov"]).name for layer in viewer.layers} == {"fov_003"}
