"""Dask's performance report on a machine without a network."""

from threading import Event

from pyama_dask.config.cluster import Cluster
from pyama_dask.launch import start
from pyama_dask.launch.start import dask_report, workers_for


def test_it_shows_its_plots_without_a_network(tmp_path, browser, screenshots, monkeypatch):
    monkeypatch.setattr(start, "REPORTED_FROM", 0.0)
    file = tmp_path / "dask-report.html"
    cluster = Cluster(kind="local", workers=1)
    with workers_for(cluster, None, tmp_path, "run", tasks=4) as workers, dask_report(workers, file, Event()):
        assert workers.client.submit(sum, [1, 2]).result() == 3
    with browser.page(file) as shown:
        shown.page.wait_for_selector(".bk-Tabs", state="attached", timeout=20_000)
        shown.screenshot(screenshots / "dask_report.png")
        assert not shown.foreign
        assert not shown.errors
