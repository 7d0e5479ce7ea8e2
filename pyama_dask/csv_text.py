"""CSV as checked values: what a person or another program wrote is refused by line and column where it is not right."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import TableError
from pyama_dask.quantities import quoted

if TYPE_CHECKING:
    import pandas as pd

_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True)
class CsvText:
    """A CSV as it was read, for messages that name the line of a value."""

    path: Path
    lines: list[str]
    head: int
    """Index of the line that has the columns' names."""
    table: pd.DataFrame

    @classmethod
    def read(cls, path: str | Path, names: Mapping[str, str]) -> CsvText:
        """Read a file whole; `names` gives columns another name."""
        import pandas as pd  # noqa: PLC0415

        path = Path(path)
        text = read_text(path)
        lines = text.split("\n")
        head = next((k for k, line in enumerate(lines) if line.strip() and not line.startswith("#")), None)
        if head is None:
            raise TableError(f"{path}: is empty; not even the names of columns are there")
        columns = [names.get(name, name) for name in split_names(lines[head])]
        read = cls(path, lines, head, pd.DataFrame(columns=columns))
        read._check_lines(columns, has_quotes='"' in text)
        try:
            table = pd.read_csv(
                io.StringIO(text), skiprows=head + 1, header=None, names=list(range(len(columns))), index_col=False,
                low_memory=False, **_exactly(pd.__version__),
            )  # fmt: skip
        except pd.errors.EmptyDataError:
            return read
        except pd.errors.ParserError as error:
            raise TableError(f"{path}: is not a CSV that can be read: {error}") from error
        return cls(path, lines, head, table.set_axis(columns, axis="columns"))

    @property
    def comments(self) -> list[str]:
        """Lines in front that begin with #."""
        return [line.strip() for line in self.lines[: self.head] if line.strip()]

    def refuse(self, what: str) -> NoReturn:
        """Raise what is wrong with the whole file."""
        raise TableError(f"{self.path}: {what}")

    def refuse_rows(self, wrong: npt.NDArray[np.bool_], column: str, what: str) -> None:
        """Raise what is wrong with the first row that is marked, if there is one."""
        if wrong.any():
            row = int(np.argmax(wrong))
            value = self.table[column].iloc[row]
            self.refuse(f"line {self._line(row)}, column {quoted(column)}: {quoted(str(value))} {what}")

    def needs(self, *columns: str) -> None:
        """Refuse a file without these columns."""
        for name in columns:
            if name not in self.table.columns:
                self.refuse(f"has no column {name!r}; it has {quoted(', '.join(self.table.columns))}")

    def whole(self, name: str) -> npt.NDArray[np.int64]:
        """Values of a column of whole numbers from 0."""
        values = self.numbers(name, empty=False)
        wrong = (values != np.floor(values)) | (values < 0) | (values > 2**53)
        self.refuse_rows(wrong, name, "is not a whole number from 0")
        return values.astype(np.int64)

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """Values of a column of True and False."""
        if self.table[name].dtype == bool:
            return self.table[name].to_numpy(bool)
        said = self.table[name].astype(str).str.strip().str.lower()
        self.refuse_rows(~said.isin(list(_FLAGS)).to_numpy(), name, "is neither True nor False")
        return said.map(_FLAGS).to_numpy(bool)

    def numbers(self, name: str, *, empty: bool) -> npt.NDArray[np.float64]:
        """Values of a column of numbers, NaN where there is none."""
        import pandas as pd  # noqa: PLC0415

        column = self.table[name]
        values = pd.to_numeric(column, errors="coerce").to_numpy(float)
        wrong = np.isnan(values) & column.notna().to_numpy() if empty else ~np.isfinite(values)
        self.refuse_rows(wrong, name, "is not a number")
        return values

    def _check_lines(self, columns: list[str], *, has_quotes: bool) -> None:
        """Refuse what a parser would take with values in the wrong columns, or with none."""
        if len(columns) == 1 and ";" in columns[0]:
            self.refuse("has its columns apart by ';'; save it with commas, and with points in numbers")
        if twice := [name for name in columns if columns.count(name) > 1]:
            self.refuse(f"has the column {quoted(twice[0])} more than once; keep one")
        commas = len(columns) - 1
        for number, line in enumerate(() if has_quotes else self.lines[self.head + 1 :], self.head + 2):
            if (found := line.count(",")) != commas and line.strip():
                self.refuse(
                    f"line {number} has {found + 1} values for {commas + 1} columns; the file is cut off or damaged"
                )

    def _line(self, row: int) -> int:
        filled = (k for k, line in enumerate(self.lines[self.head + 1 :], self.head + 2) if line.strip())
        return next(number for k, number in enumerate(filled) if k == row)


def _exactly(version: str) -> dict[str, Any]:
    """Option by which pandas reads every digit of a number; from 3.1 on it does so anyway, and warns of it."""
    return {} if tuple(map(int, version.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}


def read_text(path: Path) -> str:
    """Read a file whole, with lines that end in one way.

    Raises
    ------
    TableError
        If it cannot be read, or is not text in UTF-8.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")  # spreadsheets put a mark in front
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except IsADirectoryError as error:
        raise TableError(f"{path}: is a folder; give the tables in it") from error
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TableError(f"{path}: line {line} is not text in UTF-8; save it as CSV in UTF-8") from error


def split_names(line: str) -> list[str]:
    """Names in the head of a CSV."""
    return [name.strip() for name in next(csv.reader([line]), [])]
