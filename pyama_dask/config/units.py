"""Quantities in the config: types with limits, and conversion from and to text."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

MOST_SELECTED = 1_000_000
"""Largest number of items that a selection may name."""
LONGEST_NAME = 255
"""Largest number of bytes of a file name."""
LONGEST_LENGTH = 1e4
"""Largest length in pixels or micrometres."""
TILES = 32, 16384
"""Smallest and largest width of tiles in pixels."""
_LARGEST = 2**31 - 1
_LONGEST_PATH = 4095
_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def _number(value: Any) -> Any:
    if isinstance(value, bool):  # Python treats them as 1 and 0
        raise ValueError("must be a number, not true or false")  # noqa: TRY004  (pydantic takes no TypeError)
    return value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd")
    return value


def _selection(value: Any) -> Any:
    """Normalise ``"0-5, 7"``, ``[0, 7]`` or ``3`` to the text form with ranges."""
    if value == "all":
        return value
    return as_ranges(parse_selection(value))


def _path(value: Any) -> Any:
    """Refuse text that cannot be a path on any file system."""
    if isinstance(value, str | Path):
        text = str(value)
        if not text.strip():
            raise ValueError("is empty. Fix: name a file or directory")
        if "\0" in text:
            raise ValueError("has a NUL character, which paths cannot have")
        try:
            raw = os.fsencode(text)
        except UnicodeEncodeError as error:
            raise ValueError("has characters that paths cannot have") from error
        if len(raw) > _LONGEST_PATH or max(map(len, raw.split(b"/"))) > LONGEST_NAME:
            raise ValueError(f"is longer than a path ({_LONGEST_PATH} bytes) or a name in it ({LONGEST_NAME}) may be")
    return value


def without_dots(path: Path) -> Path:
    """Path without ``..``, if that leads to the same place; symbolic links stay as they are."""
    if ".." not in path.parts:
        return path
    plain = Path(os.path.normpath(path))
    plain = Path(os.path.normpath(path.absolute())) if ".." in plain.parts else plain
    return plain if os.path.realpath(plain) == os.path.realpath(path) else path


def as_path(value: Any) -> Any:
    """Check that a value may be a path; raises `ValueError` if it cannot be one."""
    if not isinstance(value, str | Path):
        raise ValueError("must be a path")  # noqa: TRY004  (pydantic takes no TypeError)
    return _path(value)


def as_switch(value: Any) -> Any:
    """Convert booleans to ``on`` and ``off``, which YAML reads as true and false."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def _gpu(value: Any) -> Any:
    """Convert ``true`` to 1, and ``false`` and 0 to ``off``."""
    return {0: "off", 1: 1}.get(int(value), value) if isinstance(value, bool | int) else value


def _length(value: Any) -> Any:
    """Normalise text: a number is in pixels, one with a unit in micrometres."""
    if not isinstance(value, str):
        return _number(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(px|pixels?|[uµμ]m)?\s*", value)
    if match is None or not 0 < float(match[1]) <= LONGEST_LENGTH:
        raise ValueError(f"must be pixels, such as 14, or micrometres, such as '12 um', not {quoted(value)}")
    return f"{float(match[1]):g} um" if (match[2] or "").endswith("m") else float(match[1])


def _chunks(value: Any) -> Any:
    """Normalise the text of the shape of chunks."""
    words = value.split() if isinstance(value, str) else []
    if words in (["auto"], ["frame"], ["block"]):
        return words[0]
    if words[:2] == ["tiles", "of"] and len(words) == 3 and re.fullmatch(r"[1-9]\d{0,8}", words[2]):
        least, most = TILES
        if not least <= int(words[2]) <= most:
            raise ValueError(f"tiles must have {least} to {most} pixels, not {words[2]}")
        return " ".join(words)
    raise ValueError(f"must be auto, frame, block, or tiles such as 'tiles of 256', not {quoted(value)}")


def _memory(value: str) -> str:
    memory_bytes(value)
    return value


def _walltime(value: Any) -> Any:
    if isinstance(value, int):  # YAML reads 4:00:00 as 14400, and bare numbers could be minutes or seconds
        raise ValueError("must be quoted, as 'HH:MM:SS' or 'D-HH:MM:SS'")  # noqa: TRY004  (pydantic takes no TypeError)
    return clock_time(walltime_seconds(value)) if isinstance(value, str) else value


Count = Annotated[int, Field(ge=1, le=_LARGEST), BeforeValidator(_number)]
"""A whole number from 1."""
Whole = Annotated[int, Field(ge=0, le=_LARGEST), BeforeValidator(_number)]
"""A whole number from 0."""
OddSize = Annotated[int, Field(ge=1, le=99), AfterValidator(_odd), BeforeValidator(_number)]
"""An odd diameter in pixels."""
OddWindow = Annotated[int, Field(ge=1, le=37), AfterValidator(_odd), BeforeValidator(_number)]
"""An odd window width in pixels in which sums of squares stay exact."""
Fraction = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]
"""A number from 0 to 1."""
Minutes = Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False), BeforeValidator(_number)]
"""Minutes between frames."""
PixelSize = Annotated[float, Field(gt=0, le=1000), BeforeValidator(_number)]
"""Micrometres per pixel."""
Moment = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False), BeforeValidator(_number)]
"""Minutes since a reference time."""
IS_LENGTH = BeforeValidator(_length)
"""Mark of parameters that are lengths."""
Length = Annotated[Annotated[float, Field(gt=0, le=LONGEST_LENGTH)] | str, IS_LENGTH]
"""A length in pixels, or in micrometres such as ``12 um``; see `in_pixels`."""
FileName = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]
"""A name, or the path of a file, also as a `Path`."""
AnyPath = Annotated[Path, BeforeValidator(_path), AfterValidator(without_dots)]
"""A valid path, without ``..`` where that does not change its meaning."""
Selection = Annotated[str, BeforeValidator(_selection)]
"""``all``, or numbers and inclusive ranges: ``0-5, 7``."""
Chunks = Annotated[str, BeforeValidator(_chunks)]
"""``auto``, ``frame``, ``block``, or tiles, such as ``tiles of 256``."""
Dashboard = Annotated[str, Field(pattern=r"^[\w.-]+:\d+$")]
"""Host and port; a port alone would listen on all interfaces."""
Memory = Annotated[str, AfterValidator(_memory)]
"""An amount of memory in MiB or GiB, such as ``2GiB``."""
NeedOfGpu = Annotated[Literal["off", 1, "optional"], BeforeValidator(_gpu)]
"""``1``: a worker that owns a GPU does it; ``optional``: such a worker if there is one, else any; ``off``."""
Walltime = Annotated[str, BeforeValidator(_walltime)]
"""Hours, minutes and seconds, such as ``04:00:00``, optionally with days, ``2-00:00:00``; normalised to hours."""


def parse_selection(value: Any) -> list[int]:
    """Parse ``"0-5, 7"``, ``[0, 7]`` or ``3`` into ascending numbers without repeats.

    Raises
    ------
    ValueError
        If the value is not a selection, or is empty.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Iterable):
        value = "?"  # refused below, like any other invalid text
    if isinstance(value, str):
        parts: Iterable[str] = value.split(",")
    else:
        parts = (_text(part) for part in ([value] if isinstance(value, int) else value))
    numbers: set[int] = set()
    named = 0
    for part in parts:
        match = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", part)
        if match is None:
            raise ValueError(f"must be 'all', or numbers and ranges such as '0-5, 7', not {quoted(part.strip())}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"range {part.strip()!r} runs backwards")
        named += last - first + 1
        if named > MOST_SELECTED:  # before a set of that size is built
            raise ValueError(f"names more than {MOST_SELECTED:,} numbers")
        numbers.update(range(first, last + 1))
    if not numbers:
        raise ValueError("must select at least one")
    return sorted(numbers)


def quoted(value: Any, longest: int = 200) -> str:
    """Write a value for a message, shortened if it is long."""
    text = _text(value, repr)
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


def exception_text(error: BaseException, longest: int = 1000) -> str:
    """Write an exception for a message: type and text, shortened if it is long."""
    try:
        text = str(error)
    except Exception as wrong:  # noqa: BLE001  (foreign exception classes may do anything)
        text = f"its message fails: {type(wrong).__name__}"
    cut = text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"
    return f"{type(error).__name__}: {cut}" if cut else type(error).__name__


def printable(text: str) -> str:
    """Escape characters that control a terminal, reorder text or cannot be encoded; line breaks and tabs stay."""
    return _COMMANDS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _text(value: Any, write: Callable[[Any], str] = str) -> str:
    try:
        return write(value)
    except (ValueError, RecursionError):  # Python refuses to write integers of more than 4300 digits
        return "a number of thousands of digits, or something that holds one"


def as_ranges(numbers: Iterable[int]) -> str:
    """Write ascending numbers as ``"0-5, 7"``."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def in_pixels(length: float | str, pixel_size_um: float) -> float:
    """Convert a `Length` to pixels.

    Parameters
    ----------
    length
        Pixels, or micrometres such as ``"12 um"``.
    pixel_size_um
        Micrometres per pixel.
    """
    return float(length.removesuffix(" um")) / pixel_size_um if isinstance(length, str) else length


def memory_bytes(text: str) -> int:
    """Bytes of ``"512MiB"`` or ``"2GiB"``; bare numbers and GB are refused because they are ambiguous."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MiB|GiB)", text)
    if match is None:
        raise ValueError(f"must be an amount in MiB or GiB such as '2GiB', not {text!r}")
    return int(float(match[1]) * {"MiB": 2**20, "GiB": 2**30}[match[2]])


def walltime_seconds(text: str) -> int:
    """Seconds of ``"04:00:00"`` or ``"2-00:00:00"``."""
    match = re.fullmatch(r"\s*(?:(\d{1,3})-)?(\d{1,4}):([0-5]\d):([0-5]\d)\s*", text)
    seconds = 0
    if match is not None:
        days, hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if not seconds:
        raise ValueError(f"must be a time such as '04:00:00' or '2-00:00:00', not {text!r}")
    return seconds


def clock_time(seconds: float) -> str:
    """Write seconds as ``04:00:00``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def many(count: int, what: str) -> str:
    """Count with its noun: ``1 FOV``, ``2 FOVs``."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def percent(share: float) -> str:
    """Fraction in percent, with a decimal below 1 %: ``61%``, ``0.4%``, ``<0.1%``."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{share:.1%}" if 0 < share < 0.00995 else f"{share:.0%}"


def duration(seconds: float) -> str:
    """Duration in the two largest units: ``34 s``, ``5 min 10 s``, ``3 h 20 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
