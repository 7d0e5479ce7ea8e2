"""The config: what a person writes in ``run.yaml``, as frozen models that refuse what they do not know.

Method parameters (`Params.segmentation_params` and its kin) are keyword-only arguments of the method's own
function. Their types and limits stand in its signature, and `method_parameters` checks against that, so that a
default stands in one place and a plugin's parameters are checked like the built-in ones.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    create_model,
)
from pydantic import model_validator as validates_model

from pyama_dask.errors import ConfigError
from pyama_dask.yaml_text import parse_yaml

# ------------------------------------------------------------------------------------------- quantities


MOST_SELECTED = 1_000_000
"""Numbers that a selection may name."""
_LARGEST = 2**31 - 1
_LONGEST_PATH, _LONGEST_NAME = 4095, 255


def _number(value: Any) -> Any:
    if isinstance(value, bool):  # which Python takes for 1 and 0
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
    """Refuse what cannot be the name of a file or directory on any disk."""
    if isinstance(value, str | Path):
        text = str(value)
        if not text.strip():
            raise ValueError("is empty; name a file or directory")
        if "\0" in text:
            raise ValueError("holds a NUL character, which no path can have")
        try:
            raw = os.fsencode(text)
        except UnicodeEncodeError as error:
            raise ValueError("holds letters that no path can have") from error
        if len(raw) > _LONGEST_PATH or max(map(len, raw.split(b"/"))) > _LONGEST_NAME:
            raise ValueError(f"is longer than a path ({_LONGEST_PATH} bytes) or a name in it ({_LONGEST_NAME}) can be")
    return value


def _switch(value: Any) -> Any:
    """Take ``on`` and ``off`` for what they say, as YAML reads them as true and false."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def _memory(value: str) -> str:
    memory_bytes(value)
    return value


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
Moment = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False), BeforeValidator(_number)]
"""Minutes since some start."""
AnyPath = Annotated[Path, BeforeValidator(_path)]
"""A path that a disk could have."""
Selection = Annotated[str, BeforeValidator(_selection)]
"""``all``, or numbers and ranges with both ends: ``0-5, 7``."""
Dashboard = Annotated[str, Field(pattern=r"^[\w.-]+:\d+$")]
"""Host and port; a port alone would listen on all interfaces."""
Memory = Annotated[str, AfterValidator(_memory)]
"""An amount of memory in MiB or GiB, such as ``2GiB``."""


def parse_selection(value: Any) -> list[int]:
    """Turn ``"0-5, 7"``, ``[0, 7]`` or ``3`` into ascending numbers without repeats.

    Raises
    ------
    ValueError
        If the value is not such a selection, or empty.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Iterable):
        value = "?"  # refused below, like other text that is no selection
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
        if named > MOST_SELECTED:  # told before anything is made of that size
            raise ValueError(f"names more than {MOST_SELECTED:,} numbers")
        numbers.update(range(first, last + 1))
    if not numbers:
        raise ValueError("must select at least one")
    return sorted(numbers)


def quoted(value: Any, longest: int = 200) -> str:
    """Write a value for a message, cut where it is long."""
    text = _text(value, repr)
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


def _text(value: Any, write: Callable[[Any], str] = str) -> str:
    try:
        return write(value)
    except (ValueError, RecursionError):  # Python does not write numbers of more than 4300 digits
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


def memory_bytes(text: str) -> int:
    """Bytes of ``"512MiB"`` or ``"2GiB"``; bare numbers and GB are refused, as they are misread too often."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MiB|GiB)", text)
    if match is None:
        raise ValueError(f"must be an amount in MiB or GiB such as '2GiB', not {text!r}")
    return int(float(match[1]) * {"MiB": 2**20, "GiB": 2**30}[match[2]])


# ----------------------------------------------------------------------------------------------- models


class Model(BaseModel):
    """A part of the config: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ChannelChoice(Model):
    """A channel by index or name, and the features measured in it."""

    channel: Annotated[StrictInt, Field(ge=0)] | str
    features: tuple[str, ...] = ()


class Channels(Model):
    """The phase-contrast channel and the fluorescence channels."""

    pc: ChannelChoice | None = None
    fl: tuple[ChannelChoice, ...] = ()

    @validates_model(mode="after")
    def _each_once(self) -> Self:
        chosen = [choice.channel for choice in self.all]
        for channel in chosen:
            if chosen.count(channel) > 1:
                raise ValueError(f"channel {channel!r} is chosen more than once")
        if not chosen:
            raise ValueError("choose at least one channel: 'pc: {channel: 0}'")
        return self

    @property
    def all(self) -> tuple[ChannelChoice, ...]:
        """The phase channel, if there is one, then the fluorescence channels."""
        return (*((self.pc,) if self.pc else ()), *self.fl)


class Params(Model):
    """What is computed, and how."""

    fovs: Selection = "all"
    frames: Selection = "all"
    z: Whole | Literal["max"] | None = None
    copy_only: bool = False
    preprocess: tuple[str, ...] = ()
    segmentation_method: str = "logstd"
    segmentation_params: dict[str, Any] = {}
    tracking_method: str = "iou"
    tracking_params: dict[str, Any] = {}
    background_params: dict[str, Any] = {}
    background_weight: Fraction = 1.0
    frame_interval: Minutes = 10.0
    time_mapping: dict[Whole, Moment] | None = None
    crop_padding: Annotated[Whole, Field(le=10_000)] = 0


class Storage(Model):
    """How arrays lie on disk."""

    codec: Literal["lz4", "zstd", "none"] = "lz4"
    background: Literal["full", "grid"] = "full"
    cells: Annotated[Literal["directory", "zip", "off"], BeforeValidator(_switch)] = "directory"
    display: Annotated[Literal["on", "off"], BeforeValidator(_switch)] = "on"
    block_frames: Count | Literal["auto"] = "auto"


class Cluster(Model):
    """Where tasks run, and how many FOVs are in flight."""

    kind: Literal["serial", "local", "address"] = "local"
    workers: Annotated[Count, Field(le=1000)] | Literal["auto"] = "auto"
    memory: Memory | Literal["auto"] = "auto"
    address: str | None = None
    dashboard: Dashboard = "127.0.0.1:8787"
    batch_size: Count | Literal["auto"] = "auto"
    retries: Annotated[Whole, Field(le=1000)] = 1
    lost_workers: Annotated[Count, Field(le=1000)] = 3

    @validates_model(mode="after")
    def _address_fits(self) -> Self:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("'address' goes with 'kind: address', and is needed there")
        return self


class Config(Model):
    """One run: which movie, where to, which channels, and how."""

    input: AnyPath
    output: AnyPath
    channels: Channels
    params: Params = Params()
    storage: Storage = Storage()
    cluster: Cluster = Cluster()

    @validates_model(mode="after")
    def _paths_differ(self) -> Self:
        if os.path.realpath(self.input) == os.path.realpath(self.output):
            raise ValueError("'input' and 'output' are the same path; choose another 'output'")
        return self


# ---------------------------------------------------------------------------------------------- reading


LARGEST_CONFIG = 2**20
"""Bytes of a config file; one with every key has some thousands."""
_MOST_FAULTS = 20


def load_config(path: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a YAML config; relative paths in it are taken from the file's own folder.

    Parameters
    ----------
    path
        The YAML file.
    overrides
        Values by dotted key, such as ``{"params.fovs": "0-5"}``, that take the place of the file's; paths among
        them are relative to the working directory.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is not valid; the message names every such key.
    """
    hint = "; for a movie, 'pyama-dask init' writes a config" if path.suffix.lower() in (".nd2", ".czi") else ""
    document = parse_yaml(_config_text(path, hint), f"{path}: is not a YAML config{hint}")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must hold keys such as 'input:' and 'output:'; 'pyama-dask init' writes one")
    document = {key: value for key, value in document.items() if value is not None}
    for key in ("input", "output"):
        if isinstance(document.get(key), str) and document[key].strip():
            document[key] = path.parent / document[key]
    for part in ("params", "channels"):
        if part in document:
            document[part] = _beside(document[part], path.parent)
    for dotted, value in (overrides or {}).items():
        _set(document, dotted, value)
    return parse_config(document, source=str(path))


def _config_text(path: Path, hint: str) -> str:
    try:
        state = path.stat()
        is_file, size = stat.S_ISREG(state.st_mode), state.st_size  # reading a pipe would wait for who writes into it
        text = path.read_text(encoding="utf-8") if is_file and size <= LARGEST_CONFIG else ""
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as a config: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a YAML config{hint}: it is not text in UTF-8: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{str(path)!r}: cannot be the name of a file: {error}") from error
    if not is_file:
        raise ConfigError(f"{path}: cannot be read as a config: it is a directory, a pipe or a device")
    if size > LARGEST_CONFIG:
        raise ConfigError(f"{path}: is not a YAML config{hint}: it has {size} bytes, more than any config")
    return text


def parse_config(document: Mapping[str, Any], source: str = "config") -> Config:
    """Check a mapping with the keys of the config; see `load_config`."""
    with named_keys(source):
        return Config.model_validate(document)


def _beside(value: Any, folder: Path) -> Any:
    """Take methods in files, ``file.py:function``, from a folder."""
    if isinstance(value, dict):
        return {key: _beside(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_beside(inner, folder) for inner in value]
    if isinstance(value, str) and re.fullmatch(r".+\.py:\w+", value):
        return str(folder.absolute() / value)
    return value


def _set(document: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    if not all((*parents, last)):
        raise ConfigError(f"{quoted(dotted)}: is not a key; keys are words with dots between, such as params.fovs")
    for parent in parents:
        if document.get(parent) is None:
            document[parent] = {}
        document = document[parent]
        if not isinstance(document, dict):
            kind = (
                "a list; give it whole, such as 'channels.fl=[{channel: 1}]'"
                if isinstance(document, list)
                else "a value"
            )
            raise ConfigError(f"{dotted}: '{parent}' holds {kind}, not keys")
    document[last] = value


@contextmanager
def named_keys(source: str, prefix: str = "") -> Iterator[None]:
    """Turn pydantic's errors inside the block into one `ConfigError` that names every key."""
    try:
        yield
    except ValidationError as error:
        faults: dict[str, Any] = {}
        for fault in error.errors():  # the first says enough of a key that may be of several types
            faults.setdefault(_key(prefix, fault["loc"]), fault)
        lines = [f"  {quoted_key(key)}: {_says(fault)}" for key, fault in list(faults.items())[:_MOST_FAULTS]]
        more = [f"  ... and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
        raise ConfigError("\n".join([f"{source}:", *lines, *more])) from error


def quoted_key(key: str) -> str:
    """Write a key for a message: as it is, unless it is long, or would not stay on its line."""
    return key if key.isprintable() and len(key) < 100 else quoted(key, 100)


def _key(prefix: str, location: tuple[int | str, ...]) -> str:
    """Dotted key without the parts by which pydantic tells the members of a union apart."""
    union = re.compile(r"constrained-.*|literal\[.*|function-.*|int|str")
    parts = [str(part) for part in location if not union.fullmatch(str(part))]
    return ".".join([prefix, *parts] if prefix else parts) or "(top)"


def _says(error: Any) -> str:
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        return "is not a key here" + _meant(str(error["loc"][-1]))
    if kind == "missing":
        return "is needed"
    if kind in ("model_type", "dict_type"):
        return f"must hold keys, not {quoted(given)}"
    text = str(error["msg"]).removeprefix("Value error, ")
    return text if isinstance(given, dict | Model) or quoted(given) in text else f"{text} (got {quoted(given)})"


def _meant(key: str) -> str:
    """Keys of the config that are like one that is not."""
    return did_you_mean(key, _dotted(Config))


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Ask for the dotted keys whose last part is like that of one which is not known; nothing where there are none."""
    if len(key) > _LONGEST_NAME:
        return ""
    last = {dotted: dotted.rpartition(".")[2] for dotted in known}
    close = difflib.get_close_matches(key.rpartition(".")[2], last.values(), cutoff=0.75)
    like = [dotted for dotted, name in last.items() if name in close]
    return f"; did you mean {' or '.join(like)}?" if like else ""


def _dotted(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _dotted(field.annotation, f"{prefix}{name}.")


# ------------------------------------------------------------------------------------ method parameters


def parameter_model(function: Callable[..., Any]) -> type[BaseModel]:
    """Model of a function's keyword-only parameters: their names, types, limits and defaults."""
    try:
        hints = get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {
            name: (hints.get(name, Any), ... if p.default is p.empty else p.default)
            for name, p in inspect.signature(function).parameters.items()
            if p.kind is p.KEYWORD_ONLY
        }
        settings = ConfigDict(extra="forbid", frozen=True)
        return create_model(getattr(function, "__name__", "method"), __config__=settings, **fields)
    except Exception as error:  # a plugin may be anything that can be called, with any annotations
        raise ConfigError(
            f"the parameters of {quoted(function)} cannot be read: {type(error).__name__}: {error}; give it a "
            "signature with types that pydantic knows"
        ) from error


def method_parameters(key: str, given: Mapping[str, Any], *functions: Callable[..., Any]) -> dict[str, Any]:
    """Check parameters against the keyword-only arguments of the functions that take them; fill in defaults.

    Parameters
    ----------
    key
        Where the parameters stand in the config, for messages, such as ``params.tracking_params``.
    given
        Parameters by name.
    functions
        The functions that share them; a name belongs to one of them.

    Raises
    ------
    ConfigError
        If a name is unknown or a value is not valid.
    """
    try:
        models = [parameter_model(function) for function in functions]
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error
    known = [name for model in models for name in model.model_fields]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ConfigError(f"{key}.{unknown[0]}: is not a parameter here; known are: {', '.join(known)}")
    filled: dict[str, Any] = {}
    with named_keys("config", key):
        for model in models:
            mine = {name: value for name, value in given.items() if name in model.model_fields}
            filled |= model.model_validate(mine).model_dump()
    return filled
