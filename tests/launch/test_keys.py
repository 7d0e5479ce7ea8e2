"""Keys of a run: who holds them can talk to its processes, and nobody else; nothing of them is left."""

import asyncio
import stat

import pytest
from distributed.core import Server, connect

from pyama_dask.config.cluster import Cluster
from pyama_dask.launch.keys import forget_keys, keys, protocol


def cluster(tls):
    return Cluster(kind="slurm", jobs=1, memory="1GiB", walltime="01:00:00", tls=tls)


def test_keys_are_for_their_owner_only_and_go_with_the_run(tmp_path):
    folder = tmp_path / "keys-run"
    with keys(cluster("on"), folder) as (_, of_jobs):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
        assert {file.name for file in folder.iterdir()} == {"ca_file.pem", "cert.pem", "key.pem"}
        assert of_jobs.get_tls_config_for_role("worker")["key"] == str(folder / "key.pem")
        assert of_jobs.require_encryption
    assert list(tmp_path.iterdir()) == []


def test_keys_go_when_the_run_fails_too(tmp_path):
    with pytest.raises(RuntimeError), keys(cluster("on"), tmp_path / "keys-run"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_keys_that_a_killed_run_left_are_taken_away(tmp_path):
    old = tmp_path / "keys-old"
    old.mkdir()
    (old / "key.pem").touch()
    forget_keys(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_tls_there_are_none(tmp_path):
    with keys(cluster("off"), tmp_path / "keys-run") as found:
        assert found == (None, None)
        assert list(tmp_path.iterdir()) == []
    assert (protocol(cluster("off")), protocol(cluster("on"))) == ("tcp://", "tls://")


def test_only_who_has_the_keys_is_heard(tmp_path):
    async def answers(of_server, of_caller):
        server = Server({"hello": lambda: "hello"})
        await server.listen("tls://127.0.0.1:0", **of_server.get_listen_args("scheduler"))
        try:
            comm = await connect(server.address, timeout=5, **of_caller.get_connection_args("worker"))
            await comm.write({"op": "hello", "reply": True})
            answer = await comm.read()
            await comm.close()
            return answer
        finally:
            await server.close()

    for name in "ab":
        (tmp_path / name).mkdir()
    with keys(cluster("on"), tmp_path / "a" / "keys-1") as (here, of_jobs):
        assert asyncio.run(answers(here, of_jobs)) == "hello"
        with (
            keys(cluster("on"), tmp_path / "b" / "keys-2") as (_, of_others),
            pytest.raises(OSError, match="TLS certificate does not match"),
        ):
            asyncio.run(answers(here, of_others))
