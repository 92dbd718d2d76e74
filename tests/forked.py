"""Processes as `python ARGUMENTS` starts them, forked from one that has imported torch: imports take longer than their work.

Fits end briefly, see `brief.py`.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from pathlib import Path

MOST_BYTES = 1 << 20
"""Of arguments and environment."""


def start(arguments, *, env, cwd=None, stderr=subprocess.STDOUT):
    """Start `python ARGUMENTS` in its own session: `-m MODULE ...`, `-c CODE ...` or `FILE ...`; `-W ignore` may precede."""
    return Forked([str(argument) for argument in arguments], dict(env), str(cwd or Path.cwd()), stderr)


def run(arguments, *, timeout=120, env=None):
    """Like `subprocess.run(..., capture_output=True, text=True)`."""
    job = start(arguments, env=os.environ if env is None else env, stderr=subprocess.PIPE)
    output, errors = job.communicate(timeout)
    return subprocess.CompletedProcess(arguments, job.returncode, output, errors)


class Forked:
    """A process with the attributes of `subprocess.Popen` that tests use."""

    def __init__(self, arguments, env, cwd, stderr):
        self.args, self.returncode = arguments, None
        outputs, (status, their_status) = [os.pipe()], os.pipe()
        if stderr == subprocess.PIPE:
            outputs.append(os.pipe())
        theirs = [outputs[0][1], outputs[-1][1], their_status]
        socket.send_fds(_parent(), [json.dumps([arguments, env, cwd]).encode()], theirs)
        for file in set(theirs):
            os.close(file)
        self._status = os.fdopen(status)
        self.pid = int(self._status.readline())
        self.stdout, self.stderr = os.fdopen(outputs[0][0]), os.fdopen(outputs[1][0]) if outputs[1:] else None

    def communicate(self, timeout=None):
        """Return all output and errors once the process and all that write there have ended."""
        texts = {}
        streams = {"stdout": self.stdout, "stderr": self.stderr}
        readers = [
            threading.Thread(target=lambda name=name, stream=stream: texts.update({name: stream.read()}), daemon=True)
            for name, stream in streams.items()
            if stream
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(timeout)
        return texts["stdout"], texts.get("stderr")

    def wait(self, timeout=None):
        """Return the exit code."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = int(self._status.read())
        return self.returncode

    def poll(self):
        """Return the exit code, or None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


@functools.cache
def _parent():
    """Start the process that forks; return the socket for requests. It ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    start = [sys.executable, __file__, str(theirs.fileno())]
    subprocess.Popen(start, pass_fds=[theirs.fileno()], env=os.environ | {"OMP_NUM_THREADS": "1"})
    theirs.close()
    return ours


def _fork_at_requests(requests):
    """Fork a job at each request, and a process that reports its id and its exit code. Return the arguments in the job."""
    while True:
        request, files, _, _ = socket.recv_fds(requests, MOST_BYTES, 3)
        if not request:
            sys.exit()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not os.fork():
            requests.close()
            if not (job := os.fork()):
                return _become(files, *json.loads(request))
            _report(job, files)
        for file in files:
            os.close(file)


def _report(job, files):
    output, errors, status = files
    os.close(output)
    os.close(errors)
    os.write(status, f"{job}\n".encode())
    os.write(status, str(os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])).encode())
    os._exit(0)


def _become(files, arguments, env, cwd):
    os.setsid()
    os.chdir(cwd)
    for stream, file in enumerate((os.open(os.devnull, os.O_RDONLY), *files[:2])):
        os.dup2(file, stream)
        os.close(file)
    os.close(files[2])
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    importlib.reload(sys.modules["baa"])  # as imported by a process that has these variables
    return arguments


def _run(arguments):
    if arguments[:2] == ["-W", "ignore"]:
        warnings.simplefilter("ignore")
        del arguments[:2]
    kind, sys.argv[:] = arguments[0], arguments
    if kind == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        del sys.argv[1]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = str(Path(kind).parent)
        runpy.run_path(kind, run_name="__main__")


def _exit_code(arguments):
    try:
        _run(arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(code):
    """End without taking apart all modules, which takes seconds."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    from brief import shorten_finish

    shorten_finish(setattr)
    import baa.api
    import baa.inference.files
    import baa.training.run  # noqa: F401

    gc.freeze()
    arguments = _fork_at_requests(socket.socket(fileno=int(sys.argv[1])))
    _end(_exit_code(arguments))
