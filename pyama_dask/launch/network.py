"""Network addresses of this machine for a scheduler and its dashboard."""

from __future__ import annotations

import errno
import socket

import psutil

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import ClusterError, ConfigError, PyamaError


def check_network(cluster: Cluster) -> None:
    """Check that a scheduler can listen at the addresses of the config.

    Raises
    ------
    ConfigError
        If this machine does not have the interface, or the address of the dashboard.
    """
    if cluster.of_queue and cluster.interface and cluster.interface not in (known := interfaces()):
        raise ConfigError(
            f"cluster.interface: this machine has no interface {cluster.interface!r} with an IPv4 address. "
            f"Fix: set it to one of {named(known)}"
        )
    if cluster.starts_scheduler:
        free_address(cluster.dashboard)


def not_started(cluster: Cluster, error: Exception) -> PyamaError:
    """Error for an exception of Dask, dask-jobqueue or the system while the scheduler or workers are started.

    Returns
    -------
    ClusterError if a worker has said why it was not started, else ConfigError.
    """
    chain = _causes(error)
    if told := next((cause for cause in chain if isinstance(cause, ClusterError)), None):
        return ClusterError(f"cluster.kind: {cluster.kind}: {told}")
    texts = [" ".join(str(cause).removeprefix("Cluster failed to start: ").split()) for cause in chain]
    why = next(filter(None, reversed(texts)), type(error).__name__)  # the first one is often 'Nanny failed to start'
    return ConfigError(
        f"cluster.kind: {cluster.kind}: the scheduler or its workers could not be started: {why[:500]}. "
        "Fix: correct 'cluster' in the config; 'pyama-dask doctor' checks it"
    )


def _causes(error: BaseException) -> list[BaseException]:
    """Exception, its cause, the cause of that one, and so on."""
    return [error, *(_causes(error.__cause__) if error.__cause__ else [])]


def interfaces() -> dict[str, str]:
    """IPv4 addresses of the network interfaces of this machine, by name."""
    return {
        name: entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in reversed(entries)
        if entry.family == socket.AF_INET
    }


def named(known: dict[str, str]) -> str:
    """List interfaces with their addresses, for messages."""
    return ", ".join(f"{name} ({address})" for name, address in known.items()) or "none"


def free_address(address: str) -> str:
    """Address of the dashboard, with any free port if its own is taken.

    Raises
    ------
    ConfigError
        If this machine does not have its host.
    """
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host or "127.0.0.1", int(port)))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise ConfigError(
                    f"cluster.dashboard: {host!r} is no address of this machine. Fix: set it to 127.0.0.1:{port}"
                ) from error
            return f"{host or '127.0.0.1'}:0"
    return address
