"""Base of all models of settings: frozen, and unknown keys are refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A part of the config: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
