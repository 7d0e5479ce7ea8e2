"""The graph of a run: the standard steps, and those of a user's own pipelines."""

from __future__ import annotations

from pyama_dask.config.models import Config
from pyama_dask.steps.standard import GRAPH
from pyama_dask.workflow.graph import Graph


def graph_of(config: Config) -> Graph:
    """Graph of all steps that a config may ask for."""
    del config
    return GRAPH
