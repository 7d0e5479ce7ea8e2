"""Scripts of newer versions of the older program: channels with features, functions of a user's own, frames, merging,
and fits."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pyama_dask
from api.conftest import PARAMS
from pyama_dask import api
from pyama_dask.api import (
    FLUORESCENCE_FEATURES,
    PHASE_FEATURES,
    Channels,
    ChannelSelection,
    MicroscopyMetadata,
    ProcessingContext,
    registries,
    run_complete_workflow,
    workflow,
)
from pyama_dask.errors import ConfigError
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES
from pyama_dask.methods.entry_points import load
from pyama_dask.readers import open_reader

SCRIPT = """
from pathlib import Path
from pyama_core.io import load_microscopy_file
from pyama_core.processing.workflow import run_complete_workflow
from pyama_core.processing.workflow.services.types import ChannelSelection, Channels, ProcessingContext
from pyama_core.processing.merge import run_merge
from pyama_core.io import load_analysis_csv, discover_csv_files
from pyama_core.analysis.fitting import fit_trace_data

_, metadata = load_microscopy_file("file.nd2")
print(metadata.n_fovs, metadata.channel_names, metadata.n_t)

channels = Channels(
    pc=ChannelSelection(channel=0, features=["area", "aspect_ratio"]),
    fl=[ChannelSelection(channel=1, features=["intensity_total"])],
)
context = ProcessingContext(output_dir=Path("output"), channels=channels, params={}, time_units="min")
success = run_complete_workflow(
    metadata=metadata, context=context, fov_start=0, fov_end=metadata.n_fovs - 1, batch_size=2, n_workers=1
)
message = run_merge(
    sample_yaml=Path("samples.yaml"),
    processing_results=Path("output/processing_results.yaml"),
    output_dir=Path("merged"),
)
tables = {path.name: load_analysis_csv(path) for path in discover_csv_files(Path("merged"))}
fits = fit_trace_data(tables["all_intensity_total_ch_1.csv"], "trivial")
"""
FEATURE = """
def extract_custom_feature(image, mask, context):
    '''User-defined feature extraction.'''
    feature_value = image[mask].max()
    return feature_value

# Register in feature system
PHASE_FEATURES['custom_feature'] = extract_custom_feature
FLUORESCENCE_FEATURES['custom_feature'] = extract_custom_feature
"""
PREPROCESSOR = """
class CustomPreprocessor:
    '''Pre-process frames before segmentation.'''
    def __init__(self, by=1):
        self.by = by
    def process(self, image):
        # Custom preprocessing
        processed_image = image // self.by
        return processed_image

DARK = CustomPreprocessor(20_000)
"""


def adapted(script):
    return re.sub(r"from pyama_core[\w.]* import", "from pyama_dask.api import", script)


@pytest.fixture
def plugin(tmp_path):
    """Import a file as workers do; gives its object of a name."""

    def imported(text, name):
        path = tmp_path / "plugin.py"
        head = "from pyama_dask.api import FLUORESCENCE_FEATURES, PHASE_FEATURES, register_preprocessor\n"
        path.write_text(head + text)
        return load("test", "pyama_dask.tests", f"{path}:{name}", ())

    yield imported
    registries.PREPROCESSORS.clear()
    for features in (PHASE_FEATURES, FLUORESCENCE_FEATURES):
        features.pop("custom_feature", None)


class TestScript:
    def test_it_runs_with_changed_imports(self, few, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "samples.yaml").write_text("samples:\n  - {name: all, fovs: '0-1'}\n")
        (tmp_path / "file.nd2").symlink_to(few)
        ran = {}
        script = adapted(SCRIPT).replace("params={}", f"params={PARAMS}")
        exec(compile(script, "script.py", "exec"), ran)
        assert capsys.readouterr().out == "2 ['Phase', 'GFP'] 3\n"
        assert ran["success"] is True
        assert ran["message"] == "Merge completed. Created 3 files in merged"
        assert sorted(ran["tables"]) == [
            f"all_{name}.csv" for name in ("area_ch_0", "aspect_ratio_ch_0", "intensity_total_ch_1")
        ]
        traces = pyama_dask.open_output(tmp_path / "output").traces()
        table = ran["tables"]["all_area_ch_0.csv"]
        fov, cell = table.index[0]
        of_cell = traces[(traces["fov"] == fov) & (traces["cell"] == cell)]
        assert table.loc[(fov, cell), "value"].tolist() == of_cell["area_ch_0"].tolist()
        assert table.loc[(fov, cell), "time"].to_numpy() == pytest.approx(of_cell["time"].to_numpy() / 60)
        assert [cell for cell, _ in ran["fits"]] == list(dict.fromkeys(table.index))
        assert all(result.success for _, result in ran["fits"])
        listed = api.load_processing_results_yaml(tmp_path / "output" / "processing_results.yaml")
        assert listed["fov_data"][1]["traces"] == ran["context"].results[1].traces
        assert (listed["n_fov"], listed["channels"]["fl"][0][0], listed["time_units"]) == (2, 1, "min")
        assert api.read_samples_yaml("samples.yaml") == {"samples": [{"name": "all", "fovs": "0-1"}]}


class TestFrames:
    def test_an_image_gives_frames(self, few):
        image, metadata = api.load_microscopy_file(few)
        with image, open_reader(few) as reader:
            frame = reader.read_frame(1, 2)
            assert (image.get_microscopy_frame(1, 1, 2) == frame[1]).all()
            assert (api.get_microscopy_channel_stack(image, 1, 2) == frame).all()
            stack = api.get_microscopy_time_stack(image, 1, 0)
            assert (stack.shape, (stack[2] == frame[0]).all()) == ((metadata.n_t, *metadata.shape), True)
            assert (api.get_microscopy_frame(image, 1, 0, 2) == frame[0]).all()
        assert isinstance(metadata, MicroscopyMetadata)


class TestPlugins:
    def test_features_and_preprocessors_by_name(self, few, plugin, tmp_path):
        plugin(FEATURE, "extract_custom_feature")
        assert api.list_phase_features() == [*SHAPE_FEATURES, "custom_feature"]
        assert api.list_fluorescence_features() == [*INTENSITY_FEATURES, "custom_feature"]
        channels = Channels(ChannelSelection(0, ["custom_feature", "area"]), [ChannelSelection(1, ["custom_feature"])])
        context = ProcessingContext(tmp_path / "out", channels, params=PARAMS)
        assert run_complete_workflow(api.load_microscopy_file(few), context, 0, 0, n_workers=1)
        fov = pyama_dask.open_output(tmp_path / "out")[0]
        traces = fov.traces()
        assert [*traces.columns[11:14]] == ["custom_feature_ch_0", "area_ch_0", "custom_feature_ch_1"]
        tracked = fov.image("seg_tracked_ch_0").data.compute()
        for name in ("pc_ch_0", "fl_ch_1"):
            frames = fov.image(name).data.compute()
            column = traces[f"custom_feature{name[2:]}"]
            expected = [
                frames[t][tracked[t] == cell].max() for t, cell in zip(traces["frame"], traces["cell"], strict=True)
            ]
            assert column.tolist() == expected
        assert len(traces)

    def test_a_preprocessor_changes_what_is_segmented(self, few, plugin, tmp_path):
        workflow.register_preprocessor(plugin(PREPROCESSOR, "DARK"))
        assert [f"{tmp_path}/plugin.py:DARK"] == registries.PREPROCESSORS
        context = ProcessingContext(tmp_path / "out", Channels(0), params=PARAMS)
        assert run_complete_workflow(api.load_microscopy_file(few), context, 0, 0, n_workers=1)
        assert pyama_dask.open_output(tmp_path / "out").traces().empty  # every pixel is 0

    def test_the_example_of_the_documentation(self, plugin, tmp_path):
        text = (Path(__file__).parents[2] / "docs" / "older_api.md").read_text()
        (example,) = (
            of for of in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if "Halved" in of
        )
        brightest = plugin(example, "brightest")
        assert PHASE_FEATURES.pop("brightest") is brightest
        assert [f"{tmp_path}/plugin.py:Halved"] == registries.PREPROCESSORS

    def test_one_with_default_parameters_is_its_class(self, plugin, tmp_path):
        make = plugin(PREPROCESSOR, "CustomPreprocessor")
        for preprocessor in (make(), make(), make):
            api.register_preprocessor(preprocessor)
        assert [f"{tmp_path}/plugin.py:CustomPreprocessor"] == registries.PREPROCESSORS
        with pytest.raises(ConfigError, match=r"differs from CustomPreprocessor\(\), which is what workers make. Fix:"):
            api.register_preprocessor(make(3))

    @pytest.mark.parametrize(
        ("function", "refused"),
        [(lambda image, mask, context: 0, "is a lambda"), (3, "3 is neither a function nor its name")],
    )
    def test_what_workers_cannot_find_is_refused(self, function, refused):
        with pytest.raises(ConfigError, match=refused):
            PHASE_FEATURES["mine"] = function
        with pytest.raises(ConfigError, match=refused):
            api.register_preprocessor(function)
        with pytest.raises(ConfigError, match="must consist of letters"):
            PHASE_FEATURES["my feature"] = np.sum
        assert [*PHASE_FEATURES] == [*SHAPE_FEATURES]
        assert registries.PREPROCESSORS == []


class TestFits:
    def test_a_line(self):
        times = np.arange(6.0)
        result = api.fit_model("trivial", times, 3 + 2 * times)
        assert result.params == pytest.approx({"intercept": 3, "slope": 2})
        assert (result.success, result.r_squared, result.fixed_params) == (True, pytest.approx(1), {})

    def test_start_values_bounds_and_fixed_parameters_in_both_forms(self):
        model = api.get_model("Maturation")
        times = np.linspace(0, 20, 60)
        values = model.eval(times, {"t0": 0.3, "ktl": 500.0, "delta": 0.2, "km": 2.0})
        assert (values[:1], model.DEFAULTS["km"], model.BOUNDS["t0"]) == ([0], 1.28, (-1, 1))
        older = api.fit_model("maturation", times, values, {"km": 2.0, "delta": 0.5}, {"t0": (0.0, 1.0)})
        newer = api.fit_model(
            "maturation", times, values, fixed_params={"km": SimpleNamespace(value=2.0)},
            fit_params={"delta": SimpleNamespace(value=0.5, lb=1e-5, ub=9), "t0": SimpleNamespace(value=0, lb=0, ub=1)},
        )  # fmt: skip
        for result in (older, newer):
            assert result.fitted_params == pytest.approx({"t0": 0.3, "ktl": 500, "delta": 0.2, "offset": 0}, abs=1e-3)
            assert result.fixed_params["km"] == 2.0
        freed = api.fit_model("maturation", times, values, user_bounds={"km": (0.1, 10)})
        assert "km" in freed.fitted_params

    @pytest.mark.parametrize(
        ("arguments", "refused"),
        [
            (("constant",), "'constant' is not a model; known are: maturation"),
            (("trivial", {"rate": 1}), "trivial has no parameter 'rate'"),
            (("trivial", None, {"slope": (2, 1)}), "low 2 is above its high 1"),
        ],
    )
    def test_what_cannot_be_is_refused(self, arguments, refused):
        name, *rest = arguments
        with pytest.raises(ValueError, match=refused):
            api.fit_model(name, [0, 1, 2], [0, 1, 2], *rest)

    def test_tables_in_both_forms(self, tmp_path):
        (tmp_path / "a_wide.csv").write_text("# Time units: min\ntime,0_1,0_2\n0,1,5\n60,2,4\n120,3,3\n")
        (tmp_path / "a_wide_fitted_trivial.csv").write_text("fov,cell\n")
        (path,) = api.discover_csv_files(tmp_path)
        assert api.discover_csv_files(path) == [path]
        tidy, wide, told = api.load_analysis_csv(path), pyama_dask.read_wide_csv(path, units="h"), []
        assert tidy.loc[(0, 2), "value"].tolist() == [5, 4, 3]
        for table in (tidy, wide):
            assert api.fit_trace_data(table, "trivial", (0, 2)).params == pytest.approx({"intercept": 5, "slope": -1})
            assert api.fit_trace_data(table, "trivial", 1).params["slope"] == pytest.approx(-1)
            results = api.fit_trace_data(table, "trivial", progress_callback=lambda *of: told.append(of[:2]))
            assert [(cell, round(of.params["slope"], 6)) for cell, of in results] == [((0, 1), 1), ((0, 2), -1)]
        assert told == [(1, 2), (2, 2)] * 2
        with pytest.raises(ConfigError, match=r"cell_id: 7 is not in the table, which has 2 cells, such as \(0, 1\)"):
            api.fit_trace_data(tidy, "trivial", 7)

    def test_models_are_listed(self):
        assert {"maturation", "trivial"} <= {*api.list_models()}
