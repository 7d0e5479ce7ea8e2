"""Checks and quoting of the values of a config in a job script."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import ConfigError

OF_THE_CONFIG: Mapping[str, str] = {
    **{name: name for name in ("cores", "processes", "memory", "walltime", "queue", "interface", "local_directory")},
    **dict.fromkeys(("account", "project"), "account"),
    **dict.fromkeys(("job_extra_directives", "job_extra"), "directives"),
    **dict.fromkeys(("job_script_prologue", "env_extra"), "prologue"),
    **dict.fromkeys(("security", "protocol"), "tls"),
}
"""Options of dask-jobqueue that have a separate config key."""
OF_THE_RUN = {"scheduler", "name", "log_directory", "death_timeout", "nanny", "extra", "self"}
"""Options of dask-jobqueue that a run sets."""
OF_WORKERS: Mapping[str, str] = {
    "--memory-limit": "set cluster.memory",
    **dict.fromkeys(("--nthreads", "--nworkers"), "set cluster.cores and cluster.processes"),
    "--interface": "set cluster.interface",
    "--local-directory": "set cluster.local_directory",
    **dict.fromkeys(("--name", "--death-timeout", "--dashboard-address", "--nanny", "--no-nanny"), "leave it out"),
}
"""Options of workers that a run sets, and the alternative for users."""


def in_shell(text: str) -> str:
    """Quote a word for a shell that expands variables in it, ``$USER`` and ``${USER}``, and a leading ``~``."""
    if re.fullmatch(r"[\w.@%+=:,/-]+", text):
        return text
    word = re.sub(r"^~(?=/|$)", "$HOME", text)
    return '"' + re.sub(r"""[`"\\]|\$(?![A-Za-z_]|\{[A-Za-z_]\w*\})""", r"\\\g<0>", word) + '"'


def check_words(cluster: Cluster) -> None:
    """Refuse values that would break a line of a job script, or change their meaning there.

    Raises
    ------
    ConfigError
        If there is one; the message names its key.
    """
    job_name = cluster.options.get("job_name")
    for key, value in (
        ("queue", cluster.queue), ("account", cluster.account), ("interface", cluster.interface),
        ("options.job_name", job_name),
    ):  # fmt: skip
        if value is not None and not re.fullmatch(r"[\w.@/*][\w.@/*,:+=-]*", str(value)):
            raise ConfigError(
                f"cluster.{key}: {value!r} is not allowed in a job script. "
                "Fix: use letters, digits and . _ - + = @ , : / *"
            )
    lines = {name: getattr(cluster, name) for name in ("directives", "local_directory", "options")}
    for key, text in _texts("cluster", lines):
        if re.search(r"[\x00-\x1f\x7f]", text):
            raise ConfigError(f"{key}: {text[:80]!r} has control characters. Fix: write it in one line")
    if cluster.kind == "htcondor":
        _check_condor(cluster)


def _check_condor(cluster: Cluster) -> None:
    """Refuse values that HTCondor would expand or truncate, as it takes all commands of a job in one line."""
    given = {name: getattr(cluster, name) for name in ("prologue", "local_directory")}
    words = {name: cluster.options.get(name) for name in ("python", "worker_extra_args")}
    for key, text in (*_texts("cluster", given), *_texts("cluster.options", words)):
        if "\n" in text.rstrip() or re.search(r"\$\w*\(", text):
            raise ConfigError(
                f"{key}: {text[:80]!r}: htcondor takes one line, and expands $(...) itself. "
                "Fix: put the commands into a script, and name the script"
            )


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the value of every text in a part of a config."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _texts(f"{key}.{name}", part)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _texts(f"{key}.{number}", part)


def check_options(cluster: Cluster, job_class: type[Any]) -> None:
    """Refuse options that dask-jobqueue does not have, or that have a separate config key."""
    known = {
        name
        for base in job_class.__mro__
        if "__init__" in vars(base)
        for name, parameter in inspect.signature(base).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    } - {*OF_THE_RUN, *OF_THE_CONFIG}
    for name in cluster.options:
        if name in OF_THE_CONFIG:
            raise ConfigError(
                f"cluster.options.{name}: has a separate key. Fix: set cluster.{OF_THE_CONFIG[name]} instead"
            )
        if name not in known:
            raise ConfigError(
                f"cluster.options.{name}: a config cannot set this option of {job_class.__name__} in dask-jobqueue. "
                f"Fix: use one of {', '.join(sorted(known))}"
            )
    words = cluster.options.get("worker_extra_args", [])
    if not isinstance(words, list):
        raise ConfigError("cluster.options.worker_extra_args: is not a list. Fix: write a list of words")
    for word in (str(word).partition("=")[0] for word in words):
        if word in OF_WORKERS:
            raise ConfigError(f"cluster.options.worker_extra_args: {word} is set by the run. Fix: {OF_WORKERS[word]}")


def check_folder(logs: Path) -> None:
    """Refuse an output whose path has special characters, as dask-jobqueue does not quote it in job scripts."""
    if odd := set(re.findall(r"""[\s'"`$&|;<>()*?[\]{}#~!%:,\\]""", str(logs))):
        raise ConfigError(
            f"output: a path with {' '.join(map(repr, sorted(odd)))} cannot be used in jobs of a queue: {logs}. "
            "Fix: choose another 'output'"
        )
