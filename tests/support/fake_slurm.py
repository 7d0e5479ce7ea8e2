"""A queue without a cluster: commands of Slurm that keep its jobs in files, which a test changes."""

from __future__ import annotations

from pathlib import Path

COMMANDS = {
    "sbatch": """
        [ -e refusal ] && { cat refusal >&2; exit 1; }
        number=$(($(cat last) + 1)); echo $number > last; cat new > jobs/$number
        echo Submitted batch job $number""",
    "squeue": """
        [ -e silence ] && { cat silence >&2; exit 1; }
        cd jobs; for job in *; do [ -e $job ] && echo $job $(cat $job); done; exit 0""",
    "scancel": """
        [ -e deaf ] && { rm deaf; exit 1; }
        bad=0; for job; do echo $job >> cancelled; rm jobs/$job 2>/dev/null || bad=1; done; exit $bad""",
    "scontrol": """
        cat ended/$4""",
}


class FakeSlurm:
    """Queue whose jobs are files.

    Parameters
    ----------
    folder
        An empty folder; ``bin`` in it goes on PATH.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        for name in ("bin", "jobs", "ended"):
            (folder / name).mkdir(parents=True)
        (folder / "last").write_text("0\n")
        (folder / "cancelled").touch()
        self.new("PENDING Resources")
        for name, does in COMMANDS.items():
            (self.bin / name).write_text(f"#!/bin/sh\ncd {folder}\n{does}\n")
            (self.bin / name).chmod(0o700)

    def new(self, state: str) -> None:
        """Begin jobs in a state from now on."""
        (self.folder / "new").write_text(f"{state}\n")

    @property
    def jobs(self) -> list[int]:
        """Numbers of the jobs in the queue."""
        return sorted(int(path.name) for path in (self.folder / "jobs").iterdir())

    @property
    def cancelled(self) -> list[int]:
        """Numbers that were cancelled, in their order."""
        return [int(line) for line in (self.folder / "cancelled").read_text().split()]

    def put(self, job: int, state: str) -> None:
        """Set what the queue says of a job."""
        (self.folder / "jobs" / str(job)).write_text(f"{state}\n")

    def end(self, job: int, says: str = "") -> None:
        """Take a job from the queue, which may say more of it."""
        (self.folder / "jobs" / str(job)).unlink()
        if says:
            (self.folder / "ended" / str(job)).write_text(f"JobId={job} {says} Dependency=(null)\n")

    def say(self, name: str, text: str | None) -> None:
        """Have a ``refusal`` or a ``silence``, or none; or be ``deaf`` to one cancellation."""
        path = self.folder / name
        path.unlink(missing_ok=True) if text is None else path.write_text(f"{text}\n")
