"""Names of functions that a script gives to a step, and steps that are written in Python."""

import functools
import subprocess
import sys
import types

import numpy as np
import pytest
import scipy.ndimage
import skimage.filters

from pyama_dask.config.function_names import named
from pyama_dask.config.pipelines import SEVEN, Pipeline, Step
from pyama_dask.errors import ConfigError, PlanError


def doubled(frame, *, factor=2):
    return frame * factor


class Microscope:
    def corrected(self, frame):
        return frame


def nested():
    def inner(frame):
        return frame

    return inner


def typed(source):
    """Function that is compiled in `__main__`, as a notebook does."""
    space = {"__name__": "__main__"}
    exec(compile(source, "/tmp/ipykernel_7/12.py", "exec"), space)
    return space["cell"]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (doubled, f"{__name__}:doubled"),
        (Microscope.corrected, f"{__name__}:Microscope.corrected"),
        (scipy.ndimage.gaussian_filter, "scipy.ndimage:gaussian_filter"),
        (skimage.filters.gaussian, "skimage._shared.filters:gaussian"),
        (np.sqrt, "numpy:sqrt"),
        ("mine.py:f", "mine.py:f"),
    ],
)
def test_the_name_finds_the_function(function, name):
    assert named(function) == name


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda frame: frame, r"<lambda> \(.*test_function_names\.py, line \d+\) is a lambda.*Fix: write it with def"),
        (nested(), "is defined within another function.*Fix: move it to the top level"),
        (Microscope().corrected, "is a method of an object, which workers do not have.*Fix: move the code"),
        ("text".upper, "is a method of an object"),
        (functools.partial(doubled, factor=3), "is a partial.*Fix: give the function, and its parameters as keywords"),
        (typed("def cell(frame): return frame"), r"typed into a notebook .*Fix: save it .*'steps\.py:cell'"),
        (types.FunctionType(doubled.__code__, {}, "lost"), "is not found by its name.*Fix: give its name as a text"),
        (3, "3 is neither a function nor its name"),
    ],
)
def test_functions_without_a_name_for_workers_are_refused(function, says):
    with pytest.raises(ConfigError, match=says):
        named(function)


SCRIPT = """
from pyama_dask.config.function_names import named
def dim(frame): return frame // 2
"""


@pytest.mark.parametrize(("guarded", "said"), [(True, "{path}:dim"), (False, "Fix: put what the script does under")])
def test_functions_of_the_script_that_runs_need_its_guard(tmp_path, guarded, said):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT + ("if __name__ == '__main__': print(named(dim))" if guarded else "print(named(dim))"))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False, timeout=60)
    assert said.format(path=path) in (done.stdout if guarded else done.stderr)


def test_steps_of_python_equal_those_of_yaml():
    written = {"do": f"{__name__}:doubled", "channels": ["GFP"], "factor": 3}
    assert Step(doubled, channels=["GFP"], factor=3) == Step.model_validate(written)
    assert Step("flat_field", channels="all", profile="estimate").params == {"profile": "estimate"}
    assert Pipeline("prepare", [Step(doubled), "crop_box"], input="raw") == Pipeline.model_validate(
        {"name": "prepare", "input": "raw", "steps": [{"do": f"{__name__}:doubled"}, "crop_box"]}
    )
    assert tuple(step.do for step in Pipeline("cells", "seven").steps) == SEVEN


def test_what_planning_finds_is_not_known_before():
    with pytest.raises(PlanError, match=r"^step gaussian: no run was planned with it\. Fix: plan the run first"):
        assert Step("gaussian").planned
