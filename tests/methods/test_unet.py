"""The network at work: maps to labels, scales, and models that do not fit."""

import numpy as np
import pytest
from onnx import TensorProto
from support import frames
from support.bright_cells import bright_movie
from support.onnx_models import CARD, write_model

from pyama_dask.errors import ConfigError, MethodWarning
from pyama_dask.kernels.losses import collected
from pyama_dask.kernels.resize import nearest
from pyama_dask.kernels.scores import match, seg
from pyama_dask.methods import network, unet
from pyama_dask.methods.network import Network, open_network
from pyama_dask.methods.onnx_model import ModelCard, find_model, model_digest, read_model
from pyama_dask.methods.unet import (
    fitted,
    held_memory,
    remarks,
    result_parameters,
    scale,
    segment_unet,
)

GIVEN = {
    "model": "", "zoom": None, "cell_diameter": None, "depth": None, "touch": None, "smallest": None,
    "providers": (), "content": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_model(tmp_path_factory.mktemp("models") / "tiny.onnx"))


@pytest.fixture(scope="module")
def movie():
    return bright_movie((250, 270), cells=60, seed=3)


def test_cells_are_found(model, movie):
    labels = segment_unet(movie[0][0], model=model)
    assert (labels.dtype, labels.shape) == (np.uint16, (250, 270))
    assert seg([match(movie[1][0], labels)]) > 0.5


def test_a_zoomed_frame_gives_the_same_cells(model, movie):
    large = nearest(movie[0][0], (500, 540))
    for settings in ({"zoom": 0.5}, {"cell_diameter": 28}):
        labels = segment_unet(large, model=model, **settings)
        assert labels.shape == (500, 540)
        assert seg([match(nearest(movie[1][0], (500, 540)), labels)]) > 0.5


def test_most_of_the_foreground_that_is_dropped_is_told(model, movie):
    with pytest.warns(MethodWarning, match="cells was dropped, as smaller than 'smallest'"):
        assert not segment_unet(movie[0][0], model=model, smallest=10_000).any()


def runs_of_the_network(monkeypatch):
    """List to which the number of frames of each run of the network is added."""
    ran, run = [], network._run
    monkeypatch.setattr(network, "_run", lambda session, images: ran.append(len(images)) or run(session, images))
    return ran


@pytest.mark.parametrize(("takes_several", "runs"), [(False, [1, 1, 1]), (True, [3])])
def test_several_frames_go_through_the_network_together_on_a_gpu_only(model, movie, monkeypatch, takes_several, runs):
    stack = np.stack([movie[0][0], movie[0][0][::-1], movie[0][0][:, ::-1]])
    with collected() as alone:
        expected = [segment_unet(frame, model=model, zoom=0.7) for frame in stack]
    if takes_several:  # as with another provider than that of the CPU
        monkeypatch.setattr(Network, "takes_several", True)
    ran = runs_of_the_network(monkeypatch)
    with collected() as together:
        found = segment_unet(stack, model=model, zoom=0.7)
    assert ran == runs
    assert (found.dtype, found.shape) == (np.uint16, stack.shape)
    assert np.array_equal(found, expected)
    assert len(together) == 3
    assert together == alone


def test_other_limits_on_the_same_frame_need_no_other_run_of_the_network(model, movie, monkeypatch):
    frames, settings = (
        [movie[0][0], movie[0][0][::-1].copy()],
        [{"smallest": 0}, {"smallest": 100}, {"depth": 0.5}, {"zoom": 0.5}],
    )
    expected = [segment_unet(frame, model=model, **of) for of in settings for frame in frames]
    ran = runs_of_the_network(monkeypatch)
    with unet.maps_kept():
        found = [segment_unet(frame, model=model, **of) for of in settings for frame in frames]
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))
    assert len(ran) == 4  # each frame at each zoom
    segment_unet(frames[0], model=model)
    assert len(ran) == 5


@pytest.mark.parametrize(("output_scale", "probabilities"), [(1, False), (1, True), (2, True), (4, False)])
def test_models_with_one_map_of_the_foreground(tmp_path, movie, output_scale, probabilities):
    path = write_model(
        tmp_path / "one.onnx",
        maps=1,
        output_scale=output_scale,
        probabilities=probabilities,
        name="x",
        card=None,
        cut=0.8,
    )
    labels = segment_unet(movie[0][0], model=str(path), depth=0.1)
    assert open_network(path).probabilities == probabilities
    assert seg([match(movie[1][0], labels)]) > 0.45


@pytest.mark.parametrize("zoom", [0.6, 1.0, 2.0])
@pytest.mark.parametrize("shape", frames.SHAPES)
def test_any_frame_gives_labels_without_gaps(model, shape, zoom):
    for maker in frames.MAKERS.values():
        for dtype in frames.DTYPES:
            labels = segment_unet(maker(shape, dtype, 1), model=model, zoom=zoom)
            assert (labels.shape, labels.dtype) == (shape, np.uint16)
            assert np.bincount(labels.ravel())[1:].all()


def test_settings_replace_those_of_the_card(model, movie):
    counts = [segment_unet(movie[0][0], model=model, smallest=smallest).max() for smallest in (None, 30, 150)]
    assert counts[0] == counts[1] > counts[2]
    assert segment_unet(movie[0][0], model=model, depth=1.0).max() < counts[0]


# ---------------------------------------------------------------------------------------------------- scale

CARD_OF_T98G = ModelCard(name="m", pixel_size_um=0.8, cell_diameter=50, zoom=1.25)


@pytest.mark.parametrize(
    ("known", "factor"),
    [
        ({"given": 0.7, "cell_diameter": 10, "pixel_size_um": 0.4}, 0.7),
        ({"given": None, "cell_diameter": 25, "pixel_size_um": 0.4}, 2.0),
        ({"given": None, "cell_diameter": None, "pixel_size_um": 0.4}, 0.625),
        ({"given": None, "cell_diameter": None, "pixel_size_um": None}, 1.25),
    ],
)
def test_the_scale_is_the_first_one_that_is_known(known, factor):
    assert scale(CARD_OF_T98G, **known) == pytest.approx(factor)


def test_scales_that_cannot_be():
    with pytest.raises(ConfigError, match=r"cell_diameter: frames would be resized by 50; possible are 0\.05 to 16"):
        scale(CARD_OF_T98G, given=None, cell_diameter=1, pixel_size_um=None)
    with pytest.raises(ConfigError, match=r"cell_diameter: the model bare does not state that of its cells"):
        scale(ModelCard(name="bare"), given=None, cell_diameter=9, pixel_size_um=None)
    with pytest.raises(ConfigError, match="must be in pixels here"):
        scale(CARD_OF_T98G, given=None, cell_diameter="9 um", pixel_size_um=None)


# ----------------------------------------------------------------------------------- models that do not fit


@pytest.mark.parametrize(
    ("unlike", "said"),
    [
        ({"channels": 2}, "other inputs or outputs .*frame: tensor.float. "),
        ({"element": TensorProto.FLOAT16}, "(other inputs or outputs|not a usable ONNX model)"),
        ({"inputs": 2}, "other inputs or outputs"),
        ({"size": (256, 256)}, "takes images of 256 pixels only. Fix: export it with dynamic axes"),
        ({"maps": 2}, r"makes \(2, 32, 32\) of an image of 64 x 64 pixels"),
        ({"output_scale": 1}, r"makes \(3, 64, 64\)"),
        ({"maps": 1, "output_scale": 8}, r"makes \(1, 8, 8\)"),
    ],
)
def test_other_inputs_and_outputs_are_refused(tmp_path, unlike, said):
    with pytest.raises(ConfigError, match=rf"(?s)m\.onnx: .*{said}"):
        open_network(write_model(tmp_path / "m.onnx", **unlike))


def test_values_that_are_not_finite_are_refused(tmp_path):
    path = write_model(tmp_path / "m.onnx", cut=np.nan)
    with pytest.raises(ConfigError, match=r"m\.onnx: the model returns values that are not finite"):
        open_network(path)
    with pytest.raises(ValueError, match="values that are not finite"):  # such as on one frame of a movie
        Network(*read_model(path), 2, probabilities=False).maps(np.zeros((64, 64), np.float32))


# ------------------------------------------------------------------------------------------- plans of runs


def test_a_plan_has_all_that_the_model_decides(model):
    found = fitted(GIVEN | {"model": model, "cell_diameter": 28.0, "touch": 0.1}, None)
    assert found == GIVEN | {
        "model": model, "content": model_digest(find_model(model)), "zoom": 0.5,
        "depth": 0.2, "touch": 0.1, "smallest": 30,
    }  # fmt: skip
    assert fitted(found, 0.3) == found


def test_content_that_differs_is_refused(model):
    with pytest.raises(ConfigError, match=r"content: .*tiny\.onnx has \w+, not abc"):
        fitted(GIVEN | {"model": model, "content": "abc"}, None)


def test_results_depend_on_the_content_of_a_model_and_not_on_its_place(tmp_path, model):
    copy = write_model(tmp_path / "copy.onnx")
    other = write_model(tmp_path / "other.onnx", cut=0.9)
    one, same, different = (
        result_parameters(fitted(GIVEN | {"model": str(path)}, None)) for path in (model, copy, other)
    )
    assert one == same != different


def test_memory_grows_with_the_area_and_the_file(model):
    (small, fixed), (large, _) = (held_memory({"zoom": factor, "model": model}) for factor in (1.0, 2.0))
    assert large == 4 * small
    assert fixed > find_model(model).stat().st_size


def test_remarks(tmp_path):
    card = CARD | {"pixel_size_um": 0.8, "channel": "phase", "name": "tiny"}
    given = {"model": str(write_model(tmp_path / "m.onnx", card=card))}
    assert remarks(given, 0.8, "phase") == remarks(given, 0.7, "other") == []
    assert remarks(given | {"zoom": 2.0}, 0.1, "phase") == []
    assert (
        "for pixels of 0.8 um; those of the movie have 0.4 um, so frames are resized by 0.5"
        in remarks(given, 0.4, "phase")[0]
    )
    assert "the movie states no pixel size" in remarks(given, None, "phase")[0]
    assert "is for phase images, but the channel is fluorescence" in remarks(given, 0.8, "fluorescence")[0]
