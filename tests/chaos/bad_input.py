"""Bad input of every kind we know: how it is made, how it is given to the program, and what the message must say."""

# ruff: noqa: E501  (a table is read by its lines)

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pylibCZIrw import czi
from support.movies import as_czi, as_nd2, config, listing, write_config

from chaos.table import Table

MOVIE = "movie.czi"


@dataclass(frozen=True)
class BadInput:
    """One kind of bad input."""

    name: str
    make: Callable[[Path], list[str]]
    """Makes the input in a directory that holds a good ``movie.czi``, ``movie.nd2`` and ``run.yaml``; gives what
    follows ``pyama-dask`` on the command line."""
    says: tuple[str, ...]
    """Words that the message must have."""


def noise(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 250, shape).astype(dtype)


def furnish(directory: Path) -> None:
    """Put a good movie of each format and a good config into a directory."""
    data = noise(2, 4, 2, 40, 48)
    as_czi(directory / MOVIE, data)
    as_nd2(directory / "movie.nd2", data)
    write_config(directory / "run.yaml", config(Path(MOVIE), Path("out")))


# ------------------------------------------------------------------------------------------------ movies


def _movie(name: str, content: Callable[[Path], bytes | None]) -> Callable[[Path], list[str]]:
    """Inspect a file with bytes that are made from the good movie of its format."""

    def make(directory: Path) -> list[str]:
        path = directory / name
        made = content(directory / f"movie{path.suffix}")
        if made is not None:
            path.write_bytes(made)
        return ["inspect", name]

    return make


def _cut(part: float) -> Callable[[Path], bytes]:
    return lambda good: good.read_bytes()[: int(good.stat().st_size * part)]


def _replaced(old: bytes, new: bytes, count: int = -1) -> Callable[[Path], bytes]:
    def content(good: Path) -> bytes:
        before = good.read_bytes()
        assert old in before
        return before.replace(old, new, count)

    return content


def _xml(text: str) -> Callable[[Path], bytes]:
    """Other XML metadata, written past the checks of pylibCZIrw."""

    def content(good: Path) -> bytes:
        raw = bytearray(good.read_bytes())
        start = raw.rindex(b"ZISRAWMETADATA")
        size = struct.unpack_from("<i", raw, start + 32)[0]
        at = start + 32 + 256
        raw[at : at + size] = text.encode().ljust(size)[:size]
        return bytes(raw)

    return content


def _other_kind(make: Callable[[Path], Any], name: str) -> Callable[[Path], list[str]]:
    def made(directory: Path) -> list[str]:
        make(directory / name)
        return ["inspect", name]

    return made


def _planned(name: str, make: Callable[[Path], None]) -> Callable[[Path], list[str]]:
    """Process a movie of which only the first channel is chosen."""

    def made(directory: Path) -> list[str]:
        make(directory / name)
        changes = {"channels": {"pc": {"channel": 0}}}
        write_config(directory / "run.yaml", config(Path(name), Path("out"), changes))
        return ["run", "run.yaml"]

    return made


def _float_nd2(path: Path) -> None:
    data = noise(1, 2, 1, 20, 24).astype(np.float32)
    data[0, 0, 0, :2] = np.nan
    data[0, 1, 0, :2] = np.inf
    as_nd2(path, data)


def _planes(*planes: tuple[Mapping[str, int], np.ndarray], scene: int | None = 0) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with czi.create_czi(str(path)) as document:
            for where, pixels in planes:
                document.write(pixels if pixels.ndim == 3 else pixels[..., np.newaxis], plane=dict(where), scene=scene)

    return write


def _huge_loop(good: Path) -> bytes:
    """Say that there are 2^31 of each thing of which there are four, as of the frames."""
    count = "uiCount\0".encode("utf-16-le")
    return _replaced(count + struct.pack("<I", 4), count + struct.pack("<I", 2**31))(good)


def _size_of_frames(key: str, value: int) -> Callable[[Path], bytes]:
    name = f"{key}\0".encode("utf-16-le")

    def content(good: Path) -> bytes:
        raw = bytearray(good.read_bytes())
        at = raw.index(name)
        while at >= 0:
            struct.pack_into("<I", raw, at + len(name), value)
            at = raw.find(name, at + 1)
        return bytes(raw)

    return content


MOVIES = [
    BadInput("nd2 absent", _movie("a.nd2", lambda _: None), ("a.nd2", "no such file")),
    BadInput("czi absent", _movie("a.czi", lambda _: None), ("a.czi", "no such file")),
    BadInput("below a file", lambda _: ["inspect", "run.yaml/a.czi"], ("a.czi", "no such file")),
    BadInput("no name", lambda _: ["inspect", ""], ("is a directory", "Fix: pass the movie in it")),
    BadInput("name too long", lambda _: ["inspect", "a" * 300 + ".czi"], ("cannot be opened",)),
    BadInput("other suffix", _movie("a.xyz", lambda _: b"II*\0"), ("a.xyz", "not a movie", ".nd2 or .czi")),
    BadInput("start of a TIFF file", _movie("a.tif", lambda _: b"II*\0"), ("a.tif", "cannot be read")),
    BadInput("nd2 empty", _movie("a.nd2", lambda _: b""), ("a.nd2", "is empty")),
    BadInput("czi empty", _movie("a.czi", lambda _: b""), ("a.czi", "is empty")),
    BadInput("nd2 of text", _movie("a.nd2", lambda _: b"Dear reader, " * 99), ("a.nd2", "is not a ND2 file")),
    BadInput("czi of text", _movie("a.czi", lambda _: b"Dear reader, " * 99), ("a.czi", "is not a CZI file")),
    BadInput("directory", _other_kind(Path.mkdir, "a.czi"), ("a.czi", "is a directory")),
    BadInput("fifo", _other_kind(os.mkfifo, "a.nd2"), ("a.nd2", "a pipe or a device")),
    BadInput("symlink to itself", _other_kind(lambda p: p.symlink_to(p), "a.czi"), ("a.czi", "cannot be opened")),
    BadInput("symlink to nothing", _other_kind(lambda p: p.symlink_to("none"), "a.czi"), ("a.czi", "no such file")),
    BadInput(
        "nd2 named czi",
        _movie("a.czi", lambda good: good.with_suffix(".nd2").read_bytes()),
        ("a.czi", "is not a CZI file", "under its own name"),
    ),
    BadInput(
        "czi named nd2",
        _movie("a.nd2", lambda good: good.with_suffix(".czi").read_bytes()),
        ("a.nd2", "is not a ND2 file", "under its own name"),
    ),
    *(
        BadInput(f"{suffix} cut at {part}", _movie(f"a.{suffix}", _cut(part)), (f"a.{suffix}", "copy it again"))
        for suffix in ("nd2", "czi")
        for part in (0.002, 0.2, 0.5, 0.8, 0.99)
    ),
    BadInput("nd2 with zeros at its end", _movie("a.nd2", lambda good: good.read_bytes() + bytes(100)), ("a.nd2",)),
    BadInput("nd2 of billions of frames", _movie("a.nd2", _huge_loop), ("a.nd2", "planes. Fix: copy it again")),
    BadInput("nd2 of no height", _movie("a.nd2", _size_of_frames("uiHeight", 0)), ("a.nd2",)),
    BadInput("nd2 without components", _movie("a.nd2", _size_of_frames("uiComp", 0)), ("a.nd2",)),
    BadInput(
        "nd2 without attributes", _movie("a.nd2", _replaced(b"ImageAttributesLV!", b"ImageAttributesXX!")), ("a.nd2",)
    ),
    BadInput("czi with broken XML", _movie("a.czi", _xml("<ImageDocument><Metadata>")), ("a.czi", "damaged")),
    BadInput("czi with a binary XML", _movie("a.czi", _xml("\1\2\3\4")), ("a.czi", "damaged")),
    BadInput("czi without images", _other_kind(_planes(), "a.czi"), ("a.czi", "holds no images")),
    BadInput(
        "czi of billions of frames",
        _other_kind(_planes(({"T": 0}, noise(6, 7)), ({"T": 2**30}, noise(6, 7))), "a.czi"),
        ("a.czi", "planes"),
    ),
    BadInput("czi of colours", _other_kind(_planes(({}, noise(6, 7, 3, dtype=np.uint8))), "a.czi"), ("a.czi", "grey")),
    BadInput(
        "czi with channels of two sizes",
        _other_kind(_planes(({"C": 0}, noise(6, 7)), ({"C": 1}, noise(3, 4))), "a.czi"),
        ("a.czi", "of a different size"),
    ),
    BadInput("nd2 of float with NaN", _planned("a.nd2", _float_nd2), ("a.nd2", "float32 pixels", "16-bit")),
    BadInput(
        "czi of float with NaN",
        _planned("a.czi", _planes(({"T": 0}, np.full((6, 7), np.nan, np.float32)))),
        ("a.czi", "float32 pixels", "16-bit"),
    ),
]

# ----------------------------------------------------------------------------------------------- configs


def _text(content: str | bytes) -> Callable[[Path], list[str]]:
    def make(directory: Path) -> list[str]:
        (directory / "run.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["run", "run.yaml"]

    return make


def _changed(key: str, value: Any) -> Callable[[Path], list[str]]:
    def make(directory: Path) -> list[str]:
        write_config(directory / "run.yaml", config(Path(MOVIE), Path("out"), {key: value}))
        return ["run", "run.yaml"]

    return make


def _set(*changes: str) -> Callable[[Path], list[str]]:
    return lambda _: ["run", "run.yaml", *(word for change in changes for word in ("--set", change))]


def _plugin(code: str | None, name: str = "plug.py:f") -> Callable[[Path], list[str]]:
    def make(directory: Path) -> list[str]:
        if code is not None:
            (directory / "plug.py").write_text(code)
        changes = {"params.segmentation_method": name, "params.segmentation_params": {}}
        write_config(directory / "run.yaml", config(Path(MOVIE), Path("out"), changes))
        return ["run", "run.yaml"]

    return make


GOOD = yaml.safe_dump(config(Path(MOVIE), Path("out")), sort_keys=False)
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}, *a{k - 1}]\n" for k in range(1, 60))
YAML = "run.yaml: is not a YAML config"

CONFIGS = [
    BadInput("key twice", _text(GOOD + "output: other\n"), (YAML, "'output'", "twice")),
    BadInput("inner key twice", _text("params: {fovs: 0, z: 1, fovs: 1}\n"), (YAML, "'fovs'", "twice")),
    BadInput("number twice as a key", _text("params: {time_mapping: {1: 0, 0x1: 9}}\n"), (YAML, "'0x1'", "twice")),
    BadInput("billion laughs", _text(LAUGHS), (YAML, "the alias '*a0'")),
    BadInput("holds itself", _text("params: &p {tracking_params: *p}\n"), (YAML, "the alias '*p'")),
    BadInput("file of 2 MiB", _text("# " + "x" * 2**21), (YAML, "2097154 bytes")),
    BadInput("deep brackets", _text("a: " + "[" * 200_000), (YAML, "50 levels")),
    BadInput("deep braces", _text("a: " + "{a: " * 50_000), (YAML, "50 levels")),
    BadInput("deep keys", _text("\n".join(" " * k + "a:" for k in range(500))), (YAML, "50 levels")),
    BadInput("python object", _text("input: !!python/object/apply:os.getcwd []\n"), (YAML, "tag")),
    BadInput("other tag", _text("input: !movie a.nd2\n"), (YAML, "tag", "plain values")),
    BadInput("not UTF-8", _text(b"input: \xff\xfe\n"), (YAML, "UTF-8")),
    BadInput("NUL in the text", _text(b"input: a\0b\n"), (YAML,)),
    BadInput("list at the top", _text("- a\n- b\n"), ("run.yaml", "must hold keys")),
    BadInput("nothing", _text(""), ("run.yaml", "must hold keys")),
    BadInput("no keys but text", _text("a movie\n"), ("run.yaml", "must hold keys")),
    BadInput("key that is a list", _text("? [a, b]\n: 1\n"), (YAML, "not text")),
    BadInput("key that is a number", _changed("params.5", 1), ("params.5", "is not a key here")),
    BadInput("key that is true", _text(GOOD + "yes: 1\n"), ("run.yaml",)),
    BadInput("date that is none", _text(GOOD + "when: 2024-13-45\n"), (YAML, "month")),
    BadInput("number of 5000 digits", _text(GOOD + f"seed: {'9' * 5000}\n"), (YAML, "a number of 5000 characters")),
    BadInput("value of a megabyte", _text("input: " + "a" * 10**6), (YAML, "a value of 1000000 characters")),
    BadInput("two documents", _text(GOOD + "---\na: 1\n"), (YAML,)),
    BadInput("config that is a movie", lambda _: ["run", MOVIE], (f"{MOVIE}: is a movie", f"run 'pyama-dask init {MOVIE}'")),
    BadInput("config that is a directory", lambda _: ["run", "."], ("is neither a config nor the output of a run",)),
    BadInput(
        "config that is a fifo",
        lambda directory: [os.mkfifo(directory / "pipe"), ["run", "pipe"]][1],  # type: ignore[list-item]
        ("pipe", "cannot be read as a config"),
    ),
    BadInput("FOVs beyond counting", _changed("params.fovs", "0-99999999999"), ("params.fovs", "more than 1,000,000")),
    BadInput("FOVs by overlapping ranges", _changed("params.fovs", ",".join(["0-99999"] * 99)), ("more than 1,000,000",)),
    BadInput("FOV of 99 digits", _changed("params.fovs", "9" * 99), ("params.fovs", "must be 'all'")),
    BadInput("list with a huge number", _changed("params.frames", [0, 10**90]), ("params.frames", "must be 'all'")),
    BadInput("--fovs beyond counting", lambda _: ["run", "run.yaml", "--fovs", "0-9999999"], ("params.fovs", "more than")),
    BadInput("--fovs without any", lambda _: ["run", "run.yaml", "--fovs", ""], ("params.fovs", "must be 'all'")),
    BadInput("date for a movie", _text(GOOD.replace(f"input: {MOVIE}", "input: 2024-01-01")), ("input",)),
    BadInput("infinite weight", _changed("params.background_weight", float("inf")), ("params.background_weight",)),
    BadInput("negative padding", _changed("params.crop_padding", -1), ("params.crop_padding", "-1")),
    BadInput("true for a number", _changed("params.crop_padding", True), ("params.crop_padding", "not true or false")),
    BadInput("true for a parameter", _changed("params.tracking_params.min_frames", True), ("min_frames", "not true or")),
    BadInput("padding of 10^30", _changed("params.crop_padding", 10**30), ("params.crop_padding", "less than or equal")),
    BadInput("2 billion workers", _changed("cluster.workers", 2 * 10**9), ("cluster.workers", "less than or equal")),
    BadInput("times that fall", _changed("params.time_mapping", {0: 9.0, 1: 1.0}), ("params.time_mapping", "increase")),
    BadInput("time of 1e300", _changed("params.time_mapping", {0: 1e300}), ("params.time_mapping", "less than or equal")),
    BadInput("time of another frame", _changed("params.time_mapping", {99: 1.0}), ("params.time_mapping", "frame 99")),
    BadInput("thousand unknown keys", _text(GOOD + "".join(f"k{k}: 1\n" for k in range(999))), ("... and 979 more",)),
    BadInput("input is output", _changed("output", MOVIE), ("'input' and 'output' are the same path",)),
    BadInput("input is output in other words", _changed("output", f"././{MOVIE}"), ("are the same path",)),
    BadInput("output is a file", _changed("output", "run.yaml"), ("run.yaml", "choose another 'output'")),
    BadInput("output below a file", _changed("output", "run.yaml/out"), ("run.yaml", "choose another 'output'")),
    BadInput("empty input", _changed("input", ""), ("input", "is empty")),
    BadInput("empty output", _changed("output", "  "), ("output", "is empty")),
    BadInput("NUL in the output", _changed("output", "a\0b"), ("output", "NUL")),
    BadInput("output with a name of 300 letters", _changed("output", "a" * 300), ("output", "longer than a path")),
    BadInput("number for an output", _set("output=5"), ("output",)),
    BadInput("--set without value", _set("params.fovs"), ("--set params.fovs", "KEY=VALUE")),
    BadInput("--set without key", _set("=1"), ("''", "is not a key")),
    BadInput("--set with a key that has a gap", _set("a..b=1"), ("'a..b'", "is not a key")),
    BadInput("--set __class__", _set("__class__=1"), ("__class__: is not a key here",)),
    BadInput("--set below a list", _set("channels.fl.0=1"), ("channels.fl.0", "give the list whole")),
    BadInput("--set no YAML", _set("params.fovs=[1"), ("--set params.fovs=[1", "is not YAML")),
    BadInput("--set with a tag", _set("params.fovs=!!python/name:os.system x"), ("--set", "tag")),
    BadInput("--set a deep list", _set("params.fovs=" + "[" * 999), ("--set", "50 levels")),
    BadInput("--set a key twice", _set("params={fovs: 0, fovs: 1}"), ("--set", "twice")),
    BadInput("method of no module", _plugin(None, "no_such_module_here:f"), ("no_such_module_here", "cannot be loaded")),
    BadInput("method of no file", _plugin(None), ("plug.py:f", "cannot be loaded")),
    BadInput("method that is not there", _plugin("x = 1\n"), ("plug.py:f", "cannot be loaded")),
    BadInput("method that is no function", _plugin("f = 1\n"), ("plug.py:f", "is not a function")),
    BadInput("method that raises", _plugin("1 / 0\n"), ("plug.py:f", "ZeroDivisionError")),
    BadInput("method that exits", _plugin("import sys; sys.exit(0)\n"), ("plug.py:f", "SystemExit")),
    BadInput("method with wrong syntax", _plugin("def f(:\n"), ("plug.py:f", "SyntaxError")),
    BadInput("method without a signature", _plugin("f = dict\n"), ("params.segmentation_params", "cannot be read")),
    BadInput(
        "method with types of its own",
        _plugin("class A: ...\ndef f(frame, *, a: A = None): return frame\n"),
        ("params.segmentation_params", "cannot be read"),
    ),
]  # fmt: skip

BAD_INPUT = [*MOVIES, *CONFIGS]


# ------------------------------------------------------------------------------------------ all of them, at length

PATIENCE = 60.0
"""Seconds after which a program that was given bad input is taken to hang."""


def measure(folder: Path) -> Table:
    """Give each to the program in a process of its own."""
    furnish(good := folder / "good")
    table = Table(("bad input", "kinds", "refused with one message", "tracebacks", "hangs", "files written"))
    found: Counter[str] = Counter()
    for number, bad in enumerate(BAD_INPUT):
        here = Path(shutil.copytree(good, folder / str(number)))
        faults = refused(bad, here)
        found.update(faults or ["right"])
        table.problems += [f"{bad.name}: {fault}" for fault in faults]
    for what, kinds in (("movies", MOVIES), ("configs and options", CONFIGS)):
        table.rows.append((what, len(kinds), "", "", "", ""))
    counts = (found[what] for what in ("right", "a traceback", "a hang", "files were written"))
    table.rows.append(("all", len(BAD_INPUT), *counts))
    return table


def refused(bad: BadInput, here: Path) -> list[str]:
    """What is not as it must be in how the program refuses a bad input."""
    arguments = on_cwd(here, bad)
    before = listing(here)
    command = [sys.executable, "-m", "pyama_dask.cli", *arguments]
    try:
        ended = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return ["a hang"]
    wrong = {
        "a traceback": "Traceback" in ended.stderr,
        f"status {ended.returncode}": ended.returncode != 2,
        "not one message": ended.stderr.count("pyama-dask: ") != 1 or not ended.stderr.startswith("pyama-dask: "),
        f"other words: {ended.stderr[:300]}": not all(words in ended.stderr for words in bad.says),
        "files were written": {name for name in listing(here) if "__pycache__" not in name} != before,
    }
    return [what for what, is_so in wrong.items() if is_so]


def on_cwd(here: Path, bad: BadInput) -> list[str]:
    """Make a bad input, which may count on being where it is made."""
    was = Path.cwd()
    os.chdir(here)
    try:
        return bad.make(here)
    finally:
        os.chdir(was)
