"""Functions as steps of a pipeline: found by name, read by their signature, parameters checked.

A step's function is called with its data by position, and with its parameters as keywords.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import ConfigDict, TypeAdapter

from pyama_dask.config.messages import named_keys
from pyama_dask.config.pipelines import Step
from pyama_dask.config.units import many, quoted
from pyama_dask.errors import ConfigError
from pyama_dask.kernels import image_types
from pyama_dask.methods.array_types import PACKAGES, ArrayType
from pyama_dask.methods.entry_points import defined_at, nearest
from pyama_dask.methods.registry import find_method, is_plugin, method_identity

Takes = Literal["frame", "stack", "planes", "traces", "tables"]
"""One thing that a function gets: (H, W), (T, H, W), (Z, H, W), a FOV's table, or a well's tables by FOV."""
BY_AXES: Mapping[str, Takes] = {"yx": "frame", "tyx": "stack", "zyx": "planes"}
_PLAIN = (int, float, str, bool, bytes, tuple, list, set, type(None))


@dataclass(frozen=True)
class Hint:
    """Content of one annotation."""

    takes: Takes | None = None
    """None if it does not say."""
    is_labels: bool = False
    by_name: bool = False
    """True for a mapping from names to these."""
    array: ArrayType | None = None
    plain: bool = False
    """True for numbers, texts and the like, which are parameters."""


@dataclass(frozen=True)
class StepFunction:
    """Function of a step with its parameters, as its signature says.

    Parameters
    ----------
    name
        As in the config.
    function
    parameters
        Keyword arguments, checked and converted.
    identity
        Name with version or digest, for digests of results.
    data
        Names of the positional parameters that get the data; () for functions without signature.
    given
        Annotations of the data, in order.
    gives
        Annotation of the result.
    together
        True if it gets the images or tables of the step's ``of``.
    by_position
        True if it gets these one by one; False if it gets them as a mapping by name.
    """

    name: str
    function: Callable[..., Any]
    parameters: Mapping[str, Any]
    identity: str
    data: tuple[str, ...]
    given: tuple[Hint, ...]
    gives: Hint
    together: bool
    by_position: bool

    @property
    def array(self) -> ArrayType:
        """Type of array that it works on: as annotated, or as the package says that it belongs to."""
        package = str(getattr(self.function, "__module__", None) or "").partition(".")[0]
        annotated = [hint.array for hint in (*self.given, self.gives) if hint.array]
        return annotated[0] if annotated else PACKAGES.get(package, "numpy")

    @property
    def takes(self) -> Takes | None:
        """Content of its data as annotated; None if it is not."""
        return next((hint.takes for hint in self.given if hint.takes), None)

    @property
    def title(self) -> str:
        """Name, with file and line."""
        return f"{self.name}{defined_at(self.function)}"


def read_step(step: Step, where: str) -> StepFunction:
    """Find the function of a step, and check its parameters.

    Parameters
    ----------
    step
        Not one of the seven.
    where
        Pipeline and step, for messages.

    Raises
    ------
    ConfigError
        If there is no such function, it does not take the data, or a parameter is unknown, invalid or missing; the
        message names the file and line.
    """
    try:
        function = find_method("step", step.do)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    title, hints = f"{where}: {step.do}{defined_at(function)}", hints_of(function)
    signature = signature_of(function)
    data = None if signature is None else _data_parameters(step, title, signature, hints)
    given = tuple(hint_of(hints.get(name)) for name in data or ())
    parameters = dict(step.params)
    if signature is not None:
        own = {name: p for name, p in signature.parameters.items() if name not in (data or ())}
        _check_names(step, title, own, data or ())
        parameters = {name: _converted(title, name, own, hints, value) for name, value in parameters.items()}
        if not is_plugin("step", step.do):  # defaults of this package count for digests
            defaults = {name: p.default for name, p in own.items() if p.kind is p.KEYWORD_ONLY}
            parameters = {
                name: value for name, value in defaults.items() if value is not inspect.Parameter.empty
            } | parameters
    by_name = any(hint.by_name for hint in given) and not _gets_tables(step, given)
    one_by_one = bool(step.of) and not by_name and (data is None or len(data) == len(step.of))
    return StepFunction(
        step.do, function, parameters, method_identity("step", step.do), data or (), given,
        hint_of(hints.get("return")), bool(step.of), one_by_one,
    )  # fmt: skip


def gets_tables(step: Step, where: str) -> bool:
    """Check whether a step works on tables, as it says or its function is annotated; arguments as for `read_step`."""
    return _gets_tables(step, read_step(step, where).given)


def _gets_tables(step: Step, given: Sequence[Hint]) -> bool:
    return not {step.takes, *(hint.takes for hint in given)}.isdisjoint(("traces", "tables"))


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Signature of a function; None for compiled functions without one."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of a function; texts are evaluated where their names are known."""
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001  (one of them may name a type that is only imported for type checkers)
        found = dict(getattr(inspect.unwrap(function), "__annotations__", {}))
    space = vars(image_types) | getattr(inspect.unwrap(function), "__globals__", {})
    return {name: _evaluated(hint, space) for name, hint in found.items()}


def _evaluated(hint: Any, space: dict[str, Any]) -> Any:
    try:
        return eval(hint, space) if isinstance(hint, str) else hint
    except Exception:  # noqa: BLE001
        return hint


def hint_of(hint: Any) -> Hint:
    """Read an annotation.

    Parameters
    ----------
    hint
        A type, an `Annotated` type of `pyama_dask.kernels.image_types`, a mapping of these, or the text of one.
    """
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        axes = [mark for mark in marks if isinstance(mark, image_types.Axes)]
        if not axes:
            return hint_of(inner)
        return Hint(BY_AXES.get(axes[0].names), axes[0].is_labels, array=hint_of(inner).array)
    if get_origin(hint) in (Union, types.UnionType):
        return hint_of(next(part for part in get_args(hint) if part is not type(None)))
    if _is_mapping(hint):
        inner = hint_of([*get_args(hint), None][1] if get_args(hint) else None)
        return Hint("tables" if inner.takes == "traces" else inner.takes, inner.is_labels, True, inner.array)
    return _by_class(hint)


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint) or hint
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _by_class(hint: Any) -> Hint:
    """Hint of a class, or of its name as a text, such as ``da.Array`` of a package that is not imported."""
    kind = get_origin(hint) or hint
    if kind in _PLAIN:
        return Hint(plain=True)
    if isinstance(kind, str):
        package, _, name = kind.rpartition(".")
        package = {"da": "dask", "cp": "cupy", "np": "numpy", "pd": "pandas"}.get(package, package.partition(".")[0])
    else:
        package, name = str(getattr(kind, "__module__", "")).partition(".")[0], getattr(kind, "__name__", "")
    if (package, name) == ("pandas", "DataFrame"):
        return Hint("traces")
    arrays: dict[str, ArrayType] = {"numpy.ndarray": "numpy", "dask.Array": "dask", "cupy.ndarray": "cupy"}
    return Hint(array=(arrays | {"torch.Tensor": "torch"}).get(f"{package}.{name}"))


# ----------------------------------------------------------------------------------------------- parameters


def _data_parameters(step: Step, title: str, signature: inspect.Signature, hints: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the parameters that get the data: the first positional ones without default and value."""
    count = max(len(step.of), 1)
    positional = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = [p.name for p in signature.parameters.values() if p.kind is p.VAR_POSITIONAL]

    def is_data(p: inspect.Parameter) -> bool:
        return p.default is p.empty and p.name not in step.params and not hint_of(hints.get(p.name)).plain

    free = [p.name for p in takewhile(is_data, positional)] or [
        p.name for p in positional[:1] if p.name not in step.params
    ]
    if rest and len(free) < count:
        return tuple(free + rest * (count - len(free)))
    if not free:
        raise ConfigError(
            f"{title}: takes no data by position: its signature is {signature}. Fix: write it as "
            "def name(frame, *, parameter=...)"
        )
    tables = _gets_tables(step, [hint_of(hints.get(name)) for name in free])
    if not tables and (hint_of(hints.get(free[0])).by_name or count > len(free) == 1):
        return (free[0],)
    if len(free) < count:
        raise ConfigError(
            f"{title}: takes {many(len(free), 'table' if tables else 'image')} by position ({', '.join(free)}), but "
            f"'of' names {count}. Fix: name as many{'' if tables else ', or let it take one dict by name'}"
        )
    return tuple(free[:count])


def _check_names(step: Step, title: str, own: Mapping[str, inspect.Parameter], data: tuple[str, ...]) -> None:
    """Refuse unknown and missing parameters."""
    takes_any = any(p.kind is p.VAR_KEYWORD for p in own.values())
    names = [name for name, p in own.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for name in step.params:
        if name in data or (name not in names and not takes_any):
            listed = f"known are: {', '.join(names) or 'none'}{nearest(name, names)}"
            raise ConfigError(f"{title}: {quoted(name)} is not a parameter here; {listed}. Fix: correct the key")
    for name, p in own.items():
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and name not in step.params:
            raise ConfigError(f"{title}: needs a value for {name!r}. Fix: add  {name}: VALUE  to the step")


def _converted(
    title: str, name: str, own: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], value: Any
) -> Any:
    """Value of a parameter, in the type of its annotation, or else of its default if that is a tuple."""
    default = own[name].default if name in own else None
    if name not in hints or isinstance(hints[name], str):
        return tuple(value) if isinstance(default, tuple) and isinstance(value, list) else value
    if hint_of(hints[name]).array == "numpy" and isinstance(value, list):
        return np.asarray(value)
    adapter = _adapter(hints[name])
    if adapter is None:
        return value
    with named_keys(title, name):
        return adapter.validate_python(value)


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    """Check of a type; None if pydantic does not know it."""
    for settings in (None, ConfigDict(arbitrary_types_allowed=True)):
        try:
            return TypeAdapter(hint, config=settings)
        except Exception:  # noqa: BLE001  (a user's function may have any annotation)
            continue
    return None
