"""The page of a run on the dashboard during a real run, and `pyama-dask top`, in a browser."""

import json
import time

import pytest
from rich.console import Console
from support.live_outputs import MadeRun
from support.movies import as_czi, config, pixels

import pyama_dask
from pyama_dask.cli.live_view import View
from pyama_dask.runs.live import LiveRun
from pyama_dask.runs.live_page import render

SIZES = [("phone", 380, True), ("phone", 380, False), ("desktop", 1280, True), ("desktop", 1280, False)]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Snapshot of a run of 500 FOVs, with all that a page can show."""
    now = time.time()
    made = MadeRun(tmp_path_factory.mktemp("made") / "a_movie_with_a_rather_long_name_results", fovs=500, frames=36)
    for k in range(40):
        tasks = [task for fov in range(k, 300, 40) for task in made.tasks(fov)]
        made.done(*tasks, begun=now - 3600 + 10 * k, worker=f"node{k % 4:02d}/{1000 + k}")
    for fov, kinds in ((300, ["ingest"]), (301, ["ingest", "link"]), (302, ["ingest", "link", "finish"])):
        made.done(*made.tasks(fov, *kinds), begun=now - 100)
    for fov in (303, 304):
        made.failed(made.tasks(fov)[0], f"FOV {fov}, frames 0-3: the phase channel is dark. Fix: leave out the FOV")
    made.lock(now=now)
    made.record(
        started=now - 3700, jobs="jobs: 40 running, 2 pending, 1 lost", dashboard="http://127.0.0.1:8787/status",
        alarms=["no task has ended for 10.0 min: jobs: 40 running, 2 pending"],
    )  # fmt: skip
    return LiveRun(made.output).snapshot()


def test_it_shows_a_run_while_it_works(tmp_path, browser, screenshots):
    """The run waits for its callback, in which the browser looks; so it is at a certain point."""
    movie = as_czi(tmp_path / "movie.czi", pixels(fovs=6, frames=10, shape=(200, 240), cells=6))
    addresses, seen = [], []

    def look(event):
        if event["step"] != "done" or len(seen) == 2:
            return
        page = addresses[0].replace("/status", "/pyama")
        with browser.page(page, width=800) as shown:
            assert shown.page.title().endswith(" % results")
            before = shown.page.inner_text("main")
            seen.append(before)
            assert shown.faults() == []
            shown.screenshot(screenshots / f"dashboard_run_{len(seen)}.png")
            shown.page.wait_for_function("text => document.querySelector('main').innerText !== text", arg=before)
            shown.page.click("text=Dask's dashboard")
            assert shown.page.url == addresses[0]

    changes = {"cluster": {"kind": "local", "workers": 2, "dashboard": "127.0.0.1:0", "batch_size": 2}}
    report = pyama_dask.run(
        config(movie, tmp_path / "results", changes), progress=look, on_start=lambda _, where: addresses.append(where)
    )
    assert report.exit_status == 0
    assert len(seen) == 2
    assert "1 done" in seen[0]
    assert "of 48 tasks" in seen[0]
    assert "node" not in seen[0] or "Workers" in seen[0]


@pytest.mark.parametrize(("name", "width", "dark"), SIZES)
def test_many_fovs_on_any_screen(many, tmp_path, browser, screenshots, name, width, dark):
    file = tmp_path / "page.html"
    file.write_text(render(many))
    with browser.page(file, width=width, dark=dark) as shown:
        assert shown.faults() == []
        shown.screenshot(screenshots / f"dashboard_{name}_{'dark' if dark else 'light'}.png")
        assert len(shown.page.query_selector_all(".ten i")) == 500
        assert shown.page.query_selector_all(".ten i.failed")[0].get_attribute("title") == "FOV 303: failed, 0 %"
        assert shown.page.inner_text("main").count("Fix: leave out the FOV") == 2


def test_a_lost_connection_is_told(many, tmp_path, browser):
    file = tmp_path / "page.html"
    file.write_text(render(many))  # a page from a file cannot be fetched again
    with browser.page(file) as shown:
        shown.page.wait_for_selector("#lost", state="visible", timeout=10_000)
        assert "its last state" in shown.page.inner_text("#lost")
        assert shown.faults() == []


@pytest.mark.parametrize("width", [80, 200])
def test_the_text_of_top(many, tmp_path, browser, screenshots, width):
    console = Console(
        record=True, width=width, force_terminal=True, color_system="truecolor", file=(tmp_path / "t").open("w")
    )
    console.print(View(width, 20).describe(many), soft_wrap=True)
    picture = tmp_path / "top.svg"
    console.save_svg(str(picture), title="pyama-dask top", font_aspect_ratio=0.61)
    with browser.page(picture, width=1400) as shown:
        shown.screenshot(screenshots / f"top_{width}.png")
    assert json.dumps(many.document())
