"""What jobs of each queue are made of, and what its commands say, read from commands that the tests write."""

import os
import shlex
import shutil
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed.security import Security

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import ConfigError, QueueError
from pyama_dask.launch import job_scripts, queue_commands
from pyama_dask.launch.job_scripts import Place, job_script, make_job
from pyama_dask.launch.queue_commands import Listed, check_queue, is_passing, listed, more_of, submit
from pyama_dask.launch.queue_kinds import KINDS

MORE = {"htcondor": {"options": {"disk": "2GB"}}, "sge": {"directives": ["-pe smp 4"]}}
KEYS = Security(tls_ca_file="/k/ca_file.pem", tls_worker_cert="/k/cert.pem", tls_worker_key="/k/key.pem")


def asked(kind, **keys):
    """Cluster of a config: one that has all that its kind needs."""
    times = {} if kind == "htcondor" else {"walltime": "04:00:30"}
    return Cluster.model_validate(
        {"kind": kind, "jobs": 2, "memory": "8GiB", "cores": 4, **times, **MORE.get(kind, {}), **keys}
    )


def script(kind, logs, **keys):
    place = Place("tls://10.0.0.1:8786", "pyama-run", logs, {"SOME": "a 'b' c"}, KEYS)
    return make_job(asked(kind, **keys), place, "pyama-run-3").job_script()


@pytest.fixture(params=sorted(KINDS))
def kind(request):
    return request.param


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Write a command into the only folder of commands that there is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("cat", "sleep"):
        (folder / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(folder))

    def write(name, says="", status=0, errors="", does=""):
        (folder / f"{name}.out").write_bytes(says.encode() if isinstance(says, str) else says)
        (folder / f"{name}.err").write_text(errors)
        (folder / name).write_text(
            f"#!/bin/sh\n{does}\ncat {folder}/{name}.out\ncat {folder}/{name}.err >&2\nexit {status}\n"
        )
        (folder / name).chmod(stat.S_IRWXU)

    return write


# ------------------------------------------------------------------------------------------- job scripts


DIRECTIVES = {
    "slurm": ["-J pyama-run", "-p long", "-A lab", "--cpus-per-task=4", "--mem=8192M", "-t 04:00:30", "--nice=5"],
    "pbs": ["-N pyama-run", "-q long", "-A lab", "-l select=1:ncpus=4:mem=8192MB", "-l walltime=04:00:30", "--nice=5"],
    "lsf": ["-J pyama-run", "-q long", '-P "lab"', "-n 4", '-R "span[hosts=1]"', "-M 8589935", "-W 04:01", "--nice=5"],
    "sge": ["-N pyama-run", "-q long", "-P lab", "-l h_vmem=2048M", "-l h_rt=04:00:30", "-pe smp 4", "--nice=5"],
    "oar": ["-n pyama-run", "-q long", "--project lab", "-l /nodes=1/core=4,walltime=04:00:30", "--nice=5"],
}
LOGS = {
    "slurm": ["-e LOGS/pyama-run-%J.err", "-o LOGS/pyama-run-%J.out"],
    "pbs": ["-e LOGS/", "-o LOGS/"],
    "lsf": ["-e LOGS/pyama-run-3-%J.err", "-o LOGS/pyama-run-3-%J.out"],
    "sge": ["-e LOGS/", "-o LOGS/", "-j y"],
    "oar": ["-O LOGS/%jobname%.%jobid%.out", "-E LOGS/%jobname%.%jobid%.err"],
}
MARKS = {"slurm": "#SBATCH", "pbs": "#PBS", "lsf": "#BSUB", "sge": "#$", "oar": "#OAR"}


@pytest.mark.parametrize("kind", sorted(MARKS))
def test_directives_ask_for_what_the_config_says(kind, tmp_path):
    own = [*MORE.get(kind, {}).get("directives", []), "--nice=5"]
    text = script(kind, tmp_path, queue="long", account="lab", directives=own)
    found = [line.removeprefix(f"{MARKS[kind]} ") for line in text.splitlines() if line.startswith(MARKS[kind])]
    wanted = DIRECTIVES[kind] + [line.replace("LOGS", str(tmp_path)) for line in LOGS[kind]]
    assert set(wanted) <= set(found)


def test_directives_of_htcondor(tmp_path):
    text = script("htcondor", tmp_path, directives=['requirements = Arch == "X86_64"', "accounting_group=lab"])
    lines = text.splitlines()
    assert 'requirements = Arch == "X86_64"' in lines
    assert "accounting_group = lab" in lines
    assert {"MY.DaskWorkerCores = 4", f"MY.DaskWorkerMemory = {8 * 2**30}", f"LogDirectory = {tmp_path}"} <= set(lines)


def for_shell(text, kind):
    """What a job's shell is given."""
    if kind != "htcondor":
        return text
    (line,) = (line for line in text.splitlines() if line.startswith("Arguments"))
    quoted = line.removeprefix('Arguments = "-c ').removesuffix('"')
    return quoted.replace('""', '"')[1:-1].replace("''", "'")


def commands_of(text, kind):
    """Lines that a job's shell does."""
    lines = for_shell(text, kind).split("; " if kind == "htcondor" else "\n")
    return [line for line in lines if line and not line.startswith("#")]


def test_the_environment_and_the_prologue_come_before_the_workers(kind, tmp_path):
    lines = commands_of(script(kind, tmp_path, prologue=["module load cuda", "cd /fast"]), kind)
    times = [
        "export PYAMA_DASK_JOB_LASTS=14430",
        "export PYAMA_DASK_JOB_ENDS=$(( $(date +%s) + PYAMA_DASK_JOB_LASTS ))",
    ]
    times = [] if kind == "htcondor" else times
    setting = f"export SOME={shlex.quote(chr(97) + ' ' + repr('b') + ' c')}"
    assert lines[:-1] == [*times, setting, "module load cuda", "cd /fast"]


def test_workers_are_told_all_that_they_need(kind, tmp_path):
    cluster = {"processes": 2, "interface": "ib0", "local_directory": "/scratch"}
    options = {**MORE.get(kind, {}).get("options", {}), "worker_extra_args": ["--resources", "GPU=1"]}
    words = shlex.split(commands_of(script(kind, tmp_path, **cluster, options=options), kind)[-1])
    assert words.count("--memory-limit") == 1
    given = {word: words[i + 1] for i, word in enumerate(words[:-1]) if word.startswith("--")}
    each = (8 * 2**30 - 200 * 2**20) // 2
    assert "tls://10.0.0.1:8786" in words
    assert given | {
        "--name": "pyama-run-3", "--nworkers": "2", "--nthreads": "2", "--memory-limit": str(each),
        "--death-timeout": "60", "--interface": "ib0", "--local-directory": "/scratch", "--resources": "GPU=1",
        "--tls-ca-file": "/k/ca_file.pem", "--tls-cert": "/k/cert.pem", "--tls-key": "/k/key.pem",
    } == given  # fmt: skip


def test_shells_that_know_no_export_are_not_asked(tmp_path):
    for kind in ("pbs", "sge"):
        assert f"{MARKS[kind]} -S /bin/bash" in script(kind, tmp_path).splitlines()


@pytest.mark.parametrize(("given", "written"), [("00:00:30", "00:01"), ("02:00:00", "02:00"), ("2-00:00:01", "48:01")])
def test_a_walltime_of_lsf_is_no_shorter_than_asked_for(given, written, tmp_path):
    assert f"#BSUB -W {written}" in script("lsf", tmp_path, walltime=given).splitlines()


def test_a_script_to_look_at_makes_no_folder(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = job_script(asked(kind), {"A": "1"})
    assert "tls://SCHEDULER:PORT" in text
    assert "LOGS" in text
    assert "WORKER" in text
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("kind", "option", "line"),
    [
        ("slurm", {"job_mem": "20G"}, "#SBATCH --mem=20G"),
        ("slurm", {"shebang": "#!/bin/bash -l"}, "#!/bin/bash -l"),
        ("pbs", {"resource_spec": "nodes=1:ppn=4"}, "#PBS -l nodes=1:ppn=4"),
        ("lsf", {"mem": 10**9, "lsf_units": "mb"}, "#BSUB -M 1000"),
        ("sge", {"resource_spec": "mem_free=8G"}, "#$ -l mem_free=8G"),
        ("oar", {"memory_per_core_property_name": "mem_core"}, "#OAR -p mem_core>=2048"),
        ("htcondor", {"disk": "5GB"}, "MY.DaskWorkerDisk = 5000000000"),
    ],
)
def test_options_go_to_dask_jobqueue_by_its_own_names(kind, option, line, tmp_path):
    assert line in script(kind, tmp_path, options=option).splitlines()


def test_an_option_that_it_does_not_have_is_refused_in_one_line(kind, tmp_path):
    options = {**MORE.get(kind, {}).get("options", {}), "memmory": 1}
    with pytest.raises(
        ConfigError, match=r"^cluster\.options\.memmory: a config cannot set this option of \w+Job.*Fix: use one of "
    ) as error:
        script(kind, tmp_path, options=options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "key"),
    [("walltime", "walltime"), ("memory", "memory"), ("job_script_prologue", "prologue"), ("project", "account")],
)
def test_an_option_that_is_a_key_of_the_config_is_refused(option, key, tmp_path):
    with pytest.raises(
        ConfigError, match=rf"cluster\.options\.{option}: has a separate key. Fix: set cluster\.{key} instead"
    ):
        script("slurm", tmp_path, options={option: "1"})


@pytest.mark.parametrize("option", ["scheduler", "name", "log_directory"])
def test_an_option_that_a_run_sets_is_refused(option, tmp_path):
    with pytest.raises(ConfigError, match=rf"cluster\.options\.{option}: a config cannot set this option"):
        script("slurm", tmp_path, options={option: "x"})


def test_words_for_workers_must_be_a_list(tmp_path):
    with pytest.raises(ConfigError, match="worker_extra_args: is not a list"):
        script("slurm", tmp_path, options={"worker_extra_args": "--resources GPU=1"})


ODD = """a b'c"d`touch BAD`;touch BAD|&<>(){}[]#!%\\ *?$"""
"""What a shell reads otherwise than it is written, but for variables."""


def test_a_shell_hands_on_every_word_as_it_is_written(kind, tmp_path):
    """But for variables and ``~``, which are the node's."""
    (recorder := tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\0" "$@" > words\n')
    recorder.chmod(0o700)
    call = "" if kind == "htcondor" else "$(touch BAD)"
    options = MORE.get(kind, {}).get("options", {}) | {"python": str(recorder)}
    options["worker_extra_args"] = ["--resources", f"{ODD}{call}", "~user", "~", "${UNSET_VARIABLE}"]
    text = script(
        kind, tmp_path, local_directory=f"~/{ODD}/$WHERE{call}", options=options, prologue=["WHERE='on node'"]
    )
    home = {"HOME": "/home/ann", "PATH": os.environ["PATH"]}
    subprocess.run(["/bin/bash", "-c", for_shell(text, kind)], check=True, cwd=tmp_path, env=home, timeout=60)
    words = (tmp_path / "words").read_text().split("\0")
    after = {word: words[i + 1] for i, word in enumerate(words[:-1]) if word.startswith("--")}
    assert after["--local-directory"] == f"/home/ann/{ODD}/on node{call}"
    assert after["--resources"] == f"{ODD}{call}"
    assert words[words.index("--resources") + 2 :][:3] == ["~user", "/home/ann", ""]
    assert not (tmp_path / "BAD").exists()


def test_names_that_cannot_stand_in_a_script_are_refused(kind, tmp_path):
    for odd in ("a b", "a\nb", "$(x)", "`x`", "a;b", "-x", "", "it's", 'a"b', "a#b"):
        for key in ("queue", "account", "interface") if kind != "htcondor" else ("interface",):
            with pytest.raises(ConfigError, match=rf"^cluster\.{key}: .* is not allowed in a job script. Fix: "):
                script(kind, tmp_path, **{key: odd})
        with pytest.raises(ConfigError, match=r"^cluster\.options\.job_name: "):
            script(kind, tmp_path, options=MORE.get(kind, {}).get("options", {}) | {"job_name": odd})


def test_line_breaks_are_refused(kind, tmp_path):
    options = MORE.get(kind, {}).get("options", {})
    more = MORE.get(kind, {}).get("directives", [])
    for key, keys in {
        "directives": {"directives": [*more, "a = b\rc = d" if kind == "htcondor" else "a\nb"]},
        "local_directory": {"local_directory": "/tmp\n/x"},
        "options.shebang": {"options": options | {"shebang": "#!/bin/sh\nrm"}},
        "options.worker_extra_args.1": {"options": options | {"worker_extra_args": ["--a", "b\r"]}},
    }.items():
        with pytest.raises(ConfigError, match=rf"^cluster\.{key}.*has control characters. Fix: write it in one line"):
            script(kind, tmp_path, **keys)


def test_what_htcondor_would_expand_is_refused(tmp_path):
    for key, given in {
        "prologue.0": {"prologue": ["export A=$(date)"]},
        "prologue.1": {"prologue": ["a", "b\nc"]},
        "local_directory": {"local_directory": "/x/$ENV(HOME)"},
        "options.python": {"options": {"disk": "2GB", "python": "$(which python)"}},
    }.items():
        with pytest.raises(ConfigError, match=rf"^cluster\.{key}: .*htcondor takes one line"):
            script("htcondor", tmp_path, **given)


@pytest.mark.parametrize("word", ["--memory-limit", "--memory-limit=3GB", "--nworkers", "--name"])
def test_words_for_workers_that_a_run_sets_are_refused(word, tmp_path):
    with pytest.raises(ConfigError, match=r"worker_extra_args: --\S+ is set by the run. Fix: "):
        script("slurm", tmp_path, options={"worker_extra_args": [word]})


def test_htcondor_needs_a_disk(tmp_path):
    with pytest.raises(ConfigError, match=r"cluster\.options\.disk: htcondor needs the disk space of a job"):
        script("htcondor", tmp_path, options={})


def test_many_cores_of_grid_engine_need_a_parallel_environment(tmp_path):
    with pytest.raises(ConfigError, match=r"cluster\.directives: .* '-pe smp 4'"):
        script("sge", tmp_path, directives=[])
    assert "h_vmem=8192M" in script("sge", tmp_path, directives=[], cores=1)


def test_a_folder_that_no_job_script_can_name_is_refused(kind, tmp_path):
    for odd in ("with space", "a(1)", "x$y", "50%", "it's"):
        with pytest.raises(ConfigError, match=r"output: a path with .* cannot be used in jobs of a queue"):
            script(kind, tmp_path / odd)


def test_what_dask_jobqueue_refuses_is_said_as_a_fault_of_the_config(tmp_path):
    with pytest.raises(ConfigError, match="cluster: dask-jobqueue refuses a slurm job: "):
        script("slurm", tmp_path, options={"job_cpu": "many"})


# ----------------------------------------------------------------------------------------------- listings


SGE_HEAD = """\
job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID
-----------------------------------------------------------------------------------------------------------------
"""
LISTINGS = {
    "slurm": """\
7 RUNNING None
8 PENDING ReqNodeNotAvail, UnavailableNodes:n[1-4], may be reserved
9 PENDING Resources
10_[3-7%2] PENDING JobArrayTaskLimit
10_2 RUNNING None
11+0 RUNNING None
12 COMPLETING None
13 CONFIGURING None
14 SUSPENDED None
15 REQUEUE_HOLD job_requeued_in_held_state
16 TIMEOUT TimeLimit
""",
    "pbs": """\
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
7.head            pyama-run        ann               00:01:10 R workq
8.head            pyama-run        ann                      0 Q workq
9[].head          sweep A Z        ann                      0 B workq
9[1].head         sweep            ann               00:00:00 X workq
10.head           pyama-run        ann               00:00:09 F workq
11.head           pyama-run        ann               00:00:09 E workq
12.head           pyama-run        ann                      0 H workq
""",
    "lsf": """\
7 RUN
8      PEND
9 DONE
10 EXIT
11 PSUSP
12 UNKWN
13 ZOMBI
14 SSUSP
""",
    "sge": SGE_HEAD
    + """\
      7 0.55500 pyama-run1 ann          r     11/21/2026 20:02:00 all.q@n1.site                      1
      8 0.00000 pyama-run1 ann          qw    11/21/2026 20:02:01                                    1
      9 0.55500 pyama-run1 ann          t     11/21/2026 20:02:00 all.q@n1.site                      1
     10 0.55500 pyama-run1 ann          Rr    11/21/2026 20:02:00 all.q@n1.site                      1
     11 0.00000 pyama-run1 ann          hqw   11/21/2026 20:02:01                                    1
     12 0.00000 pyama-run1 ann          Eqw   11/21/2026 20:02:01                                    1
     13 0.55500 pyama-run1 ann          dr    11/21/2026 20:02:00 all.q@n1.site                      1
     14 0.55500 pyama-run1 ann          s     11/21/2026 20:02:00 all.q@n1.site                      1
     15 0.00000 sweep      ann          qw    11/21/2026 20:02:01                                    1 3-9:1
""",
    "oar": """\
Job id     Name           User           Submission Date     S Queue
---------- -------------- -------------- ------------------- - ----------
7          pyama-run      ann            2026-11-21 20:02:00 R default
8                         ann            2026-11-21 20:02:01 W default
9          X A            ann            2026-11-21 20:02:02 L default
10         pyama-run      ann            2026-11-21 20:02:03 F default
11         pyama-run      ann            2026-11-21 20:02:04 E default
12         pyama-run      ann            2026-11-21 20:02:05 H besteffort
""",
    "htcondor": """\
7 2 undefined
8 1 undefined
9 5 Error from slot1@n1: Job has gone over memory limit of 1024 megabytes.
10 3 undefined
11 6 undefined
""",
}
FOUND = {
    "slurm": {
        "7": "running", "8": "pending", "9": "pending", "10": "running", "11": "running", "13": "pending",
        "14": "pending", "15": "pending",
    },
    "pbs": {"7": "running", "8": "pending", "9": "running", "11": "running", "12": "pending"},
    "lsf": {"7": "running", "8": "pending", "11": "pending", "12": "running", "14": "pending"},
    "sge": {
        "7": "running", "8": "pending", "9": "running", "10": "running", "11": "pending", "12": "stuck",
        "14": "pending", "15": "pending",
    },
    "oar": {"7": "running", "8": "pending", "9": "pending", "12": "pending"},
    "htcondor": {"7": "running", "8": "pending", "9": "stuck", "11": "running"},
}  # fmt: skip


def test_jobs_are_found_in_what_each_queue_lists(kind, command):
    command(KINDS[kind].listing[0], LISTINGS[kind])
    assert {number: job.state for number, job in listed(kind).items()} == FOUND[kind]


def test_reasons_are_taken_as_a_queue_says_them(command):
    command("squeue", LISTINGS["slurm"])
    assert listed("slurm")["8"].reason == "ReqNodeNotAvail, UnavailableNodes:n[1-4], may be reserved"
    command("condor_q", LISTINGS["htcondor"])
    assert listed("htcondor")["7"] == Listed("running")
    assert "gone over memory" in listed("htcondor")["9"].reason


def test_the_user_is_asked_for(kind, command, tmp_path, monkeypatch):
    monkeypatch.setattr("pwd.getpwuid", lambda _: SimpleNamespace(pw_name="ann"))
    command(KINDS[kind].listing[0], does=f'printf "%s\\n" "$@" > {tmp_path}/words')
    listed(kind)
    assert ("ann" in (tmp_path / "words").read_text()) == (kind != "pbs")


def test_settings_of_the_user_hide_no_jobs(command, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "completed")
    command("squeue", "7 RUNNING None\n", does='[ -z "$SQUEUE_STATES" ] || exit 0')
    assert set(listed("slurm")) == {"7"}


def test_an_empty_queue_has_no_jobs(kind, command):
    command(KINDS[kind].listing[0])
    assert listed(kind) == {}


@pytest.mark.parametrize("says", ["No unfinished job found", "No job found"])
def test_lsf_says_as_an_error_that_there_are_no_jobs(says, command):
    command("bjobs", errors=f"{says}\n", status=255)
    assert listed("lsf") == {}


def test_a_queue_that_does_not_answer_is_no_empty_queue(kind, command):
    command(KINDS[kind].listing[0], LISTINGS[kind], status=1, errors="server is\n not there\n")
    with pytest.raises(QueueError, match=r"server is not there") as error:
        listed(kind)
    assert error.value.passing


def test_a_command_that_says_nothing_when_it_fails(command):
    command("squeue", status=7)
    with pytest.raises(QueueError, match="squeue: status 7"):
        listed("slurm")


def test_a_command_that_is_not_there(kind, command):
    with pytest.raises(QueueError, match=rf"{KINDS[kind].listing[0]}: No such file") as error:
        listed(kind)
    assert not error.value.passing


def test_a_command_that_hangs(command, monkeypatch):
    monkeypatch.setattr(queue_commands, "ANSWERS", 0.2)
    command("squeue", does="exec sleep 600")
    with pytest.raises(QueueError, match="squeue did not answer in 0 s") as error:
        listed("slurm")
    assert error.value.passing


def test_names_of_others_that_are_no_text(command):
    command("qstat", LISTINGS["pbs"].encode() + b"13.head  Z\xe4hlung  bob  0 Q workq\n")
    assert set(listed("pbs")) == {*FOUND["pbs"], "13"}


def test_of_what_a_queue_says_of_a_job_only_its_end_is_taken(command):
    command("scontrol", "JobId=7 JobName=x UserId=bloom(7) Nice=0 JobState=FAILED Reason=NonZeroExitCode "
            "Dependency=(null) TimeLimit=00:10:00 PreemptTime=None WorkDir=/home/bloom/room\n")  # fmt: skip
    assert more_of("slurm", "7") == "JobState=FAILED Reason=NonZeroExitCode"
    command("bjobs", "Completed <exit>; TERM_MEMLIMIT: job killed after reaching LSF memory usage limit.\n")
    assert more_of("lsf", "7") == "TERM_MEMLIMIT"


def test_of_an_ended_job_a_queue_may_know_nothing(command):
    command("scontrol", status=1, errors="slurm_load_jobs error: Invalid job id specified")
    with pytest.raises(QueueError, match="Invalid job id"):
        more_of("slurm", "7")
    assert more_of("pbs", "7") == ""  # which is not asked


# --------------------------------------------------------------------------------------------- submission


SUBMITTED = {
    "slurm": "Submitted batch job 123\n",
    "pbs": "123.head.site\n",
    "lsf": "Job <123> is submitted to queue <long>.\n",
    "sge": 'Your job 123 ("pyama-run") has been submitted\n',
    "oar": "# Set walltime to 04:00:30.\nOAR_JOB_ID=123\n",
    "htcondor": "Submitting job(s).\n1 job(s) submitted to cluster 123.\n",
}


def job_of(kind, tmp_path):
    return make_job(asked(kind), Place("tls://h:1", "pyama-run", tmp_path), "pyama-run-1")


def test_a_job_has_the_number_by_which_it_is_listed(kind, command, tmp_path):
    job = job_of(kind, tmp_path)
    command(job.submit_command.strip(), SUBMITTED[kind])
    assert submit(job) == "123"


def test_a_refusal_is_told_in_the_queue_s_own_words(kind, command, tmp_path):
    job = job_of(kind, tmp_path)
    command(job.submit_command.strip(), status=1, errors="no such\n queue\n")
    with pytest.raises(QueueError, match=rf"^{job.submit_command.strip()}: no such queue$") as error:
        submit(job)
    assert not error.value.passing


def test_a_refusal_on_the_other_channel(command, tmp_path):
    command("bsub", "Request aborted by esub.\n", status=255)
    with pytest.raises(QueueError, match="bsub: Request aborted by esub"):
        submit(job_of("lsf", tmp_path))
    command("bsub", status=255)
    with pytest.raises(QueueError, match="bsub: status 255, without a message"):
        submit(job_of("lsf", tmp_path))


def test_an_answer_without_a_number(command, tmp_path):
    command("sbatch", "thank you\n")
    with pytest.raises(QueueError, match="sbatch: Could not parse job id"):
        submit(job_of("slurm", tmp_path))


@pytest.mark.parametrize("kind", ["slurm", "lsf"])
def test_a_submission_that_hangs_cannot_submit_later(kind, command, tmp_path, monkeypatch):
    monkeypatch.setattr(queue_commands, "ANSWERS", 0.3)
    job = job_of(kind, tmp_path)
    command(job.submit_command, does=f"echo $$ > {tmp_path}/pid; exec sleep 60")
    with pytest.raises(QueueError, match=f"^{job.submit_command} did not answer in 0 s") as error:
        submit(job)
    assert error.value.passing
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
        "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or ...)",
        "sbatch: error: QOSMaxSubmitJobPerUserLimit",
        "qsub: would exceed queue generic's per-user limit of jobs in 'Q' state",
        "qsub: Maximum number of jobs already in queue",
        "qsub: cannot connect to server head (errno=111)",
        'error: unable to send message to qmaster using port 6444 on host "h": got send error',
        "error: commlib error: got select error (Connection refused)",
        "Unable to run job: job rejected: Only 10 jobs are allowed per user (current job count: 10).",
        "ERROR: Failed to connect to local queue manager",
        "ERROR: Number of submitted jobs would exceed MAX_JOBS_PER_OWNER",
    ],
)
def test_refusals_of_the_moment(said):
    assert is_passing(said)


@pytest.mark.parametrize(
    "said",
    [
        "Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
        "Batch job submission failed: Invalid account or account/partition combination specified",
        "Batch job submission failed: Memory specification can not be satisfied",
        "Batch job submission failed: Required partition not available (inactive or drain)",
        "qsub: Unknown queue",
        "qsub: Job exceeds queue and/or server resource limits",
        'Unable to run job: Job was rejected because job requests unknown queue "long".',
        "ERROR: No 'executable' parameter was provided",
    ],
)
def test_refusals_for_good(said):
    assert not is_passing(said)


def test_commands_that_a_queue_needs_are_looked_for(kind, command):
    job_class = job_scripts.job_class_of(kind)
    needed = [
        *(shlex.split(c)[0] for c in (job_class.submit_command, job_class.cancel_command)),
        KINDS[kind].listing[0],
    ]
    for name in needed:
        with pytest.raises(ConfigError, match=rf"cluster\.kind: {kind} needs '{name}', which is not on this machine"):
            check_queue(asked(kind), Path("/out"))
        command(name)
    check_queue(asked(kind), Path("/out"))
