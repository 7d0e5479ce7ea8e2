"""Schedulers of runs serve the page of their run, and no other scheduler does."""

import json
import pickle
import sys
import urllib.error
import urllib.request
from functools import partial

import dask
import pytest
from distributed import Client

from pyama_dask.config.cluster import Cluster
from pyama_dask.launch.dashboard import PAGE, ROUTES, PagesOnDemand, RunTab, show_run
from pyama_dask.launch.local import scheduler_here


def made(name):
    """Stands for the page of a run."""
    return lambda: f"<p>{name} ÄÖ"


def answer(client):
    """Status, headers and text of the page."""
    try:
        with urllib.request.urlopen(client.dashboard_link.replace("/status", f"/{PAGE}")) as page:
            return page.status, page.headers, page.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def test_a_scheduler_serves_the_page_of_its_run():
    before = dask.config.get(ROUTES)
    cluster = Cluster(kind="local", workers=1, dashboard="127.0.0.1:0")
    with scheduler_here(cluster, n_workers=0, host="127.0.0.1") as scheduler, Client(scheduler) as client:
        status, _, text = answer(client)
        assert status == 404
        assert "processes no movie" in text
        show_run(client, partial(made, "run 1"))
        status, headers, text = answer(client)
        assert (status, text) == (200, "<p>run 1 ÄÖ")
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Cache-Control"] == "no-store"
        with urllib.request.urlopen(client.dashboard_link.replace("/status", "/health")) as other:
            assert other.status == 200
    assert dask.config.get(ROUTES) == before


def test_the_pages_of_dask_are_added_when_one_is_asked_for():
    cluster = Cluster(kind="local", workers=1, dashboard="127.0.0.1:0")
    with scheduler_here(cluster, n_workers=0, host="127.0.0.1") as scheduler, Client(scheduler) as client:
        served = scheduler.scheduler.http_application.applications
        assert [type(one) for one in served] == [PagesOnDemand]
        with urllib.request.urlopen(client.dashboard_link.replace("/status", "/sitemap.json")) as page:
            assert f"/{PAGE}" in json.load(page)["paths"]
        assert [type(one) for one in served] == [PagesOnDemand]
        with urllib.request.urlopen(client.dashboard_link) as page:
            assert "bokeh" in page.read().decode()
        with urllib.request.urlopen(client.dashboard_link.replace("/status", "/")) as page:
            assert page.url == client.dashboard_link
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(client.dashboard_link.replace("/status", "/no-page"))
        assert PagesOnDemand not in map(type, served)


def test_without_bokeh_there_are_other_pages(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed.dashboard.scheduler", None)
    cluster = Cluster(kind="local", workers=1, dashboard="127.0.0.1:0")
    with scheduler_here(cluster, n_workers=0, host="127.0.0.1") as scheduler, Client(scheduler) as client:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(client.dashboard_link)
        assert answer(client)[0] == 404
        with urllib.request.urlopen(client.dashboard_link.replace("/status", "/health")) as other:
            assert other.status == 200


def test_the_page_is_made_where_the_scheduler_is():
    tab = RunTab(partial(made, "run 2"))
    assert tab.page() == "<p>run 2 ÄÖ"
    assert pickle.loads(pickle.dumps(tab)).page() == "<p>run 2 ÄÖ"  # with its lock and page, it could not travel


def test_a_scheduler_that_does_not_take_it_does_not_end_the_run(caplog):
    class Client:
        def register_plugin(self, plugin):
            raise OSError("gone")

    with caplog.at_level("INFO"):
        show_run(Client(), partial(made, "run 3"))
    assert "the dashboard will not show the whole run: OSError: gone" in caplog.text
