"""Everything that a ledger has recorded, at once."""

from __future__ import annotations

from typing import Any

from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import Cost


def recorded(ledger: Ledger, what: str = "done") -> dict[str, Any]:
    """One field of the records of all tasks, by key."""
    return {key: getattr(record, what) for key, record in ledger.tasks()}


def costs_of(ledger: Ledger, before: int = 0) -> list[Cost]:
    """Costs of all recorded tasks, but for the first ones."""
    return list(ledger.costs())[before:]
