"""Ready plugins: methods of this package that need another package, installed by the extra of that name."""

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
    """A method of this package that wraps another package.

    Parameters
    ----------
    module, function
        Module and name of the method. The module also has a function ``check`` that takes the same parameters and
        raises `ConfigError` if the method cannot run, and one ``gpu_problem`` that says why it cannot use a GPU.
    package
        Required package, and name of the extra that installs it.
    memory
        Bytes that the package and its models occupy in a worker.
    pixel_bytes
        Bytes that it holds per pixel of a frame.
    """

    module: str
    function: str
    package: str
    memory: int = 0
    pixel_bytes: int = 0

    @property
    def version(self) -> str:
        """Version of the package; '' if it is not installed."""
        return installed_version(self.package)

    @property
    def place(self) -> str:
        """Description of the origin, or of the installation if the package is missing."""
        return f"pyama_dask, with {self.package} {self.version}" if self.version else f"needs {self._install}"

    @property
    def _install(self) -> str:
        return f"pip install 'pyama-dask[{self.package}]'"

    def load(self) -> Any:
        """Import the method.

        Raises
        ------
        ConfigError
            If the package is not installed.
        """
        if not self.version:
            raise ConfigError(f"needs a package that is not installed. Fix: {self._install}")
        return getattr(importlib.import_module(self.module), self.function)

    def gpu_problem(self) -> str:
        """Reason why the method cannot use a GPU with the installed packages; '' if it may."""
        problem: str = importlib.import_module(self.module).gpu_problem()
        return problem

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Check that the method can run on this machine.

        Raises
        ------
        ConfigError
            If it cannot; the message says what is missing and how to get it.
        """
        importlib.import_module(self.module).check(**parameters)


@cache
def installed_version(package: str) -> str:
    """Version of an installed package; '' if it is not installed."""
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
MULTIVIEW_STITCHER = Ready("pyama_dask.methods.adapters.multiview_stitcher", "register", "multiview-stitcher")
"""Registration of the sites of wells."""
