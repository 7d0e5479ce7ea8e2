"""The page of a run on the dashboard during a real run, and `pyama-dask top`, in a browser."""

import queue
import threading
import time
from functools import partial

import pytest
from rich.console import Console
from support.live_outputs import MadeRun
from support.movies import as_czi, config, pixels

import pyama_dask
from pyama_dask.cli.live_view import View
from pyama_dask.execute.events import Events
from pyama_dask.runs.live import LiveRun
from pyama_dask.runs.live_page import render

SIZES = [("phone", 380, True), ("phone", 380, False), ("desktop", 1280, True), ("desktop", 1280, False)]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Snapshot of a run of 500 FOVs, with all that a page can show."""
    now = time.time()
    made = MadeRun(tmp_path_factory.mktemp("made") / "a_movie_with_a_rather_long_name_results", fovs=500, frames=12)
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


def test_it_shows_a_run_while_it_works(tmp_path, browser, screenshots, monkeypatch):
    """The run is held at the end of two FOVs, so that it is at a certain point whenever the browser looks."""
    monkeypatch.setattr("pyama_dask.runs.driver.Events", partial(Events, patience=600))
    movie = as_czi(tmp_path / "movie.czi", pixels(fovs=4, frames=10, shape=(200, 240), cells=6))
    addresses, held, may_continue, reports = [], queue.Queue(), queue.Queue(), []

    def hold(event):
        if event["step"] == "done" and event["fov"] < 2:
            held.put(event["fov"])
            may_continue.get(timeout=120)

    def run():
        changes = {"cluster": {"kind": "local", "workers": 2, "dashboard": "127.0.0.1:0", "batch_size": 1}}
        given = config(movie, tmp_path / "results", changes)
        reports.append(pyama_dask.run(given, progress=hold, on_start=lambda _, where: addresses.append(where)))

    thread = threading.Thread(target=run)
    thread.start()
    for fov in range(2):
        assert held.get(timeout=180) == fov
        with browser.page(addresses[0].replace("/status", "/pyama"), width=800) as shown:
            done = ["25 %", "50 %"][fov]
            assert shown.page.title() == f"{done} results"
            before = shown.page.inner_text("main")
            assert f"{8 * (fov + 1)} of 32 tasks" in before
            assert f"{fov + 1} done" in before
            assert "frames/s in the last minute" in before
            assert shown.faults() == []
            shown.screenshot(screenshots / f"dashboard_run_{fov}.png")
            shown.page.wait_for_function("text => document.querySelector('main').innerText !== text", arg=before)
            assert not shown.page.is_visible("#lost")
            shown.page.click("text=Dask's dashboard")
            shown.page.wait_for_url(addresses[0])
        may_continue.put(None)
    thread.join()
    assert reports[0].exit_status == 0


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


@pytest.mark.parametrize("width", [80, 200])
def test_the_text_of_top(many, tmp_path, browser, screenshots, width):
    with (tmp_path / "top.txt").open("w") as text:
        console = Console(record=True, width=width, force_terminal=True, color_system="truecolor", file=text)
        console.print(View(width, 20).describe(many), soft_wrap=True)
    page = tmp_path / "top.html"
    page.write_text(console.export_html(inline_styles=True))
    with browser.page(page, width=1700) as shown:
        shown.screenshot(screenshots / f"top_{width}.png")
        assert "303" not in shown.page.inner_text("pre").split("FOVs:")[0]
        assert not shown.foreign
