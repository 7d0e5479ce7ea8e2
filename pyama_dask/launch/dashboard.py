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


def show_run(client: Client, make: Callable[[], Callable[[], str]]) -> None:
    """Show a run on the dashboard of a scheduler that was started with the page, instead of the one before."""
    with suppress(Exception):  # no run was shown before
        client.unregister_scheduler_plugin(RunTab.name)
    try:
        client.register_plugin(RunTab(make))
    except Exception as error:  # noqa: BLE001  (a run works without the page)
        log.info("the dashboard will not show the whole run: %s: %s", type(error).__name__, error)
