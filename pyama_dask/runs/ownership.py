"""Names in an output that belong to its runs: only these are overwritten and removed.

A run claims the names in the ledger before it creates them (see `Ledger.claim`), so that they are known as its own
whenever it ends. Everything else is the user's and stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pyama_dask.errors import OutputError
from pyama_dask.files.atomic import remove_below, remove_partial
from pyama_dask.plan.plan import FovPlan, Plan
from pyama_dask.runs.status import LEDGER
from pyama_dask.steps.flow import flow_of
from pyama_dask.steps.own_arrays import WELLS, is_of_well, own_arrays, own_table_file, well_table_file
from pyama_dask.steps.standard import registers
from pyama_dask.store import intermediate
from pyama_dask.store.crops import CELLS, remove_cells
from pyama_dask.store.layout import IMAGES, ArraySpec, layout, products
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.plate import LABELS, NAMES, PLATE
from pyama_dask.store.summary import summary_file
from pyama_dask.store.trace_csv import shifts_file, traces_file
from pyama_dask.workflow.graph import Graph, Part, Step
from pyama_dask.workflow.task import WORK, fov_name

_SHARD = re.compile(r"c(\.\d+){0,2}\.0\.0((_[0-9a-f]{1,16})?\.__lock)?")
"""Name of a shard, or of one that tensorstore was writing in an older version."""
_FOUND_BEFORE = re.compile(rf"{re.escape(WORK)}|positions\.(csv|png)|flat_field_ch_\d+\.tif")
"""Files in an output before its first run."""
_CELL = 10**9
"""Number with as many digits as the longest id of a cell."""


def check_output_is_ours(output: Path, config: str, *, into: bool) -> None:
    """Refuse an output directory that holds other files, but no ledger with records.

    Parameters
    ----------
    output
        The directory; need not exist. What a killed run has left in `WORK` before it recorded anything is no other
        file, nor is what 'positions' has written.
    config
        Name of the config in an output.
    into
        Whether to write beside other files, unless they are results.

    Raises
    ------
    OutputError
        If it does.
    """
    if not output.is_dir():
        return
    ledger = Ledger(output / LEDGER)
    if ledger.movie or ledger.receipts:
        return
    others = sorted(path.name for path in output.iterdir() if not _FOUND_BEFORE.fullmatch(path.name))
    if any(name == config or re.fullmatch(r"fov_\d{3,}", name) for name in others):
        raise OutputError(
            f"{output}: holds results that are not recorded in {LEDGER}, which is missing or has lost its lines. "
            "Fix: choose an empty 'output', or restore the ledger"
        )
    if others and not into:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        raise OutputError(
            f"{output}: holds other files: {', '.join(others[:5])}{more}. "
            "Fix: choose an empty 'output', or write beside them with --into (into=True)"
        )


def names_of(plan: Plan, fov: FovPlan) -> dict[str, Path]:
    """Names of a FOV's results in the output, with their paths: traces, stores of cells, groups and arrays."""
    directory = plan.job.fov_dir(fov.fov)
    specs = _specs(plan, fov)
    paths = {*folders(directory, specs), traces_file(directory, plan.job.source, fov.fov)}
    own = flow_of(plan.job.config).own
    paths |= {own_table_file(directory, plan.job.source, fov.fov, of) for of in own if not is_of_well(of)}
    paths |= {directory / name for name in CELLS.values()}
    if registers(plan.job.config):
        paths.add(shifts_file(directory, plan.job.source, fov.fov))
    paths |= _tables_of_well(plan, fov)
    return {path.relative_to(plan.job.output).as_posix(): path for path in paths}


def _tables_of_well(plan: Plan, fov: FovPlan) -> set[Path]:
    """Tables of a well that the tasks of a FOV write; those of the last one of its FOVs do."""
    if not any(task.group for task in fov.tasks):
        return set()
    job, well = plan.job, str(fov.place.get("well"))
    return {well_table_file(job.output, job.source, well, own) for own in flow_of(job.config).own if is_of_well(own)}


def check_free_names(plan: Plan, ledger: Ledger) -> None:
    """Refuse a run that would overwrite files that no run has claimed.

    Raises
    ------
    OutputError
        If there is such a file; the message names it.
    """
    for fov in plan.fovs:
        if fov.tasks and (path := _unclaimed(plan, ledger, fov)):
            raise OutputError(
                f"{path}: was not written by a run, or {LEDGER} has lost the line that says so. "
                "Fix: move it, or choose another 'output'"
            )


def _unclaimed(plan: Plan, ledger: Ledger, fov: FovPlan) -> Path | None:
    """First file with the name of a FOV's result that no run has claimed."""
    of_wells = ledger.claimed(WELLS)
    claimed = {*ledger.claims(fov.fov), *of_wells}
    others = {
        name: path
        for name, path in names_of(plan, fov).items()
        if name not in claimed and (path.exists() or path.is_symlink())
    }
    if not others:
        return None
    claimed = {*ledger.claimed(fov_name(fov.fov)), *of_wells}
    if ledger.has_fov(fov.fov) and f"{fov_name(fov.fov)}/{IMAGES}" not in claimed:
        return None  # recorded before names were claimed
    return next((path for name, path in others.items() if name not in claimed), None)


def unrecorded_images(output: Path, ledger: Ledger) -> list[str]:
    """Stores of images in an output that the ledger does not list, because it may have lost lines."""
    stores = (path.relative_to(output) for path in sorted(output.glob(f"fov_*/{IMAGES}")))
    return [
        store.as_posix()
        for store in stores
        if (found := re.fullmatch(r"fov_(\d{3,})", store.parts[0]))
        and store.as_posix() not in ledger.claimed(store.parts[0])
        and not ledger.has_fov(int(found[1]))
    ]


def longest_names(plan: Plan) -> Iterator[str]:
    """Longest names that a run creates in its output."""
    last = max((fov.fov for fov in plan.fovs), default=0)
    traces = traces_file(plan.job.fov_dir(last), plan.job.source, last)
    yield f"{traces.parent.name}/{traces.name}"
    array = f"fl_background_ch_{max(int(choice.channel) for choice in plan.job.config.channels.all)}/tiles"
    yield f"{fov_name(last)}/{IMAGES}/{array}/c.{len(plan.job.blocks)}.0.0"
    yield f"{fov_name(last)}/{CELLS['directory']}/{array}/{_CELL}/0/c.0.0.0"
    yield f"{WORK}/calibration/{WORK}/{fov_name(last)}/crops_{array.replace('/', '_')}_b{len(plan.job.blocks):03d}.npy"


def _specs(plan: Plan, fov: FovPlan) -> dict[str, ArraySpec]:
    """Arrays in all stores of a FOV."""
    return layout(plan.job, fov.tasks[0].shape) | own_arrays(plan.job, fov.tasks[0].movie_shape)


def folders(directory: Path, specs: dict[str, ArraySpec]) -> set[Path]:
    """Folders of the stores of a FOV's images, and of their groups and arrays."""
    inside = {f"{spec.store}/{name}" for spec in specs.values() for name in ("", spec.group, spec.path)}
    return {directory / name for name in (IMAGES, *inside)}


# --------------------------------------------------------------------------------------------- removal


def void(output: Path, ledger: Ledger, steps: Mapping[str, Collection[Step]]) -> None:
    """Void recorded steps, and remove the tables of wells that they have written; `discard` removes what FOVs have."""
    files = {path for key, of in steps.items() for step in of for path in ledger.task(key).files.get(step, ())}
    ledger.void(steps)
    remove_below(output, [path for path in files if path.startswith(f"{WELLS}/")])


def sweep_wells(output: Path, ledger: Ledger) -> None:
    """Remove tables of wells that are not recorded, and incomplete ones; no task may be at work."""
    claimed = set(ledger.claimed(WELLS))
    if not claimed:
        return
    remove_partial(output / WELLS)
    recorded = {path for key in ledger.groups for path in ledger.task(key).paths}
    remove_below(output, [path for path in claimed - recorded if path.startswith(f"{WELLS}/")])


def discard(plan: Plan, ledger: Ledger, fov: FovPlan) -> None:
    """Remove all results of a FOV that are not recorded, such as stale ones that were voided."""
    directory, specs = plan.job.fov_dir(fov.fov), _specs(plan, fov)
    if not (directory.exists() or plan.job.work_dir(fov.fov).exists() or ledger.claimed(PLATE)):
        return  # as in a new output
    claimed = ledger.claimed(fov_name(fov.fov))
    mine = {plan.job.output / name for name in claimed}
    recorded = {path for key in ledger.keys_of(fov.fov) for path in ledger.task(key).paths}
    unrecorded = {path for path in mine if path.relative_to(plan.job.output).as_posix() not in recorded}
    for store in unrecorded & {directory / name for name in CELLS.values()}:
        remove_cells(store)
    for path in unrecorded:
        if path.parent == directory and path.is_file():
            path.unlink()
    summary = summary_file(plan.job.work_dir(fov.fov))  # of all files between tasks, the one that others read
    if summary.relative_to(plan.job.output).as_posix() not in recorded:
        summary.unlink(missing_ok=True)
    kept = {
        spec.shard_file(directory / spec.store, block)
        for spec, block in recorded_shards(plan.graph, fov, ledger, specs)
    }
    for place in {directory / spec.store / spec.path for spec in specs.values()}:
        remove_below(place, [file.name for file in _shards(place) if file not in kept])
    wanted = folders(directory, specs)
    others = [path for path in mine - wanted if _is_in_store(path, directory) and path.is_dir()]
    for path in sorted(others, reverse=True):  # arrays before their groups
        remove_partial(path)
        files = _shards(path) if path.parent.parent.parent == directory else ()  # groups have none
        remove_below(path, ["zarr.json", *(file.name for file in files)])
    discard_from_plate(plan, ledger, fov)
    sweep(plan, fov)


def _is_in_store(path: Path, directory: Path) -> bool:
    """Check for a store of a pipeline, or a group or array of any store of images in the folder of a FOV."""
    inside = path.relative_to(directory).parts if path.is_relative_to(directory) else ()
    of_images = len(inside) > 1 and inside[0] == IMAGES
    is_of_pipeline = bool(inside) and inside[0].endswith(".zarr") and inside[0] not in (IMAGES, *CELLS.values())
    return of_images or is_of_pipeline


def discard_from_plate(plan: Plan, ledger: Ledger, fov: FovPlan) -> None:
    """Remove all pixels of a FOV from the plate that are not recorded."""
    recorded = {path for key in ledger.keys_of(fov.fov) for path in ledger.task(key).paths}
    for array in _arrays_in_plate(plan, fov) if ledger.claimed(PLATE) else ():
        place = array.relative_to(plan.job.output).as_posix()
        remove_below(array, [file.name for file in _shards(array) if f"{place}/{file.name}" not in recorded])


def _arrays_in_plate(plan: Plan, fov: FovPlan) -> list[Path]:
    """Folders of all arrays that the image of a FOV may have; none outside of wells."""
    image = plan.job.output / PLATE / fov.tasks[0].in_plate
    groups = ("", *(f"{LABELS}/{name}/" for name in NAMES.values()))
    return [image / f"{group}{level}" for group in groups for level in (0, 1)] if fov.tasks[0].in_plate else []


def recorded_shards(
    graph: Graph, fov: FovPlan, ledger: Ledger, specs: dict[str, ArraySpec]
) -> Iterator[tuple[ArraySpec, int]]:
    """Yield array and block of all shards of a plan that are recorded."""
    for task in fov.tasks:
        for step in ledger.task(task.key).done:
            if task.block is not None:
                yield from ((spec, task.block) for spec in products(specs, graph.by_kind[task.kind, step]))


def _shards(array: Path) -> Iterator[Path]:
    return (file for file in array.glob("c.*") if _SHARD.fullmatch(file.name))


def sweep(plan: Plan, fov: FovPlan) -> None:
    """Remove incomplete files of killed processes from a FOV that no process is working on."""
    job = plan.job
    directory, specs = job.fov_dir(fov.fov), _specs(plan, fov)
    in_plate = {place for array in _arrays_in_plate(plan, fov) for place in (array, array.parent, array.parents[1])}
    for folder in (directory, job.work_dir(fov.fov), *folders(directory, specs), *in_plate):
        remove_partial(folder)
    for array in (*(directory / spec.store / spec.path for spec in specs.values()), *in_plate):
        for file in _shards(array):
            if file.name.endswith(".__lock"):
                file.unlink()


def remove_temporary(plan: Plan, ledger: Ledger, fov: FovPlan) -> None:
    """Remove temporary files of a FOV, such as the parts of crops, if all that is made from them is done."""
    work = plan.job.work_dir(fov.fov)
    removed, wanted = set(intermediate.part_files(work)), set[Path]()  # also of earlier settings
    graph = plan.graph
    for part in (part for part in graph.parts.values() if part.temporary):
        recorded = (ledger.task(task.key).files.get(part.step, ()) for task in fov.stage(graph.kind_of[part.name]))
        is_made = all(_is_recorded(graph, graph.parts[made], ledger, fov) for made in graph.made_from(part.name))
        (removed if is_made else wanted).update(plan.job.output / path for paths in recorded for path in paths)
    for file in work.iterdir() if work.is_dir() else ():
        if file in removed and file not in wanted:
            file.unlink()


def _is_recorded(graph: Graph, part: Part, ledger: Ledger, fov: FovPlan) -> bool:
    """Check whether a part is recorded in all tasks of a FOV that do it."""
    tasks = [task for task in fov.stage(graph.kind_of[part.name]) if part.step in task.digests]
    return all(ledger.has(task.key, part.step, task.digests[part.step]) for task in tasks)
