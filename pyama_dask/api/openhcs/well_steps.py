"""Steps that process a well in the process of the script, and the context that they get."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pyama_dask.errors import ConfigError


class PlateServices(Protocol):
    """Services of `PipelineOrchestrator` that steps call."""

    def generate_positions(
        self, well: str, input_dir: str | Path | None = None, positions_dir: str | Path | None = None
    ) -> tuple[Path, str]:
        """Register the sites of a well, and write their positions."""
        ...

    def stitch_images(
        self, well: str, input_dir: str | Path | None = None, output_dir: str | Path | None = None,
        positions_file: str | Path = "", *, of_pipeline: str = "",
    ) -> Path:  # fmt: skip
        """Write the stitched images of a well as TIFF files."""
        ...


@dataclass
class ProcessingContext:
    """One well, as steps with `process` get it."""

    orchestrator: PlateServices
    well: str
    output: Path
    """Output of the run; see `pyama_dask.open_output`."""
    fovs: tuple[int, ...] = ()
    """FOVs of the well in the output."""
    pipeline: str = ""
    """Pipeline of the step that is at work."""
    positions_file: Path | None = None
    """Positions of the sites, once they were generated."""
    outputs: dict[str, Any] = field(default_factory=dict)
    """Results of these steps by their names."""


class AbstractStep:
    """Base class of steps that process a well in the process of the script, after the functions of all pipelines.

    Derive from it, and implement `process`. These steps are not recorded, so they run every time.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).__name__

    def process(self, context: ProcessingContext) -> Any:
        """Process a well; what it returns is put into ``context.outputs[name]``."""
        raise NotImplementedError(f"{type(self).__name__} has no process(context)")


class PositionGenerationStep(AbstractStep):
    """Find the positions of the sites of a well, with `PipelineOrchestrator.generate_positions`."""

    def __init__(self, name: str | None = None, positions_dir: str | Path | None = None) -> None:
        super().__init__(name)
        self.positions_dir = positions_dir

    def process(self, context: ProcessingContext) -> Path:
        """Write the table of positions."""
        context.positions_file, _ = context.orchestrator.generate_positions(
            context.well, positions_dir=self.positions_dir
        )
        return context.positions_file


class ImageStitchingStep(AbstractStep):
    """Stitch the images that the pipeline has made, or those of the plate, with `PipelineOrchestrator.stitch_images`.

    Parameters
    ----------
    input_dir
        Plate or output whose images are stitched; None for those at the end of the pipeline.
    output_dir
        Folder of the stitched images; None for ``stitched`` in the output.
    positions_file
        Table of positions; None for that of a `PositionGenerationStep` before.
    """

    def __init__(
        self, name: str | None = None, input_dir: str | Path | None = None, output_dir: str | Path | None = None,
        positions_file: str | Path | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        self.input_dir, self.output_dir, self.positions_file = input_dir, output_dir, positions_file

    def process(self, context: ProcessingContext) -> Path:
        """Write the stitched images; raises `ConfigError` if there are no positions."""
        positions = self.positions_file or context.positions_file
        if positions is None:
            raise ConfigError(
                f"{self.name}: has no positions. Fix: put a PositionGenerationStep before it, or give positions_file"
            )
        return context.orchestrator.stitch_images(
            context.well, self.input_dir, self.output_dir, positions, of_pipeline=context.pipeline
        )
