"""Metadata through another process: the same as in this one, and safe from crashes and hangs."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pytest
from pylibCZIrw import czi
from support.movies import as_czi, as_nd2, config, write_config
from support.processes import started, wait_until
from support.write_nd2 import write_nd2

from pyama_dask import errors
from pyama_dask.errors import MissingFrameError, SourceError
from pyama_dask.readers import isolated, open_reader, read_metadata

pytestmark = pytest.mark.usefixtures("isolated")

DATA = Path(__file__).parents[3] / "shared" / "data"


def told(info):
    return repr(info), None if info.times_min is None else info.times_min.tobytes()


def noise(*shape):
    return np.random.default_rng(0).integers(1, 250, shape).astype(np.uint16)


@pytest.mark.parametrize("suffix", ["nd2", "czi"])
def test_it_is_the_same_as_in_this_process(tmp_path, suffix):
    data = noise(2, 4, 2, 6, 7)
    path = tmp_path / f"a.{suffix}"
    if suffix == "nd2":
        as_nd2(path, data, positions=[(1, 2), (3.5, -4)])
    else:
        as_czi(path, data, skip={(1, 2, 0, 0)}, stage_positions_um=[(1, 2), (3.5, -4)])
    with open_reader(path) as reader:
        assert told(read_metadata(path)) == told(reader.metadata)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not at hand")
def test_it_is_the_same_for_real_files():
    for path in sorted(DATA.glob("real_*/*.*")):
        with open_reader(path) as reader:
            assert told(read_metadata(path)) == told(reader.metadata)


def test_this_process_does_not_load_the_package_of_the_format(small_nd2):
    code = f"import sys; from pyama_dask.readers import read_metadata; read_metadata({str(small_nd2)!r}); "
    code += "sys.exit('nd2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.fixture
def instead(tmp_path, monkeypatch):
    """Put something in place of the package that reads CZI, in the other process only."""

    def put(code):
        package = tmp_path / "instead" / "pylibCZIrw"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "czi.py").write_text(textwrap.dedent(code))
        monkeypatch.syspath_prepend(package.parent)

    return put


def test_a_crash_is_an_error_that_names_the_file(small_czi, instead):
    instead("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(SourceError, match=r"movie\.czi: reading it crashed \(signal 11, .*copy it again"):
        read_metadata(small_czi)


def test_a_hang_is_an_error_that_names_the_file(small_czi, instead):
    instead("import signal; signal.pause()")
    with pytest.raises(SourceError, match=r"movie\.czi: .* took longer than 1.5 s"):
        read_metadata(small_czi, timeout_s=1.5)


def test_what_a_package_prints_is_not_taken_for_the_answer(small_czi, instead):
    instead("import os; print('hello', flush=True); os.write(1, b'hello'); raise OSError('no')")
    with pytest.raises(RuntimeError, match="OSError: no"):
        read_metadata(small_czi)


def test_an_interrupt_of_this_process_ends_the_other(small_czi, tmp_path, instead):
    instead("import signal; signal.pause()")
    place = tmp_path / "instead"
    code = f"import sys; sys.path.insert(0, {str(place)!r}); from pyama_dask.readers import read_metadata; "
    code += f"read_metadata({str(small_czi)!r})"
    with started(sys.executable, "-c", code, stderr=subprocess.PIPE) as program:
        wait_until(psutil.Process(program.pid).children)
        family = psutil.Process(program.pid).children()
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does
        assert "KeyboardInterrupt" in program.communicate(timeout=60)[1]
    assert psutil.wait_procs(family, timeout=10)[1] == []


@pytest.mark.parametrize("name", ["a\0b.czi", "a\ud800.nd2", "a" * 300 + ".czi"])
def test_what_cannot_be_a_path_is_refused(name):
    with pytest.raises(SourceError, match=r"cannot be|no such file"):
        read_metadata(name)


@pytest.mark.parametrize("kind", ["SourceError", "UnsupportedSourceError"])
def test_errors_keep_their_class_and_message(kind):
    with pytest.raises(getattr(errors, kind), match=r"^said$"):
        isolated._answered({"error": kind, "message": "said"})


class TestFramesOfAnotherSize:
    """They are missing, by FOV and frame, and never filled up."""

    @pytest.mark.parametrize("place", [(0, 0), (3, 0)], ids=["smaller", "smaller and moved"])
    def test_czi(self, tmp_path, place):
        with czi.create_czi(str(tmp_path / "a.czi")) as document:
            for t in range(4):
                small = t == 2
                pixels = noise(4, 5, 1) if small else noise(6, 8, 1)
                document.write(pixels, plane={"T": t}, scene=0, location=place if small else (0, 0))
        with open_reader(tmp_path / "a.czi") as reader:
            fov = reader.metadata.fovs[0]
            assert (fov.shape, fov.missing) == ((6, 8), (2,))
            assert np.array_equal(reader.read_frame(0, 1)[0], noise(6, 8))
            with pytest.raises(MissingFrameError, match=r"FOV 0 .*frame 2.*has another size"):
                reader.read_frame(0, 2)

    def test_czi_mosaic(self, tmp_path):
        with czi.create_czi(str(tmp_path / "a.czi")) as document:
            for t in range(3):
                for x in (0, 4):
                    width = 2 if (t, x) == (1, 4) else 4
                    document.write(noise(6, width, 1), plane={"T": t}, scene=0, location=(x, 0))
        assert read_metadata(tmp_path / "a.czi").fovs[0].missing == (1,)

    def test_nd2_compressed(self, tmp_path):
        """The size comes out when the frame is read."""
        write_nd2(tmp_path / "a.nd2", noise(3, 40, 50), "TYX", compression="lossless")
        content = (tmp_path / "a.nd2").read_bytes()
        wider = "uiWidthBytes\0".encode("utf-16-le")
        assert wider in content
        height = "uiHeight\0".encode("utf-16-le")
        less = content.replace(height + (40).to_bytes(4, "little"), height + (30).to_bytes(4, "little"))
        assert less != content
        (tmp_path / "a.nd2").write_bytes(less)
        with (
            open_reader(tmp_path / "a.nd2") as reader,
            pytest.raises(SourceError, match="frame 1 has a different size"),
        ):
            reader.read_frame(0, 1)


def test_stamps_that_are_infinite_are_missing(tmp_path):
    as_czi(tmp_path / "a.czi", noise(1, 3, 1, 6, 7), time_offsets_s=[0, float("inf"), 120])
    info = read_metadata(tmp_path / "a.czi")
    assert np.array_equal(info.times_min, [[0, np.nan, 2]], equal_nan=True)


def test_stamps_that_jump_back_are_warned_of_by_plan(tmp_path, call):
    as_czi(tmp_path / "a.czi", noise(1, 4, 1, 40, 40), time_offsets_s=[0, 600, 300, 900])
    document = config(tmp_path / "a.czi", tmp_path / "out", {"channels": {"pc": {"channel": 0}}})
    status, out, _ = call("plan", write_config(tmp_path / "run.yaml", document))
    assert status == 0
    assert "warning: FOV 0: the time stamps do not increase (frame 2); the times of these" in out


def test_ctrl_c_of_a_terminal_never_reaches_the_process_that_reads(tmp_path):
    """Not even while it starts: the parent decides what an interrupt means."""
    movie = as_czi(tmp_path / "movie.czi", noise(1, 1, 1, 16, 16))
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "from pyama_dask.readers import read_metadata\n"
        "print('ready', flush=True)\n"
        "print(len(read_metadata(sys.argv[1]).fovs), flush=True)\n"
        "os._exit(0)\n"
    )
    with started(sys.executable, "-c", program, movie, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"

        def interrupted():
            os.killpg(process.pid, signal.SIGINT)
            return process.poll() is not None

        wait_until(interrupted)
        assert process.communicate(timeout=30) == ("1\n", None)
        assert process.returncode == 0
