"""Keys by which the processes of a run trust each other, and nobody else hears them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed.security import Security

from pyama_dask.config.cluster import Cluster
from pyama_dask.files.atomic import remove_below

KEYS = ("ca_file", "cert", "key")
"""What is in the folder of keys: whom to trust, who one is, and the key that proves it."""


def protocol(cluster: Cluster) -> str:
    """How the processes of a run on a queue talk to each other."""
    return "tls://" if cluster.tls == "on" else "tcp://"


@contextmanager
def keys(cluster: Cluster, folder: Path) -> Iterator[tuple[Security | None, Security | None]]:
    """Keys for one run: in memory for its scheduler, and in a private folder, which its jobs read, until it ends."""
    if cluster.tls == "off":
        yield None, None
        return
    security = Security.temporary()
    of_worker = security.get_tls_config_for_role("worker")
    folder.mkdir(mode=0o700)
    try:
        for name in KEYS:
            file = folder / f"{name}.pem"
            file.touch(0o600)
            file.write_text(of_worker[name])
        yield security, security_in(cluster, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forget_keys(work: Path) -> None:
    """Remove the keys of runs that were killed; for who holds the output's lock, as they may be of one that lives."""
    for old in work.glob("keys-*"):
        with suppress(OSError):
            remove_below(old, [f"{name}.pem" for name in KEYS])


def security_in(cluster: Cluster, folder: Path) -> Security | None:
    """Keys of a run in files, for workers and clients."""
    if cluster.tls == "off":
        return None
    ca_file, cert, key = (str(folder / f"{name}.pem") for name in KEYS)
    return Security(
        tls_ca_file=ca_file, tls_worker_cert=cert, tls_worker_key=key, tls_client_cert=cert, tls_client_key=key,
        require_encryption=True,
    )  # fmt: skip
