"""Compilation of the kernels: once, in two processes, before workers start, which then load the compiled code."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from pyama_dask.config.models import Config
from pyama_dask.kernels import compiled
from pyama_dask.kernels.first_calls import BACKWARDS, DRIFT, EVERY_RUN, FILL_GAPS, FORWARDS, KERNELS, PLATE, SCORES
from pyama_dask.steps.standard import fills_gaps, makes_plate, registers
from pyama_dask.workflow.task import digest

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "pyama_dask.kernels.first_calls")
"""Compiles; the order, types of pixels and names of kernels follow."""
TITLES = {PLATE: "halving", SCORES: "scores", FILL_GAPS: "filling of gaps", EVERY_RUN: "what every run needs"}
"""Names for users of kernels that are not called after a method or step."""
GLANCE = 0.1
"""Seconds between checks of the subprocesses that compile."""


def kernels_for(config: Config) -> set[str]:
    """Names in `KERNELS` of what a run with a resolved config calls."""
    params = config.params
    steps = {step.do for pipeline in config.pipelines for step in pipeline.steps}
    chosen = {params.segmentation_method, params.tracking_method, *steps} & set(KERNELS)
    settings = {FILL_GAPS: fills_gaps(config), DRIFT: registers(config), PLATE: makes_plate(config)}
    return {EVERY_RUN, *chosen, *(name for name, wanted in settings.items() if wanted)}


def compile_kernels(
    types: Collection[str], names: Collection[str], say: Callable[[str], None], cancel: threading.Event
) -> None:
    """Compile kernels unless they are cached; of several runs that start together, one compiles.

    Parameters
    ----------
    types
        Of pixels, such as ``uint16``.
    names
        Keys of `KERNELS`.
    say
        Is told what takes a while.
    cancel
        Set it to end early.
    """
    folder = compiled.cache_folder()
    if folder is None:
        say(
            "No folder can keep compiled code, so each worker compiles for about half a minute. "
            "Fix: set NUMBA_CACHE_DIR to a folder that can be written to"
        )
        return
    missing = _missing(folder, types, names)
    if not missing:
        return
    say(_what_is_compiled(missing))
    try:
        with _turn(folder, cancel):
            if not cancel.is_set() and (missing := _missing(folder, types, names)):
                _compile(missing, cancel)
                for wanted in [] if cancel.is_set() else missing:
                    _stamp(folder, wanted).touch()
    except OSError as error:  # workers compile for themselves then
        log.warning("the kernels could not be compiled beforehand: %s", error)


def _what_is_compiled(missing: Sequence[str]) -> str:
    """Say what is compiled, by the names that configs have for it, and that it takes a while."""
    types, names = ({one.split("/")[part] for one in missing} for part in (0, 1))
    methods = sorted(names - TITLES.keys())
    what = [*methods, *(title for name, title in TITLES.items() if name in names)]
    which = f"{_listed(what)} for {_listed(sorted(types))} pixels"
    return f"Compiling {which}; later runs load the result. This takes 10 to 30 s"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _missing(folder: Path, types: Collection[str], names: Collection[str]) -> list[str]:
    """Types of pixels with names of kernels that are not known to be compiled."""
    wanted = [f"{dtype}/{name}" for dtype in sorted(types) for name in sorted(names)]
    return [one for one in wanted if not _stamp(folder, one).exists()]


def _stamp(folder: Path, wanted: str) -> Path:
    """File that marks the present kernels as compiled for this machine's processor."""
    sources = [(file.name, *file.stat()[6:9:2]) for file in sorted(Path(compiled.__file__).parent.glob("*.py"))]
    return folder / f"compiled-{digest(wanted, compiled.target(), sys.version, sources)}"


@contextmanager
def _turn(folder: Path, cancel: threading.Event) -> Iterator[None]:
    """Wait until no other run compiles, or until this one is cancelled."""
    with (folder / "compiling").open("a") as file:
        while not cancel.is_set():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                cancel.wait(GLANCE)
            else:
                break
        yield


def _compile(wanted: list[str], cancel: threading.Event) -> None:
    """Compile in two subprocesses that meet in the middle.

    Raises
    ------
    OSError
        If one fails; the message says how.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(place or os.curdir for place in sys.path)}
    with ExitStack() as stack:
        started: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        for order in (FORWARDS, BACKWARDS)[: os.cpu_count()]:
            errors: IO[bytes] = stack.enter_context(TemporaryFile())
            process = subprocess.Popen(
                [*COMMAND, order, *wanted], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                env=environment,
            )  # fmt: skip
            started.append((stack.enter_context(process), errors))
        for process, said in started:
            _wait(process, cancel)
            if process.returncode and not cancel.is_set():
                said.seek(0)
                raise OSError(said.read().decode(errors="replace")[-2000:])


def _wait(process: subprocess.Popen[bytes], cancel: threading.Event) -> None:
    while True:
        try:
            process.wait(GLANCE)
        except subprocess.TimeoutExpired:
            if cancel.is_set():
                process.kill()
        else:
            return
