"""Many starts of `baa.fit`: a process that has imported torch forks a job at each request. Its stages end briefly."""

import importlib
import json
import os
import resource
import subprocess
import sys
from typing import NamedTuple

from brief import shorten_finish

import baa
from baa.cli import run_command
from baa.fit import main


class Job(NamedTuple):
    """A start of `baa.fit` in a folder.

    variables: of the environment, besides those of this process.
    largest: number of bytes that a file may have; None for any.
    """

    folder: str
    arguments: list[str]
    log: str
    variables: dict[str, str]
    largest: int | None = None


class ForkedJobs:
    """Starts jobs one after the other, each in a session of its own.

    Args:
        environment: of all jobs.
        cold: torch is imported by each job, after its variables are set.
    """

    def __init__(self, environment, *, cold=False):
        arguments = [sys.executable, __file__, *(["cold"] if cold else [])]
        self.parent = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def start(self, job):
        """Return the process id of the job."""
        self.parent.stdin.write(json.dumps(job._asdict()) + "\n")
        self.parent.stdin.flush()
        return int(self.parent.stdout.readline())

    def wait(self):
        """Return the exit code of the job."""
        return int(self.parent.stdout.readline())

    def end(self):
        self.parent.stdin.close()
        self.parent.wait()


def _serve():
    """Fork a job per line of the input; return in the job, which is ready for its command."""
    for line in sys.stdin:
        job = Job(**json.loads(line))
        if not (pid := os.fork()):
            return _become(job)
        print(pid, flush=True)  # noqa: T201
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)  # noqa: T201
    return sys.exit()


def _become(job):
    os.setsid()
    os.chdir(job.folder)
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(file, stream)
    os.environ.update(job.variables)
    importlib.reload(baa)  # as imported by a process that has these variables
    if job.largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.largest, resource.RLIM_INFINITY))
    sys.argv[1:] = job.arguments


def _brief_main():
    shorten_finish(setattr)
    main()


if __name__ == "__main__":
    if sys.argv[1:] != ["cold"]:
        import baa.training.run

        shorten_finish(setattr)
    _serve()
    run_command(_brief_main)
