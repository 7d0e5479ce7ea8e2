"""The page of a run on the dashboard, with made runs; tests/look opens it in a browser."""

import re
import time

import pytest
from support.live_outputs import NOW, MadeRun

from pyama_dask.runs import live_page
from pyama_dask.runs.live import LiveRun, LiveRuns
from pyama_dask.runs.live_page import LivePage, render


@pytest.fixture
def made(tmp_path):
    made = MadeRun(tmp_path / "<b>out&", fovs=25)
    made.done(*made.tasks(0), begun=NOW - 50, worker="<i>node</i>/1")
    made.done(*made.tasks(1, "ingest"), begun=NOW - 10)
    made.failed(made.tasks(2)[0], "<script>alert(1)</script> is dark")
    made.lock()
    made.record(jobs="jobs: 1 running; <u>", alarms=["<u>no task</u>"])
    return made


def test_it_shows_the_whole_run_and_escapes_every_name(made):
    page = render(LiveRun(made.output, lambda: NOW).snapshot())
    assert "<title>5 % &lt;b&gt;out&amp;</title>" in page
    assert "11 of 200 tasks" in page
    cells = re.findall(r'<i class="([a-z-]+)" title="FOV (\d+): [a-z ]+, (\d+) %">', page)
    assert cells == [("done", "0", "100"), ("in-work", "1", "37"), ("failed", "2", "0")] + [
        ("to-do", str(k), "0") for k in range(3, 25)
    ]
    assert not re.search(r"<(u|script>a|i>node|b>out)", page)
    assert page.count("<script>") == 1
    assert "(algorithm)</span> FOV 2: &lt;script&gt;alert(1)&lt;/script&gt; is dark" in page


def test_it_loads_nothing_from_elsewhere(made):
    page = render(LiveRun(made.output, lambda: NOW).snapshot())
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["status"]
    assert "http:" not in page
    assert "https:" not in page


def test_many_fovs_share_squares(tmp_path, monkeypatch):
    monkeypatch.setattr(live_page, "MOST_CELLS", 5)
    made = MadeRun(tmp_path / "out", fovs=12, frames=4)
    page = render(LiveRun(made.output).snapshot())
    assert "each square is 5 FOVs" in page
    assert re.findall(r'title="([^"]*)"', page) == [f"FOV {k}: to do, 0 %" for k in ("0 to 4", "5 to 9", "10 to 11")]


def test_it_is_made_at_most_once_a_second_and_never_takes_more_than_its_share(made, monkeypatch):
    clock, made_at = [100.0], []

    class Counted(LiveRuns):
        def snapshots(self):
            made_at.append(clock[0])
            clock[0] += 0.2  # it takes that long
            return super().snapshots()

    monkeypatch.setattr(live_page, "LiveRuns", Counted)
    monkeypatch.setattr(live_page.time, "monotonic", lambda: clock[0])
    page = LivePage(made.output)
    for _ in range(100):
        assert "11 of 200 tasks" in page()
        clock[0] += 0.1
    assert made_at == pytest.approx([100.0, 104.3, 108.6], abs=0.11)


def test_an_output_that_is_not_there_yet_is_told(tmp_path):
    page = LivePage(tmp_path / "out")
    assert "holds no run of pyama_dask" in page()


def test_a_folder_has_a_row_per_movie_and_those_at_work_in_full(tmp_path):
    folder = tmp_path / "<night>"
    MadeRun(folder / "a", fovs=2, frames=4)
    page = LivePage(folder)
    assert re.findall(r"<tr><td>(.*?)<td>(.*?)<td>(.*)", page()) == [("a", "0 %", "ended; FOVs: 2 to do")]
    at_work = MadeRun(folder / "b<u>", fovs=2, frames=4)
    at_work.done(*at_work.tasks(0))
    at_work.lock(now=time.time())
    page = LivePage(folder)()
    assert "<title>&lt;night&gt;</title>" in page
    assert re.findall(r"<tr><td>(.*?)<td>(.*?)<td>(.*)", page)[:2] == [
        ("a", "0 %", "ended; FOVs: 2 to do"), ("b&lt;u&gt;", "50 %", "running; FOVs: 1 done, 1 to do"),
    ]  # fmt: skip
    assert re.findall(r'<h1 class="movie">(.*)</h1>', page) == ["b&lt;u&gt;"]
    assert page.count("<h2>Steps</h2>") == 1
    assert not re.search(r"<(u|night)>", page)
