"""Grid Engine on this machine: a master and an execution host of a cluster of their own, in a folder of their own.

``python tests/support/gridengine.py up FOLDER`` starts them and says what a shell needs to submit jobs;
``... down FOLDER`` ends them. Needs root, and Debian's ``gridengine-master``, ``gridengine-exec`` and
``gridengine-client``, which may be installed without a cluster.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

INSTALLED, SHARED, TOOLS = (Path(f"/{path}/gridengine") for path in ("var/lib", "usr/share", "usr/lib"))
COMMANDS = ("sge_qmaster", "sge_execd", "qconf", "qsub", "qstat", "qdel")
DAEMONS = ("sge_execd", "sge_qmaster")

BOOTSTRAP = """\
admin_user none
default_domain none
ignore_fqdn true
spooling_method classic
spooling_lib libspoolc
spooling_params {spool}
binary_path /usr/sbin
qmaster_spool_dir {folder}/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
EXECUTION_HOST = """\
hostname {host}
load_scaling NONE
complex_values NONE
user_lists NONE
xuser_lists NONE
projects NONE
xprojects NONE
usage_scaling NONE
report_variables NONE
"""
CONFIGURATION = {
    "execd_spool_dir": "{folder}/execd", "mailer": "/bin/true", "administrator_mail": "none",
    "min_uid": "0", "min_gid": "0", "load_report_time": "00:00:05",
}  # fmt: skip
QUEUE = {
    "qname": "all.q", "hostlist": "{host}", "slots": "2", "load_thresholds": "NONE", "pe_list": "smp",
    "shell": "/bin/csh",  # as on most clusters: jobs must say which shell they want
}  # fmt: skip
IDLE = r"all\.q@\S+ +\S+ +0/0/2 +[\d.]+ +\S+ *$"
"""How the queue is listed when its host is there."""
SCHEDULING = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}


def missing() -> str:
    """Say why there can be no Grid Engine here; nothing if there can."""
    if os.geteuid() != 0:
        return "starting Grid Engine needs root"
    gone = [name for name in COMMANDS if shutil.which(name) is None]
    return f"Grid Engine is not installed: no {', '.join(gone)}" if gone else ""


def start(folder: Path) -> dict[str, str]:
    """Start a cluster of two slots; return the variables by which commands find it."""
    common = folder / "root" / "default" / "common"
    for path in (common, folder / "qmaster" / "job_scripts", folder / "spool", folder / "execd"):
        path.mkdir(parents=True)
    for name in ("bin", "lib", "util", "utilbin"):
        (folder / "root" / name).symlink_to(INSTALLED / name)
    host, spool = socket.gethostname(), f"{common};{folder}/spool"
    (common / "act_qmaster").write_text(f"{host}\n")
    (common / "host_aliases").write_text(f"{host} localhost\n")
    (common / "bootstrap").write_text(BOOTSTRAP.format(folder=folder, spool=spool))
    master, execution = free_ports(2)
    variables = {
        "SGE_ROOT": f"{folder}/root", "SGE_CELL": "default",
        "SGE_QMASTER_PORT": str(master), "SGE_EXECD_PORT": str(execution),
    }  # fmt: skip
    (folder / "variables").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=os.environ | variables, cwd=folder, check=False, capture_output=True, text=True, timeout=60
        )

    def do(*command: str) -> str:
        done = run(*command)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def configure(option: str, text: str) -> None:
        (folder / "setting").write_text(text)
        do("qconf", option, f"{folder}/setting")

    resources = SHARED / "util" / "resources"
    named = {name: value.format(folder=folder) for name, value in CONFIGURATION.items()}
    (folder / "setting").write_text(changed((SHARED / "default-configuration").read_text(), named))
    do(f"{TOOLS}/spoolinit", "classic", "libspoolc", spool, "init")
    do(f"{TOOLS}/spooldefaults", "configuration", f"{folder}/setting")
    do(f"{TOOLS}/spooldefaults", "complexes", f"{resources}/centry")
    do(f"{TOOLS}/spooldefaults", "usersets", f"{resources}/usersets")
    do(f"{TOOLS}/spooldefaults", "managers", "root")
    try:
        do("sge_qmaster")
        wait_until(lambda: not run("qconf", "-sh").returncode, (folder / "qmaster" / "messages").read_text)
        do("qconf", "-as", host)
        configure("-Ae", EXECUTION_HOST.format(host=host))
        configure("-Ap", (resources / "pe" / "smp").read_text())
        configure("-Aq", changed(do("qconf", "-sq"), {name: value.format(host=host) for name, value in QUEUE.items()}))
        configure("-Msconf", changed(do("qconf", "-ssconf"), SCHEDULING))
        do("sge_execd")
        wait_until(lambda: re.search(IDLE, do("qstat", "-f"), re.MULTILINE), lambda: do("qstat", "-f"))
    except BaseException:
        stop(folder)
        raise
    return variables


def wait_until(there: Callable[[], object], said: Callable[[], str]) -> None:
    """Wait for a daemon, a minute at most."""
    until = time.monotonic() + 60
    while not there():
        if time.monotonic() > until:
            raise TimeoutError(f"a daemon of Grid Engine has not begun: {said()}")
        time.sleep(0.1)


def stop(folder: Path) -> None:
    """End all jobs of a cluster, then its daemons, which have nothing to keep."""
    variables = dict(line.split("=", 1) for line in (folder / "variables").read_text().splitlines())
    if processes("sge_qmaster", folder):
        for command in (["qdel", "-u", "*"], ["qconf", "-ke", "all"]):
            subprocess.run(command, env=os.environ | variables, check=False, capture_output=True, timeout=60)
    for name in DAEMONS:
        for process in processes(name, folder):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        while processes(name, folder):
            time.sleep(0.05)


def processes(name: str, folder: Path) -> list[int]:
    """Running daemons of a name that belong to a cluster, as their environment says."""
    found = []
    for path in Path("/proc").iterdir():
        with suppress(OSError):
            if path.name.isdigit() and (path / "comm").read_text().strip() == name:
                variables = (path / "environ").read_bytes().split(b"\0")
                if f"SGE_ROOT={folder}/root".encode() in variables:
                    found.append(int(path.name))
    return found


def changed(text: str, settings: Mapping[str, str]) -> str:
    """Settings of Grid Engine, a name and a value in each line, with some values changed."""
    for name, value in settings.items():
        text = re.sub(rf"^{name} .*(\\\n.*)*", lambda _, line=f"{name} {value}": line, text, flags=re.MULTILINE)
    return text


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    probes = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


if __name__ == "__main__":
    action, where = sys.argv[1], Path(sys.argv[2]).absolute()
    if action == "up":
        if why := missing():
            sys.exit(why)
        for name, value in start(where).items():
            print(f"export {name}={value}")
    else:
        stop(where)
