"""Methods that other packages declare as entry points."""

import os
import sys

import pytest
from support.configs import resolved

from pyama_dask.errors import ConfigError
from pyama_dask.kernels.segmentation import segment
from pyama_dask.methods.entry_points import installed
from pyama_dask.methods.registry import find_method, is_plugin, known_methods, method_identity
from pyama_dask.plan.resolve import plugins


class TestInstalledMethods:
    @pytest.fixture(autouse=True)
    def package(self, tmp_path, monkeypatch):
        (tmp_path / "their_package.py").write_text("def dim(frame, *, factor: float = 0.5):\n    return frame\n")
        info = tmp_path / "their_package-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[pyama_dask.preprocessors]\ndim = their_package:dim\n[pyama_dask.segmenters]\nlogstd = their_package:dim\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        installed.cache_clear()
        yield
        installed.cache_clear()
        sys.modules.pop("their_package", None)

    def test_they_are_found_by_their_name(self):
        assert find_method("preprocessor", "dim").__module__ == "their_package"
        assert known_methods()["preprocessor"] == {"dim": "their_package:dim, of their-package"}
        assert is_plugin("preprocessor", "dim")
        assert resolved(params__preprocess=["dim"]).params.preprocess == ("dim",)

    def test_a_name_of_this_package_goes_before_theirs(self):
        assert find_method("segmenter", "logstd") is segment
        assert not is_plugin("segmenter", "logstd")
        assert known_methods()["segmenter"]["logstd"] == "pyama_dask"

    def test_what_is_in_their_file_is_part_of_their_identity(self, tmp_path):
        before = method_identity("preprocessor", "dim")
        assert before.startswith("dim@")
        with (tmp_path / "their_package.py").open("a") as file:
            file.write("# more\n")
        assert method_identity("preprocessor", "dim") != before

    def test_they_are_among_those_that_are_known(self):
        with pytest.raises(ConfigError, match=r"'dime' is not a preprocessor; known are: dim\. Fix: use one"):
            find_method("preprocessor", "dime")

    def test_the_log_says_that_they_are_run(self):
        (said,) = plugins(resolved(params__preprocess=["dim"]))
        assert said.startswith("preprocessor dim is run from")


def test_a_file_may_have_dataclasses(tmp_path):
    path = tmp_path / "classes.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Size:\n    n: int = 3\n\ndef area(shapes):\n    return shapes.area * Size().n\n"
    )
    assert callable(find_method("phase feature", f"{path}:area"))


def test_a_file_that_is_edited_within_a_second_is_loaded_anew(tmp_path):
    file = tmp_path / "mine.py"
    for level in (1, 2, 3):
        file.write_text(f"def up(frame):\n    return frame + {level}\n")
        os.utime(file, (1e9, 1e9))  # the size is the same, too, by which Python knows compiled code
        assert find_method("preprocessor", f"{file}:up")(0) == level
    assert [one.name for one in tmp_path.iterdir()] == ["mine.py"]
