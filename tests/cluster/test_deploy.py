"""What lies in deploy/ is what it says: scripts run, configs make job scripts, commands exist, files are there."""

import json
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import typer.main
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.movies import config, file_bytes, write_config

import pyama_dask
from pyama_dask.cli.commands import app
from pyama_dask.config.cluster import QUEUES, Cluster
from pyama_dask.config.load import load_config
from pyama_dask.launch.job_scripts import job_script
from pyama_dask.runs.template import cluster_keys

ROOT = Path(pyama_dask.__file__).parents[1]
DEPLOY = ROOT / "deploy"
CONFIGS = sorted((DEPLOY / "config").glob("*.yaml"))
SCRIPTS = sorted((DEPLOY / "slurm").glob("*.sbatch"))


# ------------------------------------------------------------------------------------------------- configs

DIRECTIVES = {
    "slurm": [
        "#SBATCH -p PARTITION", "#SBATCH -A ACCOUNT", "#SBATCH -n 1", "#SBATCH --cpus-per-task=1",
        "#SBATCH --mem=4096M", "#SBATCH -t 04:00:00",
    ],
    "pbs": [
        "#PBS -q QUEUE", "#PBS -A ACCOUNT", "#PBS -l select=1:ncpus=1:mem=4096MB", "#PBS -l walltime=04:00:00",
    ],
    "lsf": [
        "#BSUB -q QUEUE", '#BSUB -P "PROJECT"', "#BSUB -n 1", "#BSUB -M 4294968", "#BSUB -W 04:00",
        '#BSUB -R "rusage[mem=4096]"',
    ],
    "sge": [
        "#$ -q QUEUE", "#$ -P PROJECT", "#$ -l h_vmem=4096M", "#$ -l h_rt=04:00:00", "#$ -pe smp 4",
    ],
    "oar": [
        "#OAR -q QUEUE", "#OAR --project PROJECT", "#OAR -l /nodes=1/core=1,walltime=04:00:00",
        "#OAR -p memcore>=4096",
    ],
    "htcondor": [
        "RequestCpus = MY.DaskWorkerCores", "RequestMemory = floor(MY.DaskWorkerMemory / 1048576)",
        "RequestDisk = floor(MY.DaskWorkerDisk / 1024)", "MY.DaskWorkerCores = 1", "MY.DaskWorkerMemory = 4294967296",
        "MY.DaskWorkerDisk = 2147483648", "accounting_group = GROUP",
    ],
}  # fmt: skip
"""What each queue is told of cores, memory, walltime, queue and account, beside names and logs."""
NAMES_AND_LOGS = r"#\S+ (-[JNn] pyama-RUN|-[eoEO] LOGS/.*|-cwd|-j y|-S /bin/bash)"


@pytest.fixture(autouse=True)
def no_site(monkeypatch, tmp_path):
    """A machine whose site has not configured LSF, or PBS accounts."""
    monkeypatch.chdir(tmp_path)  # dask-jobqueue makes the folder of logs that a script names
    monkeypatch.setenv("LSF_ENVDIR", str(tmp_path))
    monkeypatch.delenv("PBS_ACCOUNT", raising=False)


def test_every_kind_of_cluster_that_is_not_this_machine_has_a_config():
    assert {path.stem for path in CONFIGS} == {*QUEUES, "runner", "address"}
    assert {load_config(path).cluster.kind for path in CONFIGS} == {path.stem for path in CONFIGS}
    for path in CONFIGS:
        assert load_config(path).cluster.model_fields_set <= cluster_keys(path.stem).keys()


@pytest.mark.parametrize("kind", QUEUES)
def test_the_config_of_a_queue_makes_a_job_script_with_its_directives(kind):
    cluster = load_config(DEPLOY / "config" / f"{kind}.yaml").cluster
    lines = job_script(cluster, {}).splitlines()
    told = [line for line in lines[1:] if line.startswith("#")] if kind != "htcondor" else lines
    assert set(DIRECTIVES[kind]) <= set(told)
    if kind != "htcondor":
        assert [line for line in told if line not in DIRECTIVES[kind] and not re.fullmatch(NAMES_AND_LOGS, line)] == []


@pytest.mark.parametrize("kind", QUEUES)
def test_the_workers_of_a_queue_have_a_process_a_core_and_its_memory(kind):
    cluster = load_config(DEPLOY / "config" / f"{kind}.yaml").cluster
    worker = next(line for line in job_script(cluster, {}).splitlines() if "dask_worker" in line)
    words = worker.rstrip("'\"").split()
    after = {word: words[k + 1] for k, word in enumerate(words[:-1]) if word.startswith("--")}
    assert int(after["--nthreads"]) * int(after.get("--nworkers", "1")) == cluster.cores
    assert int(after["--memory-limit"]) == cluster.worker_bytes
    assert words.count("--memory-limit") == 1
    assert after["--interface"] == cluster.interface


def test_as_many_slots_of_grid_engine_are_asked_for_as_the_job_has_cores():
    cluster = load_config(DEPLOY / "config" / "sge.yaml").cluster
    assert f"-pe smp {cluster.cores}" in cluster.directives


def test_a_python_in_a_container_is_put_into_the_job_script_as_it_is():
    block = next(of for of in code_blocks("yaml") if "apptainer" in of)
    python = yaml.safe_load(block)["cluster"]["options"]["python"]
    cluster = load_config(DEPLOY / "config" / "slurm.yaml", {"cluster.options": {"python": python}}).cluster
    assert f"\n{python} -m distributed.cli.dask_worker tls://" in job_script(cluster, {})


# --------------------------------------------------------------------------------------------- environments

COPIED = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "pyama_dask"}


def test_an_image_has_all_that_a_wheel_is_built_from():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"], *packages} <= COPIED
    assert all((ROOT / name).exists() for name in COPIED)


def test_the_dockerfile_has_known_instructions_and_copies_what_there_is():
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]
    assert [line[0] for line in lines] == ["FROM", "COPY", "COPY", "RUN", "ENV", "ENTRYPOINT"]
    assert {name for line in lines if line[0] == "COPY" for name in line[1:-1]} == COPIED
    assert json.loads(text[text.index("ENTRYPOINT") :].split(maxsplit=1)[1]) == ["pyama-dask"]


def test_the_apptainer_definition_has_known_sections_and_copies_what_there_is():
    header, *sections = re.split(r"^%(\w+)\n", (DEPLOY / "apptainer.def").read_text(), flags=re.MULTILINE)
    part = dict(zip(sections[::2], sections[1::2], strict=True))
    assert re.findall(r"^(\w+): (\S+)$", header, re.MULTILINE)[-2:] == [
        ("Bootstrap", "docker"), ("From", python_of_the_dockerfile()),
    ]  # fmt: skip
    assert set(part) == {"files", "post", "runscript"}
    pairs = [line.split() for line in part["files"].splitlines() if line.strip()]
    assert {source for source, _ in pairs} == COPIED
    assert all(to == f"/source/{source}" for source, to in pairs)
    for script in ("post", "runscript"):
        subprocess.run(["sh", "-n"], input=part[script], text=True, check=True)


def python_of_the_dockerfile():
    return re.search(r"^FROM (python:\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)[1]


def test_the_conda_environment_installs_the_checkout():
    path = DEPLOY / "environment.yml"
    environment = yaml.safe_load(path.read_text())
    assert set(environment) == {"name", "channels", "dependencies"}
    plain = [of for of in environment["dependencies"] if isinstance(of, str)]
    (pip,) = [of["pip"] for of in environment["dependencies"] if isinstance(of, dict)]
    assert "pip" in plain
    options, checkout = pip
    assert shlex.split(options)[0] == "--constraint"
    assert (path.parent / shlex.split(options)[1]).resolve() == ROOT / "constraints.txt"
    assert (path.parent / checkout).resolve() == ROOT
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    minor = [int(re.search(r"3\.(\d+)", of)[1]) for of in (*plain, wanted, python_of_the_dockerfile()) if "3." in of]
    assert min(minor) == minor[1]  # no older than the project wants
    assert len(minor) == 3


@pytest.mark.parametrize("python", ["3.11.7", "3.12.1", "3.13.0"])
def test_every_dependency_is_pinned_within_its_range(python):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    named = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *extras["test"],
        *extras["check"],
    ]
    lines = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    here = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    pins = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in lines if pin.marker is None or pin.marker.evaluate(here)
    }  # fmt: skip
    for wanted in map(Requirement, named):
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted


# -------------------------------------------------------------------------------------------- what is shown


README = (DEPLOY / "README.md").read_text()
CLUSTER = (ROOT / "docs" / "cluster.md").read_text()
TEXTS = [CLUSTER, *(path.read_text() for path in sorted(DEPLOY.rglob("*")) if path.is_file())]
SHOWN = {
    " ".join(of.split())
    for text in TEXTS
    for of in re.findall(r"pyama-dask(?:\.sif)? ([a-z]+(?![\w/}])[^'`#\n]*)", text)
}
"""Every ``pyama-dask`` command that is shown, in code, in comments and in prose."""


def code_blocks(language):
    """Code of a language that deploy/README.md shows."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_commands_are_found():
    commands = {shown.split()[0] for shown in SHOWN}
    assert commands == {"inspect", "init", "doctor", "plan", "run", "top", "status", "verify"}
    assert "run /SHARED/run.yaml --cluster runner --set cluster.memory=auto" in SHOWN


@pytest.mark.parametrize("shown", sorted(SHOWN))
def test_a_command_that_is_shown_exists_with_its_options(shown):
    name, *words = shlex.split(shown)
    command = typer.main.get_command(app).commands[name]
    if words:
        command.make_context(name, words)  # refuses what it does not know, and runs nothing


def test_the_table_of_keys_has_all_keys_of_the_config_with_their_defaults():
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \| (.+) \|$", CLUSTER.partition("## Keys")[2], re.MULTILINE)
    defaults = Cluster().model_dump(mode="json")
    assert [key for key, _, _ in rows] == list(dict.fromkeys(key for key, _, _ in rows))
    assert {key: as_switch_says(value) for key, value, _ in rows} == defaults


def as_switch_says(value):
    """Value of YAML, but for ``on``, which is a word in the config."""
    return value if value == "on" else yaml.safe_load(value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_files_that_the_readme_names_are_there(path):
    assert re.search(rf"`config/.*\b{path.stem}\b", README)


def test_paths_that_the_readme_names_are_there():
    named = {ROOT / name for name in re.findall(r"deploy/[\w./-]+\w", README)}
    named |= {
        DEPLOY / name for name in re.findall(r"`((?:config|slurm)/[\w.-]+|[\w-]+\.(?:yml|def)|Dockerfile)`", README)
    }
    named |= {DEPLOY / name for name in re.findall(r"\]\(([^)#]+)\)", README)}
    assert len(named) > 8
    assert [name for name in named if not name.exists()] == []


# ------------------------------------------------------------------------------------------- the sbatch files


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_bash_and_no_directive_comes_too_late(script):
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    first = next(k for k, line in enumerate(lines) if line and not line.startswith("#"))
    assert any(line.startswith("#SBATCH") for line in lines[:first])
    assert not any(line.startswith("#SBATCH") for line in lines[first:])  # Slurm would not read it


def filled_in(script, to, changes):
    """Write a script with what is true here in place of what a person changes."""
    text = script.read_text()
    for pattern, value in {r"#SBATCH --account=.*\n": "", **changes}.items():
        text, times = re.subn(pattern, value, text)
        assert times == 1, pattern
    code = "\n".join(line.partition(" #")[0] for line in text.splitlines() if not line.startswith("# "))
    assert not re.search(r"PARTITION|ACCOUNT|/PATH/", code)
    to.write_text(text)
    return to


def state_of(job):
    """How a job stands, and its exit status, as Slurm says."""
    said = subprocess.run(
        ["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True, check=True, timeout=60
    )
    return re.search(r"JobState=(\w+)", said.stdout)[1], int(re.search(r"ExitCode=(\d+)", said.stdout)[1])


def done_by_slurm(script, folder, seconds=180.0):
    """Submit a script, and wait until it has ended; gives its state, its exit status and what it said."""
    command = ["sbatch", "--parsable", "--chdir", folder, f"--export=ALL,PYTHONPATH={ROOT}", script]
    job = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    until = time.monotonic() + seconds
    try:
        while (state := state_of(job))[0] in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
            assert time.monotonic() < until, state
            time.sleep(0.5)
    finally:
        subprocess.run(["scancel", "--quiet", job], check=False, timeout=60)
    return (*state, "\n".join(path.read_text() for path in folder.glob(f"*-{job}.log")))


SIZES = {
    "driver.sbatch": {r"--mem=\S+": "--mem=1G"},
    "one-allocation.sbatch": {r"--ntasks=\S+": "--ntasks=4", r"--mem-per-cpu=\S+": "--mem-per-cpu=900M"},
}
QUEUED = {"kind": "slurm", "jobs": 2, "memory": "1GiB", "walltime": "00:10:00", "interface": "lo"}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_finishes_a_run_with_the_bytes_of_a_serial_one(script, tmp_path, slurm, small_czi, finished):
    output = tmp_path / "results"
    run = write_config(tmp_path / "run.yaml", config(small_czi, output, {"cluster": QUEUED}))
    changes = {
        "PARTITION": "main",
        r"--time=\S+": "--time=10",
        "/PATH/TO/ENVIRONMENT": str(Path(sys.executable).parents[1]),
        "/PATH/TO/RUN.yaml": str(run),
    }
    mine = filled_in(script, tmp_path / script.name, changes | SIZES[script.name])
    state, status, said = done_by_slurm(mine, tmp_path)
    assert (state, status) == ("COMPLETED", 0), said
    assert "2 FOVs done" in said
    by_jobs = list((output / ".pyama_dask" / "jobs").glob("pyama-*.err"))
    assert bool(by_jobs) == (script.name == "driver.sbatch")
    assert file_bytes(output) == file_bytes(finished)
