"""Networks that find cells, as ONNX files: where they are, what they say of themselves, and how they are opened.

A model is one file. Its metadata property ``pyama_dask`` holds a `ModelCard` as JSON; models of other programs have
none. Only a run that uses a model imports onnxruntime.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pyama_dask.config.units import exception_text, quoted
from pyama_dask.errors import ConfigError

SHIPPED = Path(__file__).parent / "models"
"""Folder of the models that come with this package, ``NAME.onnx`` each."""
PROPERTY = "pyama_dask"
"""Metadata property of an ONNX file that holds its card."""
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SUFFIX = ".onnx"
LARGEST = 2**31
"""Bytes of an ONNX file, at most: it is one message of protobuf."""


class ModelCard(BaseModel):
    """Facts about a model: what it is for, how it was made, and how its maps are decoded.

    Lengths and areas are in pixels of the network's input, that is of frames resized by `zoom`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")  # a later version may know more

    name: str = ""
    description: str = ""
    trained_on: str = ""
    licence: str = ""
    channel: str = Field("", description="kind of image: 'phase', or 'fluorescence'")
    pixel_size_um: float | None = Field(None, gt=0, description="of the training frames, before resizing")
    cell_diameter: float | None = Field(None, gt=0, description="typical diameter of a disk of a cell's area")
    zoom: float = Field(1.0, gt=0, le=16, description="factor by which the training frames were resized")
    depth: float = Field(0.2, ge=0, le=2)
    touch: float = Field(0.3, ge=0, le=4)
    smallest: int = Field(60, ge=0)
    seed: int | None = None
    steps: int | None = None
    images: int | None = Field(None, description="annotated images that it was trained on")
    held_back: dict[str, float] = Field({}, description="scores on images that it was not trained on")
    program: str = Field("", description="version of the program that trained it")


def find_model(name_or_path: str | Path) -> Path:
    """Find the file of a model.

    Parameters
    ----------
    name_or_path
        Name of a shipped model, or path of a file, relative to the working directory.

    Raises
    ------
    ConfigError
        If there is no such model.
    """
    text = str(name_or_path)
    if text in shipped_models():
        return SHIPPED / f"{text}{SUFFIX}"
    path = Path(os.path.expanduser(text))  # noqa: PTH111  (that of `Path` raises for unknown users)
    if os.path.isfile(path):  # noqa: PTH113  (False for a name that cannot be one)
        return path.absolute()
    if "/" in text or text.endswith(SUFFIX):
        problem = "is not a file" if os.path.exists(path) else "does not exist"  # noqa: PTH110
        raise ConfigError(f"{path}: {problem}. Fix: name the {SUFFIX} file of a model, or a model of this package")
    known = ", ".join(shipped_models()) or "none"
    like = difflib.get_close_matches(text, shipped_models(), n=1)
    meant = f"; did you mean {like[0]}?" if like else ""
    raise ConfigError(f"{quoted(text)}: is not a model of this package ({known}), nor a file. Fix: name one{meant}")


def shipped_models() -> list[str]:
    """Names of the models that come with this package."""
    return sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}"))


def model_digest(path: Path) -> str:
    """Digest of a model's content, equal for copies under other names.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    """
    return _digest(_content(path))


def read_model(path: Path, providers: tuple[str, ...] = (), content: str = "") -> tuple[ModelCard, Any]:
    """Open a model for work on one thread.

    Parameters
    ----------
    path
        The ONNX file.
    providers
        Execution providers of onnxruntime, such as ``CUDAExecutionProvider``, tried before the CPU.
    content
        Digest that the file must have; '' for any.

    Returns
    -------
    The card, with default values if the model has none, and the ``onnxruntime.InferenceSession``.

    Raises
    ------
    ConfigError
        If the file is not a model, changed, is larger than the free memory, or a provider is not available.
    """
    raw = _content(path)
    if content and (found := _digest(raw)) != content:
        raise ConfigError(
            f"{path}: the model changed since the run was planned (content {found}, planned {content}). "
            "Fix: put the former file back, or start the run again"
        )
    session = _session(path, raw, providers)
    return _card(path, session), session


def cuda_problem() -> str:
    """Reason why networks cannot use a GPU here; '' if they may."""
    import onnxruntime  # noqa: PLC0415  (most runs need no network)

    if CUDA in onnxruntime.get_available_providers():
        return ""
    return f"the installed onnxruntime has no {CUDA}. Fix: install onnxruntime-gpu instead of onnxruntime"


def check_providers(providers: Iterable[str]) -> None:
    """Check that the installed onnxruntime has some execution providers.

    Raises
    ------
    ConfigError
        If it lacks one.
    """
    import onnxruntime  # noqa: PLC0415  (most runs need no network)

    available = onnxruntime.get_available_providers()
    if missing := [name for name in providers if name not in available]:
        raise ConfigError(
            f"providers: onnxruntime has no {missing[0]} here, but {', '.join(available)}. Fix: install "
            "onnxruntime-gpu instead of onnxruntime, or remove 'providers'"
        )


def _content(path: Path) -> bytes:
    try:
        size, free = path.stat().st_size, psutil.virtual_memory().available
        if size > LARGEST:
            raise ConfigError(f"{path}: is no ONNX model, which has at most 2 GiB in one file. Fix: name another")
        if 2 * size > free:
            raise ConfigError(
                f"{path}: a model of {size / 2**20:,.0f} MiB does not fit the free memory of {free / 2**20:,.0f} MiB. "
                "Fix: use a smaller model, or a machine with more memory"
            )
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the model cannot be read: {error.strerror}. Fix: check path and rights") from error


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=12).hexdigest()


def _session(path: Path, raw: bytes, providers: tuple[str, ...]) -> Any:
    import onnxruntime  # noqa: PLC0415  (most runs need no network)

    check_providers(providers)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            raw, options, providers=[*providers, *({CPU} - {*providers})], enable_fallback=0
        )
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ConfigError(
            f"{path}: is not a usable ONNX model ({exception_text(error, 200)}). Fix: name another"
        ) from error
    if idle := sorted({*providers} - {*session.get_providers()}):
        raise ConfigError(f"providers: {idle[0]} does not work on this machine. Fix: use a machine with that hardware")
    return session


def _card(path: Path, session: Any) -> ModelCard:
    try:
        text = session.get_modelmeta().custom_metadata_map.get(PROPERTY)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the model's properties are damaged ({error}). Fix: copy the file again") from error
    if text is None:
        return ModelCard(name=path.stem)
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "text"
        raise ConfigError(
            f"{path}: the model's property {PROPERTY!r} is invalid: {where}: {fault['msg']}. Fix: train the model again"
        ) from error
