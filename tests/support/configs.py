"""Configs of a movie that is not there."""

from pyama_dask.config.load import parse_config
from pyama_dask.plan.resolve import resolve
from support.movies import config
from support.strategies import movie

PLAIN = config("movie.nd2", "out")
"""The smallest config."""


def changed(**changes):
    """The smallest config with some keys changed: ``params__fovs`` for ``params.fovs``."""
    return config("movie.nd2", "out", {key.replace("__", "."): value for key, value in changes.items()})


def resolved(metadata=None, **changes):
    """The same, resolved for a movie."""
    return resolve(parse_config(changed(**changes)), metadata or movie())
