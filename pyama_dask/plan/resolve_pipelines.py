"""Resolution of pipelines for a movie: images by name, what functions take and give, and the FOVs of a step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from pyama_dask.config.flat_fields import FLAT_FIELD
from pyama_dask.config.models import Config, Params
from pyama_dask.config.pipelines import Found, Pipeline, Step
from pyama_dask.config.units import NeedOfGpu, as_ranges, many, parse_selection
from pyama_dask.errors import ConfigError
from pyama_dask.methods.device import needs_of
from pyama_dask.methods.halos import halo_of
from pyama_dask.methods.made_images import ImageType
from pyama_dask.methods.registry import BUILT_IN, gpu_problem
from pyama_dask.methods.step_contract import Contract, tried
from pyama_dask.methods.step_functions import gets_tables
from pyama_dask.plan.check_labels import check_replaced
from pyama_dask.plan.find_fovs import find_fovs
from pyama_dask.plan.resolve_tables import Tables
from pyama_dask.readers import Metadata
from pyama_dask.steps.flow import DRIFT, LABELS, TRACKED

NUMBERS = ("int", "uint", "float", "bool")
"""Beginnings of the types of columns that hold no text."""


@dataclass(frozen=True)
class Given:
    """An image as a step gets it."""

    kind: ImageType
    planes: int = 0
    """Planes of a frame; 0 for frames without an axis z."""


Names = dict[str, Given]


def resolve_pipelines(config: Config, metadata: Metadata) -> tuple[Pipeline, ...]:
    """Fit the pipelines of a config to a movie.

    Parameters
    ----------
    config
        With channels by index.
    metadata
        Of the movie.

    Returns
    -------
    Pipelines whose steps name their images, have all parameters, and what was found out about their functions.

    Raises
    ------
    ConfigError
        If an image, well or function does not exist, or a function does not fit; the message names pipeline and step.
    """
    chosen = parse_selection(config.params.fovs)
    shapes = {metadata.fovs[fov].shape for fov in chosen}
    found = _Resolution(config, metadata, max(shapes, key=prod)).pipelines()
    if len(shapes) > 1 and (own := next((own for own in _changing(found)), None)):
        raise ConfigError(
            f"pipelines: step {own!r} changes the size of frames, and the FOVs of {metadata.path.name} have different "
            "sizes. Fix: choose FOVs of one size with params.fovs"
        )
    return found


def _changing(pipelines: Iterable[Pipeline]) -> Iterator[str]:
    """Yield the steps that give images of another shape."""
    for step in (step for pipeline in pipelines for step in pipeline.steps if step.found):
        if step.found and any(shape is not None for _, _, shape in step.found.given):
            yield step.title


@dataclass
class _Resolution:
    """Images by name as they go through the pipelines."""

    config: Config
    metadata: Metadata
    shape: tuple[int, int]
    """(H, W) of the largest FOV."""

    def __post_init__(self) -> None:
        self._tables = Tables(self.config, self.metadata)

    def pipelines(self) -> tuple[Pipeline, ...]:
        """Resolve all pipelines, in sequence."""
        ends: dict[str, Names] = {}
        found = []
        for pipeline in self.config.pipelines:
            start = ends[pipeline.input] if pipeline.input else self._movie
            resolved, ends[pipeline.name] = self._through(pipeline, start)
            found.append(resolved)
        return tuple(found)

    @property
    def planes(self) -> int:
        """Planes of a frame, if a step gets all of them; else 0."""
        over = any(step.over == "z" for pipeline in self.config.pipelines for step in pipeline.steps)
        return self.metadata.z_planes if over else 0

    @property
    def _movie(self) -> Names:
        channels = [int(choice.channel) for choice in self.config.channels.all]
        return {str(k): self._image(self.metadata.channels[k].dtype, planes=self.planes) for k in channels}

    def _image(self, dtype: str, *, is_labels: bool = False, planes: int = 0) -> Given:
        return Given(ImageType(self.shape, dtype, is_labels), planes)

    def _through(self, pipeline: Pipeline, start: Names) -> tuple[Pipeline, Names]:
        now, steps, standard = dict(start), list[Step](), ""
        self._tables.begin(pipeline)
        for step in pipeline.steps:
            where = f"pipelines.{pipeline.name}.{step.title}"
            if step.is_standard:
                now |= self._after(step.do, now, where)
                standard = step.do
                steps.append(step)
            elif step.do == FLAT_FIELD:
                steps.append(step)
            else:
                resolved, given = self._resolve(step, start if step.source == "start" else now, where)
                kinds = {name: image.kind for name, image in given.items()}
                check_replaced(resolved, kinds, now[LABELS].kind if LABELS in now else None, standard, where)
                now |= given
                if LABELS in given:  # numbered again
                    now[LABELS] = self._image("uint16", is_labels=True)
                steps.append(resolved)
        return pipeline.model_copy(update={"steps": tuple(steps)}), now

    def _after(self, standard: str, now: Names, where: str) -> Names:
        """Images that one of the seven steps gives."""
        if standard == "copy":
            if deep := [name for name, given in now.items() if given.planes]:
                raise ConfigError(
                    f"{where}: channel {self._title(deep[0])} still has {now[deep[0]].planes} planes. "
                    "Fix: add a step 'over: z' for it before, such as {do: max_projection, over: z}"
                )
            self.shape = next(iter(now.values())).kind.shape
            return {str(int(choice.channel)): self._image("uint16") for choice in self.config.channels.all}
        if self.config.channels.pc is None or self.config.params.copy_only:
            return {}
        made = {"segment": (LABELS, "uint16"), "track": (TRACKED, "uint32")}.get(standard)
        return {made[0]: self._image(made[1], is_labels=True)} if made else {}

    def _resolve(self, step: Step, now: Names, where: str) -> tuple[Step, Names]:
        """Step with its images, parameters and contract, and the images that it gives."""
        step = self._with_by(step, now, where) if step.do == DRIFT else step
        of_tables, fovs = gets_tables(step, where), self._fovs(step, where)
        channels, of = self._images(step, now, where) if not (of_tables and step.of) else ((), tuple(map(str, step.of)))
        calls = [] if of_tables else [of] if of else [(name,) for name in channels]
        self._check_images(step, now, [name for names in calls for name in names], where)
        contracts = [self._contract(step, now, names, fovs, where) for names in calls or [()]]
        contract = contracts[0]
        self._check_planes(step, now, calls, contract, where)
        if step.to and len(calls) > 1 and contract.gives != "table":
            raise ConfigError(
                f"{where}: gives {step.to!r} of {len(calls)} images. Fix: choose one with 'channels', or leave out "
                "'to', so that each image is replaced"
            )
        self._tables.add(step, contract, calls, fovs, where)
        self._check_names([step.to, *(of for one in contracts for of in one.images)], contract, where)
        found = Found(
            takes=contract.takes, per=contract.per, gives=contract.gives, array=contract.array,
            names=tuple(self._title(name) for name in of), columns=tuple(contract.columns),
            texts=tuple(name for name, of in contract.columns.items() if not of.startswith(NUMBERS)),
            given=tuple(of for names, one in zip(calls, contracts, strict=False) for of in _given(now[names[0]], one)),
            dtypes=tuple(given.kind.dtype for given in self._movie.values()), planes=self.planes,
            fovs=fovs,
        )  # fmt: skip
        if found.fovs != "all" and any(shape for _, _, shape in found.given):
            raise ConfigError(
                f"{where}: changes the size of frames, but only in some wells or sites. "
                "Fix: leave out 'wells' and 'sites', or run another config for the others"
            )
        resolved = step.model_copy(
            update={
                "channels": channels, "of": of, "halo": contract.halo, "params": dict(contract.function.parameters),
                "found": found, "wells": "all", "sites": "all", "gpu": _gpu(step, contract, where),
            }
        )  # fmt: skip
        planes = 0 if step.over == "z" or not calls else now[calls[0][0]].planes
        names = [key or step.to or names[0] for names, one in zip(calls, contracts, strict=False) for key in one.images]
        kinds = [kind for one in contracts for kind in one.images.values()]
        return resolved, {name: Given(kind, planes) for name, kind in zip(names, kinds, strict=True)}

    def _with_by(self, step: Step, now: Names, where: str) -> Step:
        """Step `DRIFT` with the name of the image in which the drift is measured."""
        pc = self.config.channels.pc
        given = step.params.get("by", None)
        if given is None and pc is not None:
            given = pc.channel
        if given is None:
            raise ConfigError(
                f"{where}: there is no phase contrast to measure the drift in. Fix: name a channel with 'by'"
            )
        name = self._name(given, now, where)
        if now[name].planes or now[name].kind.is_labels:
            what = many(now[name].planes, "plane") if now[name].planes else "labels"
            raise ConfigError(
                f"{where}: the drift cannot be measured in {self._title(name)!r}, which has {what}. "
                "Fix: add a step 'over: z' for it before, or name another image with 'by'"
            )
        return step.model_copy(update={"params": {**step.params, "by": name}})

    def _contract(self, step: Step, now: Names, names: Sequence[str], fovs: str, where: str) -> Contract:
        """Contract of a step for the images of one call, or for tables of its FOVs."""
        kinds = {self._title(name): now[name].kind for name in names}
        return tried(step, where, kinds or None, halo_of=halo_of, tables=self._tables.of_fovs(fovs))

    def _check_images(self, step: Step, now: Names, names: Sequence[str], where: str) -> None:
        """Refuse images that are not to be told apart, labels as grey levels, and planes beside none."""
        titles = [self._title(name) for name in names]
        if double := next((title for title in titles if titles.count(title) > 1), None):
            raise ConfigError(
                f"{where}: gets several images named {double!r}, which it could not tell apart. "
                "Fix: let it get one of them"
            )
        labels = [title for title, name in zip(titles, names, strict=True) if now[name].kind.is_labels]
        if labels and step.do in BUILT_IN["step"] and step.do != "crop":
            raise ConfigError(
                f"{where}: works on grey levels, and would make new ids of the labels {labels[0]!r}. "
                "Fix: use a function of your own for labels"
            )
        flat = [title for title, name in zip(titles, names, strict=True) if not now[name].planes]
        if step.over == "z" and flat:
            raise ConfigError(
                f"{where}: gets all planes of a frame, but {flat[0]!r} has one only. "
                "Fix: leave out 'over', or put the step before the one that makes one plane"
            )
        if step.of and flat and len(flat) < len(names):
            raise ConfigError(
                f"{where}: gets images with several planes and with one ({flat[0]!r}) together. "
                "Fix: make one plane of the others before, with a step 'over: z'"
            )

    def _check_planes(
        self, step: Step, now: Names, calls: Sequence[Sequence[str]], contract: Contract, where: str
    ) -> None:
        """Refuse tables of frames with planes, and several images of several calls."""
        deep = [name for names in calls for name in names if now[name].planes]
        if deep and step.over != "z" and contract.gives == "table":
            raise ConfigError(
                f"{where}: gets {self._title(deep[0])!r}, whose frames have {now[deep[0]].planes} planes. "
                "Fix: add a step 'over: z' for it before, such as {do: max_projection, over: z}"
            )
        if contract.gives == "images" and len(calls) > 1:
            names = ", ".join(contract.images)
            raise ConfigError(
                f"{where}: gives several images ({names}) of each of {len(calls)} channels. "
                "Fix: choose one channel with 'channels', and repeat the step for others, in which its images have "
                "other names"
            )

    def _check_names(self, names: Iterable[str | None], contract: Contract, where: str) -> None:
        """Refuse names of new images that others have: it would not be clear which one later steps get."""
        channels = {self._title(str(int(choice.channel))) for choice in self.config.channels.all}
        for name in names if contract.gives != "table" else ():
            if name in channels:
                raise ConfigError(
                    f"{where}: names an image {name!r}, as a channel is named. Fix: choose another name; to replace "
                    "the channel, leave out 'to', name it in 'channels', and return one image"
                )

    # ------------------------------------------------------------------------------------------ names

    def _images(self, step: Step, now: Names, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the images that a function gets one by one, and together."""
        if step.takes in ("traces", "tables"):
            return (), ()
        if step.of:
            return (), tuple(self._name(of, now, where) for of in step.of)
        if step.channels == "all":
            return tuple(name for name, given in now.items() if not given.kind.is_labels), ()
        return tuple(self._name(of, now, where) for of in step.channels), ()

    def _name(self, given: int | str, now: Mapping[str, Given], where: str) -> str:
        """Name of an image, from a channel by index or name, or the name that a step gave it."""
        titles = {self._title(name): name for name in now}
        if str(given) in now:
            return str(given)
        if given in titles:
            if sum(self._title(name) == given for name in now) > 1:
                raise ConfigError(f"{where}: several channels are named {given!r}. Fix: choose one by its number")
            return titles[str(given)]
        known = ", ".join(titles)
        like = difflib.get_close_matches(str(given), titles, n=1)
        meant = f"; did you mean {like[0]}?" if like else ""
        raise ConfigError(f"{where}: there is no image {given!r} here. Fix: choose one of {known}{meant}")

    def _title(self, name: str) -> str:
        """Name of a channel as users know it."""
        return self.metadata.channels[int(name)].name if name.isdigit() else name

    def _fovs(self, step: Step, where: str) -> str:
        """FOVs that a step is done for."""
        if step.wells == "all" and step.sites == "all":
            return step.found.fovs if step.found else "all"
        try:
            return as_ranges(find_fovs(Params(wells=step.wells, sites=step.sites), self.metadata))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error


def _gpu(step: Step, contract: Contract, where: str) -> NeedOfGpu | None:
    """Decide whether a step is done on workers with a GPU: as the config says, else as its function does."""
    needs = needs_of(contract.function.function, where)
    gpu = step.gpu or (None if needs.gpu == "off" else needs.gpu)
    if gpu in (None, "off"):
        return gpu
    if contract.per in ("fov", "well"):
        raise ConfigError(f"{where}.gpu: is {gpu}, but functions of tables use no GPU. Fix: set it to off")
    if problem := gpu_problem("step", step.do):
        raise ConfigError(f"{where}.gpu: is {gpu}, but {problem}")
    return gpu


def _given(got: Given, contract: Contract) -> list[tuple[str, str, tuple[int, int] | None]]:
    """Name, pixel type and changed shape of the images that a call gives."""
    return [
        (name, kind.dtype, None if kind.shape == got.kind.shape else kind.shape)
        for name, kind in contract.images.items()
    ]
