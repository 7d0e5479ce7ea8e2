"""Patterns of file names, such as ``img_p{fov:03}_t{frame:03}_c{channel}.tif``, with fields in braces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyama_dask.config.units import quoted
from pyama_dask.errors import ConfigError

NUMBERS = ("fov", "site", "frame", "z")
"""Fields that stand for a number."""
FIELDS = ("fov", "well", "site", "frame", "channel", "z")
"""All fields."""
ENDINGS = (".tif", ".tiff")
_STARS = 4
"""Most ``*`` in a name: with more, a name that does not match may take hours to refuse."""
_DIGITS = 9
"""Largest number of digits of a number."""
_TEXTS = {"well": r"[A-Za-z]{1,2}0*[1-9][0-9]?", "channel": "[^/]+?"}
_PARTS = re.compile(r"(\{[^{}]*\}|\*)")
_FIELD = re.compile(r"\{(\w+)(?::0?([1-9]))?\}")


@dataclass(frozen=True)
class FilePattern:
    """Compiled pattern.

    Parameters
    ----------
    text
        The pattern.
    whole
        Expression for the path of a file, with ``/`` between folders; its groups are the fields.
    folders
        Expressions for the name of each folder on the way to the files.
    letters
        Letters right before each field, such as ``p`` for ``_p{fov}``.
    """

    text: str
    whole: re.Pattern[str]
    folders: tuple[re.Pattern[str], ...]
    letters: Mapping[str, str]

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the pattern."""
        return tuple(self.letters)


def compile_pattern(pattern: str) -> FilePattern:
    """Compile a pattern of file names.

    Parameters
    ----------
    pattern
        Path relative to a folder, ending in ``.tif`` or ``.tiff``. ``{fov}``, ``{site}``, ``{frame}`` and ``{z}`` stand
        for digits, ``{fov:03}`` for three digits or larger numbers; ``{well}`` for a well such as ``B02`` or ``b2``;
        ``{channel}`` for digits or a name; and ``*`` for any text within a name. A field that is there several times
        stands for the same text.

    Raises
    ------
    ConfigError
        If the pattern is not a relative path of TIFF files, or its fields are unknown, incomplete, or not separated.
    """
    names = pattern.split("/")
    if not all(names) or ".." in names or "**" in pattern:
        raise _fault(pattern, "is not a path below the folder", "start at the folder, and write '*' once per folder")
    if max(name.count("*") for name in names) > _STARS:
        raise _fault(pattern, f"has more than {_STARS} '*' in a name", "let one of them stand for more text")
    if not pattern.lower().endswith(ENDINGS):
        raise _fault(pattern, "does not end in .tif or .tiff", "add the ending of the files")
    parts = [part for name in names for part in (*_PARTS.split(name), "/")][:-1]
    letters = _letters_before(pattern, [part for part in parts if part])
    _check_fields(pattern, tuple(letters))
    return FilePattern(
        pattern,
        re.compile("".join(_expressions(parts)), re.ASCII),
        tuple(re.compile("".join(_expressions(_PARTS.split(name))), re.ASCII) for name in names[:-1]),
        letters,
    )


def _letters_before(pattern: str, parts: list[str]) -> dict[str, str]:
    """Check the parts of a pattern, and find the letters before each field."""
    letters: dict[str, str] = {}
    for before, part in zip(["/", *parts], parts, strict=False):
        if _PARTS.fullmatch(part) and part != "*":
            _check_field(pattern, part)
            letters.setdefault(_field(part)[0], "".join(re.findall(r"[A-Za-z]+\Z", before)))
        elif "{" in part or "}" in part:
            raise _fault(pattern, "has a brace without its partner", "write each field as '{frame}'")
        if part.startswith(("{", "*")) and before.startswith(("{", "*")):
            raise _fault(pattern, f"has no text between {before} and {part}", "put a character between them")
    return letters


def _check_field(pattern: str, part: str) -> None:
    known = ", ".join(f"{{{name}}}" for name in FIELDS)
    match = _FIELD.fullmatch(part)
    name = re.match(r"\{(\w*)", part)
    if name is None or name[1] not in FIELDS:
        raise _fault(pattern, f"has the unknown field {part}", f"use {known}")
    if match is None or (match[2] and name[1] not in NUMBERS):
        numbers = ", ".join(f"{{{number}}}" for number in NUMBERS)
        raise _fault(
            pattern, f"has a field in another form, {part}", f"give a width only to {numbers}, as in {{fov:03}}"
        )


def _check_fields(pattern: str, fields: tuple[str, ...]) -> None:
    if not fields:
        raise _fault(pattern, "has no field", "write '{frame}' for the number of the frame, and so on")
    if "fov" in fields and "well" in fields:
        raise _fault(pattern, "has {fov} and {well}", "write {site} for the number of an image within its well")
    if "site" in fields and "well" not in fields:
        raise _fault(pattern, "has {site}, but no {well}", "add {well}, or write {fov} instead of {site}")


def _expressions(parts: list[str]) -> Iterator[str]:
    """Regular expression of each part."""
    seen = set[str]()
    for part in parts:
        if part.startswith("{"):
            name, width = _field(part)
            yield f"(?P={name})" if name in seen else f"(?P<{name}>{_expression(name, width)})"
            seen.add(name)
        else:
            yield "[^/]*?" if part == "*" else re.escape(part)


def _expression(name: str, width: int) -> str:
    if name in _TEXTS:
        return _TEXTS[name]
    # Numbers with more digits than the width have no zeros in front, as any program writes them.
    return f"[0-9]{{{width}}}|[1-9][0-9]{{{width},{_DIGITS}}}" if width else f"[0-9]{{1,{_DIGITS}}}"


def _field(part: str) -> tuple[str, int]:
    """Name and width of a field; 0 for any width."""
    match = _FIELD.fullmatch(part)
    return (match[1], int(match[2] or 0)) if match else ("", 0)


def _fault(pattern: str, problem: str, fix: str) -> ConfigError:
    return ConfigError(f"{quoted(pattern)} {problem}. Fix: {fix}")
