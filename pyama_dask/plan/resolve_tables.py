"""Resolution of tables in pipelines: those that later steps may get, and the columns that steps give to the traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyama_dask.config.models import Config
from pyama_dask.config.pipelines import Pipeline, Step
from pyama_dask.config.units import parse_selection
from pyama_dask.errors import ConfigError
from pyama_dask.methods.step_contract import Contract
from pyama_dask.readers import Metadata
from pyama_dask.steps.flow import LABELS, TRACES, TRACKED
from pyama_dask.steps.standard import fills_gaps, registers
from pyama_dask.store.trace_csv import columns_of_run, feature_columns

ROW_COLUMNS: Mapping[str, str] = {"fov": "int64", "frame": "int64", "time": "float64"}
"""Columns that a run adds to rows of frames, and their types."""


@dataclass(frozen=True)
class Table:
    """A table of each FOV that a step gives."""

    columns: Mapping[str, str]
    """Types of its columns, by name."""
    fovs: str
    """FOVs that it is made of."""
    is_of_traces: bool
    """True if it is made from the traces."""


class Tables:
    """Tables by name as they go through the pipelines, and columns of the traces.

    Parameters
    ----------
    config
        With channels by index.
    metadata
        Of the movie.
    """

    def __init__(self, config: Config, metadata: Metadata) -> None:
        self._config, self._metadata = config, metadata
        self._chosen = parse_selection(config.params.fovs)
        self._ends: dict[str, dict[str, Table]] = {}
        self._now: dict[str, Table] = {}
        self._columns: dict[str, tuple[str, str]] = {}
        """Type of each column that steps give to the traces, and FOVs that have it."""

    def begin(self, pipeline: Pipeline) -> None:
        """Go on with a pipeline, whose steps may name the tables of its input."""
        self._now = self._ends[pipeline.name] = dict(self._ends.get(pipeline.input or "", {}))

    def of_fovs(self, fovs: str) -> Mapping[str, Mapping[str, str]]:
        """Types of the columns of all tables that a step for some FOVs may get; of the traces, those that all have."""
        features = dict.fromkeys(feature_columns(self._config), "float64")
        further = {name: kind for name, (kind, of) in self._columns.items() if self._has_all(of, fovs)}
        traces = features | self._of_tracks() | self._place(fovs, with_tiles=True) | further
        return {TRACES: traces} | {name: table.columns for name, table in self._now.items()}

    def _of_tracks(self) -> dict[str, str]:
        """Types of the columns of traces that depend on how cells are linked."""
        shifts = ("shift_y", "shift_x") if registers(self._config) else ()
        return dict.fromkeys(shifts, "float64") | ({"filled": "bool"} if fills_gaps(self._config) else {})

    def _place(self, fovs: str, *, with_tiles: bool = False) -> dict[str, str]:
        """Types of the columns with the well and site of FOVs, as far as all of them have one."""
        of = [self._metadata.fovs[fov] for fov in self._of(fovs)]
        if any(info.well is None for info in of):
            return {}
        site = {} if any(info.site is None for info in of) else {"site": "int64"}
        return {"well": "str"} | site | ({"tile": "int64"} if with_tiles and all(info.tiles for info in of) else {})

    def _has_all(self, known: str, fovs: str) -> bool:
        """Check whether a selection has all chosen FOVs of another one."""
        return known == "all" or {*self._of(fovs)} <= {*self._of(known)}

    def _of(self, fovs: str) -> Sequence[int]:
        return [fov for fov in self._chosen if fovs == "all" or fov in parse_selection(fovs)]

    def add(self, step: Step, contract: Contract, calls: Sequence[tuple[str, ...]], fovs: str, where: str) -> None:
        """Add what a step gives, and refuse what it cannot get or give.

        Parameters
        ----------
        step, contract
        calls
            Names of the images of each call.
        fovs
            FOVs that the step is done for.
        where
            Pipeline and step, for messages.

        Raises
        ------
        ConfigError
            If it gets a table that some of its FOVs lack, or gives columns that the traces cannot take.
        """
        gets = [str(name) for name in step.of or (TRACES,)] if contract.per in ("fov", "well") else []
        self._check_given(gets, contract, fovs, where)
        if step.to == TRACES:
            self._check_columns(contract, gets, calls, where)
            self._columns |= {name: (contract.columns[name], fovs) for name in self._new(contract)}
        elif contract.per == "well":
            self._now.pop(str(step.to), None)  # a table of FOVs of this name, which later steps would mean
        elif contract.gives == "table" and step.to:
            is_of_traces = any(name == TRACES or self._now[name].is_of_traces for name in gets)
            self._now[step.to] = Table(self._written(contract, len(calls), fovs), fovs, is_of_traces)

    def _written(self, contract: Contract, calls: int, fovs: str) -> Mapping[str, str]:
        """Types of the columns of a table as it is written."""
        added = {"fov": "int64"} if contract.per == "fov" else dict(ROW_COLUMNS)
        if contract.per != "fov" and calls > 1:
            added |= {"channel": "int64"}
        return added | dict(contract.columns) | self._place(fovs)

    # ----------------------------------------------------------------------------------------- checks

    def _check_given(self, gets: Sequence[str], contract: Contract, fovs: str, where: str) -> None:
        """Refuse traces in a run without any, tables that some FOVs lack, and wells of a movie without wells."""
        config = self._config
        if TRACES in gets and not (config.has_seven and config.channels.pc and not config.params.copy_only):
            raise ConfigError(
                f"{where}: takes traces, but this run makes none. Fix: name 'seven' as the steps of a pipeline, set "
                "channels.pc, and leave out params.copy_only"
            )
        for name in gets:
            if name != TRACES and not self._has_all(self._now[name].fovs, fovs):
                raise ConfigError(
                    f"{where}: is done for FOVs {'all' if fovs == 'all' else fovs}, but its table {name!r} is made for "
                    f"{self._now[name].fovs} only. Fix: give both steps the same 'wells' and 'sites'"
                )
        of = [self._metadata.fovs[fov] for fov in self._chosen]
        if contract.per == "well" and all(info.well is None for info in of):
            raise ConfigError(
                f"{where}: takes the tables of a well, but {self._metadata.path.name} has no wells. "
                "Fix: let it take the traces of a FOV, annotated as pd.DataFrame"
            )
        if contract.per == "well" and len({info.plate for info in of}) > 1:
            raise ConfigError(
                f"{where}: takes the tables of a well, but {self._metadata.path.name} has several plates, whose wells "
                "have the same names. Fix: choose the FOVs of one plate with params.fovs"
            )

    def _check_columns(
        self, contract: Contract, gets: Sequence[str], calls: Sequence[tuple[str, ...]], where: str
    ) -> None:
        """Refuse a table that cannot become columns of the traces."""
        if contract.gives != "table" or contract.per == "well":
            raise ConfigError(
                f"{where}: gives no rows of cells and frames, so that they cannot become columns of the traces. "
                "Fix: return a table with a column 'cell' for each frame, or name a table with 'to'"
            )
        images = {name for names in calls for name in names}
        if LABELS in images and TRACKED not in images:
            raise ConfigError(
                f"{where}: gets {LABELS!r}, whose numbers begin with 1 in each frame, so that its rows would become "
                f"those of other cells. Fix: let it get {TRACKED!r}, or name a separate table with 'to'"
            )
        if contract.per != "fov" and len(calls) > 1:
            raise ConfigError(
                f"{where}: gives the same columns for {len(calls)} images. Fix: choose one with 'channels', or give "
                "the function all of them with 'of'"
            )
        if later := next((name for name in gets if name != TRACES and self._now[name].is_of_traces), None):
            raise ConfigError(
                f"{where}: gets the table {later!r}, which is made from the traces, of which its columns would be "
                "part. Fix: name a separate table with 'to'"
            )
        if double := sorted(self._new(contract) & (columns_of_run(self._config) | self._columns.keys())):
            raise ConfigError(f"{where}: gives a column {double[0]!r}, which the traces have already. Fix: rename it")

    def _new(self, contract: Contract) -> set[str]:
        """Columns that a step gives to the traces.

        A function of the traces may return their columns, too; that they are the same is seen when it runs.
        """
        of_traces = columns_of_run(self._config) | self._columns.keys()
        return {*contract.columns} - (of_traces if contract.per == "fov" else {"cell", "frame"})
