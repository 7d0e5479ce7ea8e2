"""TLS certificates of one run, with which its processes authenticate each other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed.security import Security

from pyama_dask.config.cluster import Cluster
from pyama_dask.files.atomic import remove_below

KEYS = ("ca_file", "cert", "key")
"""Files in a folder of certificates: the trusted authority, the certificate, and its private key."""


def protocol(cluster: Cluster) -> str:
    """Protocol between the processes of a run, for their addresses."""
    return "tls://" if cluster.tls == "on" else "tcp://"


@contextmanager
def keys(cluster: Cluster, folder: Path) -> Iterator[tuple[Security | None, Security | None]]:
    """Certificates for one run: in memory for its scheduler, and in a private folder for its jobs, until it ends."""
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
    """Remove the certificates of killed runs; call it with the lock of the output, as a live run needs its own."""
    for old in work.glob("keys-*"):
        with suppress(OSError):
            remove_below(old, [f"{name}.pem" for name in KEYS])


def security_in(cluster: Cluster, folder: Path) -> Security | None:
    """Certificates of a run in files, for workers and clients; None without TLS."""
    if cluster.tls == "off":
        return None
    ca_file, cert, key = (str(folder / f"{name}.pem") for name in KEYS)
    return Security(
        tls_ca_file=ca_file, tls_worker_cert=cert, tls_worker_key=key, tls_client_cert=cert, tls_client_key=key,
        require_encryption=True,
    )  # fmt: skip
