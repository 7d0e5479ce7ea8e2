"""Several movies in one config: on the same workers without a pause between them, each with its own output."""

import io
import json
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import yaml
from distributed import Client
from rich.console import Console
from support.configs import PLAIN
from support.movies import config, differences, products, put_in_wells, write_config
from support.strategies import movie, plan_of

import pyama_dask
from pyama_dask.cli.movies_display import MoviesDisplay
from pyama_dask.cli.text import describe_status
from pyama_dask.config.load import as_config, read_document
from pyama_dask.errors import ConfigError, OutputError, PlanError, SourceError
from pyama_dask.execute.workers import Workers
from pyama_dask.launch import start
from pyama_dask.runs import driver, run_workers
from pyama_dask.runs.bars import bars_html
from pyama_dask.runs.final_page import final_pages
from pyama_dask.runs.movies import MovieRun, exit_status, run_several
from pyama_dask.runs.progress import MoviesTally
from pyama_dask.runs.refused import note_refused, read_refused
from pyama_dask.runs.several import alike, configs_of, with_failures
from pyama_dask.runs.status import RunReport

FEW = {"params.fovs": "0", "params.frames": "0-5"}


@pytest.fixture
def movies(tmp_path, small_czi):
    """Two movies with other names, and a broken one between them."""
    folder = tmp_path / "night"
    folder.mkdir()
    for name in ("a.czi", "movie.czi"):
        shutil.copy(small_czi, folder / name)
    (folder / "b.czi").write_bytes(b"no movie")
    return folder


def several(movies, output, changes=None):
    return config("", output, {"input": [str(movie) for movie in movies]} | (changes or {}))


def silent(*_):
    return nullcontext({"progress": False})


def test_one_broken_movie_harms_no_other(call, movies, finished, tmp_path):
    path = write_config(tmp_path / "run.yaml", config("night/*.czi", "results"))
    status, said, error = call("run", path)
    assert status == 3
    assert [line for line in error.splitlines() if line.startswith("Movie ")] == [
        f"Movie {k} of 3: {movies / name}" for k, name in enumerate(("a.czi", "b.czi", "movie.czi"), 1)
    ]
    ending = said.splitlines()[said.splitlines().index("3 movies: 2 complete, 1 not") :]
    assert len(ending) == 2
    assert ending[1].startswith(f"  b.czi: refused: {movies / 'b.czi'}: ")
    assert said.count("refused") == 1
    assert sorted(output.name for output in (tmp_path / "results").iterdir()) == [".pyama_dask", "a", "movie"]
    assert not differences(products(tmp_path / "results" / "movie"), products(finished))
    status, said, _ = call("status", tmp_path / "results")
    assert (status, said.count("2 FOVs done")) == (0, 2)
    found = json.loads(call("status", tmp_path / "results", "--json")[1])
    assert [document.get("input") for document in found] == [str(movies / "a.czi"), None, str(movies / "movie.czi")]
    why = found[1].pop("refused")
    assert why.startswith(f"refused: {movies / 'b.czi'}: ")
    assert found[1] == {"output": str(tmp_path / "results" / "b"), "fovs": []}
    assert f"{tmp_path / 'results' / 'b'}: {why}\n" in said
    note_refused(tmp_path / "results", {"movie": "refused: it is dark"})
    (_, _, again) = json.loads(call("status", tmp_path / "results", "--json")[1])
    assert again == found[2] | {"refused": "refused: it is dark"}
    assert describe_status(again) == f"{describe_status(found[2])}\n  refused: it is dark"
    note_refused(tmp_path / "results", {"movie": ""})
    status, said, _ = call("run", path, "--retry-failed")
    assert (status, said.count("Nothing to do: 2 FOVs done"), said.count("warning: no FOV has failed\n")) == (0, 2, 2)
    status, said, _ = call("run", path, "--set", f'input=["{movies}/a.czi", "{movies}/movie.czi"]')
    assert (status, said.count("Nothing to do: 2 FOVs done"), "2 movies: all complete" in said) == (0, 2, True)


def test_they_share_the_workers(movies, tmp_path, cluster, monkeypatch):
    started = []

    @contextmanager
    def once(*_):
        with Client(cluster) as client:
            started.append(Workers(client, owned=True))
            yield started[-1]
        started.append("closed")

    monkeypatch.setattr(start, "_started", once)
    monkeypatch.setattr(run_workers, "dask_report", lambda *_: nullcontext())
    document = several([movies / "a.czi", movies / "movie.czi"], tmp_path / "out", FEW | {"cluster.kind": "local"})
    for one in run_several(configs_of(document), silent, threading.Event()):
        assert one.report.exit_status == 0
        assert len(started) == 1
    assert started[1:] == ["closed"]
    assert len(products(tmp_path / "out" / "a")) == len(products(tmp_path / "out" / "movie")) > 5


def test_after_cancelling_no_other_movie_begins(movies, tmp_path):
    cancel = threading.Event()
    cancel.set()
    document = several([movies / "a.czi", movies / "movie.czi"], tmp_path / "out", FEW)
    first, second = run_several(configs_of(document), silent, cancel)
    assert (first.report.cancelled, second.report, second.error) == (True, None, None)
    assert exit_status([first, second]) == 130


def test_only_few_movies_are_planned_ahead(movies, tmp_path, monkeypatch):
    begun, go_on = [], threading.Event()

    def run(config, turn, **_):
        begun.append(turn.number)
        turn.may_take(0, 4)
        assert go_on.wait(60)
        return RunReport(config.output, (), (), 0, 0, 0.0)

    monkeypatch.setattr(driver, "run", run)
    for name in "cdefg":
        (movies / f"{name}.czi").touch()
    configs = configs_of(several(movies.glob("*.czi"), tmp_path / "out", {"cluster.kind": "local"}))
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(lambda: list(run_several(configs, silent, threading.Event())))
        while len(begun) < 3:
            time.sleep(0.01)
        time.sleep(0.3)  # another one would begin by now
        assert begun == [0, 1, 2]
        go_on.set()
        assert [one.config for one in ended.result(60)] == configs
    assert begun == [*range(len(configs))]


def ended(status, error=None):
    state = {"stopped": "disk full" if status == 4 else None, "cancelled": status == 130}
    report = RunReport("out", (), (), 0, 0, 0.0, **state) if status is not None else None
    return MovieRun(configs_of(PLAIN)[0], report, error)


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        ([ended(0), ended(0)], 0),
        ([ended(0), ended(None, SourceError("x"))], 3),
        ([ended(None, SourceError("x")), ended(None, ConfigError("x"))], 2),
        ([ended(0), ended(4), ended(None)], 4),
        ([ended(0), ended(130), ended(None)], 130),
    ],
)
def test_the_exit_status(runs, status):
    assert exit_status(runs) == status


def test_one_movie_has_the_output_of_the_config():
    (found,) = configs_of(PLAIN)
    assert str(found.output) == PLAIN["output"]


def test_movies_with_the_same_name_are_refused(movies, tmp_path):
    (movies / "more").mkdir()
    (movies / "more" / "a.nd2").touch()
    with pytest.raises(
        ConfigError, match=r"a\.czi and .*more/a\.nd2 would both have the output .*results/a. Fix: rename"
    ):
        configs_of(several([movies / "a.czi", movies / "more" / "a.nd2"], tmp_path / "results"))


@pytest.mark.parametrize("output", [".", "results"])
def test_a_glob_leaves_out_the_results_in_the_same_folder(call, movies, monkeypatch, output):
    monkeypatch.chdir(movies)
    (movies / "b.czi").unlink()
    assert pyama_dask.run(config("*", output, FEW), progress=False).exit_status == 0
    assert call("report", output)[0] == 0
    for pattern in ("*", "**/*.*"):
        found = [one.input.path for one in configs_of(config(pattern, output, FEW))]
        assert found == [Path("a.czi"), Path("movie.czi")]
    with pytest.raises(ConfigError, match=r"\*\*/\*\.zarr: no such file"):
        configs_of(config("**/*.zarr", output))


def test_the_output_of_a_single_run_is_no_folder_for_several(movies, finished):
    with pytest.raises(OutputError, match=r"is the output of a run of one movie\. Fix: choose another 'output'"):
        configs_of(several([movies / "a.czi"], finished))


def test_inspect_and_init_take_several(call, movies, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (movies / "b.czi").unlink()
    for given in (["night/*.czi"], ["night/movie.czi", "night/a.czi"]):
        found = json.loads(call("inspect", *given, "--json")[1])
        assert [document["channels"][0]["name"] for document in found] == ["Phase"] * 2
    assert call("inspect", *given)[1].count("czi") >= 2
    status, _, error = call("inspect", "night/*.nd2")
    assert (status, error) == (2, "pyama-dask: night/*.nd2: no such file. Fix: check the path\n")

    assert call("init", "night/*.czi", "--no-look")[0] == 0
    document = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert (document["input"], document["output"]) == (["night/a.czi", "night/movie.czi"], "night_results")
    assert [one.output.name for one in configs_of(read_document(tmp_path / "run.yaml"))] == ["a", "movie"]


def test_init_refuses_movies_of_several_kinds():
    with pytest.raises(ConfigError, match=r"other\.nd2: has other channels than movie\.nd2\. Fix: write a config"):
        alike([movie(), movie(channels=3, path=Path("other.nd2"))])
    with pytest.raises(ConfigError, match=r"movie\.nd2: is named twice"):
        alike([movie(), movie()])
    assert alike([movie(frames=9), movie(frames=5, path=Path("b.nd2"))]).n_frames == 5


def test_commands_for_one_movie_refuse_several(call, movies, tmp_path):
    path = write_config(tmp_path / "run.yaml", config("night/*.czi", "results"))
    status, _, error = call("doctor", path)
    assert (status, "names 3 movies, but this command takes one. Fix: choose one" in error) == (2, True)


def test_without_outputs_nothing_has_failed(movies, tmp_path):
    with pytest.raises(PlanError, match="results: holds no results yet"):
        with_failures(configs_of(several([movies / "a.czi"], tmp_path / "results")))


def test_from_python_with_a_result_for_each(call, movies, tmp_path):
    events = []
    document = several(sorted(movies.glob("*.czi")), tmp_path / "out", FEW)
    with final_pages(True):
        run = pyama_dask.start(document, progress=events.append)
        report = run.wait(150)
    assert run.output == tmp_path / "out"
    assert (run.progress.ended, run.progress.count, run.progress.fovs_done, run.progress.share) == (3, 3, 2, 1)
    assert repr(run) == "<BackgroundRun out: ended, 3 of 3 movies ended, 2 of 2 FOVs done, 100% of the work>"
    ends = [(event["movie"], event["frame"], event["total"]) for event in events if event["step"] == "movie"]
    assert ends == [("a", 1, 3), ("b", 2, 3), ("movie", 3, 3)]
    assert repr(report) == "<MoviesReport: 2 of 3 movies complete>"
    assert [(one.name, one.fault) for one in report.movies if not one.error] == [("a", ""), ("movie", "")]
    assert report["b"].fault.startswith(f"refused: {movies / 'b.czi'}: ")
    assert (report.exit_status, report.page) == (3, tmp_path / "out" / "report.html")
    assert {event["movie"] for event in events if event["step"] == "done"} == {"a", "movie"}
    page = report.page.read_text()
    assert re.findall(r'<a href="([^"]*)">(a|movie)</a>', page) == [
        ("a/report.html", "a"), ("movie/report.html", "movie"),
    ]  # fmt: skip
    assert call("report", tmp_path / "out")[:2] == (0, f"Report: {report.page}\n")
    for text in (page, report.page.read_text()):  # written later, it knows what was refused
        assert "2 of 3 movies complete" in text
        assert f"refused: {movies / 'b.czi'}: " in text
    assert f"{tmp_path / 'out' / 'b'}: refused: {movies / 'b.czi'}: " in call("status", tmp_path / "out")[1]
    assert pyama_dask.run(document | {"input": str(movies / "a.czi"), "output": str(tmp_path / "out" / "a")}).tasks == 0


def test_what_was_refused_is_noted_until_it_is_processed(tmp_path):
    note_refused(tmp_path, {"a": "", "b": ""})
    assert not list(tmp_path.iterdir())
    note_refused(tmp_path, {"a": "", "b": "refused: it is dark", "c": "refused: no file"})
    note_refused(tmp_path, {"c": "", "d": "refused: no disk"})
    assert read_refused(tmp_path) == {"b": "refused: it is dark", "d": "refused: no disk"}
    for name, ended in (("b", "2020-01-01T00:00:00+00:00"), ("d", "2120-01-01T00:00:00+00:00")):
        (tmp_path / name / ".pyama_dask").mkdir(parents=True)
        (tmp_path / name / ".pyama_dask" / "report.json").write_text(json.dumps({"ended": ended}))
    assert read_refused(tmp_path) == {"b": "refused: it is dark"}


@pytest.mark.parametrize("many", [["a.nd2", "b.nd2"], "night/*.nd2"])
def test_where_one_movie_is_needed_several_are_refused(many):
    keys = {key: value for key, value in PLAIN.items() if key != "input"}
    for make in (lambda: as_config({**keys, "input": many}), lambda: pyama_dask.Orchestrator(many, keys)):
        with pytest.raises(ConfigError, match=r"config:\n  input: .*: names several movies, .* Fix: name one; or use"):
            make()


def test_the_progress_of_several_counts_each_movie_the_same():
    clock = iter(range(100)).__next__
    tally = MoviesTally(4, clock)
    assert (tally.now().share, tally.now().left, str(tally.now())) == (0, None, "0 of 4 movies ended, being planned")
    for name, fovs in (("a", 2), ("b", 6)):
        plan = plan_of(movie(fovs=fovs, frames=4), output=f"out/{name}")
        tally.start(plan, "link")
    tally.event({"step": "copy", "fov": 1, "frame": 4, "movie": "b"})
    tally.event({"step": "alarm", "fov": -1, "message": "no task", "movie": "a"})
    now = tally.now()
    assert (now.fovs, now.steps["copy"], list(now.movies), now.alarms) == (8, (4, 32), ["a", "b"], ("a: no task",))
    assert now.share == now.movies["b"].share / 4
    for name in ("a", "refused"):
        tally.event({"step": "movie", "fov": -1, "frame": 1, "total": 4, "message": "complete", "movie": name})
    tally.event({"step": "done", "fov": 3, "message": "FOV 3: 2 cells", "movie": "b"})
    now = tally.now()
    assert (now.ended, list(now.movies), now.message) == (2, ["b"], "b: FOV 3: 2 cells")
    assert now.share == (2 + now.movies["b"].share) / 4
    assert "movies" in bars_html(now)


def test_the_display_says_what_each_movie_does(tmp_path):
    out = io.StringIO()
    display = MoviesDisplay(Console(file=out, width=100), 2)
    one = configs_of(PLAIN)[0]
    with display, display.of_movie(one, 0) as shown:
        shown["on_start"](plan_of(movie(fovs=2)), None)
        for step, fov in (("jobs", -1), ("done", 0), ("failed", 1), ("alarm", -1)):
            shown["progress"]({"step": step, "fov": fov, "frame": 0, "total": 1, "message": f"said by {step}"})
        display.ended(one.output.name, "1 FOV failed")
    name = one.output.name
    lines = out.getvalue().splitlines()
    assert lines[0] == f"Movie 1 of 2: {one.input.path}"
    assert lines[1].startswith(f"{name}: 2 FOVs, ")
    assert lines[2:] == [
        f"{name}: said by jobs", f"{name}: [1/2] said by done", f"{name}: [2/2] said by failed",
        f"{name}: ALARM: said by alarm", f"{name}: 1 FOV failed",
    ]  # fmt: skip


def test_cancelled_and_resumed_they_give_the_bytes_of_single_runs(small_nd2, small_czi, tmp_path, client):
    """An ND2, a CZI and a plate; the second one is at work when the first one ends."""
    folder = tmp_path / "night"
    folder.mkdir()
    shutil.copy(small_nd2, folder / "a.nd2")
    shutil.copy(small_czi, folder / "b.czi")
    put_in_wells(shutil.copy(small_czi, folder / "c.czi"), ["B02", "B03"])
    document = several(sorted(folder.iterdir()), tmp_path / "out", {"params.frames": "0-5"})
    document["cluster"] = {"kind": "local", "batch_size": 3}
    cancel, seen = threading.Event(), set()

    def stop(event):
        seen.add(event["movie"])
        if {"a", "b"} <= seen:
            cancel.set()

    report = pyama_dask.run(document, client=client, progress=stop, cancel=cancel)
    assert report.exit_status == 130
    assert report.page is None
    report = pyama_dask.run(document, client=client, progress=False)
    assert report.exit_status == 0
    for path in sorted(folder.iterdir()):
        alone = config(path, tmp_path / "alone" / path.stem, {"params.frames": "0-5"})
        assert pyama_dask.run(alone).exit_status == 0
        found = products(tmp_path / "out" / path.stem)
        assert not differences(found, products(tmp_path / "alone" / path.stem))
        assert len(found) > 10
        log = (tmp_path / "out" / path.stem / ".pyama_dask" / "log.txt").read_text()
        assert log.count("gather-fov000 done") == 1
