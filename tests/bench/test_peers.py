"""The comparison with other programs: the loop and plain definitions, PyAMA by a stand-in, figures of agreement."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from support import reference

from bench import loop, peers, run_pyama
from bench.agreement import COLUMNS, Agreement, Results, compare, of_pyama
from bench.movies import BackAndForth, write_nd2
from bench.spent import CommandError, Spent, of_command
from pyama_dask.demo.movie import DemoMovie

FRAMES = 3


@pytest.fixture(scope="module")
def pixels():
    """One FOV of a movie (T, C, H, W)."""
    movie = DemoMovie(fovs=1, frames=FRAMES, shape=(260, 300), cells=4)
    return np.stack([[movie[0, t, c] for c in range(2)] for t in range(FRAMES)])


# ------------------------------------------------------------------------------------------------- loop


def test_the_loop_computes_what_the_plain_definitions_say(pixels, tmp_path):
    loop.process(lambda fov, t: pixels[t], 0, FRAMES, tmp_path / "fov_000")
    expected = reference.process_fov(pixels[:, 0], {1: pixels[:, 1]}, min_frames=2)
    images = zarr.open_group(tmp_path / "fov_000/images.zarr", mode="r")
    assert expected["labels"].any()
    assert np.array_equal(images["labels"][:], expected["labels"])
    assert np.array_equal(images["tracked"][:], expected["tracked"])
    assert np.array_equal(images["phase"][:], pixels[:, 0])
    np.testing.assert_allclose(images["background"][:], expected["background"][1], rtol=1e-5)
    rows, traces = pd.read_csv(tmp_path / "fov_000/traces.csv"), expected["traces"]
    assert len(rows) == len(traces) > 0
    for name in ("cell", "frame", "position_x", "bbox_y1"):
        assert np.array_equal(rows[name], traces[name])
    for name, of in {
        "area": "area_ch_0",
        "aspect_ratio": "aspect_ratio_ch_0",
        "intensity_total": "intensity_total_ch_1",
    }.items():
        np.testing.assert_allclose(rows[name], traces[of], rtol=1e-4)


def test_the_loop_stores_each_cell_in_all_frames(pixels, tmp_path):
    loop.process(lambda fov, t: pixels[t], 0, FRAMES, tmp_path / "fov_000")
    cells = zarr.open_group(tmp_path / "fov_000/cells.zarr", mode="r")
    rows = pd.read_csv(tmp_path / "fov_000/traces.csv")
    assert {int(name) for name in cells["mask"]} == set(rows.cell)
    for cell, boxes in rows.groupby("cell"):
        mask = cells[f"mask/{cell}"][:]
        assert np.array_equal(mask.sum((1, 2)), boxes.set_index("frame").area.reindex(range(FRAMES), fill_value=0))
        assert 0 < cells[f"fluorescence/{cell}"][:].max() <= 1


@pytest.mark.parametrize("suffix", ["nd2", "czi"])
def test_the_loop_reads_all_planes_of_a_movie(suffix, tmp_path):
    from pyama_dask.demo.write_czi import write_czi

    movie, path = DemoMovie(fovs=2, frames=3, shape=(64, 80), cells=1), tmp_path / f"movie.{suffix}"
    write_nd2(path, movie) if suffix == "nd2" else write_czi(path, movie, channel_names=movie.channel_names)
    with loop.opened(path) as (fovs, frames, read):
        assert (fovs, frames) == (2, 3)
        for at in np.ndindex(2, 3):
            assert np.array_equal(read(*at), [movie[(*at, channel)] for channel in range(2)])


def test_a_long_movie_runs_through_a_short_one_back_and_forth():
    short = DemoMovie(fovs=1, frames=3, shape=(32, 32), cells=1)
    long = BackAndForth(short, 6)
    assert long.shape == (1, 6, 2, 32, 32)
    for frame, same in enumerate([0, 1, 2, 1, 0, 1]):
        assert np.array_equal(long[0, frame, 0], short[0, same, 0])


# ------------------------------------------------------------------------------------------------ PyAMA

STAND_IN = {
    "io/__init__.py": """
from dataclasses import dataclass
@dataclass
class Metadata:
    base_name: str
def load_microscopy_file(path):
    return None, Metadata(path.stem)
""",
    "types/__init__.py": "",
    "types/processing.py": """
from dataclasses import dataclass
@dataclass
class ChannelSelection:
    channel: int
    features: list
@dataclass
class Channels:
    pc: ChannelSelection
    fl: list
@dataclass
class ProcessingContext:
    output_dir: object
    channels: Channels
    params: dict
""",
    "processing/__init__.py": "",
    "processing/workflow/__init__.py": """
import numpy as np
def run_complete_workflow(metadata, context, fov_start=None, fov_end=None, batch_size=2, n_workers=2):
    assert (context.channels.pc.channel, context.channels.fl[0].channel, n_workers) == (0, 1, 2)
    labels, back = np.zeros((2, 9, 9), np.uint16), np.full((2, 9, 9), 10, np.float32)
    labels[:, 2:5, 3:7] = 4
    folder = context.output_dir / "fov_000"
    folder.mkdir(parents=True)
    for name, data in {"seg_labeled_ch_0": labels, "fl_ch_1": labels + 10, "fl_background_ch_1": back}.items():
        np.save(folder / f"{metadata.base_name}_fov_000_{name}.npy", data)
    return metadata.base_name != "broken"
""",
}


@pytest.fixture
def checkout(tmp_path):
    """A stand-in for PyAMA's source: finds one square cell of grey level 4 above the background, in two frames."""
    package = tmp_path / "pyama/pyama-core/src/pyama_core"
    for name, text in {"__init__.py": "", **STAND_IN}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return tmp_path / "pyama"


def run_it(checkout: Path, movie: str = "movie.nd2") -> Path:
    """Run PyAMA in a subprocess; gives the output."""
    output = checkout.parent / "output"
    of_command([sys.executable, run_pyama.__file__, checkout, movie, output, "2"])
    return output


def test_results_of_pyama_are_read_and_its_rows_measured(checkout):
    results = of_pyama(run_it(checkout))
    assert results.labels(0, 1).sum() == 4 * 12
    assert results.rows.to_dict("records") == [
        {"fov": 0, "frame": frame, "cell": 4, "x": 5.0, "y": 3.5, "total": 48.0} for frame in range(2)
    ]


def test_older_versions_store_corrected_frames(checkout):
    output = run_it(checkout)
    raw, back = (next(output.glob(f"fov_000/*_fl_{name}.npy")) for name in ("ch_1", "background_ch_1"))
    expected = of_pyama(output).rows
    np.save(back.with_name("movie_fov_000_fl_corrected_ch_1.npy"), np.load(raw) - np.load(back))
    back.unlink()
    assert of_pyama(output).rows.equals(expected)


def test_an_output_without_labels_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no labels of PyAMA"):
        of_pyama(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("processing/workflow/__init__.py", "context, fov_start", "config, fov_start", "takes no context. Fix: extend"),
        (
            "processing/workflow/__init__.py",
            "def run_complete",
            "def run_whole",
            "no run_complete_workflow in pyama_core",
        ),
        (
            "types/processing.py",
            "class ProcessingContext",
            "class ProcessingConfig",
            "no ProcessingContext in pyama_core",
        ),
        (
            "io/__init__.py",
            "from dataclasses",
            "import not_installed\nfrom dataclasses",
            "no module 'not_installed'. Fix: ins",
        ),
    ],
)
def test_a_different_api_is_named(checkout, file, old, new, said):
    path = checkout / "pyama-core/src/pyama_core" / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(CommandError, match=said):
        run_it(checkout)


def test_an_incomplete_run_of_pyama_is_an_error(checkout):
    with pytest.raises(CommandError, match="PyAMA did not complete all FOVs"):
        run_it(checkout, "broken.nd2")


def test_channels_of_older_versions_are_numbers(checkout, monkeypatch):
    path = checkout / "pyama-core/src/pyama_core/types/processing.py"
    path.write_text(
        path.read_text().replace("class ChannelSelection:", "class Selection:").replace(": ChannelS", ": S")
    )
    workflow = path.parents[1] / "processing/workflow/__init__.py"
    text = workflow.read_text()
    workflow.write_text(
        text.replace(
            "context.channels.pc.channel, context.channels.fl[0].channel", "context.channels.pc, *context.channels.fl"
        )
    )
    assert of_pyama(run_it(checkout)).rows.shape == (2, 6)


def test_a_folder_without_pyama_is_refused_before_anything_is_measured(tmp_path, capsys):
    with pytest.raises(SystemExit, match=f"{tmp_path}: has no package pyama_core.*'pyama' on PyPI is another project"):
        peers.main(["--pyama", str(tmp_path)])


def test_the_interpreter_of_pyama(checkout, monkeypatch):
    monkeypatch.delenv("PYAMA_PYTHON", raising=False)
    assert peers.interpreter_of(checkout) == Path(sys.executable)
    inside = checkout / ".venv/bin/python"
    inside.parent.mkdir(parents=True)
    inside.touch()
    assert peers.interpreter_of(checkout) == inside
    monkeypatch.setenv("PYAMA_PYTHON", "/opt/python")
    assert peers.interpreter_of(checkout) == Path("/opt/python")


# -------------------------------------------------------------------------------------------- agreement


def results(labels: np.ndarray, totals: dict[int, float], shift: float = 0.0) -> Results:
    """Results of one FOV from a stack of labels, with a row for each total, by cell, in all frames."""
    rows = [
        (0, t, cell, np.nonzero(plane == cell)[1].mean() + shift, np.nonzero(plane == cell)[0].mean(), total * (t + 1))
        for t, plane in enumerate(labels)
        for cell, total in totals.items()
    ]
    return Results(lambda fov, frame: labels[frame], pd.DataFrame(rows, columns=COLUMNS))


@pytest.fixture
def labels():
    """Two cells of 40 pixels in two frames."""
    stack = np.zeros((2, 20, 40), np.uint16)
    stack[:, 2:6, 2:12], stack[:, 10:14, 20:30] = 1, 2
    return stack


def test_a_result_agrees_with_itself_under_other_numbers(labels):
    other = np.array([0, 7, 3], np.uint16)[labels]
    found = compare(results(labels, {1: 100.0, 2: 300.0}), results(other, {7: 100.0, 3: 300.0}), 1, 2)
    assert found == Agreement(1.0, 1.0, 1.0, 1.0, pytest.approx(1.0), 0.0, 1.0)


def test_shares_of_pixels_objects_and_rows(labels):
    other = labels.copy()
    other[:, 2:6, 2:7] = 0  # half of the first cell
    other[other == 2] = 0
    found = compare(results(labels, {1: 100.0, 2: 300.0}), results(other, {1: 110.0}, shift=-2.5), 1, 2)
    assert found.foreground == pytest.approx(1 - 60 / 800)
    assert (found.iou, found.found) == (pytest.approx(0.25), 0.5)
    assert (found.matched, found.difference, found.whole) == (0.5, pytest.approx(0.1), 1.0)


def test_rows_beyond_reach_do_not_match_and_tracks_may_break(labels):
    one, other = results(labels, {1: 1.0, 2: 2.0}), results(labels, {1: 1.0, 2: 2.0}, shift=5.5)
    assert compare(one, other, 1, 2).matched == 0
    other = results(labels, {1: 1.0, 2: 2.0})
    other.rows.loc[3, "cell"] = 9
    assert compare(one, other, 1, 2).whole == 0.5


def test_without_rows_figures_of_traces_are_nan(labels):
    found = compare(results(labels, {1: 1.0}), results(labels, {}), 1, 2)
    assert np.isnan([found.matched, found.correlation, found.difference, found.whole]).all()
    assert found.foreground == 1


# ------------------------------------------------------------------------------------------------ table


def test_the_table_has_ratios_beside_targets():
    costs = [Spent(2, 1, 0, 2.0, 300 << 20), Spent(8, 1, 0, 10.0, 400 << 20), Spent(50, 10, 0, 36.0, 3 << 30)]
    agreements = [Agreement(1, 1, 1, 1, 1, 0, 1), Agreement(0.99, 0.9, 0.98, np.nan, np.nan, np.nan, np.nan)]
    rows = {row[0]: row[1:] for row in peers.table(["ours", "loop", "PyAMA, 2 threads"], costs, agreements)}
    assert rows["CPU time, user + system"] == ("3.0 s", "9.0 s, 3.0 times", "60.0 s, 20.0 times (target 20)")
    assert rows["wall time"] == ("2.0 s", "10.0 s, 5.0 times", "36.0 s, 18.0 times (target 18)")
    assert rows["peak memory, PSS of all processes"] == ("300 MiB", "400 MiB", "3072 MiB")
    assert rows["pixels with equal foreground"] == ("", "100.000%", "99.000%")
    assert rows["correlation of total intensities"] == ("", "1.000000", "no rows")


@pytest.mark.slow
def test_the_whole_comparison_with_a_stand_in(checkout, tmp_path, monkeypatch, capsys):
    movie = write_nd2(tmp_path / "movie.nd2", DemoMovie(fovs=1, frames=2, shape=(300, 300), cells=4))
    monkeypatch.setenv("BENCH_MOVIE", str(movie))
    workflow = checkout / "pyama-core/src/pyama_core/processing/workflow/__init__.py"
    workflow.write_text(workflow.read_text().replace("(2, 9, 9)", "(2, 300, 300)"))
    peers.main(["--pyama", str(checkout), "--repeats", "1"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    figures = {line[0].strip("| "): line[1:] for line in lines}
    assert figures["pixels with equal foreground"][1] == "100.000%"
    assert figures["traces that are one trace in the other"][1] == "100.0%"
    assert figures["pixels with equal foreground"][2] != "100.000% |"
    assert "times (target 20)" in figures["CPU time, user + system"][2]
