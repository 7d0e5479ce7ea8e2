"""Names of calls, arguments, settings and results in the documents of the older program, and what they are here."""

import re

from pyama_dask.api.absent import ABSENT

IGNORED = "ignored, with a warning that names it"

CALLS = {
    "run_complete_workflow": "the same",
    "run_complete_workflow(metadata)": "the same; compared with the movie",
    "run_complete_workflow(context)": "the same",
    "run_complete_workflow(fov_start)": "the same",
    "run_complete_workflow(fov_end)": "the same",
    "run_complete_workflow(batch_size)": "the same: FOVs in flight; there are no batches that wait for each other",
    "run_complete_workflow(n_workers)": "the same: processes",
    "load_microscopy_file": "the same; `image, metadata = ...` works, too",
    "MicroscopyMetadata": "the same",
    "MicroscopyMetadata(file_path)": "the same",
    "MicroscopyMetadata(base_name)": "files are named by the movie; another name gives a warning",
    "MicroscopyMetadata(n_fovs)": "the same",
    "MicroscopyMetadata(n_frames)": "the same",
    "MicroscopyMetadata(height)": "the same",
    "MicroscopyMetadata(width)": "the same",
    "ProcessingContext": "the same",
    "ProcessingContext(output_dir)": "the same",
    "ProcessingContext(channels)": "the same; guessed if missing",
    "ProcessingContext(results_paths)": "the same",
    "ProcessingContext(params)": "the same; see the settings below",
    "ProcessingContext(time_units)": "minutes; others give a warning",
    "Channels": "the same",
    "Channels(pc)": "an index, or a `ChannelSelection`",
    "Channels(fl)": "a list of these",
    "ResultsPathsPerFOV": "the same",
    "BaseProcessingService": "the same",
    "BaseProcessingService.name": "the same",
    "BaseProcessingService.set_progress_reporter": "the same",
    "BaseProcessingService.progress_callback": "the same",
    "BaseProcessingService.process_fov": "the same",
    "BaseProcessingService.process_all_fovs": "the same",
    "CopyingService": "a run of the step `copy`",
    "SegmentationService": "a run of the step `segment`",
    "SegmentationService(method)": "the same",
    "TrackingService": "a run of the step `track`",
    "TrackingService(method)": "the same",
    "BackgroundEstimationService": "a run of the step `background`",
    "CorrectionService": "the same as `BackgroundEstimationService`",
    "CroppingService": "a run of the step `crop`",
    "ExtractionService": "a run of the step `extract`",
    "CachingService": "a run of the step `cache`",
    "CachingService.process_all_fovs(config)": "a `ProcessingConfig`, instead of the context",
    "CachingService.process_all_fovs(cancel_event)": "the same",
    "run_single_worker": "the same four values",
    "run_single_worker(progress_queue)": "the same",
    "PHASE_FEATURES": "the same, for functions in a file",
    "register_preprocessor": "the same, for objects whose class is in a file; also of `workflow`",
}
SETTINGS = {
    "segmentation.method": "`segmentation_method`; `log_std` is `logstd`",
    "segmentation.threshold": IGNORED,
    "segmentation.min_size": "`segmentation_params.min_object_size`",
    "segmentation_threshold": IGNORED,
    "tracking.max_distance": IGNORED,
    "tracking.linking_threshold": IGNORED,
    "correction.temporal_window": IGNORED,
    "correction.spatial_window": IGNORED,
    "copy_only": "the same",
    "segmentation_method": "the same",
    "tracking_method": "the same",
    "logstd_window_size": "`segmentation_params.logstd_window_size`",
    "morph_size": "`segmentation_params.morph_size`, a diameter",
    "morph_iterations": "`segmentation_params.morph_iterations`",
    "min_object_size": "`segmentation_params.min_object_size`",
    "max_object_size": "`segmentation_params.max_object_size`",
    "min_iou": "`tracking_params.min_iou`",
    "min_frames": "`tracking_params.min_frames`",
    "border_margin": "`tracking_params.border_margin`",
    "background_weight": "the same",
    "frame_interval": "the same",
    "time_mapping": "the same",
    "features": "of the channels",
}
RESULTS = {
    "results_paths.pc": "the same, a Zarr array",
    "results_paths.fl": "the same, Zarr arrays",
    "results_paths.seg": "labels of each frame, instead of True and False",
    "results_paths.seg_labeled": "the same: tracked labels",
    "results_paths.fl_corrected": "empty: `fl` minus `fl_background` is not stored",
    "results_paths.traces_csv": "one table of all channels; its channel is `None`",
    "processing_results.yaml": "the same",
    "processing_config.yaml": "the same",
    "images.zarr": "the same",
    "cells.zarr": "the same",
    "True, False": "True if all FOVs are complete",
    "FileNotFoundError": "`MissingStepError`: a step that is needed is not done",
    "ValueError": "`ConfigError`, `PlanError` and `TableError`",
    "InterruptedError": "not raised: a service whose `cancel_event` is set returns",
    "NotImplementedError": "the same, of a service without `process_fov`",
}
OTHERS = set(
    re.findall(
        r"\S+",
        """
AllBatchesProcessed BatchLoop ComputeBatches CopyData CopyService ExceptBlock LogError MergeContext ParallelProcessing
ReturnError ReturnResults SetupOutput SuccessPath TryBlock UpdateProgress ValidateInput WorkerPool WorkerTask WriteYAML
PyAMA IoU NaN Path ProcessPoolExecutor ThreadPoolExecutor RectBivariateSpline __init__ as_completed open_memmap
mmap_mode binary_closing binary_dilation binary_fill_holes binary_opening linear_sum_assignment regionprops_table
remove_small_objects uniform_filter is_set max_workers iterations size structure properties json timeout bool
assign_new_id assign_previous_id calculate_iou calculate_trace_lengths on_border run_batch update_progress
CustomPreprocessor ExternalProgressReporter extract_custom_feature report_progress process
config context metadata method name threshold channels phase fluorescence correction segmentation tracking
""",
    )
)
"""Words of diagrams, names of other packages and of functions that the examples define, and sections of settings."""
NOT_HERE = dict(ABSENT)


def table():
    """Lines of the tables in docs/older_api.md."""
    groups = (("name", CALLS), ("setting", SETTINGS), ("result", RESULTS), ("name", NOT_HERE))
    for head, group in groups:
        yield from (f"| {head} | here |", "| --- | --- |")
        for name, here in group.items():
            yield f"| `{name}` | {_refused(here) if group is NOT_HERE else here} |"
        yield ""


def _refused(reason):
    return f"not there: it {reason.replace('. Fix: ', '; ')}"
