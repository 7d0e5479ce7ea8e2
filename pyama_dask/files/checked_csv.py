"""CSV files as checked values; a file that a user or another program damaged is refused by line and column."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import quoted
from pyama_dask.errors import TableError
from pyama_dask.files.atomic import read_file

_TRUE, _FALSE = ("true", "1", "1.0"), ("false", "0", "0.0")
_BLANK = re.compile(r"^[^\S\n]+$", re.MULTILINE)
"""A line of spaces, which pyarrow would take for a row, other than an empty one."""
LARGEST = 2**32 - 1
"""Largest number of a FOV, cell or frame, and of a pixel along an axis: ids of tracks have 32 bits."""
_LARGEST_BLOCK = 2**30
"""Bytes that the parser takes at once; a row must not be longer."""


@dataclass(frozen=True)
class CsvText:
    """A CSV file whose values are still text; each row is one line."""

    path: Path
    comments: tuple[str, ...]
    """Lines before the column names, blank lines too."""
    body: str
    """Lines after the column names."""
    table: Any
    """`pyarrow.Table` of text; null where a value is missing."""

    @classmethod
    def read(cls, path: str | Path, names: Mapping[str, str], missing: Sequence[str] | None = None) -> CsvText:
        """Read a whole file.

        Parameters
        ----------
        path
            The file.
        names
            New names of columns, by their names in the file.
        missing
            Words for a missing value; None for the usual ones, such as ``NA`` and ``None``.

        Raises
        ------
        TableError
            If the file cannot be read, has no column names, or has a torn row: with too few or too many values, with
            quotes that do not match, or without the line break at its end.
        """
        path = Path(path)
        comments, head, body = _parts(path, read_text(path))
        columns = [names.get(name, name) for name in split_names(head)]
        _check_names(path, columns)
        _check_quotes(path, len(comments) + 1, head + body)
        read = cls(path, comments, body, _parse(path, len(comments) + 2, columns, body, missing))
        last = (body or head).rpartition("\n")[2]
        if last.strip():
            number = len(comments) + (head + body).count("\n") + 1
            raise TableError(
                f"{path}: line {number} has no line break at its end, so it may be cut off. Fix: write the file again, "
                "or add the line break if the line is whole"
            )
        return read

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        found: list[str] = self.table.column_names
        return found

    def __len__(self) -> int:
        """Return the number of rows."""
        rows: int = self.table.num_rows
        return rows

    def refuse(self, what: str) -> NoReturn:
        """Raise an error about the whole file."""
        raise TableError(f"{self.path}: {what}")

    def refuse_rows(self, wrong: npt.NDArray[np.bool_], column: str, what: str) -> None:
        """Raise an error about the first marked row, if any.

        Parameters
        ----------
        wrong
            (rows,) mask of the invalid rows.
        column
            Column with the invalid value, which the message quotes.
        what
            End of the message, such as ``is not a number``.

        Raises
        ------
        TableError
            If a row is marked; the message names the line and the column.
        """
        if wrong.any():
            row = int(np.argmax(wrong))
            value = quoted(self.table[column][row].as_py() or "")
            line = _line_of(row, len(self.comments) + 2, self.body)
            self.refuse(f"line {line}, column {quoted(column)}: {value} {what}")

    def needs(self, *columns: str) -> None:
        """Refuse a file without these columns."""
        for name in columns:
            if name not in self.names:
                self.refuse(f"has no column {name!r}; it has {quoted(', '.join(self.names))}")

    def whole(self, name: str) -> npt.NDArray[np.int64]:
        """Values of a column of whole numbers from 0."""
        values = self.numbers(name, empty=False)
        wrong = (values != np.floor(values)) | (values < 0) | (values > LARGEST)
        self.refuse_rows(wrong, name, f"is not a whole number from 0 to {LARGEST}")
        return values.astype(np.int64)

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """Values of a column of True and False."""
        is_true, is_false = self._flags(name)
        self.refuse_rows(~(is_true | is_false), name, "is neither True nor False")
        return is_true

    def numbers(self, name: str, *, empty: bool) -> npt.NDArray[np.float64]:
        """Values of a column of numbers, NaN where a value is missing if `empty` allows that."""
        values, wrong = self._numbers(name)
        self.refuse_rows(wrong if empty else wrong | ~np.isfinite(values), name, "is not a number")
        return values

    def text(self, name: str) -> npt.NDArray[np.object_]:
        """Values of a column of text, None where a value is missing."""
        return np.array(self.table[name].to_pylist(), object)

    def plain(self, name: str) -> npt.NDArray[Any]:
        """Values of a column of an unknown kind: numbers, or True and False as 1 and 0, else text."""
        values, wrong = self._numbers(name)
        if not wrong.any():
            return values
        is_true, is_false = self._flags(name)
        return is_true.astype(float) if (is_true | is_false).all() else self.text(name)

    def _flags(self, name: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Rows of a column that say True, and those that say False."""
        import pyarrow as pa  # noqa: PLC0415  (takes long to import)
        import pyarrow.compute as pc  # noqa: PLC0415  (takes long to import)

        words = pc.utf8_lower(pc.utf8_trim_whitespace(self.table[name]))
        is_true, is_false = (pc.is_in(words, pa.array(of)).to_numpy() for of in (_TRUE, _FALSE))
        return is_true, is_false

    def _numbers(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Numbers of a column, and the rows whose text is not a number, or one beyond the largest float."""
        import pyarrow as pa  # noqa: PLC0415  (takes long to import)
        import pyarrow.compute as pc  # noqa: PLC0415  (takes long to import)

        text = pc.utf8_trim_whitespace(self.table[name].combine_chunks())
        try:
            values = text.cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:  # which does not tell the row
            values = np.array([_number(word) for word in text.to_pylist()])
        wrong = np.isnan(values) & ~text.is_null().to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(np.isinf(values)):
            wrong[row] |= "inf" not in text[int(row)].as_py().lower()
        return values, wrong


def _number(word: str | None) -> float:
    """Read a number as the parser does, which knows no underscores in one."""
    try:
        return float("nan" if word is None or "_" in word else word)
    except ValueError:
        return float("nan")


def _parts(path: Path, text: str) -> tuple[tuple[str, ...], str, str]:
    """Split a file into the lines before the column names, the line of the names, and the rest."""
    lines = io.StringIO(text)
    comments: list[str] = []
    for line in lines:
        if line.strip() and not line.startswith("#"):
            return tuple(comments), line, _BLANK.sub("", lines.read())
        comments.append(line.strip())
    raise TableError(f"{path}: is empty; not even the names of columns are there")


def _line_of(row: int, first: int, body: str) -> int:
    """Line number of a row, counted from 0, of a body that begins at line `first`."""
    numbers = (number for number, line in enumerate(io.StringIO(body), first) if line.strip())
    return next(itertools.islice(numbers, row, None))


def _check_names(path: Path, columns: list[str]) -> None:
    if len(columns) == 1 and ";" in columns[0]:
        raise TableError(f"{path}: uses semicolons. Fix: save it with commas, and with points in numbers")
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise TableError(f"{path}: has the column {quoted(twice[0])} more than once. Fix: keep one")


def _parse(path: Path, first: int, columns: list[str], body: str, missing: Sequence[str] | None) -> Any:
    """Parse rows, which begin at line `first`, into a table of text."""
    import pyarrow as pa  # noqa: PLC0415  (takes long to import)
    from pyarrow import csv as arrow_csv  # noqa: PLC0415  (takes long to import)

    types = pa.schema([(name, pa.string()) for name in columns])
    if not body.strip():
        return types.empty_table()
    torn: list[Any] = []

    def note(row: Any) -> str:
        torn.append(row)
        return "skip"

    content = body.encode()
    if missing is None:
        missing = [*arrow_csv.ConvertOptions().null_values, "None", "<NA>"]
    table = arrow_csv.read_csv(
        io.BytesIO(content),
        arrow_csv.ReadOptions(
            use_threads=False, column_names=columns, block_size=min(len(content) + 1, _LARGEST_BLOCK)
        ),
        arrow_csv.ParseOptions(invalid_row_handler=note),
        arrow_csv.ConvertOptions(column_types=types, null_values=list(missing), strings_can_be_null=True),
    )
    if torn:
        line = _line_of(torn[0].number - 1, first, body)
        raise TableError(
            f"{path}: line {line} has {torn[0].actual_columns} values for {len(columns)} columns; the file is cut "
            "off or damaged. Fix: correct the line, or write the file again"
        )
    return table


def _check_quotes(path: Path, first: int, text: str) -> None:
    """Refuse a line with a quote that is not closed, or closed inside a value, which pyarrow reads all the same."""
    if '"' not in text:
        return
    for number, line in enumerate(io.StringIO(text), first):
        try:
            next(csv.reader([line.rstrip("\n")], strict=True), None)
        except csv.Error as error:
            raise TableError(
                f"{path}: line {number} has a '\"' that does not match ({error}); the file is cut off or damaged, or "
                "has a line break inside a value. Fix: correct the line, or write the file again"
            ) from error


def read_text(path: Path) -> str:
    """Read a whole text file; each line ends with LF, whatever it ended with.

    Raises
    ------
    TableError
        If it cannot be read, or is not text in UTF-8.
    """
    try:
        content = read_file(path)
        text = content.decode("utf-8-sig")  # spreadsheets put a mark in front
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except IsADirectoryError as error:
        raise TableError(f"{path}: is a folder. Fix: give the tables in it") from error
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}. Fix: check the path") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TableError(f"{path}: line {line} is not text in UTF-8. Fix: save it as CSV in UTF-8") from error


def split_names(line: str) -> list[str]:
    """Names in the head of a CSV."""
    return [name.strip() for name in next(csv.reader([line]), [])]
