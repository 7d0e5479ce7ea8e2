"""Methods by name, of this package and of files and modules."""

import pytest
from support.configs import resolved

from pyama_dask.errors import ConfigError
from pyama_dask.methods.registry import find_method

PLUGIN = """
from typing import Annotated, Literal
from pydantic import Field

NUMBER = 3

def good(frame, *, size: Annotated[int, Field(ge=1)] = 3, mode: Literal["a", "b"] = "a"):
    return frame

def needs(frame, *, size: int):
    return frame

def bare(frame, *, size=3):
    return frame
"""


class TestMethods:
    @pytest.fixture(params=["file", "module"])
    def plugin(self, request, tmp_path, monkeypatch):
        """Name of the plugin before the colon, in both forms."""
        name = f"plugin_{request.node.name.split('[')[0][:40]}"
        (tmp_path / f"{name}.py").write_text(PLUGIN)
        monkeypatch.syspath_prepend(tmp_path)
        return name if request.param == "module" else str(tmp_path / f"{name}.py")

    @pytest.mark.parametrize("kind", ["segmenter", "tracker", "preprocessor", "phase feature", "fluorescence feature"])
    def test_a_function_is_found(self, plugin, kind):
        assert find_method(kind, f"{plugin}:good").__name__ == "good"

    def test_its_parameters_are_checked_and_filled_in(self, plugin):
        name = f"{plugin}:good"
        found = resolved(params__segmentation_method=name, params__segmentation_params={"size": 2})
        assert found.params.segmentation_params == {"size": 2, "mode": "a"}
        with pytest.raises(ConfigError, match=r"params\.segmentation_params\.size.*greater than or equal to 1"):
            resolved(params__segmentation_method=name, params__segmentation_params={"size": 0})
        with pytest.raises(ConfigError, match=r"segmentation_params\.length: is not a parameter here; known are: size"):
            resolved(params__segmentation_method=name, params__segmentation_params={"length": 1})

    def test_a_parameter_without_default_is_needed(self, plugin):
        with pytest.raises(ConfigError, match=r"params\.segmentation_params\.size: is needed"):
            resolved(params__segmentation_method=f"{plugin}:needs", params__segmentation_params={})

    def test_a_parameter_without_annotation_takes_any_value(self, plugin):
        found = resolved(params__segmentation_method=f"{plugin}:bare", params__segmentation_params={"size": 5})
        assert found.params.segmentation_params == {"size": 5}

    def test_a_function_that_is_not_there(self, plugin):
        with pytest.raises(ConfigError, match=r"segmenter .*:bad' cannot be loaded: .*bad"):
            find_method("segmenter", f"{plugin}:bad")

    def test_what_is_no_function(self, plugin):
        with pytest.raises(ConfigError, match=r"tracker .*:NUMBER' is not a function"):
            find_method("tracker", f"{plugin}:NUMBER")

    @pytest.mark.parametrize("name", ["no_such_module_here:f", "no/such/file.py:f"])
    def test_a_module_or_file_that_is_not_there(self, name):
        with pytest.raises(ConfigError, match="cannot be loaded"):
            find_method("segmenter", name)

    @pytest.mark.parametrize("code", ["def f(:", "import no_such_module_here", "1 / 0", "x = undefined"])
    def test_a_file_that_does_not_import(self, tmp_path, code):
        (tmp_path / "broken.py").write_text(code)
        with pytest.raises(ConfigError, match="cannot be loaded"):
            find_method("segmenter", f"{tmp_path}/broken.py:f")

    def test_two_files_of_one_name_are_kept_apart(self, tmp_path):
        for folder, value in (("a", 1), ("b", 2)):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "same.py").write_text(f"def f(x): return {value}")
        assert [find_method("segmenter", f"{tmp_path}/{folder}/same.py:f")(0) for folder in "aba"] == [1, 2, 1]

    def test_copies_of_a_file_are_kept_apart(self, tmp_path):
        for folder in "ab":
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "same.py").write_text("def f(x): return __file__")
        assert [find_method("segmenter", f"{tmp_path}/{folder}/same.py:f")(0) for folder in "ab"] == [
            f"{tmp_path}/{folder}/same.py" for folder in "ab"
        ]

    @pytest.mark.parametrize("code", ["def f(): ...", "def f(frame, mask): ...", "def f(*, size=3): ..."])
    def test_a_function_that_cannot_take_its_data_is_refused_with_its_line(self, tmp_path, code):
        (tmp_path / "odd.py").write_text(f"# first\n{code}\n")
        said = r"preprocessor .*odd\.py:f' \(.*odd\.py, line 2\) has the signature \(.*\), but must take one argument"
        with pytest.raises(ConfigError, match=said):
            find_method("preprocessor", f"{tmp_path}/odd.py:f")

    @pytest.mark.parametrize(
        "code", ["def f(frame): ...", "def f(frame, size=3): ...", "f = max", "def f(*a, **k): ..."]
    )
    def test_functions_that_can_are_taken(self, tmp_path, code):
        (tmp_path / "fine.py").write_text(code)
        assert callable(find_method("preprocessor", f"{tmp_path}/fine.py:f"))
