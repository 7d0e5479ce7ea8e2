"""Models of the package: small, described, and with licence and origin beside them."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from pyama_dask.kernels.scores import count, match
from pyama_dask.methods.onnx_model import SHIPPED, find_model, read_model, shipped_models
from pyama_dask.methods.unet import DEFAULT, segment_unet

COMPOSITE = Path(__file__).parents[3] / "shared/data/composite"
README = (SHIPPED / "README.md").read_text()


def test_the_default_model_is_shipped():
    assert DEFAULT in shipped_models()


@pytest.mark.parametrize("name", shipped_models())
def test_a_model_says_what_it_is(name):
    path = find_model(name)
    assert path.stat().st_size < 200_000
    card, _ = read_model(path)
    assert card.name == name
    assert "" not in (card.description, card.trained_on, card.licence, card.channel, card.program)
    assert None not in (card.pixel_size_um, card.cell_diameter, card.seed, card.steps, card.images)
    assert set(card.held_back) == {"seg", "f1", "found_per_true"}
    assert f"## {name}\n" in README
    assert f"-o {name}.onnx --steps" in README
    assert f'--description "{card.description}"' in README
    assert f'--trained-on "{card.trained_on}"' in README


@pytest.mark.parametrize("name", shipped_models())
def test_weights_are_stored_in_16_bits(name):
    weights = [
        one for one in onnx.load(find_model(name)).graph.initializer if one.data_type == onnx.TensorProto.FLOAT16
    ]
    assert sum(int(np.prod(one.dims)) for one in weights) > 60_000


def test_the_model_for_phase_contrast_finds_its_cells():
    if not COMPOSITE.is_dir():
        pytest.skip(f"{COMPOSITE} is not here")
    import nd2

    truth = np.load(COMPOSITE / "labels_PTYX.npz")
    labels = truth[truth.files[0]][0, 0]
    with nd2.ND2File(COMPOSITE / "t98g.nd2") as movie:
        frame = movie.asarray()[0, 0, 0]
    counts = count([match(labels, segment_unet(frame))])
    assert counts.f1 > 0.7
    assert 0.7 < counts.found_per_true < 1.4


def test_the_model_for_phase_contrast_finds_no_thousand_specks_in_noise():
    frame = np.random.default_rng(0).normal(3000, 30, (512, 512)).round().astype(np.uint16)
    assert segment_unet(frame).max() < 200
    assert segment_unet(np.full((64, 70), 9, np.uint16)).max() < 10
