"""A page of the whole run on Dask's dashboard, whose own pages show only the tasks that are in its scheduler now.

Dask imports this module by its name in the setting ``distributed.scheduler.http.routes``, and serves its `routes`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dask
from distributed import Client, Scheduler, SchedulerPlugin
from distributed.http.utils import RequestHandler
from tornado.web import Application

log = logging.getLogger(__name__)

PAGE = "pyama"
"""Path of the page on the dashboard."""
ROUTES = "distributed.scheduler.http.routes"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
"""Content that the page may load: nothing from elsewhere."""


class RunTab(SchedulerPlugin):
    """Keeps the page of a run at hand in the process of the scheduler.

    Parameters
    ----------
    make
        Makes the function that returns the page as HTML; called in the process of the scheduler.
    """

    name = "pyama-run"

    def __init__(self, make: Callable[[], Callable[[], str]]) -> None:
        self._make = make
        self._page: Callable[[], str] | None = None
        self._turn = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_make": self._make}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_make"])  # type: ignore[misc]

    def page(self) -> str:
        """Page as it is now; one request after the other."""
        with self._turn:
            self._page = self._page or self._make()
            return self._page()


class RunPage(RequestHandler):
    """Serves the page of the run for which a scheduler was started."""

    server: Scheduler

    async def get(self) -> None:
        """Answer with the page, which is made in a thread, as the scheduler must not wait for it."""
        tab = self.server.plugins.get(RunTab.name)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", POLICY)
        if isinstance(tab, RunTab):
            self.write(await asyncio.to_thread(tab.page))
        else:
            self.set_status(404)
            self.write("<!doctype html><title>pyama-dask</title><p>This scheduler processes no movie.")


routes: list[tuple[str, type[RequestHandler], dict[str, Any]]] = [(PAGE, RunPage, {})]


@contextmanager
def with_run_page() -> Iterator[None]:
    """Let schedulers that are started in the block serve the page of a run."""
    given = [module for module in dask.config.get(ROUTES) if module != __name__]
    with dask.config.set({ROUTES: [*given, __name__]}):
        yield


class PagesOnDemand(Application):
    """Application of a scheduler's web server that adds the pages of Dask when one is first asked for.

    Their import takes half a second, and most runs are not looked at.

    Parameters
    ----------
    scheduler
        Scheduler in this process, which was started without its pages.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def find_handler(self, request: Any, **options: Any) -> Any:
        """Handler of Dask for an address that no other application serves, or that of an unknown page."""
        application = self._scheduler.http_application
        application.applications.remove(self)
        try:
            from distributed.dashboard.scheduler import connect  # noqa: PLC0415  (takes long to import)
        except ImportError as error:
            log.info("the dashboard cannot be shown: %s", error)
        else:
            connect(application, self._scheduler.http_server, self._scheduler, prefix="")
        return application.find_handler(request, **options)


def pages_on_demand(scheduler: Scheduler) -> None:
    """Let a scheduler in this process show the pages of Dask, too, from when one is asked for."""
    try:
        scheduler.http_application.add_application(PagesOnDemand(scheduler))
    except AttributeError as error:  # another version of Dask
        log.info("the pages of Dask cannot be shown: %s", error)


def show_run(client: Client, make: Callable[[], Callable[[], str]]) -> None:
    """Show a run on the dashboard of a scheduler that was started with the page, instead of the one before."""
    with suppress(Exception):  # no run was shown before
        client.unregister_scheduler_plugin(RunTab.name)
    try:
        client.register_plugin(RunTab(make))
    except Exception as error:  # noqa: BLE001  (a run works without the page)
        log.info("the dashboard will not show the whole run: %s: %s", type(error).__name__, error)
