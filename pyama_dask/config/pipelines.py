"""Pipelines of the config: steps by name, before, between and after the seven.

pipelines:
  - name: prepare
    steps:
      - {do: flat_field, channels: all, profile: estimate}
      - {do: "dask_image.ndfilters:gaussian_filter", sigma: [0, 1, 1], channels: [GFP]}
  - name: cells
    input: prepare
    steps: seven
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SerializerFunctionWrapHandler, StrictInt, model_serializer
from pydantic import model_validator as validates_model

from pyama_dask.config.base import Model
from pyama_dask.config.fov_selection import WellSelection
from pyama_dask.config.function_names import named
from pyama_dask.config.units import NeedOfGpu, Selection, Whole
from pyama_dask.errors import PlanError

SEVEN = ("copy", "segment", "track", "background", "crop", "extract", "cache")
"""The steps that turn frames into traces, in their order."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
"""Name of a pipeline, a step, an image or a table; it becomes part of the names of files."""
ChannelName = Annotated[StrictInt, Field(ge=0)] | str
"""A channel by index or name, or an image that a step before has made."""


def _as_list(value: Any) -> Any:
    """Take one value for a list of one."""
    return (value,) if isinstance(value, str | int) and value != "all" else value


ChannelNames = Annotated[Literal["all"] | tuple[ChannelName, ...], BeforeValidator(_as_list)]


class Found(Model):
    """Properties of a step that planning a run has found; users do not write them."""

    takes: Literal["frame", "stack", "planes", "traces", "tables"]
    """Data that its function gets, for each of its images."""
    per: Literal["frame", "stack", "fov", "well"]
    """Extent of one call."""
    gives: Literal["image", "labels", "images", "table"]
    array: Literal["numpy", "dask", "cupy", "torch"] = "numpy"
    """Type of the arrays that it gets."""
    names: tuple[str, ...] = ()
    """Names by which the function gets its images, one for each of `Step.of`."""
    given: tuple[tuple[str, str, tuple[int, int] | None], ...] = ()
    """Images that it gives, for each call, or each name of the mapping that it returns: that name or '', the pixel
    type, and the shape (H, W) if it is not that of what it gets."""
    columns: tuple[str, ...] = ()
    """Columns of the table that it gives."""
    texts: tuple[str, ...] = ()
    """Those of them that hold text."""
    dtypes: tuple[str, ...] = ()
    """Pixel types of the movie's chosen channels, phase contrast first."""
    planes: int = 0
    """Planes of a frame of the movie, if a step of the first pipeline gets all of them; else 0."""
    fovs: str = "all"
    """FOVs that the step is done for; all others keep their images, and get no rows."""


class Step(Model):
    """One step of a pipeline: a function, what it is applied to, and what its result becomes.

    All keys that are not listed here are parameters of the function. In Python, the function may be given itself:
    ``Step(my_function, channels=["GFP"], sigma=2)`` equals ``Step(do="my_module:my_function", ...)``.
    """

    do: str = Field(description="a built-in step, module:function, or file.py:function")
    name: Name | None = Field(None, description="name in files and reports; the function's name if it is left out")
    channels: ChannelNames = Field("all", description="images that the function is applied to, one by one")
    of: Annotated[tuple[ChannelName, ...], BeforeValidator(_as_list)] = Field(
        (), description="images that the function gets together, as a dict by name; or tables, one by one"
    )
    to: Name | None = Field(
        None, description="name of the new image or table; 'traces' for new columns; left out, images are replaced"
    )
    takes: Literal["frame", "stack", "planes", "traces", "tables"] | None = Field(
        None, description="what the function gets; left out, its signature says it"
    )
    over: Literal["z"] | None = Field(None, description="z: the function gets all planes of a frame, and gives one")
    halo: Whole | None = Field(None, description="frames before and after a block that the function looks into")
    source: Literal["previous", "start"] = Field(
        "previous", description="previous: images as the step before left them; start: as the pipeline got them"
    )
    wells: WellSelection = Field("all", description="of a plate: wells that the step is done for")
    sites: Selection = Field("all", description="of a plate: sites that the step is done for")
    checkpoint: bool = Field(default=False, description="true: the images that the step gives are written")
    gpu: NeedOfGpu | None = Field(
        None, description="1: on workers with a GPU; optional: if there are any; off; left out: as the function says"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the function")
    found: Found | None = Field(None, description="what planning has found out about it; not for users")

    def __init__(self, do: str | Callable[..., Any] | None = None, /, **keys: Any) -> None:
        given = {} if do is None else {"do": named(do)}
        super().__init__(**given, **keys)

    @validates_model(mode="before")
    @classmethod
    def _gather_parameters(cls, given: Any) -> Any:
        """Put keys that are not a step's own into `params`."""
        if isinstance(given, str):  # a step of the seven, or a function without parameters
            return {"do": given}
        if not isinstance(given, dict):
            return given
        own = {key: value for key, value in given.items() if key in cls.model_fields}
        further = {key: value for key, value in given.items() if key not in own}
        return own | ({"params": {**own.get("params", {}), **further}} if further else {})

    @validates_model(mode="after")
    def _one_way_to_name_images(self) -> Self:
        if self.of and self.channels not in ("all", ()):  # which is empty in resolved configs
            raise ValueError(
                f"{self.do}: has both 'channels' and 'of'. Fix: use 'channels' for images that it gets one by one, "
                "and 'of' for images that it gets together"
            )
        return self

    @validates_model(mode="after")
    def _standard_without_keys(self) -> Self:
        fields = type(self).model_fields
        given = [key for key, of in fields.items() if key != "do" and getattr(self, key) != of.get_default()]
        given = [key for key in given if key != "params" or self.params]
        if self.is_standard and given:
            keys = ", ".join(self.params if given == ["params"] else given)
            raise ValueError(
                f"{self.do}: is one of the seven steps, and takes no keys here ({keys}). "
                "Fix: set its parameters in 'params' and 'channels' of the config"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `gpu` where it is not set, as in plans of older versions."""
        written: dict[str, Any] = serialize(self)
        return {key: value for key, value in written.items() if key != "gpu" or value is not None}

    @property
    def is_on_gpu(self) -> bool:
        """True if it is done on workers with a GPU, if there are any; of a resolved step."""
        return self.gpu in (1, "optional")

    @property
    def is_standard(self) -> bool:
        """True for one of the seven; ``crop`` with parameters is the step that cuts frames."""
        return self.do in SEVEN and not (self.do == "crop" and self.params)

    @property
    def planned(self) -> Found:
        """Properties that planning the run has found; raises `PlanError` for steps of a config that is not resolved."""
        if self.found is None:
            raise PlanError(f"step {self.title}: no run was planned with it. Fix: plan the run first")
        return self.found

    @property
    def title(self) -> str:
        """Name of the step: the given one, else that of the function."""
        return self.name or re.sub(r"\W", "_", self.do.rpartition(":")[2])


def _seven(value: Any) -> Any:
    return tuple(SEVEN) if value == "seven" else value


class Pipeline(Model):
    """Steps in sequence, on the images of the movie or of another pipeline."""

    name: Name = Field(description="name in files and reports")
    input: Name | None = Field(None, description="pipeline whose images this one gets; left out, those of the movie")
    steps: Annotated[tuple[Step, ...], BeforeValidator(_seven)] = Field(
        description="seven, or a list of steps, which may have the seven by name among them"
    )

    def __init__(self, name: str | None = None, steps: str | Sequence[Any] | None = None, /, **keys: Any) -> None:
        given = {key: value for key, value in (("name", name), ("steps", steps)) if value is not None}
        super().__init__(**given, **keys)

    @validates_model(mode="after")
    def _has_steps(self) -> Self:
        if not self.steps:
            raise ValueError(f"pipeline {self.name!r} has no step. Fix: name at least one, or 'steps: seven'")
        given = [step.name for step in self.steps if step.name]
        if twice := next((name for name in given if given.count(name) > 1), None):
            raise ValueError(
                f"pipeline {self.name!r} has two steps named {twice!r}. Fix: give each its own 'name', or none"
            )
        standard = [step.do for step in self.steps if step.is_standard]
        if standard and tuple(standard) != SEVEN:
            raise ValueError(
                f"pipeline {self.name!r} has {', '.join(standard)} of the seven steps. Fix: name all seven in this "
                f"order, or none: {', '.join(SEVEN)}"
            )
        return self

    @property
    def has_seven(self) -> bool:
        """True if it has the seven steps."""
        return any(step.is_standard for step in self.steps)


def in_sequence(pipelines: tuple[Pipeline, ...]) -> tuple[Pipeline, ...]:
    """Check that pipelines have different names, and that each takes its input from one before it.

    Raises
    ------
    ValueError
        If they have not, or if several have the seven steps.
    """
    names: list[str] = []
    for pipeline in pipelines:
        if pipeline.name in names:
            raise ValueError(f"two pipelines are named {pipeline.name!r}. Fix: give each its own name")
        if pipeline.input is not None and pipeline.input not in names:
            before = ", ".join(names) or "none"
            raise ValueError(
                f"pipeline {pipeline.name!r} has the input {pipeline.input!r}, which is not a pipeline before it. "
                f"Fix: name one of those before it ({before})"
            )
        names.append(pipeline.name)
    with_cells = [pipeline.name for pipeline in pipelines if pipeline.has_seven]
    if len(with_cells) > 1:
        raise ValueError(
            f"pipelines {' and '.join(with_cells)} have the seven steps, whose results have one place only. "
            "Fix: give them to one pipeline, and run another config for the other"
        )
    return pipelines


Pipelines = Annotated[tuple[Pipeline, ...], AfterValidator(in_sequence)]
"""Pipelines in sequence."""
