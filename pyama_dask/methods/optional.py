"""Ready plugins: methods of this package that need another one, which people install by an extra of its name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pyama_dask.errors import ConfigError

GIB = 2**30


@dataclass(frozen=True)
class Ready:
    """A method of this package that works with another package.

    Parameters
    ----------
    module, function
        Where it is; the module has a function ``check`` that takes the same parameters, and raises a
        `ConfigError` where the method could not do its work.
    package
        What it needs, and the extra that installs it.
    memory
        Bytes that the package and what it loads take in a worker.
    pixel_bytes
        Bytes that it holds for each pixel of the frame it works on.
    """

    module: str
    function: str
    package: str
    memory: int = 0
    pixel_bytes: int = 0

    @property
    def version(self) -> str:
        """Version of the package; nothing where it is not installed."""
        return installed_version(self.package)

    @property
    def place(self) -> str:
        """Where it comes from, or what to do for it, in words."""
        return f"pyama_dask, with {self.package} {self.version}" if self.version else f"needs {self._install}"

    @property
    def _install(self) -> str:
        return f"pip install 'pyama-dask[{self.package}]'"

    def load(self) -> Any:
        """Give the function.

        Raises
        ------
        ConfigError
            If the package is not installed.
        """
        if not self.version:
            raise ConfigError(f"needs a package that is not here: {self._install}")
        return getattr(importlib.import_module(self.module), self.function)

    def check(self, parameters: Mapping[str, Any]) -> None:
        """See whether the method can do its work on this machine.

        Raises
        ------
        ConfigError
            If not; says what is missing, and what to do.
        """
        importlib.import_module(self.module).check(**parameters)


@cache
def installed_version(package: str) -> str:
    """Version of an installed package; nothing if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


READY: Mapping[str, Mapping[str, Ready]] = {
    "segmenter": {
        # measured with cellpose 4.2 and torch 2.15 on one core, weights in 16 bits
        "cellpose": Ready("pyama_dask.methods.adapters.cellpose", "segment", "cellpose", int(2.75 * GIB), 120),
    },
    "tracker": {"btrack": Ready("pyama_dask.methods.adapters.btrack", "link", "btrack")},
}
"""Ready plugins by kind and name."""
