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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    create_model,
)
from pydantic import model_validator as validates_model

from pyama_dask.config.units import (
    LONGEST_NAME,
    AnyPath,
    Count,
    Dashboard,
    Fraction,
    Memory,
    Minutes,
    Moment,
    Selection,
    Walltime,
    Whole,
    as_switch,
    memory_bytes,
    quoted,
)
from pyama_dask.config.yaml_text import parse_yaml
from pyama_dask.errors import ConfigError

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
    frame_interval: Minutes | Literal["auto"] = "auto"
    time_mapping: dict[Whole, Moment] | None = None
    crop_padding: Annotated[Whole, Field(le=10_000)] = 0


class Storage(Model):
    """How arrays lie on disk."""

    codec: Literal["lz4", "zstd", "none"] = "lz4"
    background: Literal["full", "grid"] = "full"
    cells: Annotated[Literal["directory", "zip", "off"], BeforeValidator(as_switch)] = "directory"
    display: Annotated[Literal["on", "off"], BeforeValidator(as_switch)] = "on"
    block_frames: Count | Literal["auto"] = "auto"


QueueKind = Literal["slurm", "pbs", "lsf", "sge", "oar", "htcondor"]
QUEUES: tuple[QueueKind, ...] = get_args(QueueKind)
"""Queues of a cluster that jobs can be submitted to."""


class Adaptive(Model):
    """Limits between which the number of jobs follows what there is to do."""

    minimum: Annotated[Whole, Field(le=10_000)] = 0
    maximum: Annotated[Count, Field(le=10_000)]

    @validates_model(mode="after")
    def _in_order(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError("'minimum' is larger than 'maximum'")
        return self


class Cluster(Model):
    """Where tasks run, and how many FOVs are in flight."""

    kind: Literal["serial", "local", "address", "runner"] | QueueKind = "local"
    workers: Annotated[Count, Field(le=1000)] | Literal["auto"] = "auto"
    memory: Memory | Literal["auto"] = "auto"
    address: str | None = None
    dashboard: Dashboard = "127.0.0.1:8787"
    batch_size: Count | Literal["auto"] = "auto"
    retries: Annotated[Whole, Field(le=1000)] = 1
    lost_workers: Annotated[Count, Field(le=1000)] = 3
    # of a queue; the names are those of dask-jobqueue as far as it has them
    jobs: Annotated[Count, Field(le=10_000)] | None = None
    adaptive: Adaptive | None = None
    cores: Annotated[Count, Field(le=1000)] = 1
    processes: Annotated[Count, Field(le=1000)] | Literal["auto"] = "auto"
    walltime: Walltime | None = None
    queue: str | None = None
    account: str | None = None
    interface: str | None = None
    prologue: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    local_directory: str | None = None
    options: dict[str, Any] = {}
    failed_jobs: Annotated[Count, Field(le=1000)] = 5
    alarm: Minutes = 10.0
    tls: Annotated[Literal["on", "off"], BeforeValidator(as_switch)] = "on"

    @validates_model(mode="after")
    def _address_fits(self) -> Self:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("'address' goes with 'kind: address', and is needed there")
        return self

    @validates_model(mode="after")
    def _queue_is_whole(self) -> Self:
        if not self.of_queue:
            return self
        if (self.jobs is None) == (self.adaptive is None):
            raise ValueError(f"'kind: {self.kind}' needs either 'jobs', their number, or 'adaptive', its limits")
        if self.memory == "auto":
            raise ValueError(f"'kind: {self.kind}' needs 'memory', of a job, such as 4GiB")
        if (self.walltime is None) != (self.kind == "htcondor"):
            raise ValueError("'walltime', such as '04:00:00', is needed with every queue but htcondor, which has none")
        if self.cores % self.worker_processes:
            raise ValueError(f"'cores', {self.cores}, must be a multiple of 'processes', {self.worker_processes}")
        if self.worker_bytes <= 0:
            raise ValueError(f"'memory', {self.memory}, is less than a job of {self.worker_processes} processes needs")
        return self

    @validates_model(mode="after")
    def _fits_htcondor(self) -> Self:
        if self.kind == "htcondor":
            if self.queue or self.account:
                raise ValueError(
                    "htcondor has no 'queue' and no 'account'; 'directives' may say 'accounting_group = lab'"
                )
            if not all(re.fullmatch(r"\s*[^\s=]+\s*=.+", line) for line in self.directives):
                raise ValueError("'directives' of htcondor are lines such as 'requirements = Arch == \"X86_64\"'")
        return self

    @property
    def of_queue(self) -> bool:
        """Whether workers are jobs of a queue."""
        return self.kind in QUEUES

    @property
    def worker_processes(self) -> int:
        """Worker processes of a job."""
        return self.cores if self.processes == "auto" else self.processes

    @property
    def job_bytes(self) -> int:
        """Memory of a job of a queue."""
        return memory_bytes(self.memory)

    @property
    def worker_bytes(self) -> int:
        """Memory of a worker process of a job, whose first process looks after the workers and needs some, too."""
        return (self.job_bytes - NANNY_BYTES) // self.worker_processes

    @property
    def most_jobs(self) -> int:
        """Largest number of jobs at once."""
        return self.adaptive.maximum if self.adaptive else self.jobs or 0


NANNY_BYTES = 200 * 2**20
"""Memory of a job's process that starts its workers and watches them."""


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


def load_config(
    path: Path, overrides: Mapping[str, Any] | None = None, shared: Mapping[str, Iterable[str]] | None = None
) -> Config:
    """Read a YAML config; relative paths in it are taken from the file's own folder.

    Parameters
    ----------
    path
        The YAML file.
    overrides
        Values by dotted key, such as ``{"params.fovs": "0-5"}``, that take the place of the file's; paths among
        them are relative to the working directory.
    shared
        By kind of method, such as ``tracking``, the parameters that every method of the kind takes. If an override
        names another method of such a kind than the file, the other parameters in the file, which belong to the
        former method, are dropped.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is not valid; the message names every such key.
    """
    hint = "; for a movie, 'pyama-dask init' writes a config" if path.suffix.lower() in (".nd2", ".czi") else ""
    document = parse_yaml(config_text(path, hint), f"{path}: is not a YAML config{hint}")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must hold keys such as 'input:' and 'output:'; 'pyama-dask init' writes one")
    document = {key: value for key, value in document.items() if value is not None}
    for key in ("input", "output"):
        if isinstance(document.get(key), str) and document[key].strip():
            document[key] = path.parent / document[key]
    for part in ("params", "channels"):
        if part in document:
            document[part] = beside(document[part], path.parent)
    for kind, kept in (shared or {}).items():
        _drop_former(document.get("params"), kind, overrides or {}, set(kept))
    for dotted, value in (overrides or {}).items():
        set_key(document, dotted, value)
    return parse_config(document, source=str(path))


def _drop_former(params: Any, kind: str, overrides: Mapping[str, Any], kept: Collection[str]) -> None:
    """Drop parameters of the method that a file names, or has by default, if overrides name another one."""
    method, given = f"{kind}_method", f"{kind}_params"
    if not isinstance(params, dict) or not isinstance(params.get(given), dict):
        return
    former = params.get(method) or Params.model_fields[method].default
    if overrides.get(f"params.{method}", former) != former:
        params[given] = {name: value for name, value in params[given].items() if name in kept}


def config_text(path: Path, hint: str = "") -> str:
    """Read a file that a person has written, if it is one; `hint` says what else to give."""
    try:
        state = path.stat()
        is_file, size = stat.S_ISREG(state.st_mode), state.st_size  # reading a pipe would wait for who writes into it
        text = path.read_text(encoding="utf-8") if is_file and size <= LARGEST_CONFIG else ""
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}{hint}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a YAML config{hint}: it is not text in UTF-8: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{str(path)!r}: cannot be the name of a file: {error}") from error
    if not is_file:
        raise ConfigError(f"{path}: cannot be read as a config: it is a directory, a pipe or a device{hint}")
    if size > LARGEST_CONFIG:
        raise ConfigError(f"{path}: is not a YAML config{hint}: it has {size} bytes, more than any config")
    return text


def parse_config(document: Mapping[str, Any], source: str = "config") -> Config:
    """Check a mapping with the keys of the config; see `load_config`."""
    with named_keys(source):
        return Config.model_validate(document)


def beside(value: Any, folder: Path) -> Any:
    """Take methods in files, ``file.py:function``, from a folder."""
    if isinstance(value, dict):
        return {key: beside(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [beside(inner, folder) for inner in value]
    if isinstance(value, str) and re.fullmatch(r".+\.py:\w+", value):
        return str(folder.absolute() / value)
    return value


def set_key(document: dict[str, Any], dotted: str, value: Any) -> None:
    """Put a value at a dotted key of nested keys, which are made where they are not there."""
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
def named_keys(source: str, prefix: str = "", model: type[BaseModel] = Config) -> Iterator[None]:
    """Turn pydantic's errors inside the block into one `ConfigError` that names every key of a model.

    The keys stand below their `source`, such as the path of a file, if that is known.
    """
    try:
        yield
    except ValidationError as error:
        faults: dict[str, Any] = {}
        for fault in error.errors():  # the first says enough of a key that may be of several types
            if not _short_of_refused(fault, error.errors()):
                faults.setdefault(_key(prefix, fault["loc"]), fault)
        lines = [f"{quoted_key(key)}: {_says(fault, model)}" for key, fault in list(faults.items())[:_MOST_FAULTS]]
        lines += [f"... and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
        if source:
            lines = [f"{source}:", *(f"  {line}" for line in lines)]
        raise ConfigError("\n".join(lines)) from error


def _short_of_refused(fault: Any, faults: Iterable[Any]) -> bool:
    """Whether a list is called too short only as pydantic does not count its items that have faults of their own."""
    place = fault["loc"]
    return fault["type"] == "too_short" and any(other["loc"][: len(place)] == place != other["loc"] for other in faults)


def quoted_key(key: str) -> str:
    """Write a key for a message: as it is, unless it is long, or would not stay on its line."""
    return key if key.isprintable() and len(key) < 100 else quoted(key, 100)


def _key(prefix: str, location: tuple[int | str, ...]) -> str:
    """Dotted key without the parts by which pydantic tells the members of a union apart."""
    union = re.compile(r"constrained-.*|literal\[.*|function-.*|int|str|\[key\]")
    parts = [str(part) for part in location if not union.fullmatch(str(part))]
    return ".".join([prefix, *parts] if prefix else parts) or "(top)"


def _says(error: Any, model: type[BaseModel]) -> str:
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        return "is not a key here" + did_you_mean(str(error["loc"][-1]), _dotted(model))
    if kind == "missing":
        return "is needed"
    if kind in ("model_type", "dict_type"):
        return f"must hold keys, not {quoted(given)}"
    if kind in ("tuple_type", "list_type"):
        return f"must be a list, not {quoted(given)}"
    text = str(error["ctx"]["error"] if kind == "value_error" else error["msg"])
    return text if isinstance(given, dict | Model) or quoted(given) in text else f"{text} (got {quoted(given)})"


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Ask for the dotted keys whose last part is like that of one which is not known; nothing where there are none."""
    if len(key) > LONGEST_NAME:
        return ""
    last = {dotted: dotted.rpartition(".")[2] for dotted in known}
    close = difflib.get_close_matches(key.rpartition(".")[2], last.values(), cutoff=0.75)
    like = [dotted for dotted, name in last.items() if name in close]
    return f"; did you mean {' or '.join(like)}?" if like else ""


def _dotted(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _dotted(inner, f"{prefix}{name}.")


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
        raise ConfigError(
            f"{key}.{unknown[0]}: is not a parameter here; known are: {', '.join(known) or 'none'}; if you named "
            "another method, take out those of the one before"
        )
    filled: dict[str, Any] = {}
    with named_keys("", key):
        for model in models:
            mine = {name: value for name, value in given.items() if name in model.model_fields}
            filled |= model.model_validate(mine).model_dump()
    return filled
