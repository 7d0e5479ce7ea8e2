"""Folders that the reader for napari takes, and those that it refuses without touching them."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from support.movies import times_of_change

from pyama_dask.napari.places import Place, place_of
from pyama_dask.napari.reader import get_reader

FOV = "fov_001"


@pytest.mark.parametrize(
    ("path", "fov", "group"),
    [
        (".", None, ""),
        ("processing_config.yaml", None, ""),
        (FOV, FOV, ""),
        (f"{FOV}/images.zarr", FOV, ""),
        (f"{FOV}/images.zarr/pc_ch_0", FOV, "pc_ch_0"),
        (f"{FOV}/images.zarr/seg_tracked_ch_0", FOV, "seg_tracked_ch_0"),
    ],
)
def test_outputs_fovs_and_channels_are_taken(finished, monkeypatch, path, fov, group):
    expected = Place(finished, fov and finished / fov, group)
    assert place_of(finished / path) == expected
    assert get_reader(str(finished / path)) is not None
    monkeypatch.chdir(finished)
    assert place_of(Path(path)) == expected


@pytest.mark.parametrize(
    "path",
    [
        "fov_001/cells.zarr",
        "fov_001/images.zarr/pc_ch_0/0",
        "fov_001/movie_fov_001_traces.csv",
        "fov_002",
        ".pyama_dask",
        "",
    ],
)
def test_all_else_is_refused(finished, tmp_path, path):
    assert get_reader(str((finished if path else tmp_path) / path)) is None
    assert get_reader([str(finished), str(finished / "fov_002")]) is None
    assert get_reader([]) is None
    assert get_reader("https://example.org/fov_000") is None


def test_a_folder_of_that_name_that_is_not_ours_is_refused(tmp_path):
    for folder in ("fov_000/images.zarr/pc_ch_0", "fov_00/images.zarr", "other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "fov_00/images.zarr/zarr.json").write_text("{}")
    (tmp_path / "processing_config.yaml").write_text("")  # PyAMA writes one, too
    for folder in (
        "fov_000",
        "fov_000/images.zarr",
        "fov_000/images.zarr/pc_ch_0",
        "fov_00",
        "other",
        ".",
        "processing_config.yaml",
    ):
        assert get_reader(str(tmp_path / folder)) is None


def test_refusing_imports_nothing_large(tmp_path):
    code = (
        f"from pyama_dask.napari.reader import get_reader; import sys; assert get_reader({str(tmp_path)!r}) is None;"
        "print(*({'dask', 'numpy', 'zarr', 'pandas', 'numba', 'napari'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split() == []


def test_reading_changes_nothing(finished):
    before = times_of_change(finished, set())
    for path in (finished, finished / FOV / "images.zarr" / "seg_tracked_ch_0"):
        layers = get_reader(str(path))(str(path)) if path != finished else get_reader(str(path)) and []
        assert all(len(layer) == 3 for layer in layers)
    assert times_of_change(finished, set()) == before


class TestManifest:
    @pytest.fixture
    def manifest(self):
        return yaml.safe_load((files("pyama_dask.napari") / "napari.yaml").read_text())

    def test_its_commands_exist(self, manifest):
        import ast

        for command in manifest["contributions"]["commands"]:
            module, _, name = command["python_name"].partition(":")
            tree = ast.parse((files("pyama_dask") / Path(*module.split(".")[1:])).with_suffix(".py").read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}

    def test_it_is_declared_as_an_entry_point(self):
        import tomllib

        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
        assert project["entry-points"]["napari.manifest"] == {"pyama-dask": "pyama_dask.napari:napari.yaml"}
