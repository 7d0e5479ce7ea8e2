"""Steps that docs/pipelines.md shows, tried as a plan tries them."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from pyama_dask.config.pipelines import Pipeline, Step
from pyama_dask.methods.made_images import ImageType, made_stack
from pyama_dask.methods.step_contract import tried
from pyama_dask.methods.step_results import apply_step, as_result

PAGE = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text()
SECTION = PAGE[PAGE.index("## Writing a step") :]
CODE, STEPS = (re.findall(rf"^```{of}\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL) for of in ("python", "yaml"))
GFP, CELLS = ImageType((24, 32), "uint16"), ImageType((24, 32), "int32", is_labels=True)
GIVES = {"sharpened": "image", "calmed": "image", "ratio": "image", "spots": "table"}


@pytest.fixture(scope="module")
def contracts(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("docs"), {}
    for number, (code, text) in enumerate(zip(CODE, STEPS, strict=False)):
        keys, file = yaml.safe_load(text), folder / f"steps_{number}.py"
        file.write_text(code)
        function = keys["do"].rpartition(":")[2]
        step = Step.model_validate(keys | {"do": f"{file}:{function}"})
        images = {name: CELLS if name == "tracked" else GFP for name in step.of or ["GFP"]}
        found[function] = tried(step, f"step {function!r}", images)
    return found


def test_the_examples_are_steps(contracts):
    assert {name: contract.gives for name, contract in contracts.items()} == GIVES
    assert len(STEPS) == 4
    assert contracts["calmed"].halo == 2


def test_the_examples_give_what_they_say(contracts):
    frames, cells = made_stack(GFP, 2), made_stack(CELLS, 2)
    ratio = as_result(apply_step(contracts["ratio"].function, {"GFP": frames[0], "RFP": frames[1]}))
    np.testing.assert_array_equal(ratio.images[""], frames[0] / (frames[1] + 1.0))
    spots = as_result(apply_step(contracts["spots"].function, {"GFP": frames[0], "tracked": cells[0]})).table
    assert list(spots["cell"]) == [1, 2, 3, 4, 5, 6]
    assert spots["spots"].sum() == ((frames[0] > 1500) & (cells[0] > 0)).sum()


def test_the_pipeline_in_python():
    space = {}
    exec(CODE[4], space)
    assert space["prepare"] == Pipeline.model_validate(
        {
            "name": "prepare",
            "steps": [{"do": "max_projection", "over": "z"}, {"do": "scipy.ndimage:gaussian_filter", "sigma": 2}],
        }
    )
