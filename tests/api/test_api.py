"""Scripts for the older API: the examples of its documents run with only the import changed, and all they ask for is
done, or said not to be."""

import json
import logging
import re
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from json import dumps as as_json
from pathlib import Path
from types import SimpleNamespace

import pytest
import zarr
from support.graphs import USUAL
from support.movies import as_czi, as_nd2, differences, pixels, products, times_of_change

import pyama_dask
from pyama_dask.analysis import pyama_files
from pyama_dask.api import (
    BaseProcessingService,
    Channels,
    MicroscopyMetadata,
    ProcessingContext,
    load_microscopy_file,
    run_complete_workflow,
    workflow,
)
from pyama_dask.api.settings import translate
from pyama_dask.errors import ConfigError, OutputError, SettingsWarning, SourceError
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES

FOVS, FRAMES, HEIGHT, WIDTH = 4, 6, 240, 260

# ------------------------------------------------------------------------------- the examples, as they stand

BASIC = """
from pyama_core.io import MicroscopyMetadata
from pyama_core.processing.workflow.pipeline import run_complete_workflow
from pyama_core.processing.workflow.services.types import ProcessingContext, Channels
from pathlib import Path

# Create metadata object
metadata = MicroscopyMetadata(
    file_path=Path("path/to/microscopy.nd2"),
    base_name="experiment1",
    n_fovs=10,
    n_frames=100,
    height=1024,
    width=1024
)

# Create processing context
context = ProcessingContext(
    output_dir=Path("output/experiment1"),
    channels=Channels(pc=0, fl=[1, 2]),
    params={"segmentation_threshold": 0.5}
)

# Run complete workflow
success = run_complete_workflow(
    metadata=metadata,
    context=context,
    fov_start=0,
    fov_end=4,
    batch_size=2,
    n_workers=4
)

if success:
    print("Workflow completed successfully")
else:
    print("Workflow failed")
"""

CUSTOM = """
# Configure specific parameters for different services
context = ProcessingContext(
    output_dir=Path("output/custom_config"),
    channels=Channels(pc=0, fl=[1]),
    params={
        "segmentation": {
            "method": "log_std",
            "threshold": 0.3,
            "min_size": 50
        },
        "tracking": {
            "max_distance": 20,
            "linking_threshold": 0.8
        },
        "correction": {
            "temporal_window": 5,
            "spatial_window": 15
        }
    }
)

# The parameters will be accessible to each service through the context
success = run_complete_workflow(metadata, context)
"""

REPORTER = '''
import logging
from typing import Dict, Any

class ExternalProgressReporter:
    """Example of integrating with an external monitoring system."""

    def __init__(self, system_url: str):
        self.system_url = system_url

    def report_progress(self, event: Dict[str, Any]):
        """Send progress updates to external monitoring system."""
        import requests
        try:
            response = requests.post(
                f"{self.system_url}/progress",
                json=event,
                timeout=5
            )
            if response.status_code != 200:
                logging.warning(f"Failed to report progress: {response.status_code}")
        except Exception as e:
            logging.warning(f"Error reporting progress: {e}")

# Usage with the workflow
reporter = ExternalProgressReporter("https://monitoring.example.com")
'''

AUTOMATION = """
from pyama_core.processing.workflow import run_complete_workflow
from pyama_core.io import load_microscopy_file
from pyama_core.processing.workflow.services.types import ProcessingContext

# Example automation script
metadata = load_microscopy_file("path/to/file.nd2")
context = ProcessingContext(output_dir="path/to/output")
success = run_complete_workflow(
    metadata=metadata,
    context=context,
    fov_start=0,
    fov_end=10,
    batch_size=2,
    n_workers=4
)
"""


def adapted(example, **changes):
    """An example with its imports changed, and with the values of this movie in place of its own."""
    example = re.sub(r"from pyama_core[\w.]* import", "from pyama_dask.api import", example)
    for name, value in changes.items():
        example, found = re.subn(rf"\b{name}=(Path\(\".*?\"\)|\".*?\"|\d+)", f"{name}={value!r}", example)
        assert found, name
    return example


def of_movie(movie):
    return {"file_path": str(movie), "n_fovs": FOVS, "n_frames": FRAMES, "height": HEIGHT, "width": WIDTH}


def executed(script, **names):
    exec(compile(script, "script.py", "exec"), names)
    return names


# ------------------------------------------------------------------------------------- movies and outputs


@pytest.fixture(scope="module")
def data():
    return pixels(fovs=FOVS, frames=FRAMES, shape=(HEIGHT, WIDTH), cells=6, fluorescence_channels=2)


@pytest.fixture(scope="module")
def movie(tmp_path_factory, data):
    return as_nd2(tmp_path_factory.mktemp("older") / "microscopy.nd2", data)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, movie):
    """What `pyama_dask.run` makes of all FOVs and channels."""
    output = tmp_path_factory.mktemp("expected") / "results"
    fl = [{"channel": channel, "features": list(INTENSITY_FEATURES)} for channel in (1, 2)]
    report = pyama_dask.run(
        {
            "input": movie,
            "output": output,
            "channels": {"pc": {"channel": 0, "features": list(SHAPE_FEATURES)}, "fl": fl},
            "params": {"tracking_params": {"min_frames": FRAMES // 2}},  # as 'init' writes for so few frames
            "cluster": {"kind": "serial"},
        }
    )
    assert report.exit_status == 0
    assert all(fov.rows for fov in report.fovs)
    return output


@contextmanager
def listening():
    """Monitoring system on this machine: its address, and the events that have come."""
    events = []

    class Monitor(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/progress"
            events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Monitor) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", events
        finally:
            server.shutdown()
            serving.join(10)


def post(url, *, json, timeout):
    """As `requests.post`, which is not needed otherwise."""
    request = urllib.request.Request(url, as_json(json).encode(), method="POST")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as response:
        return SimpleNamespace(status_code=response.status)


def of_fovs(output, *fovs):
    """Products of some FOVs."""
    names = {f"fov_{fov:03d}" for fov in fovs}
    return {name: value for name, value in products(output).items() if name.partition("/")[0] in names}


def assert_same(output, expected, *fovs):
    assert products(output).keys() == of_fovs(output, *fovs).keys()
    assert differences(products(output), of_fovs(expected, *fovs)) == []


def serial(movie, output, *args, params=None, channels=None, **options):
    """Run a script in this process; the context, and what was returned."""
    context = ProcessingContext(output, channels or Channels(0, [1, 2]), params=params or {})
    return context, run_complete_workflow(load_microscopy_file(movie), context, *args, n_workers=1, **options)


# ---------------------------------------------------------------------------------------------- examples


class TestExamples:
    def test_basic_workflow_execution_as_a_script_without_a_guard(self, movie, expected, tmp_path):
        output = tmp_path / "output" / "experiment1"
        script = tmp_path / "script.py"
        script.write_text(adapted(BASIC, **of_movie(movie), output_dir=str(output), fov_end=1, n_workers=2))
        ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=120)
        assert ended.stdout == "Workflow completed successfully\n"
        assert ended.stderr.count("script.py") == 2  # of the warnings: it is the script's call that they are about
        for said in ("segmentation_threshold (0.5) has no equivalent here", "base_name 'experiment1' is not used"):
            assert said in ended.stderr
        assert_same(output, expected, 0, 1)

    def test_custom_parameter_configuration(self, movie, expected, tmp_path):
        names = dict(globals(), metadata=load_microscopy_file(movie))
        with pytest.warns(SettingsWarning) as warned:
            ran = executed(adapted(CUSTOM, output_dir=str(tmp_path / "out")), **names)
        assert ran["success"] is True
        left_out = {str(of.message).split()[1] for of in warned}
        assert left_out == {
            "segmentation.threshold", "tracking.max_distance", "tracking.linking_threshold",
            "correction.temporal_window", "correction.spatial_window",
        }  # fmt: skip
        traces, whole = (pyama_dask.open_output(of).traces() for of in (tmp_path / "out", expected))
        assert traces.equals(whole[traces.columns])
        assert [name for name in whole.columns if name not in traces.columns] == [
            f"{name}_ch_2" for name in INTENSITY_FEATURES
        ]

    def test_automation_with_what_the_file_says(self, movie, expected, tmp_path, caplog):
        script = adapted(AUTOMATION, output_dir=str(tmp_path / "out"), fov_end=FOVS - 1, n_workers=2)
        ran = executed(script.replace("path/to/file.nd2", str(movie)))
        assert ran["success"] is True
        assert ran["context"].channels == Channels(pc=0, fl=[1, 2])
        assert "guessed channels: pc=0, fl=[1, 2]" in caplog.text
        assert_same(tmp_path / "out", expected, *range(FOVS))

    def test_an_external_progress_reporter(self, movie, tmp_path, monkeypatch, caplog):
        with listening() as (url, events):
            names = executed(REPORTER.replace("https://monitoring.example.com", url))
            monkeypatch.setitem(sys.modules, "requests", SimpleNamespace(post=post))
            _, good = serial(movie, tmp_path / "out", 0, 0, progress=names["reporter"].report_progress)
        assert good
        assert {event["step"] for event in events} == {*USUAL, "done"}
        assert events[-1] == {
            "step": "done", "fov": 0, "frame": FRAMES, "total": FRAMES, "message": "FOV 0 is complete"
        }  # fmt: skip
        assert "rror" not in caplog.text


# -------------------------------------------------------------------------------------- movies and ranges


class TestMovie:
    def test_what_the_file_says(self, movie, tmp_path):
        described = MicroscopyMetadata(
            movie,
            "microscopy",
            FOVS,
            FRAMES,
            HEIGHT,
            WIDTH,
            "nd2",
            3,
            [10.0 * k for k in range(FRAMES)],
            ["Phase", "GFP", "mCherry"],
            "uint16",
        )
        assert load_microscopy_file(str(movie)) == described
        with pytest.raises(SourceError, match=r"absent\.nd2"):
            load_microscopy_file(tmp_path / "absent.nd2")

    @pytest.mark.parametrize("wrong", [{"n_fovs": 10}, {"n_frames": 7}, {"height": WIDTH, "width": HEIGHT}])
    def test_a_movie_that_is_not_as_the_script_says_is_refused(self, movie, tmp_path, wrong):
        metadata = MicroscopyMetadata(**{"base_name": "microscopy"} | of_movie(movie) | wrong)
        with pytest.raises(ValueError, match=r"microscopy\.nd2: differs from its MicroscopyMetadata: ") as refused:
            run_complete_workflow(metadata, ProcessingContext(tmp_path / "out"))
        for name, value in wrong.items():
            assert f"{name} is {of_movie(movie)[name]}, not {value}" in str(refused.value)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("ends", "fovs"),
        [((2, 2), [2]), ((2, -1), [2, 3]), ((2, None), [2, 3]), ((-1, 1), [0, 1]), ((None, 0), [0]), ((3, 3), [3])],
    )
    def test_ranges_include_both_ends(self, movie, tmp_path, ends, fovs):
        context, good = serial(movie, tmp_path, *ends, params={"copy_only": True})
        assert good
        assert list(context.results_paths) == fovs

    def test_without_a_range_all_fovs(self, movie, tmp_path):
        context, _ = serial(movie, tmp_path, params={"copy_only": True})
        assert list(context.results_paths) == list(range(FOVS))

    @pytest.mark.parametrize("ends", [(0, FOVS), (-2, 1), (2, 1), (FOVS, None)])
    def test_ranges_that_are_none_are_refused(self, movie, tmp_path, ends):
        with pytest.raises(ValueError, match=rf"fov_start={ends[0]}, fov_end={ends[1]}: not a range within FOVs 0-3"):
            serial(movie, tmp_path / "out", *ends)
        with pytest.raises(ConfigError, match="not a range"):
            Recorder().process_all_fovs(load_microscopy_file(movie), ProcessingContext(tmp_path), tmp_path, *ends)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("name", ["batch_size", "n_workers"])
    def test_counts_below_one_are_refused(self, movie, tmp_path, name):
        metadata = load_microscopy_file(movie)
        with pytest.raises(ConfigError, match=f"^{name}: must be 1 or more, not 0"):
            run_complete_workflow(metadata, ProcessingContext(tmp_path / "out"), **{name: 0})

    def test_counts_are_those_of_the_cluster(self, movie, tmp_path, monkeypatch):
        class Asked(Exception):
            pass

        def asked(config, **_):
            raise Asked(config.cluster)

        monkeypatch.setattr(workflow, "run", asked)
        metadata, script = load_microscopy_file(movie), sys.modules["__main__"]
        for n_workers, kind in ((1, "serial"), (3, "local")):
            with pytest.raises(Asked) as found:
                run_complete_workflow(metadata, ProcessingContext(tmp_path), batch_size=5, n_workers=n_workers)
            (cluster,) = found.value.args
            assert (cluster.kind, cluster.batch_size) == (kind, 5)
        assert cluster.workers == 3
        assert sys.modules["__main__"] is script  # back in its place

    def test_a_script_is_back_when_the_last_of_its_threads_is_through(self):
        script, first, second = sys.modules["__main__"], workflow.script_left_alone(), workflow.script_left_alone()
        first.__enter__()
        hidden = sys.modules["__main__"]
        second.__enter__()
        first.__exit__(None, None, None)
        assert sys.modules["__main__"] is hidden is not script
        assert second.__exit__(ValueError, ValueError("no"), None) is False
        assert sys.modules["__main__"] is script


# ----------------------------------------------------------------------------------------------- settings


class TestSettings:
    @pytest.mark.parametrize(
        ("given", "params"),
        [
            ({"segmentation": {"method": "LOG-STD"}, "tracking": {"method": "IoU"}},
             {"segmentation_method": "logstd", "tracking_method": "iou"}),
            ({"segmentation": {"min_size": 7, "max_size": 8, "logstd_window_size": 5, "threshold": "mode"}},
             {"segmentation_params": {"min_object_size": 7, "max_object_size": 8, "logstd_window_size": 5,
                                      "threshold": "mode"}}),
            ({"tracking": {"min_iou": 0.2}, "min_frames": 4, "tracking_params": {"border_margin": 3}},
             {"tracking_params": {"min_iou": 0.2, "min_frames": 4, "border_margin": 3}}),
            ({"correction": {"tile_size": 50}, "background_weight": 0.5},
             {"background_params": {"tile_size": 50}, "background_weight": 0.5}),
            ({"extraction_params": {"background_weight": 0.5, "frame_interval": 5.0, "time_mapping": None}},
             {"background_weight": 0.5, "frame_interval": 5.0, "time_mapping": None}),
            ({"segmentation_method": "a.py:f", "segmentation_params": {"threshold": 0.3, "any": [1]}},
             {"segmentation_method": "a.py:f", "segmentation_params": {"threshold": 0.3, "any": [1]}}),
        ],
    )  # fmt: skip
    def test_what_means_the_same(self, given, params):
        found = translate(given)
        assert (found.params, found.left_out) == (params, [])

    def test_features_by_kind_of_channel(self, movie, tmp_path):
        params = {"features": {"phase": ["area"], "fluorescence": ["intensity_mean"]}, "border_margin": 5}
        _, good = serial(movie, tmp_path, 0, 0, params=params)
        assert good
        assert list(pyama_dask.open_output(tmp_path).traces().columns[11:]) == [
            "area_ch_0", "intensity_mean_ch_1", "intensity_mean_ch_2"
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("given", "named"),
        [
            (
                {"segmentation_threshold": 0.5},
                "segmentation_threshold (0.5) has no equivalent here and is ignored: the th",
            ),
            ({"threshold": 3}, "threshold (3) has"),
            ({"tracking": {"tile_size": 5}}, "tracking.tile_size (5) has no equivalent here and is ignored: cells are"),
            ({"tracking": "iou"}, "tracking ('iou') has"),
            ({"features": ["area"]}, "features (['area']) has"),
            ({"extraction": {"features": {"brightfield": ["area"]}}}, "extraction.features"),
            ({"sigma": None}, "sigma (None) has no equivalent here and is ignored"),
        ],
    )
    def test_what_has_no_meaning_is_said_by_name(self, given, named):
        found = translate(given)
        assert (found.params, found.features) == ({}, {})
        (said,) = found.left_out
        assert said.startswith(f"params: {named}")

    @pytest.mark.parametrize(
        ("given", "refused"),
        [
            ({"min_frames": 5, "tracking": {"min_frames": 6}}, "tracking_params.min_frames is given twice"),
            ({"fovs": "0-1"}, "with fov_start and fov_end"),
            ({"segmentation": {"method": "watershed"}}, "'watershed' is not a segmenter; known are: logstd"),
            ({"segmentation": {"min_size": -1}}, "params.segmentation_params.min_object_size"),
            ({"background_weight": 2}, "params.background_weight"),
            ({"tracking_params": {"max_distance": 20}}, "params.tracking_params.max_distance: is not a parameter here"),
        ],
    )
    def test_what_cannot_be_is_refused(self, movie, tmp_path, given, refused):
        with pytest.raises(ConfigError, match=re.escape(refused)):
            serial(movie, tmp_path / "out", params=given)
        assert not (tmp_path / "out").exists()

    def test_other_units_of_time_are_said_not_to_be_used(self, movie, tmp_path):
        context = ProcessingContext(tmp_path, params={"copy_only": True}, time_units="hours")
        with pytest.warns(SettingsWarning, match="time_units 'hours' is not used: times are in minutes"):
            assert run_complete_workflow(load_microscopy_file(movie), context, 0, 0, n_workers=1)
        assert context.time_units == "min"

    def test_what_the_movie_does_not_fit_is_taken_as_init_writes_it(self, movie, tmp_path, caplog):
        serial(movie, tmp_path / "a", 0, 0)
        assert "params.tracking_params.min_frames is 3" in caplog.text
        caplog.clear()
        serial(movie, tmp_path / "b", 0, 0, params={"tracking": {"min_frames": 2}})
        assert "min_frames" not in caplog.text
        tracking = pyama_dask.open_output(tmp_path / "b").config["params"]["tracking_params"]
        assert tracking["min_frames"] == 2


# ------------------------------------------------------------------------------------- results and failures


class TestResults:
    def test_runs_add_their_fovs_to_the_results(self, movie, expected, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        output = Path("out")
        context, good = serial(movie, output, 0, 1)
        assert good
        before = times_of_change(output / "fov_000") | times_of_change(output / "fov_001")
        again = ProcessingContext("out", Channels(0, [1, 2]))
        assert run_complete_workflow(load_microscopy_file(movie), again, 2, 3, n_workers=1)
        assert times_of_change(output / "fov_000") | times_of_change(output / "fov_001") == before
        assert_same(output, expected, *range(FOVS))
        assert (list(context.results_paths), list(again.results_paths)) == ([0, 1], [2, 3])
        read = pyama_files.read_processing_results(output / "processing_results.yaml")
        assert (read.pc, read.fl, read.time_units, sorted(read.files)) == (0, (1, 2), "min", [0, 1, 2, 3])
        assert read.params["tracking_params"]["min_frames"] == FRAMES // 2
        for fov in range(FOVS):
            ((channel, traces),) = read.traces(fov)
            assert channel is None
            assert traces.samefile(output / f"fov_{fov:03d}" / f"microscopy_fov_{fov:03d}_traces.csv")
            assert {name: [channel for channel, _ in of] for name, of in read.files[fov].items()} == {
                "pc": [0], "seg": [0], "seg_labeled": [0], "fl": [1, 2], "fl_background": [1, 2], "traces": [None],
            }  # fmt: skip

    def test_paths_are_those_of_the_arrays(self, movie, tmp_path):
        context, _ = serial(movie, tmp_path, 0, 0)
        paths, fov = context.results_paths[0], pyama_dask.open_output(tmp_path)[0]
        found = [paths.pc, paths.seg, paths.seg_labeled, *paths.fl, *paths.fl_background]
        names = ["pc_ch_0", "seg_labeled_ch_0", "seg_tracked_ch_0"]
        names += [f"{name}_ch_{channel}" for name in ("fl", "fl_background") for channel in (1, 2)]
        for (_, path), name in zip(found, names, strict=True):
            assert (zarr.open_array(path, mode="r")[:] == fov.image(name).data.compute()).all()
        assert paths.fl_corrected == []

    def test_fovs_of_other_runs_are_found_where_the_file_does_not_list_them(self, movie, tmp_path, caplog):
        serial(movie, tmp_path, 0, 0)
        file = tmp_path / "processing_results.yaml"
        file.write_text("[1, 2]")
        serial(movie, tmp_path, 1, 1)
        assert "it is rewritten" in caplog.text
        assert sorted(pyama_files.read_processing_results(file).files) == [0, 1]

    def test_what_a_run_removes_is_listed_no_more(self, movie, tmp_path):
        serial(movie, tmp_path, 0, 1)
        serial(movie, tmp_path, 0, 0, channels=Channels(0, [1]))
        files = pyama_files.read_processing_results(tmp_path / "processing_results.yaml").files
        assert [[channel for channel, _ in files[fov]["fl"]] for fov in (0, 1)] == [[1], [1, 2]]

    def test_a_movie_without_phase_contrast_is_copied(self, movie, tmp_path):
        context, good = serial(movie, tmp_path, 0, 0, channels=Channels(fl=[1]))
        assert good
        paths = context.results_paths[0]
        assert (paths.pc, paths.traces_csv, [channel for channel, _ in paths.fl]) == (None, [], [1])

    def test_a_fov_that_fails_is_false_and_in_the_log(self, tmp_path, data, caplog):
        skip = {(1, t, c, 0) for t in range(4, FRAMES) for c in range(3)}
        movie = as_czi(tmp_path / "aborted.czi", data, skip=skip)
        seen = Recorder()
        context, good = serial(movie, tmp_path / "out", 0, 2, services=[seen])
        assert good is False
        assert re.search(r"FOV 1 failed \(input\): .*2 of its frames are missing in aborted\.czi", caplog.text)
        assert list(context.results_paths) == seen.fovs == [0, 2]
        assert sorted(pyama_files.read_processing_results(tmp_path / "out" / "processing_results.yaml").files) == [0, 2]

    def test_a_run_that_is_cancelled_is_false_and_goes_on_later(self, movie, expected, tmp_path, caplog):
        cancel = threading.Event()
        context, good = serial(
            movie, tmp_path / "out", 0, 1, batch_size=1, cancel_event=cancel,
            progress=lambda event: cancel.set() if event["step"] == "done" else None,
        )  # fmt: skip
        assert good is False
        assert "the run was cancelled; these FOVs are not complete: 1" in caplog.text
        assert list(context.results_paths) == [0]
        assert serial(movie, tmp_path / "out", 0, 1)[1] is True
        assert_same(tmp_path / "out", expected, 0, 1)

    def test_an_output_of_something_else_is_refused(self, movie, tmp_path):
        (tmp_path / "fov_000").mkdir()
        with pytest.raises(OutputError, match="choose an empty 'output'"):
            serial(movie, tmp_path)

    def test_results_that_cannot_be_written_are_false_and_in_the_log(self, movie, tmp_path, caplog):
        assert serial(movie, tmp_path / "out", 0, 0, params={"copy_only": True})[1] is True
        (tmp_path / "out" / "processing_results.yaml").unlink()
        (tmp_path / "out" / "processing_results.yaml").mkdir()
        assert serial(movie, tmp_path / "out", 0, 0, params={"copy_only": True})[1] is False
        assert "processing_results.yaml could not be written" in caplog.text


# ---------------------------------------------------------------------------------- progress, and own steps


class Recorder(BaseProcessingService):
    """Notes which FOVs it is given."""

    def __init__(self):
        super().__init__()
        self.name = "Recorder"
        self.fovs = []

    def process_fov(self, metadata, context, output_dir, fov):
        self.fovs.append(fov)
        self.progress_callback(fov, metadata.n_frames, metadata.n_frames, "noted")


class Doubled(BaseProcessingService):
    """Writes twice the traces of a FOV beside them, and lists it as traces of channel 1."""

    name = "Doubled"

    def process_fov(self, metadata, context, output_dir, fov):
        paths = context.results_paths[fov]
        ((_, csv),) = paths.traces_csv
        traces = pyama_dask.open_output(output_dir)[fov].traces()
        assert csv.exists()
        twice = output_dir / f"twice_{fov}.csv"
        (2 * traces).to_csv(twice, index=False)
        paths.traces_csv = [(1, twice)]


class Faulty(BaseProcessingService):
    name = "Faulty"

    def process_fov(self, metadata, context, output_dir, fov):
        if fov == 1:
            raise RuntimeError("no such cell")


class TestServices:
    def test_run_for_each_fov_after_the_built_in_steps(self, movie, tmp_path):
        events, seen = [], Recorder()
        _, good = serial(movie, tmp_path, 1, 2, services=[Doubled(), seen], progress=events.append)
        assert good
        assert seen.fovs == [1, 2]
        assert events[-1] == {"step": "Recorder", "fov": 2, "frame": FRAMES, "total": FRAMES, "message": "noted"}
        assert [event["step"] for event in events[-3:]] == ["done", "Recorder", "Recorder"]
        read = pyama_files.read_processing_results(tmp_path / "processing_results.yaml")
        assert read.traces(1) == ((1, tmp_path / "twice_1.csv"),)
        serial(movie, tmp_path, 0, 0)
        read = pyama_files.read_processing_results(tmp_path / "processing_results.yaml")
        assert read.traces(1) == ((1, tmp_path / "twice_1.csv"),)  # a run of other FOVs leaves it so
        assert [channel for channel, _ in read.traces(0)] == [None]

    def test_a_service_that_fails_fails_its_fov(self, movie, tmp_path, caplog):
        after = Recorder()
        context, good = serial(movie, tmp_path, 0, 2, services=[Faulty(), after])
        assert good is False
        assert after.fovs == [0, 2]
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.getMessage() == "FOV 1: service Faulty failed"
        assert "RuntimeError: no such cell" in caplog.text
        assert list(context.results_paths) == [0, 1, 2]  # what was computed of it is there

    def test_one_without_process_fov_says_so(self, movie, tmp_path, caplog):
        class Empty(BaseProcessingService):
            pass

        with pytest.raises(ConfigError, match=r"services: Empty has no process_fov\(metadata, context"):
            serial(movie, tmp_path / "out", 0, 0, services=[Empty()])
        assert not (tmp_path / "out").exists()

    def test_the_step_of_the_documentation(self, movie, tmp_path, monkeypatch, capsys):
        text = (Path(__file__).parents[2] / "docs" / "older_api.md").read_text()
        imported, example, *_ = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        executed(imported)
        monkeypatch.chdir(tmp_path)
        Path("movie.nd2").symlink_to(movie)
        ran = executed(example.replace("fov_end=1,", "fov_end=1, n_workers=1,"))
        assert ran["success"] is True
        printed = capsys.readouterr().out.splitlines()
        assert [line.split()[:2] for line in printed if line[0].isdigit()] == [
            [str(fov), str(frame)] for fov in (0, 1) for frame in range(FRAMES)
        ]
        assert printed[-1] == str(
            {"step": "Mean phase", "fov": 1, "frame": FRAMES, "total": FRAMES, "message": "mean of the phase"}
        )

    def test_by_hand_on_some_fovs(self, movie, tmp_path):
        seen, events = Recorder(), []
        seen.process_all_fovs(load_microscopy_file(movie), ProcessingContext(tmp_path), tmp_path, fov_start=2)
        seen.set_progress_reporter(events.append)
        seen.process_all_fovs(load_microscopy_file(movie), ProcessingContext(tmp_path), tmp_path, -1, 0)
        assert seen.fovs == [2, 3, 0]
        assert [event["fov"] for event in events] == [0]

    def test_a_reporter_that_raises_is_said_once_and_ends_nothing(self, movie, tmp_path, caplog):
        calls = []

        def broken(event):
            calls.append(event)
            raise ConnectionError("monitor is down")

        assert serial(movie, tmp_path, 0, 0, services=[Recorder()], progress=broken)[1] is True
        assert len(calls) > 2
        assert caplog.text.count("progress could not be reported: ConnectionError: monitor is down") == 1
