"""Trial of a step's function on made data: it must keep its input, give the same twice, and say how far it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pyama_dask.config.units import exception_text, many, quoted
from pyama_dask.errors import ConfigError
from pyama_dask.methods.bounded_call import Allowance, CallFailedError, TooSlowError
from pyama_dask.methods.entry_points import line_of
from pyama_dask.methods.made_images import FRAMES, PLANES, ImageType, made_stack, made_table, made_traces
from pyama_dask.methods.step_functions import StepFunction, Takes
from pyama_dask.methods.step_results import (
    CELLS_FIX,
    ORDER_FIX,
    Data,
    Result,
    UnfitError,
    apply_step,
    as_result,
    check_images,
    check_table,
    described,
    in_array_type,
    is_reordered,
    smallest_halo,
    wrong_cell,
)

if TYPE_CHECKING:
    import pandas as pd

LARGEST_HALO, FEW = 16, 2
"""Largest number of frames that is looked for and suggested as a halo, on small images and on large ones."""


@dataclass(frozen=True)
class Found:
    """Results of a trial.

    Parameters
    ----------
    images
        Types of the images given, for images of the movie's shape.
    columns
        Types of the columns given; None for images.
    of_traces
        True if the function took a table.
    unjoined
        Problem if the rows cannot be joined to the traces; '' if they can.
    fix
    """

    images: Mapping[str, ImageType] = field(default_factory=dict)
    columns: Mapping[str, str] | None = None
    of_traces: bool = False
    unjoined: str = ""
    fix: str = ""


def try_images(
    function: StepFunction,
    takes: Takes,
    made: Mapping[str, ImageType],
    real: Mapping[str, ImageType],
    halo: int,
    allowance: Allowance,
) -> Found:
    """Try a function of images.

    Parameters
    ----------
    function
    takes
        ``frame``, ``stack`` or ``planes``.
    made, real
        Types of the made images of the trial, and of the movie's images, by name; one call for the latter finds the
        shape of the result.
    halo
        Frames before and after that the function says to look into.
    allowance
        Time for all calls.

    Raises
    ------
    UnfitError
        If the function does not fit.
    """
    trial = _Trial(function, takes, allowance)
    most = LARGEST_HALO if made != real else FEW
    first = trial.of_stack(made, halo, most) if takes == "stack" else trial.of_frames(made)
    if (table := first[0].table) is not None:
        wrong = next((of for one in first if one.table is not None and (of := _unjoined(one.table))), "")
        return Found(columns=_column_types(table), unjoined=wrong and f"{trial.given}, {wrong}", fix=CELLS_FIX)
    result, is_labels, shape = first[0], _gives_labels(function, first, made), None
    if made != real and _keeps_shape(trial, made, real, lambda types: _some(function, takes, types, halo)):
        shape = next(iter(real.values())).shape
    elif made != real:
        result = trial.run(_some(function, takes, real, halo))
    return Found({name: _type_of(image, is_labels, shape) for name, image in result.images.items()})


def _keeps_shape(
    trial: _Trial, made: Mapping[str, ImageType], real: Mapping[str, ImageType], some: Callable[..., Data]
) -> bool:
    """True if the shape stays the same for images as high, and as wide, as those of the movie.

    Such narrow images cost far less than whole ones.
    """
    if len({image.shape for image in real.values()}) > 1:
        return False
    for axis in (0, 1):
        narrow = {
            name: replace(
                kind, shape=(real[name].shape[0], kind.shape[1]) if axis == 0 else (kind.shape[0], real[name].shape[1])
            )
            for name, kind in made.items()
        }
        wanted = next(iter(narrow.values())).shape
        try:
            result = trial.run(some(narrow))
        except UnfitError as error:
            if error.failed:
                return False
            raise
        if any(image.shape[-2:] != wanted for image in result.images.values()):
            return False
    return True


def try_tables(
    function: StepFunction, takes: Takes, tables: Mapping[str, Mapping[str, str]], allowance: Allowance
) -> Found:
    """Try a function of tables of a FOV, or of those of a well by FOV.

    Parameters
    ----------
    function
    takes
        ``traces`` or ``tables``.
    tables
        Types of the columns of each table that it gets, by name of the table; ``traces`` has `BASE_COLUMNS`, too.
    allowance
        Time for all calls.

    Raises
    ------
    UnfitError
        If the function does not fit.
    """
    made = {name: _made_tables(name, columns, takes) for name, columns in tables.items()}
    data: Data = made if function.together else next(iter(made.values()))
    trial = _Trial(function, takes, allowance)
    first = trial.run(data)
    if first.table is None:
        raise UnfitError(f"{trial.given}, returned images", "return a table (DataFrame), or take images")
    trial.compare([first], [data])
    wrong, fix = "", "return one row for each row that it got, in the same order"
    if "traces" not in made:
        wrong, fix = "gets no traces, whose columns its own could become", "name  traces  in 'of', too"
    elif takes != "traces" or len(first.table) != len(made["traces"]):
        wrong = f"{trial.given}, returned {len(first.table)} rows, which cannot become columns of the traces"
    elif is_reordered(first.table):
        wrong, fix = f"{trial.given}, returned its rows in another order", ORDER_FIX
    elif changed := _changed(first.table, made["traces"]):
        wrong, fix = f"returned another column {changed!r} than the traces have already", "rename it"
    return Found(columns=_column_types(first.table), of_traces=True, unjoined=wrong, fix=fix)


def _made_tables(name: str, columns: Mapping[str, str], takes: Takes) -> Data:
    """Made table of a FOV, or those of two FOVs of a well by number."""
    make = made_traces if name == "traces" else made_table
    return make(columns) if takes == "traces" else {str(fov): make(columns, fov) for fov in range(2)}


def _changed(table: pd.DataFrame, traces: pd.DataFrame) -> str:
    """Column that a table of the same rows has with other values than the traces; '' if all are equal."""
    both = table.columns.intersection(traces.columns)
    return next((str(name) for name in both if not np.array_equal(table[name], traces[name])), "")


def _unjoined(table: pd.DataFrame) -> str:
    """Problem of rows that cannot be joined to the traces; '' if they can."""
    if "cell" not in table:
        return "returned a table without a column 'cell', which cannot be joined to the traces"
    wrong = wrong_cell(table)
    return wrong[1] if wrong else ""


class _Trial:
    """Calls of one function.

    Parameters
    ----------
    function
    takes
    allowance
        Time for all calls.
    """

    def __init__(self, function: StepFunction, takes: Takes, allowance: Allowance) -> None:
        self._function, self._takes, self._allowance = function, takes, allowance
        self.given = ""
        """Data of the last call, for messages."""

    def of_frames(self, made: Mapping[str, ImageType]) -> list[Result]:
        """Results of single frames, or of the planes of each, which must be alike."""
        data = _frames(self._function, self._takes, made, FRAMES)
        single = [_cut(data, t, None) for t in range(FRAMES)]
        first = [self.run(one) for one in single]
        self.compare(first, single)
        _check_alike(first, self.given)
        return first

    def of_stack(self, made: Mapping[str, ImageType], halo: int, most: int) -> list[Result]:
        """Result of one stack; the function must look no further than its halo, as far as `most` frames show."""
        largest = max(halo, most)
        data = _frames(self._function, self._takes, made, 2 * largest + 8)
        first = self.run(data)
        self.compare([first], [data])
        _check_reach(self, data, first, halo, largest)
        return [first]

    def run(self, data: Data) -> Result:
        """Result of one call, checked; the data stay as they are."""
        self.given = f"given {described(data)}"
        try:
            return self._checked(data)
        except UnfitError as error:
            if error.problem.startswith("given "):
                raise
            raise UnfitError(f"{self.given}, {error.problem}", error.fix, failed=error.failed) from error

    def _checked(self, data: Data) -> Result:
        mine = _copied(data)
        result = self._call(mine)
        if not _unchanged(data, mine):
            fix = "work on a copy, such as frame.copy(): other steps get the same data"
            raise UnfitError("changed the data that it got", fix)
        if self._allowance.printed.strip():
            fix = "delete its prints, or use logging: it is called for every frame"
            raise UnfitError(f"printed {quoted(self._allowance.printed.strip(), 60)}", fix)
        if result.table is not None:
            check_table(result.table, self._takes, _length(data))
        else:
            check_images(result, self._takes, _length(data), self._function.gives.is_labels)
        return result

    def _call(self, data: Data) -> Result:
        try:
            made: Result = self._allowance.call(
                lambda: as_result(apply_step(self._function, in_array_type(self._function, data)))
            )
        except TooSlowError as error:
            fix = "make it quicker; if it loads a model, let it load once and keep it"
            raise UnfitError(str(error), fix) from error
        except CallFailedError as failed:
            cause = failed.__cause__ or failed
            if isinstance(cause, UnfitError | ConfigError):  # a result of no known form, or a package that is missing
                raise cause from None
            line = line_of(cause, self._function.function)
            of_tables = "columns of steps that are done for other 'wells' or 'sites' are left out"
            further = of_tables if self._takes in ("traces", "tables") else "'takes' says what it gets: frame or stack"
            fix = f"correct the function or its parameters; {further}"
            raise UnfitError(f"failed: {exception_text(cause)}{line}", fix, failed=True) from cause
        return made

    def compare(self, first: Sequence[Result], data: Sequence[Data]) -> None:
        """Call the function again in reverse order, and refuse other results."""
        for result, one in reversed(list(zip(first, data, strict=True))):
            if not self.run(one).equals(result):
                fix = (
                    "seed its random numbers inside the function, such as rng = np.random.default_rng(0), and keep "
                    "nothing between calls: a run that resumes must give the same bytes"
                )
                raise UnfitError(f"{self.given} twice, returned different results", fix)


def _check_reach(trial: _Trial, data: Data, result: Result, halo: int, largest: int) -> None:
    """Refuse a function of stacks that looks further along time than its halo."""
    n = _length(data)
    whole = [result.at(t) for t in range(n)]
    failures = list[UnfitError]()

    def at(frame: int, distance: int) -> Result:
        first, last = max(frame - distance, 0), min(frame + distance + 1, n)
        try:
            return trial.run(_cut(data, first, last)).at(frame - first)
        except UnfitError as error:
            failures.append(error)
            raise

    if smallest_halo(whole, at, halo, halo) is not None:
        return
    reach = smallest_halo(whole, at, largest, halo + 1)
    given = f"looks further along time than its halo of {halo}" if halo else "looks into neighbouring frames"
    if reach is not None:
        raise UnfitError(f"{given}: it looks {many(reach, 'frame')} along time", f"say  halo: {reach}  in the step")
    if failures:
        fix = "let it work on as few frames, too: the last block of a movie may have one frame, and its halo"
        raise UnfitError(failures[-1].problem, fix) from failures[-1]
    fix = f"let it look into at most {largest} frames before and after, or say  halo: N  if it looks further"
    raise UnfitError(f"{given}: its result for a frame depends on frames more than {largest} away", fix)


def _check_alike(results: Sequence[Result], given: str) -> None:
    """Refuse results of frames that differ in names, shapes, types or columns."""
    forms = {repr([(name, image.shape, image.dtype) for name, image in one.images.items()]) for one in results}
    forms |= {repr(list(one.table.columns)) for one in results if one.table is not None}
    if len(forms) > 1 + any(one.table is not None for one in results):
        fix = "return the same names, shapes and types for every frame, also for one without cells"
        raise UnfitError(f"{given}, returned other shapes, types or columns for other frames of this type", fix)


def _gives_labels(function: StepFunction, results: Sequence[Result], made: Mapping[str, ImageType]) -> bool:
    """True if results are labels: as annotated, returned with a count, made of labels, or all numbers from 0 to N."""
    if function.gives.takes:
        return function.gives.is_labels
    if any(one.counted for one in results):
        return True
    images = [image for one in results for image in one.images.values()]
    if any(image.dtype.kind not in "iu" for image in images):
        return False
    if len(made) == 1 and next(iter(made.values())).is_labels:
        return True
    if any(str(image.dtype) in {of.dtype for of in made.values()} for image in images):
        return False
    found = [np.unique(image) for image in images]
    return max(map(len, found)) > 1 and all(np.array_equal(ids, np.arange(len(ids))) for ids in found)


def _column_types(table: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in table.dtypes.items()}


def _type_of(image: np.ndarray, is_labels: bool, shape: tuple[int, int] | None = None) -> ImageType:
    """Type of an image, with another shape if one is given."""
    return ImageType(shape or (image.shape[-2], image.shape[-1]), str(image.dtype), is_labels)


# ------------------------------------------------------------------------------------------------- made data


def _frames(function: StepFunction, takes: Takes, types: Mapping[str, ImageType], n: int) -> Data:
    """Stacks of n frames, by name if the function gets several; (T, Z, H, W) for planes."""
    made = {}
    for k, (name, kind) in enumerate(types.items()):
        stack = made_stack(kind, n * PLANES if takes == "planes" else n, k)
        made[name] = stack.reshape(n, PLANES, *stack.shape[1:]) if takes == "planes" else stack
    return made if function.together else next(iter(made.values()))


def _some(function: StepFunction, takes: Takes, types: Mapping[str, ImageType], halo: int) -> Data:
    """Few images of these types: a frame, the planes of one, or the shortest stack with its halo."""
    if takes == "stack":
        return _frames(function, takes, types, 2 * halo + 2)
    return _cut(_frames(function, takes, types, 1), 0, None)


def _cut(data: Data, first: int, last: int | None) -> Data:
    """One frame, or the frames of a range, of all stacks."""
    if isinstance(data, Mapping):
        return {name: _cut(stack, first, last) for name, stack in data.items()}
    return data[first] if last is None else data[first:last]


def _arrays(data: Data) -> Iterator[Any]:
    """Yield all arrays or tables, in order."""
    if isinstance(data, Mapping):
        for one in data.values():
            yield from _arrays(one)
    else:
        yield data


def _length(data: Data) -> int:
    return len(next(_arrays(data)))


def _copied(data: Data) -> Data:
    return {name: _copied(one) for name, one in data.items()} if isinstance(data, Mapping) else data.copy()


def _unchanged(data: Data, mine: Data) -> bool:
    """True if no array and no table differs, and none was added or removed."""
    if isinstance(data, Mapping):
        return list(data) == list(mine) and all(_unchanged(one, mine[name]) for name, one in data.items())
    return bool(data.equals(mine)) if hasattr(data, "equals") else data.tobytes() == mine.tobytes()
