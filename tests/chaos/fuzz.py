"""Configs and movie files damaged at random: each either works, or is refused with an error of our own."""

from __future__ import annotations

import copy
import random
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from support.movies import as_czi, as_nd2, config
from support.strategies import movie

from chaos.read_frames import REFUSED
from chaos.table import Table
from pyama_dask.config.load import load_config
from pyama_dask.errors import PyamaError
from pyama_dask.plan.plan import make_plan
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers import read_metadata

REAL = Path(__file__).parents[3] / "shared" / "data"
LARGEST = 2**20
"""Bytes of a real file that is damaged; larger ones would only take longer."""


class TooLong(BaseException):
    """A case that hangs; nothing that is tested may take it for an error of its own."""


@dataclass
class Fuzzed:
    """What came of the cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    """What should not have happened, with seed and number of the case that does it again."""

    def note(self, outcome: str, finding: str | None) -> None:
        self.outcomes[outcome] += 1
        if finding is not None:
            self.findings.append(f"{outcome}: {finding}")


# ---------------------------------------------------------------------------------------------- configs

ODD: Sequence[Any] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**90, 0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"),
    "", " ", "0", "all", "0-1", "0-99999999999", "1e3", "\0", "a\0b", "..", "/", "\u202e", "é" * 300, "x" * 9000,
    "max", "auto", "off", "local", "no_such:f", "json:loads", ":", "a:", ":b", "x.py:f", "2GiB", "1" * 400 + "GiB",
    [], [[]], [None], [0, "1-2"], [True], {}, {"": 1}, {"a": {"b": {}}}, {0: 1.0}, {-1: 0}, {"0": "x"}, {True: 1},
)  # fmt: skip
TOKENS = (
    b": ", b"- ", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"!!int ", b"<<: ", b"\n", b"\t", b"'", b'"', b"#", b"|\n",
    b"0", b"\xff", b"\0", b"---\n", b"? ", b"%", b"@", b"\xe2\x80\xa8", b"2001-01-01", b".inf", b"0x", b"1:2:3", b"=",
)  # fmt: skip


def fuzz_configs(cases: int, seed: int, limit_s: float = 20.0) -> Fuzzed:
    """Plan runs with damaged configs, in this process; each has seconds after which it counts as a hang."""
    found = Fuzzed()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "run.yaml"
        for case in range(cases):
            path.write_bytes(_damaged_config(random.Random(f"{seed} {case}")))
            outcome, said = _outcome(partial(_plan, path), limit_s)
            again = f"fuzz_configs seed {seed} case {case}: {said}"
            found.note(outcome, None if outcome in ("works", "refused") else again)
    return found


def _plan(path: Path) -> None:
    metadata = movie()
    make_plan(resolve(load_config(path), metadata), metadata, "id", 2**34)


def _outcome(act: Callable[[], None], limit_s: float) -> tuple[str, str]:
    try:
        with _limited(limit_s), warnings.catch_warnings(action="ignore"):
            act()
    except PyamaError as error:
        said = str(error)
        return ("refused", said) if len(said) < 10_000 else ("message too long", said[:200])
    except TooLong as error:
        return "hangs", str(error)
    except Exception as error:  # noqa: BLE001  (which one it is, is what is asked)
        return type(error).__name__, str(error)[:300]
    return "works", ""


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def ring(_number: int, _frame: object) -> None:
        raise TooLong(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _damaged_config(draw: random.Random) -> bytes:
    document = config(Path("movie.nd2"), Path("out"))
    for _ in range(draw.choice((0, 1, 1, 2))):
        _change(document, draw)
    content = bytearray(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())
    if draw.random() < 0.4:
        for _ in range(draw.randint(1, 5)):
            at = draw.randrange(len(content) + 1)
            content[at : at + draw.choice((0, 0, 1, 5))] = draw.choice(TOKENS) * draw.choice((1, 1, 2, 999))
    return bytes(content)


def _change(document: dict[str, Any], draw: random.Random) -> None:
    """Put something odd in some place, below it, or beside it."""
    inner: Any = document
    while True:
        key = draw.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        if not isinstance(inner[key], dict | list) or not inner[key] or draw.random() < 0.3:
            break
        inner = inner[key]
    odd = copy.deepcopy(draw.choice(ODD))
    if isinstance(inner, dict) and draw.random() < 0.2:
        known = (
            "params",
            "fovs",
            "frames",
            "z",
            "time_mapping",
            "workers",
            "memory",
            "address",
            "dashboard",
            "storage",
        )
        inner[draw.choice((*known, 5, None, True, 1.5))] = odd
    else:
        inner[key] = odd


# ---------------------------------------------------------------------------------------------- readers


def fuzz_readers(
    cases: int, seed: int, *, data: Path = REAL, metadata_s: float = 30.0, frames_s: float = 60.0, at_once: int = 2
) -> Fuzzed:
    """Read damaged movies: metadata through the guard, then some frames in a process of their own.

    A file that takes longer than `metadata_s`, or crashes the guarded process, is refused as it should be.
    """
    found = Fuzzed()
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(at_once) as pool:
        real = (path for path in sorted(data.glob("real_*/*.*")) if path.stat().st_size <= LARGEST)
        sources = [(path.read_bytes(), path.suffix) for path in (*_small_movies(Path(place)), *real)]

        def one(case: int) -> tuple[str, str | None]:
            draw = random.Random(f"{seed} {case}")
            content, suffix = draw.choice(sources)
            path = Path(place) / f"case{case}{suffix}"
            path.write_bytes(_damaged(content, draw))
            try:
                outcome, finding = _read(path, metadata_s, frames_s)
            finally:
                path.unlink()
            return (
                outcome,
                None if finding is None else f"fuzz_readers seed {seed} case {case} {path.suffix}: {finding}",
            )

        for outcome, finding in pool.map(one, range(cases)):
            found.note(outcome, finding)
    return found


def _small_movies(place: Path) -> list[Path]:
    pixels = np.random.default_rng(0).integers(1, 999, (2, 3, 2, 20, 24)).astype(np.uint16)
    return [
        as_nd2(place / "plain.nd2", pixels),
        as_nd2(place / "packed.nd2", pixels, compression="lossless"),
        as_czi(place / "plain.czi", pixels),
        as_czi(place / "packed.czi", pixels, compression="zstd1:ExplicitLevel=2"),
        as_czi(place / "mosaic.czi", pixels, tile_shape=(10, 24)),
    ]


def _read(path: Path, metadata_s: float, frames_s: float) -> tuple[str, str | None]:
    try:
        read_metadata(path, metadata_s)
    except PyamaError as error:
        said = str(error)
        kinds = {"crashed (signal": "metadata crash, reported", "took longer than": "metadata hang, reported"}
        outcome = next((kind for words, kind in kinds.items() if words in said), "metadata refused")
        return outcome, None if str(path) in said else said
    except Exception as error:  # noqa: BLE001
        return type(error).__name__, str(error)[-600:]
    command = [sys.executable, str(Path(__file__).with_name("read_frames.py")), str(path)]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=frames_s, check=False)
    except subprocess.TimeoutExpired:
        return "frames hang", f"took more than {frames_s} s"
    if ended.returncode < 0:  # as a worker that dies; the run goes on without it
        return f"frames crash (signal {-ended.returncode})", None
    outcomes = {0: "works", REFUSED: "frames refused"}
    if ended.returncode not in outcomes:
        return "frames fail", ended.stderr.decode(errors="replace")[-600:]
    return outcomes[ended.returncode], None


def _damaged(content: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4))):
        _damage(damaged, draw)
    return bytes(damaged)


def _damage(content: bytearray, draw: random.Random) -> None:
    def somewhere() -> int:
        """Place in the head or the tail, where most of the structure is, or anywhere."""
        size, near = len(content), min(len(content), 16384)
        return draw.choice((draw.randrange(near), size - 1 - draw.randrange(near), draw.randrange(size)))

    at, length = somewhere(), draw.choice((1, 8, 64, 512, 4096))
    kind = draw.choice(("flip", "flip", "zero", "cut", "double", "swap", "magnify", "magnify"))
    if kind == "flip":
        for place in (somewhere() for _ in range(draw.randint(1, 30))):
            content[place] ^= 1 << draw.randrange(8)
    elif kind == "zero":
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif kind == "cut":
        del content[max(16, at) :]
    elif kind == "double":
        content[at:at] = content[at : at + length]
    elif kind == "swap":
        other = somewhere()
        content[at : at + length], content[other : other + length] = (
            content[other : other + length], content[at : at + length],
        )  # fmt: skip
    else:
        at -= at % 4
        large = draw.choice((2**31 - 1, 2**31, 2**32 - 1, 10**6, 65536, 2**24))
        content[at : at + 4] = large.to_bytes(4, "little")


# ---------------------------------------------------------------------------------------------- at length


def measure(_: Path, cases: int = 1000) -> Table:
    """So many damaged configs, and as many damaged movies."""
    table = Table(("fuzzed", "cases", "what came of them", "hangs, tracebacks"))
    for what, found in (("configs", fuzz_configs(cases, seed=1)), ("movies", fuzz_readers(cases, seed=1))):
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in found.outcomes.most_common())
        table.rows.append((what, found.outcomes.total(), outcomes, len(found.findings)))
        table.problems += found.findings
    return table
