"""Built-in steps are read by their signatures like all steps, and their parameters are checked."""

import inspect
import re
from pathlib import Path

import pytest

from pyama_dask.config.method_parameters import parameter_model
from pyama_dask.config.pipelines import Step
from pyama_dask.errors import ConfigError
from pyama_dask.methods.registry import BUILT_IN, known_methods
from pyama_dask.methods.step_functions import read_step

STEPS = BUILT_IN["step"]
DOCS = Path(__file__).parents[2] / "docs" / "pipelines.md"


@pytest.mark.parametrize("name", STEPS)
def test_signatures_say_what_steps_take_and_what_their_parameters_mean(name):
    planes = "projection" in name or "plane" in name
    together = {"of": ["GFP", "RFP"], "to": "both"} if name == "composite" else {}
    step = read_step(Step(do=name, **together, **({"over": "z"} if planes else {})), "here")
    assert [hint.takes for hint in step.given] == ["planes" if planes else "frame"]
    assert step.gives.takes == "frame"
    assert step.given[0].by_name == (name == "composite")
    fields = parameter_model(STEPS[name]).model_fields
    assert all(field.description and not field.is_required() for field in fields.values())
    assert step.parameters == {key: field.default for key, field in fields.items()}
    assert inspect.getdoc(STEPS[name])


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("gaussian", {"sigma": -1}),
        ("median", {"size": 4}),
        ("top_hat", {"radius": 0}),
        ("rolling_ball", {"radius": 2000}),
        ("channel_shift", {"y": float("nan")}),
        ("channel_shift", {"outside": "mirror"}),
        ("crop", {"height": 0}),
        ("resample", {"factor": 0}),
        ("flat_field", {"dark": -5}),
        ("composite", {"weights": {"GFP": "much"}}),
    ],
)
def test_parameters_beyond_their_limits_are_refused(name, given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        read_step(Step(do=name, **given), "here")


def test_they_are_listed_by_name_and_in_the_docs_with_their_defaults():
    assert known_methods()["step"] == dict.fromkeys(STEPS, "pyama_dask")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", DOCS.read_text(), re.MULTILINE))
    for name, function in STEPS.items():
        own = parameter_model(function).model_fields
        for parameter in {"profile"} if name == "flat_field" else own:  # done while frames are read: params.dark_level
            assert f"`{parameter}`" in rows[name]
