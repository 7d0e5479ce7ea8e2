"""The config: what a person writes in ``run.yaml``, as frozen models that refuse what they do not know.

Method parameters (`Params.segmentation_params` and its kin) are keyword-only arguments of the method's own
function. Their types and limits stand in its signature, and `method_parameters` checks against that, so that a
default stands in one place and a plugin's parameters are checked like the built-in ones.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictInt,
    ValidationError,
    create_model,
)
from pydantic import model_validator as validates_model

from pyama_dask.errors import ConfigError

# ------------------------------------------------------------------------------------------- quantities


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd")
    return value


def _selection(value: Any) -> Any:
    """Normalise ``"0-5, 7"``, ``[0, 7]`` or ``3`` to the text form with ranges."""
    if value == "all":
        return value
    return as_ranges(parse_selection(value))


def _switch(value: Any) -> Any:
    """Take ``on`` and ``off`` for what they say, as YAML reads them as true and false."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def _memory(value: str) -> str:
    memory_bytes(value)
    return value


Count = Annotated[int, Field(ge=1)]
"""A whole number from 1."""
Whole = Annotated[int, Field(ge=0)]
"""A whole number from 0."""
OddSize = Annotated[int, Field(ge=1, le=99), AfterValidator(_odd)]
"""An odd diameter in pixels."""
OddWindow = Annotated[int, Field(ge=1, le=37), AfterValidator(_odd)]
"""An odd window width in pixels in which sums of squares stay exact."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""
Minutes = Annotated[float, Field(gt=0, allow_inf_nan=False)]
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
    parts = [str(value)] if isinstance(value, int) else value.split(",") if isinstance(value, str) else map(str, value)
    numbers: set[int] = set()
    for part in parts:
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise ValueError(f"must be 'all', or numbers and ranges such as '0-5, 7', not {part.strip()!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"range {part.strip()!r} runs backwards")
        numbers.update(range(first, last + 1))
    if not numbers:
        raise ValueError("must select at least one")
    return sorted(numbers)


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
    time_mapping: dict[Whole, FiniteFloat] | None = None
    crop_padding: Whole = 0


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
    workers: Count | Literal["auto"] = "auto"
    memory: Memory | Literal["auto"] = "auto"
    address: str | None = None
    dashboard: Dashboard = "127.0.0.1:8787"
    batch_size: Count | Literal["auto"] = "auto"
    retries: Whole = 1
    lost_workers: Count = 3

    @validates_model(mode="after")
    def _address_fits(self) -> Self:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("'address' goes with 'kind: address', and is needed there")
        return self


class Config(Model):
    """One run: which movie, where to, which channels, and how."""

    input: Path
    output: Path
    channels: Channels
    params: Params = Params()
    storage: Storage = Storage()
    cluster: Cluster = Cluster()


# ---------------------------------------------------------------------------------------------- reading


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
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as a config: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        hint = "; for a movie, 'pyama-dask init' writes a config" if path.suffix.lower() in (".nd2", ".czi") else ""
        raise ConfigError(f"{path}: is not a YAML config{hint}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must hold keys such as 'input:' and 'output:'; 'pyama-dask init' writes one")
    document = {key: value for key, value in document.items() if value is not None}
    for key in ("input", "output"):
        if isinstance(document.get(key), str):
            document[key] = path.parent / document[key]
    for part in ("params", "channels"):
        if part in document:
            document[part] = _beside(document[part], path.parent)
    for dotted, value in (overrides or {}).items():
        _set(document, dotted, value)
    return parse_config(document, source=str(path))


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
        says: dict[str, str] = {}
        for fault in error.errors():  # the first says enough of a key that may be of several types
            says.setdefault(_key(prefix, fault["loc"]), _says(fault))
        raise ConfigError("\n".join([f"{source}:", *(f"  {key}: {said}" for key, said in says.items())])) from error


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
        return f"must hold keys, not {given!r}"
    text = str(error["msg"]).removeprefix("Value error, ")
    return text if isinstance(given, dict | Model) or repr(given) in text else f"{text} (got {given!r})"


def _meant(key: str) -> str:
    """Keys of the config that are like one that is not."""
    return did_you_mean(key, _dotted(Config))


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Ask for the dotted keys whose last part is like that of one which is not known; nothing where there are none."""
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
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if p.default is p.empty else p.default)
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is p.KEYWORD_ONLY
    }
    return create_model(function.__name__, __config__=ConfigDict(extra="forbid", frozen=True), **fields)


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
    models = [parameter_model(function) for function in functions]
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
