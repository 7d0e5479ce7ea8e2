"""`PipelineOrchestrator`: the plan and the run of `pyama_dask.Orchestrator`, and services for plates."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyama_dask.api.openhcs.contexts import CompiledContexts
from pyama_dask.api.openhcs.microscope import MicroscopeHandler
from pyama_dask.api.openhcs.pipelines import Translated, translated
from pyama_dask.api.openhcs.results import ResultReader
from pyama_dask.api.openhcs.run_config import config_document
from pyama_dask.api.openhcs.settings import FORMATS, GlobalPipelineConfig, Microscope
from pyama_dask.api.openhcs.stitcher import Stitcher
from pyama_dask.api.openhcs.well_steps import ProcessingContext
from pyama_dask.api.openhcs.workspace import make_workspace
from pyama_dask.api.workflow import script_left_alone
from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import ConfigError, PlanError, SettingsWarning
from pyama_dask.execute.events import Progress
from pyama_dask.plan.find_fovs import find_fovs, fovs_by_well
from pyama_dask.readers import Metadata, Reader, open_reader, read_metadata
from pyama_dask.runs.orchestrator import CompiledPlan, Orchestrator, WellResult
from pyama_dask.runs.output_dir import CONFIG

WORKSPACE, POSITIONS, STITCHED = "workspace", "positions", "stitched"
"""Folders in the output that the services make."""


class PipelineOrchestrator:
    """Pipelines on a plate, in three phases: `initialize`, `compile_pipelines`, `execute_compiled_plate`.

    Parameters
    ----------
    plate_path
        The plate, or another movie. It is opened for reading only.
    workspace_path
        Folder of `workspace_path`; None for a folder in the output.
    global_config, config
        Settings; give one of them, or none for the defaults.

    Raises
    ------
    ConfigError
        If no plate or both settings are given, or there is no folder for the output; see `PathPlanningConfig`.

    Warns
    -----
    SettingsWarning
        If the settings do not name the folder of the output.
    """

    def __init__(
        self, plate_path: str | Path | None = None, workspace_path: str | Path | None = None, *,
        global_config: GlobalPipelineConfig | None = None, config: GlobalPipelineConfig | None = None,
    ) -> None:  # fmt: skip
        if plate_path is None:
            raise ConfigError("plate_path: is missing. Fix: give the folder of the plate")
        if global_config is not None and config is not None:
            raise ConfigError("both global_config and config are given. Fix: give one of them")
        self.plate_path = Path(plate_path).expanduser().absolute()
        self.config = global_config or config or GlobalPipelineConfig()
        self.output = self.config.output_of(self.plate_path)
        if self.config.path_planning.global_output_folder is None:
            message = (
                f"path_planning.global_output_folder (None): results are in {self.output}, and not beside the plate"
            )
            warnings.warn(message, SettingsWarning, stacklevel=2)
        self._workspace = self.output / WORKSPACE if workspace_path is None else Path(workspace_path).absolute()
        self._metadata: Metadata | None = None
        self._executed: CompiledPlan | None = None

    # ---------------------------------------------------------------------------------------------- phases

    def initialize(self) -> PipelineOrchestrator:
        """Read what the plate has; nothing is written.

        Raises
        ------
        SourceError
            If it cannot be read.
        ConfigError
            If it is not of the microscope of the settings.
        """
        metadata = read_metadata(self.plate_path)
        expected = FORMATS.get(self.config.microscope)
        if self.config.microscope is not Microscope.AUTO and metadata.format != expected:
            raise ConfigError(
                f"microscope ({self.config.microscope.name}): {self.plate_path} is of {metadata.format}. "
                "Fix: set it to AUTO, or check the path"
            )
        self._metadata = metadata
        return self

    @property
    def metadata(self) -> Metadata:
        """Content of the plate; raises `PlanError` before `initialize`."""
        if self._metadata is None:
            raise PlanError("the plate has not been looked at. Fix: call initialize() first")
        return self._metadata

    def compile_pipelines(
        self, pipeline_definition: Iterable[Any], well_filter: Sequence[str] | str | None = None
    ) -> CompiledContexts:
        """Plan pipelines, and refuse what cannot be done; nothing is written.

        Parameters
        ----------
        pipeline_definition
            Steps of a pipeline, or several pipelines in sequence, each of which gets the images of the one before.
        well_filter
            Wells to process; None for those of the settings.

        Returns
        -------
        Contexts by well, with the plan.

        Raises
        ------
        PlanError, ConfigError, SourceError, OutputError, TableError
            As for `Orchestrator.compile`.

        Warns
        -----
        SettingsWarning
            For each setting that has no effect.
        """
        script = self._translated(pipeline_definition)
        messages = [*self.config.without_effect(has_seven=script.has_seven), *script.without_effect]
        for message in messages:
            warnings.warn(message, SettingsWarning, stacklevel=2)
        wells = well_filter if well_filter is not None else self.config.well_filter
        orchestrator = self._orchestrator(script, wells)
        if not script.pipelines:
            fovs = find_fovs(orchestrator.config.params, self.metadata)
            return CompiledContexts(self._contexts(fovs, self.metadata), None, script)
        plan = orchestrator.compile(script.pipelines)
        fovs = [fov.fov for fov in plan.plan.fovs]
        return CompiledContexts(self._contexts(fovs, plan.metadata), plan, script)

    def execute_compiled_plate(
        self, pipeline_definition: Iterable[Any], compiled_contexts: CompiledContexts, max_workers: int | None = None,
        *, progress: Progress | None = None, cancel: threading.Event | None = None,
    ) -> dict[str, WellResult]:  # fmt: skip
        """Do what is left of compiled pipelines, then the steps with `process`, well by well, in this process.

        Parameters
        ----------
        pipeline_definition, compiled_contexts
            As given to `compile_pipelines`, and returned by it.
        max_workers
            Worker processes; None for ``num_workers`` of the settings. A warning says if it has no effect.
        progress, cancel
            As for `pyama_dask.run`.

        Returns
        -------
        Result of each well: ``done``, ``failed`` or ``cancelled``, with the reason. A well that fails harms no other.
        Names of wells are those of `Orchestrator.execute`.

        Raises
        ------
        PlanError
            If other pipelines were compiled, or the plate or a function has changed since.
        """
        script, plan = compiled_contexts.script, compiled_contexts.plan
        if self._translated(pipeline_definition) != script:
            raise PlanError("other pipelines were compiled than are to be executed. Fix: compile them again")
        results = {well: WellResult("done", "", context.fovs) for well, context in compiled_contexts.items()}
        if plan is not None:
            cluster = self._cluster(max_workers)
            plan = replace(plan, config=plan.config.model_copy(update={"cluster": cluster}))
            with nullcontext() if cluster.kind == "serial" else script_left_alone():
                executing = Orchestrator(None, plan.config, into=self._is_ours())
                results = executing.execute(plan, cancel=cancel, progress=progress)
            self._executed = plan
        return compiled_contexts.processed(results, cancel)

    def run(
        self, pipelines: Iterable[Any], max_workers: int | None = None, *, progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> dict[str, WellResult]:  # fmt: skip
        """Do all three phases for pipelines in sequence; parameters and errors as for these."""
        if self._metadata is None:
            self.initialize()
        definition = [*pipelines]
        contexts = self.compile_pipelines(definition)
        return self.execute_compiled_plate(definition, contexts, max_workers, progress=progress, cancel=cancel)

    # -------------------------------------------------------------------------------------------- services

    @property
    def workspace_path(self) -> Path:
        """Folder of links to the files of the plate, which is made now if it is not there; see `make_workspace`."""
        return make_workspace(self.plate_path, self._workspace)

    @property
    def input_dir(self) -> Path:
        """The plate."""
        return self.plate_path

    @property
    def microscope_handler(self) -> MicroscopeHandler:
        """Names of the files of the plate; raises `PlanError` before `initialize`."""
        return MicroscopeHandler(self.metadata.format)

    def get_stitcher(self) -> Stitcher:
        """Stitcher for the plate; threads may share it."""
        return Stitcher(self._orchestrator().config)

    def generate_positions(
        self, well: str, input_dir: str | Path | None = None, positions_dir: str | Path | None = None
    ) -> tuple[Path, str]:
        """Register the sites of a well, and write their positions.

        Parameters
        ----------
        well
            Name of the well, such as ``B02``.
        input_dir
            Plate or workspace whose images are registered; None for the plate.
        positions_dir
            Folder of the table; None for ``positions`` in the output. It must not be within the plate.

        Returns
        -------
        Path of the table, and the pattern of the names of the well's images in its first channel and frame, with
        ``{iii}`` for the site; '' if names have no pattern.

        Raises
        ------
        ConfigError, SourceError, TableError
            If the well cannot be stitched; see `Stitcher.find_positions`.
        """
        folder = self.output / POSITIONS if positions_dir is None else Path(positions_dir).absolute()
        path = self.plate_path if input_dir is None else Path(input_dir)
        metadata = self.metadata if input_dir is None else read_metadata(path)
        stitcher = self.get_stitcher()
        config = stitcher.config.model_copy(update={"input": stitcher.config.input.at(path.absolute())})
        file = Stitcher(config).find_positions(well, metadata, folder)
        return file, self._pattern(metadata, well)

    def stitch_images(
        self, well: str, input_dir: str | Path | None = None, output_dir: str | Path | None = None,
        positions_file: str | Path = "", *, of_pipeline: str = "",
    ) -> Path:  # fmt: skip
        """Write the stitched images of a well as TIFF files.

        Parameters
        ----------
        well
            Name of the well.
        input_dir
            Plate, workspace or output of a run whose images are stitched; None for the plate.
        output_dir
            Folder of the images; None for ``stitched`` in the output. It must not be within the plate.
        positions_file
            Table from `generate_positions`.
        of_pipeline
            Pipeline whose images at its end are stitched, unless there is an `input_dir`.

        Returns
        -------
        Folder of the images.

        Raises
        ------
        ConfigError, SourceError, TableError
            If the images cannot be stitched; see `Stitcher.stitch`.
        """
        folder = self.output / STITCHED if output_dir is None else Path(output_dir).absolute()
        with self._reader(input_dir, of_pipeline) as reader:
            self.get_stitcher().stitch(well, reader, folder, Path(positions_file))
        return folder

    # ------------------------------------------------------------------------------------------------ parts

    def _reader(self, input_dir: str | Path | None, pipeline: str) -> Reader:
        """Open images: those of a folder, of the end of a pipeline that was executed, or of the plate."""
        if input_dir is None and pipeline:
            if self._executed is None:
                raise PlanError(f"pipeline {pipeline}: has not been executed. Fix: run it first")
            return ResultReader(self._executed.plan, self.metadata, pipeline)
        return open_reader(self.plate_path if input_dir is None else input_dir)

    def _pattern(self, metadata: Metadata, well: str) -> str:
        """First pattern of the names of a well's images; '' without one."""
        if not metadata.path.is_dir():
            return ""
        patterns = self.microscope_handler.auto_detect_patterns(metadata.path).get(well, {})
        return next((of[0] for _, of in sorted(patterns.items(), key=lambda item: str(item[0]))), "")

    def _translated(self, definition: Iterable[Any]) -> Translated:
        channels = range(len(self.metadata.channels))
        return translated(definition, self.metadata, channels, stores_all=self.config.stores_all)

    def _contexts(self, fovs: Iterable[int], metadata: Metadata) -> dict[str, ProcessingContext]:
        wells = fovs_by_well(fovs, metadata)
        return {well: ProcessingContext(self, well, self.output, tuple(of)) for well, of in wells.items()}

    def _cluster(self, max_workers: int | None) -> Cluster:
        """Place where the work runs."""
        given = self.config.pyama.get("cluster")
        if given and max_workers is not None and max_workers != self.config.num_workers:
            message = f"max_workers ({max_workers}): 'cluster' of pyama says where the work runs"
            warnings.warn(message, SettingsWarning, stacklevel=3)
        return Cluster.model_validate(given or self.config.cluster(max_workers))

    def _is_ours(self) -> bool:
        """True if the output holds only what services of this class have made, and no run yet."""
        made = {WORKSPACE, POSITIONS, STITCHED}
        there = {path.name for path in self.output.iterdir()} if self.output.is_dir() else set()
        return bool(there) and there <= made and not (self.output / CONFIG).exists()

    def _orchestrator(
        self, script: Translated | None = None, wells: Sequence[str] | str | None = None
    ) -> Orchestrator:  # fmt: skip
        """Orchestrator with the config of the script."""
        document = config_document(self.config, self.metadata, script, wells)
        found = Orchestrator(self.plate_path, document | {"output": self.output}, into=self._is_ours())
        found.metadata = self.metadata
        return found
