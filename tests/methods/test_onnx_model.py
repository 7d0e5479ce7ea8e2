"""Model files: found, read and refused."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support.onnx_models import CARD, write_model

from pyama_dask.errors import ConfigError
from pyama_dask.methods import onnx_model
from pyama_dask.methods.onnx_model import ModelCard, find_model, model_digest, read_model


def test_a_card_comes_back_from_the_file(tmp_path):
    card = ModelCard(name="mine", pixel_size_um=0.65, cell_diameter=40, zoom=1.5, held_back={"seg": 0.7}, images=2)
    found, session = read_model(write_model(tmp_path / "m.onnx", card=card.model_dump_json()))
    assert found == card
    frame = np.zeros((1, 1, 64, 32), np.float32)
    assert session.run(None, {"frame": frame})[0].shape == (1, 3, 32, 16)


def test_a_model_without_card_has_the_default_one(tmp_path):
    assert read_model(write_model(tmp_path / "bare.onnx", card=None))[0] == ModelCard(name="bare")


def test_keys_of_later_versions_are_ignored(tmp_path):
    card, _ = read_model(write_model(tmp_path / "m.onnx", card={**CARD, "invented_later": [1]}))
    assert card.cell_diameter == CARD["cell_diameter"]


@pytest.mark.parametrize(("text", "said"), [("{", "JSON"), (json.dumps({"zoom": -1}), "zoom: .*greater than 0")])
def test_an_invalid_card_is_refused(tmp_path, text, said):
    with pytest.raises(ConfigError, match=rf"m\.onnx: the model's property 'pyama_dask' is invalid: .*{said}"):
        read_model(write_model(tmp_path / "m.onnx", card=text))


def test_damaged_properties_are_refused(tmp_path):
    path = write_model(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes().replace(b"pyama_dask", b"pyam\xff_dask"))
    with pytest.raises(ConfigError, match=r"m\.onnx: the model's properties are damaged"):
        read_model(path)


@pytest.mark.parametrize("name", ["x" * 5000, "/tmp/" + "x" * 5000, "~no_such_user/m.onnx", "a\0b.onnx"])
def test_a_name_that_cannot_be_one_of_a_file_is_refused(name):
    with pytest.raises(ConfigError, match=r"is not a model of this package|does not exist"):
        find_model(name)


def test_a_model_works_on_one_thread(tmp_path):
    _, session = read_model(write_model(tmp_path / "m.onnx"))
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\x89PNG\r\n" + bytes(999)])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ConfigError, match=r"m\.onnx: is not a usable ONNX model \(.*\)\. Fix: name another"):
        read_model(tmp_path / "m.onnx")


def test_a_model_larger_than_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write_model(tmp_path / "m.onnx")
    monkeypatch.setattr(onnx_model.psutil, "virtual_memory", lambda: SimpleNamespace(available=9))
    with pytest.raises(ConfigError, match=r"does not fit the free memory of 0 MiB"):
        read_model(path)
    with path.open("ab") as file:
        file.truncate(2**32)  # a sparse file
    with pytest.raises(ConfigError, match=r"m\.onnx: is no ONNX model, which has at most 2 GiB"):
        read_model(path)


def test_a_model_that_changed_is_refused(tmp_path):
    path = write_model(tmp_path / "m.onnx")
    content = model_digest(path)
    read_model(path, content=content)
    write_model(path, cut=0.5)
    with pytest.raises(ConfigError, match=r"changed since the run was planned"):
        read_model(path, content=content)


def test_the_digest_is_of_the_content_alone(tmp_path):
    one, copy = (write_model(tmp_path / name) for name in ("a.onnx", "b.onnx"))
    other = write_model(tmp_path / "c.onnx", cut=0.7)
    assert model_digest(one) == model_digest(copy) != model_digest(other)


def test_a_provider_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"providers: onnxruntime has no NoSuchProvider here"):
        read_model(write_model(tmp_path / "m.onnx"), ("NoSuchProvider",))


def test_models_are_found_by_name_and_path(tmp_path, monkeypatch):
    path = write_model(tmp_path / "mine.onnx")
    monkeypatch.setattr(onnx_model, "SHIPPED", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert find_model("mine") == find_model("./mine.onnx") == find_model(path) == path
    with pytest.raises(ConfigError, match=r"'mime': is not a model .*\(mine\), nor a file.*did you mean mine\?"):
        find_model("mime")
    with pytest.raises(ConfigError, match=r"other\.onnx: does not exist"):
        find_model("other.onnx")
    with pytest.raises(ConfigError, match=r"is not a file"):
        find_model(f"{tmp_path}/")


def test_finding_and_identifying_a_model_does_not_import_onnxruntime(tmp_path):
    path = write_model(tmp_path / "m.onnx")
    code = (
        "import sys; from pyama_dask.methods.onnx_model import *; import pyama_dask.methods.registry; "
        f"model_digest(find_model({str(path)!r})); sys.exit('onnxruntime' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
