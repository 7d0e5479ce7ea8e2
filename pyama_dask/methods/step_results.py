"""Results of a step's function: brought to one form, and checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pyama_dask.config.units import quoted
from pyama_dask.methods.array_types import to_numpy, to_type, type_of
from pyama_dask.methods.step_functions import StepFunction, Takes

if TYPE_CHECKING:
    import pandas as pd

Data = Any
"""Array, mapping of arrays by name, table, or mapping of tables by FOV."""


class UnfitError(Exception):
    """Function that does not fit.

    Parameters
    ----------
    problem
        Predicate of a sentence about the function.
    fix
    failed
        True if the function raised an exception, so that other data may suit it.
    """

    def __init__(self, problem: str, fix: str, *, failed: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.fix, self.failed = problem, fix, failed


CELLS_FIX = (
    "with 'to: traces', return one row for each cell of a frame, whose column 'cell' has its whole number in the image "
    "'tracked'; for other tables, name one with 'to'"
)
ORDER_FIX = "keep the order of the rows, or sort the result back with .sort_index()"
ADDED = ("fov", "time", "channel", "well", "site", "tile")
"""Columns that a run adds to tables of frames and stacks, beside ``frame``."""


@dataclass(frozen=True)
class Result:
    """Result of one call, on NumPy and pandas.

    Parameters
    ----------
    images
        Arrays by name; a function that returns one array names it ''.
    table
        None for images.
    counted
        True if the number of objects came with the array, as `scipy.ndimage.label` returns it.
    """

    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    table: pd.DataFrame | None = None
    counted: bool = False

    def at(self, frame: int) -> Result:
        """Result of one frame of a stack."""
        if self.table is not None:
            rows = self.table[self.table["frame"] == frame]
            return Result(table=rows.drop(columns="frame").reset_index(drop=True))
        return Result({name: image[frame] for name, image in self.images.items()})

    def equals(self, other: Result, *, nearly: bool = False) -> bool:
        """Compare with another result: exactly, or floats up to rounding."""
        if self.table is not None and other.table is not None:
            return bool(self.table.equals(other.table)) or (nearly and _near_tables(self.table, other.table))
        if self.images.keys() != other.images.keys() or (self.table is None) != (other.table is None):
            return False
        return all(_same(image, other.images[name], nearly) for name, image in self.images.items())


def apply_step(function: StepFunction, data: Data) -> Any:
    """Bare result of a function for data of its type of array.

    Parameters
    ----------
    function
    data
        What it takes; for several images a mapping by name, in the order of the step's ``of``.
    """
    one_by_one = function.by_position and isinstance(data, Mapping)
    return function.function(*(data.values() if one_by_one else (data,)), **function.parameters)


def in_array_type(function: StepFunction, data: Data) -> Data:
    """Convert arrays, alone or in a mapping, to the type that a function works on; tables stay as they are."""
    if isinstance(data, Mapping):
        return {name: in_array_type(function, one) for name, one in data.items()}
    return to_type(data, function.array) if _is_array(data) else data


def as_result(made: Any) -> Result:
    """Bring the return value of a function to one form.

    Parameters
    ----------
    made
        An array, alone or with the number of its objects; a mapping of images by name; a table; or a mapping of
        numbers or columns, which becomes a table.

    Raises
    ------
    UnfitError
        If it is anything else.
    """
    if made is None:
        raise UnfitError("returned None", "end it with 'return' and the result")
    if isinstance(made, Iterator):
        raise UnfitError("returned a generator", "return an array, such as np.stack([...]), and do not use 'yield'")
    if isinstance(made, tuple) and len(made) == 2 and _is_array(made[0]) and np.ndim(made[1]) == 0:
        return Result({"": to_numpy(made[0])}, counted=True)
    if _is_table(made):
        return Result(table=made)
    if isinstance(made, Mapping):
        return _of_mapping(made)
    if _is_array(made) and np.ndim(made) > 0:
        return Result({"": to_numpy(made)})
    fix = "return one array; for measurements, return a dict of columns, such as {'count': 3}"
    raise UnfitError(f"returned {_described(made)}", fix)


def _of_mapping(made: Mapping[Any, Any]) -> Result:
    if wrong := [
        name for name in made if not isinstance(name, str) or not re.fullmatch(r"(?a:[A-Za-z]\w{0,63})", name)
    ]:
        raise UnfitError(
            f"returned the name {quoted(wrong[0])}", "use letters, digits and _ in names of images and columns"
        )
    if made and all(_is_array(value) and np.ndim(value) > 1 for value in made.values()):
        return Result({name: to_numpy(value) for name, value in made.items()})
    import pandas as pd  # noqa: PLC0415  (it takes long to import)

    plain = {name: to_numpy(value) if _is_array(value) else value for name, value in made.items()}
    try:
        return Result(table=pd.DataFrame(plain, index=None if any(map(np.ndim, plain.values())) else [0]))
    except Exception as error:  # columns may be anything
        problem = f"returned a dict of which no table can be made ({error})"
        raise UnfitError(problem, "return columns of one length, or images of 2 or 3 dimensions") from error


def check_images(result: Result, takes: Takes, frames: int, labels: bool) -> None:
    """Check the images of a result.

    Parameters
    ----------
    result
    takes
        Data of the call.
    frames
        Frames of the stack that the function got.
    labels
        True if it must give labels.

    Raises
    ------
    UnfitError
        If dimensions, the number of frames, or the type of pixels are wrong, or pixels are not numbers.
    """
    wanted, form = (3, "a stack (T, H, W)") if takes == "stack" else (2, "one frame (H, W)")
    for name, image in result.images.items():
        made = f"returned {_described(image)}" + (f" as {name!r}" if name else "")
        if image.dtype.kind not in "buif":
            raise UnfitError(made, "return numbers: bool, integers or floats")
        if 0 in image.shape:
            raise UnfitError(f"{made}, which is empty", "check the parameters", failed=True)
        if image.ndim != wanted:
            raise UnfitError(f"{made}, which has {image.ndim} dimensions", f"return {form}")
        if takes == "stack" and len(image) != frames:
            raise UnfitError(f"{made}, which is {len(image)} frames for {frames}", "return one frame per frame")
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise UnfitError(
                f"{made} with NaN or infinite pixels", "replace them, as by np.nan_to_num, or do not divide by 0"
            )
        if labels and (image.dtype.kind == "f" or image.min() < 0):
            raise UnfitError(
                made, "labels are whole numbers from 0; return them as such, or annotate the result as Frame"
            )


def check_table(table: pd.DataFrame, takes: Takes, frames: int) -> None:
    """Check the table of a result, and that its rows belong to frames if the function works on frames.

    Raises
    ------
    UnfitError
        If columns have equal names, no text as names, or other values than numbers and texts.
    """
    if not len(table.columns):
        raise UnfitError("returned a table without columns", "return its columns also where it has no rows")
    if wrong := [name for name in table.columns if not isinstance(name, str) or not name]:
        raise UnfitError(f"returned a table with the column {quoted(wrong[0])}", "name columns by texts")
    if not table.columns.is_unique:
        raise UnfitError("returned a table with columns of one name", "give each column another name")
    for name in table.columns:
        if not _is_plain_column(table[name]):
            problem = f"returned a table whose column {name!r} is of type {table[name].dtype}"
            raise UnfitError(problem, "use columns of numbers, bool or texts")
    if takes in ("frame", "planes", "stack") and (added := [name for name in ADDED if name in table]):
        raise UnfitError(f"returned a table with a column {added[0]!r}", "name it otherwise: the run adds this column")
    if takes in ("frame", "planes") and "frame" in table:
        raise UnfitError("returned a table with a column 'frame'", "leave it out: the run adds the number of the frame")
    if takes == "stack" and not ("frame" in table and table["frame"].isin(range(frames)).all()):
        fix = f"add a column 'frame' with the index in the stack, 0 to {frames - 1} here"
        raise UnfitError("returned a table that does not say to which frames its rows belong", fix)


def wrong_cell(table: pd.DataFrame) -> tuple[int, str] | None:
    """Find a row that cannot be joined to the traces by its cell.

    Parameters
    ----------
    table
        Rows of one frame, or of several with a column ``frame``; it has a column ``cell``.

    Returns
    -------
    Position of the row, and the predicate of a sentence about the function; None if there is no such row.
    """
    cells = table["cell"]
    if len(cells) and getattr(cells.dtype, "kind", "O") not in "iuf":
        return 0, f"returned a table whose column 'cell' is of type {cells.dtype}"
    without = ~(cells.astype("float64") % 1 == 0).to_numpy()  # not with NaN
    if without.any():
        at = int(without.argmax())
        return at, f"returned a table with a cell {cells.iloc[at]}"
    twice = table.duplicated([name for name in ("frame", "cell") if name in table]).to_numpy()
    if twice.any():
        at = int(twice.argmax())
        return at, f"returned several rows of cell {int(cells.iloc[at])}"
    return None


def is_reordered(table: pd.DataFrame) -> bool:
    """Check whether a table has the index 0 to N - 1 of the one that it is made from, in another order."""
    index = table.index.to_numpy()
    return not np.array_equal(index, np.arange(len(index))) and {*index.tolist()} == {*range(len(index))}


def _is_plain_column(column: pd.Series[Any]) -> bool:
    if column.dtype == object:
        return all(isinstance(value, str) for value in column)
    return getattr(column.dtype, "kind", "O") in "buif" or str(column.dtype) in ("str", "string", "category")


def _is_table(made: Any) -> bool:
    return type(made).__module__.startswith("pandas") and type(made).__name__ == "DataFrame"


def _is_array(made: Any) -> bool:
    return isinstance(made, np.ndarray | np.generic) or type_of(made) != "numpy"


def _described(made: Any) -> str:
    """Type of a value, and the shape of an array."""
    if isinstance(made, np.ndarray):
        return f"{made.dtype} {made.shape}"
    if isinstance(made, list | tuple):
        return f"a {type(made).__name__} of {len(made)}"
    return f"{type(made).__name__} {quoted(made, 40)}"


def described(data: Data) -> str:
    """Data of a call, for messages: ``uint16 (24, 32)``, or ``GFP: uint16 (24, 32), ...``."""
    if _is_table(data):
        return f"a table of {len(data)} rows"
    if isinstance(data, Mapping):
        return ", ".join(f"{name}: {described(one)}" for name, one in data.items())
    return _described(data)


def _same(one: np.ndarray, other: np.ndarray, nearly: bool) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if nearly and one.dtype.kind == "f":
        largest = float(np.abs(other).max(initial=0))
        return bool(np.allclose(one, other, rtol=0, atol=largest * float(np.finfo(one.dtype).eps) * 16))
    return one.tobytes() == other.tobytes()


def _near_tables(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    if list(one.columns) != list(other.columns) or len(one) != len(other):
        return False
    floats = [name for name in one.columns if getattr(one[name].dtype, "kind", "O") == "f"]
    rest = one.drop(columns=floats).equals(other.drop(columns=floats))
    return bool(rest) and all(np.allclose(one[name], other[name], rtol=1e-9, equal_nan=True) for name in floats)


def smallest_halo(
    whole: Sequence[Result], at: Callable[[int, int], Result], largest: int, smallest: int = 0
) -> int | None:
    """Find the frames before and after a frame that its result depends on.

    Parameters
    ----------
    whole
        Results of all frames, from the whole stack.
    at
        Result of a frame, from the frames up to a distance before and after it: ``at(frame, distance)``. It is
        called for some of the frames.
    largest, smallest
        Distances that are tried.

    Returns
    -------
    The smallest distance that gives the same results; None if none of them does.
    """
    n = len(whole)
    tried = dict.fromkeys([n // 2, 0, n - 1, 1 % n, *range(0, n, 5)])  # the first ones refuse most

    def suffices(halo: int) -> bool:
        try:
            return all(at(t, halo).equals(whole[t], nearly=True) for t in tried)
        except UnfitError as error:
            if error.failed:  # too few frames for the function
                return False
            raise

    return next((halo for halo in range(smallest, largest + 1) if suffices(halo)), None)
