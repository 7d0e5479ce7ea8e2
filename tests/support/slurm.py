"""A real Slurm on this machine, without systemd or cgroups: four virtual nodes, loopback only.

All that it writes is in a directory of its own, so that several can run side by side, and beside a system's own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "munged", "munge", "su")
NODES = ("n1", "n2", "n3", "n4")
CONF = """
ClusterName=sandbox
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={munge}/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
# memory is looked after by asking every two seconds, as there are no cgroups
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.log
SlurmdParameters=config_overrides
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=100000,batch_sched_delay=0
ReturnToService=2
SlurmdTimeout=20
SlurmctldTimeout=20
InactiveLimit=0
KillWait=10
MinJobAge=600
MaxJobCount=5000
JobRequeue=0
NodeName=DEFAULT CPUs={cores} Sockets=1 CoresPerSocket={cores} ThreadsPerCore=1 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
{nodes}
PartitionName=main Nodes=n[1-4] Default=YES MaxTime=INFINITE DefMemPerCPU=500 State=UP
PartitionName=short Nodes=n[1-4] MaxTime=1 DefMemPerCPU=500 State=UP
"""
LISTED = 15.0
ENDING = 20.0
"""Seconds within which all nodes must be there."""


def unavailable() -> str | None:
    """Why no Slurm can be started here; None if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        return f"Slurm is not installed ({', '.join(missing)}): apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "Slurm's daemons are started by root only"


class Slurm:
    """A Slurm that runs.

    Parameters
    ----------
    folder
        Empty directory, with a short path, that other users may enter.
    cores
        Of each node, as jobs see it; the machine may have fewer.
    """

    def __init__(self, folder: Path, cores: int = 2) -> None:
        self.folder, self.munge, self.cores = folder, folder / "munge", cores
        self.conf = folder / "slurm.conf"
        self.environment = {"SLURM_CONF": str(self.conf), "PATH": _path()}
        """What programs need to use it."""

    def start(self) -> None:
        """Start its daemons, and wait until all nodes are idle."""
        for name in ("state", *(f"spool.{node}" for node in NODES)):
            (self.folder / name).mkdir()
        self.munge.mkdir(mode=0o755)
        (self.munge / "key").write_bytes(os.urandom(1024))
        (self.munge / "key").chmod(0o400)
        shutil.chown(self.munge, "munge", "munge")
        shutil.chown(self.munge / "key", "munge", "munge")
        places = " ".join(
            f"--{what}={self.munge / what.partition('-')[0]}"
            for what in ("key-file", "socket", "pid-file", "log-file", "seed-file")
        )
        subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", f"munged {places}"], check=True, env=self.env())
        ports = free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
            for node, port in zip(NODES, ports[1:], strict=True)
        )
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null,/dev/zero\n")  # made-up devices
        words = {"host": host, "munge": self.munge, "folder": self.folder, "nodes": nodes, "cores": self.cores}
        self.conf.write_text(CONF.format(ports=ports, **words))
        self.start_controller()
        for node in NODES:
            subprocess.run(["slurmd", "-N", node, "-f", self.conf], check=True, env=self.env())
        until = time.monotonic() + LISTED
        while self.ask("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D").strip() != str(len(NODES)):
            if time.monotonic() > until:
                raise TimeoutError(f"Slurm's nodes are not idle: {self.ask('sinfo')}{self.ask('sinfo', '-R')}")
            time.sleep(0.1)

    def start_controller(self) -> None:
        """Start the controller, for the first time or again."""
        subprocess.run(["slurmctld", "-f", self.conf], check=True, env=self.env())

    def stop_controller(self) -> None:
        """Take the controller away, as for maintenance: no command is answered any more, jobs go on."""
        self._end("slurmctld.pid", signal.SIGTERM)

    def stop(self) -> None:
        """End all jobs and daemons."""
        for job in self.jobs():
            self.ask("scancel", job)
        until = time.monotonic() + LISTED
        while self.jobs() and time.monotonic() < until:
            time.sleep(0.2)
        for name in (*(f"slurmd.{node}.pid" for node in NODES), "slurmctld.pid", "munge/pid"):
            self._end(name)

    def ask(self, *command: str) -> str:
        """Answer of one of its commands; nothing if that fails."""
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self.env(), timeout=60)
        return done.stdout if done.returncode == 0 else ""

    def jobs(self, *states: str) -> list[str]:
        """Numbers of the jobs that wait or run, or of those in some states."""
        chosen = [f"--states={','.join(states)}"] if states else []
        return self.ask("squeue", "--noheader", "--format=%i", *chosen).split()

    def ended(self) -> list[dict[str, str]]:
        """What it has recorded of the jobs that have ended."""
        lines = (self.folder / "jobs.log").read_text().splitlines() if (self.folder / "jobs.log").exists() else []
        return [dict(word.partition("=")[::2] for word in line.split()) for line in lines]

    def _end(self, pid_file: str, number: int = signal.SIGKILL) -> None:
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            process = psutil.Process(int((self.folder / pid_file).read_text()))
            process.send_signal(number)
            until = time.monotonic() + ENDING
            while process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > until:
                    process.kill()
                time.sleep(0.05)

    def env(self) -> dict[str, str]:
        return os.environ | self.environment


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/bin"])


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nobody listens."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def running(folder: Path, cores: int = 2) -> Iterator[Slurm]:
    """Slurm for the time of the block, with so many cores on each node."""
    slurm = Slurm(folder, cores)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
