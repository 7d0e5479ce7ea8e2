"""Check docs/pipelines.md: its first example runs, its keys are those of the models, its notation is valid."""

import re
from pathlib import Path

import pytest
import yaml

from pyama_dask.config.pipelines import Pipeline, Step
from pyama_dask.demo import make_movie
from pyama_dask.methods.registry import BUILT_IN

TEXT = (Path(__file__).parents[1] / "docs" / "pipelines.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_first_example_is_what_happens(tmp_path, monkeypatch, call, capsys):
    monkeypatch.chdir(tmp_path)
    make_movie("demo", fovs=1, frames=4, cells=4)
    Path("steps.py").write_text(blocks("python")[0])
    Path("run.yaml").write_text(blocks("yaml")[0])
    quick = ["--set", "params.tracking_params.min_frames=2", "--cluster", "serial"]
    status, said, error = call("plan", "run.yaml", *quick)
    assert (status, error) == (0, "")
    shown = re.findall(r"(?:^    pipeline .*\n(?:^    .*\n)+)", TEXT, re.MULTILINE)
    assert re.sub("^    ", "", shown[0], flags=re.MULTILINE) in said
    assert call("run", "run.yaml", *quick)[0] == 0
    shown: dict = {}
    exec(blocks("python")[1], shown)
    assert "dask.array<" in capsys.readouterr().out
    assert shown["output"][0].image("light/top_hat_1").data.shape == (4, 512, 512)
    bright = shown["output"].traces()["bright"]
    assert bright.max() > bright.min() == 0


@pytest.mark.parametrize("model", [Pipeline, Step])
def test_tables_of_keys_are_those_of_the_models(model):
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        value = str(default).lower() if isinstance(default, bool) else default
        given = "" if field.is_required() or default in (None, (), {}) else f" [{value}]"
        row = f"| `{name}` | {field.description}{given} |"
        assert (row in TEXT) is (name != "found"), row


def test_built_in_steps_are_listed():
    listed = re.findall(r"^\| `(\w+)` \|", TEXT[TEXT.index("## Built-in steps") :], re.MULTILINE)
    assert {*BUILT_IN["step"]} <= {*listed}


@pytest.mark.parametrize("block", blocks("yaml")[1:])
def test_notation_is_valid(block):
    found = yaml.safe_load(block)
    each = found["pipelines"] if "pipelines" in found else found if isinstance(found, list) else [found]
    assert all(isinstance(Pipeline(**one) if "steps" in one else Step(**one), Pipeline | Step) for one in each)
