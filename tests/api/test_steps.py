"""Services of single steps, and the batch of the reference document: the same results as those of one run."""

import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.ledgers import recorded
from support.movies import as_czi, differences, pixels, products

import pyama_dask
from api.conftest import PARAMS
from pyama_dask import api
from pyama_dask.api import (
    BackgroundEstimationService,
    CachingService,
    Channels,
    CopyingService,
    CorrectionService,
    CroppingService,
    ExtractionService,
    ProcessingConfig,
    ProcessingContext,
    SegmentationService,
    TrackingService,
    load_microscopy_file,
    run_complete_workflow,
    run_single_worker,
)
from pyama_dask.errors import AlgorithmError, ConfigError, MissingStepError, SettingsWarning
from pyama_dask.runs.status import LEDGER
from pyama_dask.store.ledger import Ledger

BATCH = '''
from concurrent.futures import ThreadPoolExecutor, as_completed
from pyama.processing.workflow.run import run_single_worker
def run_batch(fov_batch, config, n_workers, metadata, output_dir, cancel_event):
    """Process a batch of FOVs in parallel."""
    # Sequential copying (I/O bound)
    copy_service = CopyingService()
    copy_service.process_all_fovs(
        metadata=metadata,
        config=config,
        output_dir=output_dir,
        fov_start=fov_batch[0],
        fov_end=fov_batch[-1],
        cancel_event=cancel_event,
    )
    # Copy-only mode: skip processing stages
    if config.params.copy_only:
        return
    # Parallel processing (CPU bound)
    worker_ranges = _split_worker_ranges(fov_batch, n_workers)
    with ThreadPoolExecutor(max_workers=n_workers) as executor:
        futures = {
            executor.submit(
                run_single_worker,
                fov_range,
                metadata,
                config,
                output_dir,
                cancel_event,
            ): fov_range
            for fov_range in worker_ranges
        }
        # Wait for completion with progress tracking
        for future in as_completed(futures):
            fov_range, successful, failed, message = future.result()
            update_progress(successful, failed, message)
    # Generate visualization cache after all processing
    if overall_success:
        caching_service = CachingService()
        caching_service.process_all_fovs(
            metadata=metadata,
            config=config,
            output_dir=output_dir,
            fov_start=fov_batch[0],
            fov_end=fov_batch[-1],
            cancel_event=cancel_event,
        )
'''
WORKER = '''
def run_single_worker(fovs, metadata, config, output_dir, cancel_event):
    """Worker function for parallel FOV processing."""
    try:
        # Initialize services
        segmentation = SegmentationService(method=config.params.segmentation_method)
        tracking = TrackingService(method=config.params.tracking_method)
        background_estimation = BackgroundEstimationService()
        cropping = CroppingService()
        extraction = ExtractionService()
        # Process each service sequentially for FOV range
        segmentation.process_all_fovs(metadata, config, output_dir, fovs[0], fovs[-1], cancel_event)
        if cancel_event and cancel_event.is_set():
            return (fovs, 0, len(fovs), "Cancelled")
        tracking.process_all_fovs(metadata, config, output_dir, fovs[0], fovs[-1], cancel_event)
        if cancel_event and cancel_event.is_set():
            return (fovs, 0, len(fovs), "Cancelled")
        background_estimation.process_all_fovs(metadata, config, output_dir, fovs[0], fovs[-1], cancel_event)
        if cancel_event and cancel_event.is_set():
            return (fovs, 0, len(fovs), "Cancelled")
        cropping.process_all_fovs(metadata, config, output_dir, fovs[0], fovs[-1], cancel_event)
        if cancel_event and cancel_event.is_set():
            return (fovs, 0, len(fovs), "Cancelled")
        extraction.process_all_fovs(metadata, config, output_dir, fovs[0], fovs[-1], cancel_event)
        return (fovs, len(fovs), 0, "Completed")
    except Exception as e:
        logger.error(f"Error processing FOVs {fovs[0]}-{fovs[-1]}: {e}")
        return (fovs, 0, len(fovs), str(e))
'''
SERVICES = (
    CopyingService, SegmentationService, BackgroundEstimationService, TrackingService, CroppingService,
    ExtractionService, CachingService,
)  # fmt: skip


def settings(**params):
    return ProcessingConfig(Channels(0, [1]), PARAMS | params)


def executed(script, **names):
    """Run a script of the reference document with its imports changed."""
    script = re.sub(r"from pyama[\w.]* import", "from pyama_dask.api import", script)
    names = {name: getattr(api, name) for name in dir(api)} | names
    exec(compile(script, "script.py", "exec"), names)
    return names


def steps_in(output):
    return {step for of in recorded(Ledger(output / LEDGER)).values() for step in of}


class TestBatch:
    def test_the_one_of_the_reference_document(self, few, whole, tmp_path):
        told = []
        names = executed(
            BATCH, overall_success=True, update_progress=lambda *of: told.append(of),
            _split_worker_ranges=lambda fovs, count: [fovs[k::count] for k in range(count)],
        )  # fmt: skip
        names["run_batch"]([0, 1], settings(), 2, load_microscopy_file(few), tmp_path / "out", threading.Event())
        assert told == [(1, 0, "Completed")] * 2
        assert differences(products(tmp_path / "out"), products(whole)) == []
        listed = api.load_processing_results_yaml(tmp_path / "out" / "processing_results.yaml")
        assert sorted(listed["fov_data"]) == [0, 1]

    def test_its_worker_of_services(self, few, whole, tmp_path):
        names, config = executed(WORKER, logger=SimpleNamespace(error=print)), settings()
        arguments = (load_microscopy_file(few), config, tmp_path / "out", threading.Event())
        CopyingService().process_all_fovs(*arguments[:3])
        assert names["run_single_worker"]([0, 1], *arguments) == ([0, 1], 2, 0, "Completed")
        CachingService().process_all_fovs(*arguments[:3])
        assert differences(products(tmp_path / "out"), products(whole)) == []

    def test_copies_only(self, few, tmp_path):
        names, config = executed(BATCH), settings(copy_only=True)
        names["run_batch"]([1], config, 2, load_microscopy_file(few), tmp_path, None)
        assert steps_in(tmp_path) == {"copy", "summary"}


class TestServices:
    def test_one_by_one_they_make_what_a_run_makes(self, few, whole, tmp_path):
        context = ProcessingContext(tmp_path / "out", Channels(0, [1]), params=dict(PARAMS))
        metadata, seen = load_microscopy_file(few), []
        for make in SERVICES:
            service = make()
            service.set_progress_reporter(seen.append)
            service.process_fov(metadata, context, context.output_dir, 1)
            found = context.results_paths[1]
            done = SERVICES[: SERVICES.index(make) + 1]
            assert (
                found.seg is None,
                found.seg_labeled is None,
                found.traces is None,
                not found.fl_background,
            ) == tuple(
                of not in done for of in (SegmentationService, TrackingService, ExtractionService, CorrectionService)
            )
        assert steps_in(context.output_dir) == {
            "copy", "segment", "track", "background", "crop", "extract", "cache", "summary"
        }  # fmt: skip
        made = {name: of for name, of in products(whole).items() if name.startswith("fov_001")}
        assert differences(products(context.output_dir), made) == []
        assert found.traces.exists()
        assert {event["fov"] for event in seen} == {1}
        assert pyama_dask.open_output(context.output_dir).status()["fovs"][0]["status"] == "done"
        assert run_complete_workflow(metadata, context, 1, 1, n_workers=1)  # there is nothing to do

    def test_what_they_need_must_be_there(self, few, tmp_path):
        metadata = load_microscopy_file(few)
        with pytest.raises(FileNotFoundError, match="step 'segment' of FOV 0 needs 'copy', which is not done"):
            SegmentationService().process_fov(metadata, settings(), tmp_path / "out", 0)
        assert not (tmp_path / "out").exists()
        assert issubclass(MissingStepError, ValueError)
        fovs, done, failed, message = run_single_worker([0], metadata, settings(), tmp_path / "out")
        assert (fovs, done, failed) == ([0], 0, 1)
        assert "needs 'copy'" in message

    def test_cancelled_ones_return(self, few, tmp_path):
        metadata, cancel = load_microscopy_file(few), threading.Event()
        CopyingService().process_all_fovs(metadata, settings(), tmp_path, 0, 0)
        cancel.set()
        SegmentationService().process_all_fovs(metadata, settings(), tmp_path, 0, 0, cancel)
        assert run_single_worker([0], metadata, settings(), tmp_path, cancel) == ([0], 0, 1, "Cancelled")
        assert steps_in(tmp_path) == {"copy"}

    def test_without_phase_contrast_there_is_nothing_to_do(self, few, tmp_path, caplog):
        metadata, config = load_microscopy_file(few), ProcessingConfig(Channels(fl=[1]))
        for make in SERVICES:
            make().process_fov(metadata, config, tmp_path, 0)
        assert caplog.text.count("nothing to do with these channels and settings") == len(SERVICES) - 2
        assert steps_in(tmp_path) == {"copy", "cache", "summary"}
        assert pyama_dask.open_output(tmp_path).status()["fovs"][0]["status"] == "done"

    def test_a_method_is_noted_for_the_services_after_it(self, few, tmp_path):
        config = ProcessingConfig(Channels(0), ProcessingConfig().params)
        metadata = load_microscopy_file(few)
        CopyingService().process_fov(metadata, config, tmp_path, 0)
        SegmentationService(method="bright").process_fov(metadata, config, tmp_path, 0)
        assert config.params.segmentation_method == "bright"
        assert config.params.tracking_method == "iou"
        TrackingService("IoU").process_fov(metadata, config, tmp_path, 0)
        with pytest.raises(ConfigError, match="Segmentation: method='logstd', but segmentation_method of the settings"):
            SegmentationService("logstd").process_fov(metadata, config, tmp_path, 0)

    def test_a_fov_that_fails_harms_no_other(self, tmp_path):
        data = pixels(fovs=2, frames=3, shape=(120, 130), cells=3, border_margin=20)
        movie = as_czi(tmp_path / "aborted.czi", data, skip={(0, 1, c, 0) for c in range(2)})
        metadata, config = load_microscopy_file(movie), settings()
        with pytest.raises(AlgorithmError, match=r"FOV 0 failed \(input\): .*missing"):
            CopyingService().process_all_fovs(metadata, config, tmp_path / "out")
        fovs, done, failed, message = run_single_worker(range(2), metadata, config=config, output_dir=tmp_path / "out")
        assert (fovs, done, failed) == (range(2), 1, 1)
        assert message.startswith("FOV 0 failed (input)")

    def test_the_example_of_the_documentation(self, few, tmp_path, monkeypatch):
        text = (Path(__file__).parents[2] / "docs" / "older_api.md").read_text()
        (example,) = (
            of for of in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if "Copying" in of
        )
        monkeypatch.chdir(tmp_path)
        Path("movie.nd2").symlink_to(few)
        executed(example.replace("fov_end=3", "fov_end=1"))
        assert [fov["left"][0] for fov in pyama_dask.open_output("steps").status()["fovs"]] == ["track", "segment"]

    def test_correction_is_background_estimation(self):
        assert CorrectionService is BackgroundEstimationService

    @pytest.mark.parametrize(
        ("arguments", "refused"),
        [
            ((), "context: must be a ProcessingContext or a ProcessingConfig, not NoneType"),
            ((ProcessingConfig(),), "output_dir: is missing"),
        ],
    )
    def test_what_is_missing_is_said(self, few, arguments, refused):
        with pytest.raises(ConfigError, match=refused):
            CopyingService().process_all_fovs(load_microscopy_file(few), *arguments)


class TestPlaces:
    @pytest.fixture
    def asked(self, monkeypatch):
        """Options with which a run was asked for; none begins."""
        found = []

        def run(config, **options):
            found.append((config.cluster, options))
            raise KeyboardInterrupt

        monkeypatch.setattr("pyama_dask.api.workflow.run", run)
        return found

    def test_a_queue(self, few, tmp_path, asked):
        script = sys.modules["__main__"]
        queue = {"kind": "slurm", "jobs": 4, "memory": "4GiB", "walltime": "04:00:00"}
        context = ProcessingContext(tmp_path, Channels(0, [1]))
        with pytest.raises(KeyboardInterrupt):
            run_complete_workflow(load_microscopy_file(few), context, cluster=queue)
        ((cluster, options),) = asked
        assert (cluster.kind, cluster.jobs, cluster.batch_size, options["client"]) == ("slurm", 4, "auto", None)
        assert sys.modules["__main__"] is script

    def test_a_client(self, few, tmp_path, asked):
        client, metadata = object(), load_microscopy_file(few)
        with (
            pytest.raises(KeyboardInterrupt),
            pytest.warns(SettingsWarning, match=r"n_workers \(3\) is not used") as of,
        ):
            run_complete_workflow(metadata, ProcessingContext(tmp_path, Channels(0)), 0, 0, 5, 3, client=client)
        assert of[0].filename == __file__
        with pytest.raises(KeyboardInterrupt):
            SegmentationService(client=client).process_fov(metadata, ProcessingContext(tmp_path, Channels(0)), fov=0)
        with pytest.raises(KeyboardInterrupt):
            CopyingService(n_workers=3).process_fov(metadata, ProcessingContext(tmp_path, Channels(0)), fov=0)
        assert [options["client"] for _, options in asked] == [client, client, None]
        assert asked[0][0].batch_size == 5
        assert (asked[2][0].kind, asked[2][0].workers) == ("local", 3)
        assert [options.get("steps") for _, options in asked] == [None, ["segment"], ["copy"]]


def test_runs_of_threads_into_one_output_follow_one_another(few, tmp_path):
    metadata = load_microscopy_file(few)
    with ThreadPoolExecutor(2) as executor:
        futures = [executor.submit(CopyingService().process_fov, metadata, settings(), tmp_path, fov) for fov in (0, 1)]
        assert [future.result() for future in as_completed(futures)] == [None, None]
    assert [fov["left"][0] for fov in pyama_dask.open_output(tmp_path).status()["fovs"]] == ["segment"] * 2
