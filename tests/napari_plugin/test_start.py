"""`pyama-dask view`: what it refuses, each with one message."""

import pytest

from pyama_dask.errors import OutputError
from pyama_dask.napari import start
from pyama_dask.napari.layers import OURS


def test_a_chosen_fov_is_shown(finished):
    layers = start.layers_to_view(finished, 1, colormap=lambda colours: colours)
    assert {layer[1]["metadata"][OURS]["fov"] for layer in layers} == {str(finished / "fov_001")}


@pytest.mark.parametrize(
    ("path", "fov", "message"),
    [("", 7, "has no FOV 7"), ("fov_000", 1, "leave out --fov"), ("fov_000/cells.zarr", None, "is not an output")],
)
def test_what_is_not_there_is_refused(finished, path, fov, message):
    with pytest.raises(OutputError, match=message):
        start.layers_to_view(finished / path, fov)


def test_a_folder_that_is_not_there_is_said_before_what_napari_lacks(call, tmp_path, monkeypatch):
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    status, _, err = call("view", tmp_path / "nothere")
    assert (status, err) == (2, f"pyama-dask: {tmp_path}/nothere: no such folder. Fix: check the path\n")


def test_without_napari_there_is_one_message_with_the_command(call, finished, monkeypatch):
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    status, out, err = call("view", finished)
    assert (status, out) == (2, "")
    assert err == "pyama-dask: napari is not installed here. Fix: pip install 'pyama-dask[napari]'\n"


@pytest.mark.parametrize("display", [None, ":987"])
def test_without_a_display_there_is_one_message(call, finished, monkeypatch, display):
    monkeypatch.setattr(start, "find_spec", lambda name: name)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    if display:
        if start.ctypes.util.find_library("X11") is None:
            pytest.skip("without libX11, Qt looks for the display itself")
        monkeypatch.setenv("DISPLAY", display)
    status, out, err = call("view", finished)
    assert (status, out) == (2, "")
    assert err.startswith("pyama-dask: there is no display for napari. Fix: ")
    assert err.count("\n") == 1
