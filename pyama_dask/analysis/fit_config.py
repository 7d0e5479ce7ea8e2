"""Config of ``pyama-dask fit``: model, parameters and cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictBool

from pyama_dask.analysis.tables import MINUTES
from pyama_dask.config import base
from pyama_dask.config.cluster import Cluster
from pyama_dask.config.load import config_text, set_key, with_files_in
from pyama_dask.config.messages import named_keys
from pyama_dask.config.yaml_text import parse_yaml
from pyama_dask.errors import ConfigError
from pyama_dask.fitting import Model, find_model

Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]


def _unit(name: str) -> str:
    if name.lower() not in MINUTES:
        raise ValueError("is not a unit of time. Fix: use one of ms, s, min, h, d")
    return name


class ParameterChoice(base.Model):
    """Changes of one parameter."""

    start: Number | None = None
    low: Number | None = None
    high: Number | None = None
    fixed: StrictBool | Number | None = None
    """True to fix it at its start value, or the value to fix it at."""

    def changes(self) -> dict[str, Any]:
        """Changes for `Model.changed`."""
        is_number = self.fixed is not None and not isinstance(self.fixed, bool)
        value = self.fixed if is_number else self.start
        given = {"default": value, "low": self.low, "high": self.high, "fixed": True if is_number else self.fixed}
        return {name: one for name, one in given.items() if one is not None}


class FitConfig(base.Model):
    """Model, parameters and resources of a fit."""

    model: str = "maturation"
    parameters: Mapping[str, ParameterChoice] = {}
    loss: Literal["linear", "soft_l1"] | None = None
    loss_scale: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] | None = None
    time_units: Annotated[str, AfterValidator(_unit)] | None = None
    """Time units of tables that do not state theirs."""
    cluster: Cluster = Cluster()

    def chosen(self) -> Model:
        """Return the model with the configured parameters.

        Raises
        ------
        ConfigError
            If there is no such model or parameter, or all parameters are fixed.
        """
        changes = {name: choice.changes() for name, choice in self.parameters.items()}
        model = find_model(self.model).changed(changes)
        if not model.fitted.size:
            raise ConfigError(
                f"parameters: all of {model.name} are fixed ({', '.join(model.names)}). Fix: leave one to be fitted"
            )
        return model


def load_fit_config(path: str | Path | None, overrides: Mapping[str, Any] | None = None) -> FitConfig:
    """Read a fit config from YAML; values by dotted key replace those in the file.

    If these select another model, the file's ``parameters``, which belong to the former model, are dropped.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is invalid; the message names every such key.
    """
    document: Any = {}
    if path is not None:
        path = Path(path)
        document = parse_yaml(config_text(path), f"{path}: is not YAML") or {}
        if not isinstance(document, dict):
            raise ConfigError(f"{path}: must hold keys such as 'model:' and 'parameters:'")
        document = with_files_in({name: value for name, value in document.items() if value is not None}, path.parent)
    former = document.get("model", FitConfig.model_fields["model"].default)
    if (overrides or {}).get("model", former) != former:
        document.pop("parameters", None)  # they belong to the former model
    for key, value in (overrides or {}).items():
        set_key(document, key, value)
    return parse_fit_config(document, str(path or "fit"))


def parse_fit_config(document: Mapping[str, Any], source: str = "fit") -> FitConfig:
    """Validate a mapping with the keys of `FitConfig`; see `load_fit_config`.

    A model file is resolved relative to this process's folder, because workers may run in another one.
    """
    with named_keys(source, model=FitConfig):
        return FitConfig.model_validate(with_files_in(dict(document), Path()))
