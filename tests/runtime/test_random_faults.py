"""A run that a random fault ends, started again: it reaches the results of an undisturbed one, or one line says why not.

`pytest -m slow -s tests/runtime/test_random_faults.py` prints the counts; `-k "[17-"` repeats the start of seed 17.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import forked
import pandas as pd
import pytest
from PIL import Image
from tiny_run import BRIEF_FIT, clean_environment, settings

pytestmark = pytest.mark.slow

STARTS = 200
HANG_SECONDS = 900  # a start takes seconds; on a machine with other work, minutes
LEFT_SECONDS = 60
CASES = 40
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
TABLE = ("data.source=table", "data.table.file=ours.csv", "data.split.val=0.2", "data.split.test=0.2")
FIT = ("fit.batch_size=8", "fit.epochs=3", "fit.ema=0.9", "fit.schedule=onecycle")
STRAY = {
    **dict.fromkeys(("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"), "1"),
    **dict.fromkeys(("PMI_RANK", "OMPI_COMM_WORLD_RANK", "LSB_JOBID", "SLURM_STEP_ID", "BAA_STARTED_BY"), "1"),
    **dict.fromkeys(("WORLD_SIZE", "SLURM_NTASKS", "SLURM_NNODES", "LOCAL_WORLD_SIZE", "PL_GLOBAL_SEED"), "4"),
    **dict.fromkeys(("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "MASTER_PORT", "WANDB_MODE", "CUDA_VISIBLE_DEVICES"), "x"),
    **dict.fromkeys(("HOME", "XDG_CACHE_HOME", "HF_HOME", "TORCH_HOME", "TMPDIR", "MPLCONFIGDIR"), "/dev/null/none"),
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "MASTER_ADDR": "192.0.2.1",
    "SLURM_JOB_NAME": "bash",
    "PYTHONIOENCODING": "ascii",
    "COLUMNS": "1",
}
"""Variables that a shell, a notebook or an earlier job may leave."""


def results(folder):
    """What a run computes, by file: metrics, learning curves, predictions, weights."""
    kept = ("metrics.*", "*/metrics.csv", "*/predictions.csv", "*/validation.csv", "*/bundle/weights.safetensors")
    run = folder / "out" / "tiny"
    return {str(file.relative_to(run)): file.read_bytes() for pattern in kept for file in run.glob(pattern)}


def arguments(stages, workers):
    fit = [f"{stage}.{setting}" for stage in ("locator", "estimator") for setting in FIT]
    return ["--config", "tiny.yaml", *settings("out", f"stages=[{stages}]", f"data.workers={workers}", *TABLE, *fit)]


def started(program, *, cwd, env):
    """A process that is not forked: it imports torch under these variables."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *program], cwd=cwd, env=env, start_new_session=True, **pipes)


def ended(group):
    """Wait until no process of a group is left, such as a loader process that was killed with the first one."""
    deadline = time.monotonic() + LEFT_SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


class World:
    """The data, and the results of undisturbed runs."""

    def __init__(self, folder):
        from baa.data.sources.phantom import phantom_cases

        self.folder, self.counts, self.unbroken, self.seconds = folder, Counter(), {}, {}
        self.data = folder / "data"
        self.data.mkdir()
        (self.data / "tiny.yaml").write_text("")
        hands = phantom_cases(CASES, seed=9)
        for i, case in enumerate(hands):
            Image.fromarray(case.image.load(96).pixels).save(self.data / f"{i}.png")
        rows = {"image": [f"{i}.png" for i in range(CASES)], "age": [round(case.months) for case in hands]}
        table = pd.DataFrame(rows | {"sex": [case.sex.name.lower() for case in hands]})
        table.to_csv(self.data / "ours.csv", index=False)
        self.tables = {"given": (self.data / "ours.csv").read_text()}
        table.loc[7, "age"] += 30
        self.tables["changed"] = table.to_csv(index=False)

    def results(self, stages, table):
        """Results of the undisturbed run."""
        if (stages, table) not in self.unbroken:
            start = Start(self, self.folder / f"{len(self.unbroken)}", stages)
            (start.folder / "ours.csv").write_text(self.tables[table])
            began = time.monotonic()
            assert start.run() == 0, start.output
            self.seconds[stages] = time.monotonic() - began
            self.unbroken[stages, table] = results(start.folder)
        return self.unbroken[stages, table]


class Start:
    """A run in a folder of its own, which may be started many times."""

    def __init__(self, world, folder, stages):
        self.world, self.folder, self.stages, self.output = world, folder, stages, ""
        shutil.copytree(world.data, folder, dirs_exist_ok=True)

    def run(self, interrupt=lambda pid: None, *, workers=0, cold=False, variables=None, largest=None):
        """Start it, call `interrupt(pid)`, return the exit code. Nothing hangs, nothing of it is left, no traceback."""
        job = (started if cold else forked.start)(
            [BRIEF_FIT, *arguments(self.stages, workers)], cwd=self.folder, env=clean_environment() | (variables or {})
        )
        if largest is not None:
            resource.prlimit(job.pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        late = []
        watch = threading.Timer(HANG_SECONDS, lambda: (late.append(job), os.killpg(job.pid, signal.SIGKILL)))
        watch.start()
        interrupt(job.pid)
        self.output = job.communicate()[0]
        watch.cancel()
        assert not late, f"hangs, or leaves a process: {self.output}"
        assert "Traceback" not in self.output, self.output
        assert ended(job.pid), f"a process is left: {self.output}"
        return job.returncode

    def refusal(self):
        """The one line of a refused start."""
        [line] = [line for line in self.output.splitlines() if line.startswith("baa: ")]
        assert self.output.rstrip().endswith(line), self.output
        return line

    def interrupted(self, rng, signum, *, alone=False):
        """Start it and send a signal at a random time; return the exit code."""
        after = rng.uniform(0, 1.1) * self.world.seconds[self.stages]

        def interrupt(pid):
            time.sleep(after)
            with contextlib.suppress(ProcessLookupError):  # it has finished
                (os.kill if alone else os.killpg)(pid, signum)

        return self.run(interrupt, workers=rng.randint(0, 1))


def kill(start, rng):
    assert start.interrupted(rng, signal.SIGKILL) in (-signal.SIGKILL, 0)


def stop(start, rng):
    how = rng.choice(SIGNALS)
    code = start.interrupted(rng, how, alone=rng.random() < 0.5)
    assert code in (128 + how, -how, 0), start.output  # -how before the command has begun


def full_disk(start, rng):
    disk = start.folder / "out"
    disk.mkdir()
    whole = sum(file.stat().st_size for file in (start.world.folder / "0" / "out").rglob("*") if file.is_file())
    size = int(rng.uniform(0.02, 1) * whole)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("needs the permission to mount a disk")
    try:
        check_refused_or_finished(start, start.run(workers=rng.randint(0, 1)))
        shutil.copytree(disk, start.folder / "kept")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    disk.rmdir()
    (start.folder / "kept").rename(disk)


def limited_files(start, rng):
    largest = max(file.stat().st_size for file in (start.world.folder / "0" / "out").rglob("*") if file.is_file())
    check_refused_or_finished(start, start.run(workers=rng.randint(0, 1), largest=int(rng.uniform(0, 1) * largest)))


def check_refused_or_finished(start, code):
    assert code in (0, 2), start.output
    if code:
        assert "out" in start.refusal()


def cut_file(start, rng):
    """After a kill, a file has lost its end, or the end is zeros, as after a power failure."""
    start.interrupted(rng, signal.SIGKILL)
    files = sorted(file for file in (start.folder / "out").rglob("*") if file.is_file() and file.suffix != ".lock")
    if files:
        file = rng.choice(files)
        size, kept = file.stat().st_size, int(rng.random() * file.stat().st_size)
        os.truncate(file, kept)
        if rng.random() < 0.3:
            os.truncate(file, size)


def changed_table(start, rng):
    start.interrupted(rng, signal.SIGKILL)
    (start.folder / "ours.csv").write_text(start.world.tables["changed"])


def stray_variable(start, rng):
    variables = {name: STRAY[name] for name in rng.sample(sorted(STRAY), rng.randint(1, 2))}
    code = start.run(cold=True, variables=variables)
    assert code in (0, 2), start.output
    if code:
        assert any(name in start.refusal() for name in variables), (variables, start.output)


FAULTS = (kill, stop, full_disk, limited_files, cut_file, changed_table, stray_variable)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    it = World(tmp_path_factory.mktemp("world"))
    yield it
    print("\nfault, outcome of the next start, count")  # noqa: T201
    for (fault, outcome), count in sorted(it.counts.items()):
        print(f"{fault}, {outcome}, {count}")  # noqa: T201


def finish(start, table):
    """Start it again until it is done, and do what its refusals ask for; return how often it refused."""
    for refused in range(3):
        code = start.run()
        if not code:
            assert results(start.folder) == start.world.results(start.stages, table)
            return refused
        assert code == 2, start.output
        line = start.refusal()
        file = start.folder / line.removeprefix("baa: ").partition(":")[0]
        assert file.exists(), line
        if "restore the original data" in line:
            table = "given"
            (start.folder / "ours.csv").write_text(start.world.tables[table])
        elif "remove it" in line:
            file.unlink()
        elif f"remove {file.parent.relative_to(start.folder)} to train this stage again" in line:
            shutil.rmtree(file.parent)
        else:
            return line
    return line


@pytest.mark.parametrize(("seed", "fault"), [(seed, FAULTS[seed % len(FAULTS)]) for seed in range(STARTS)])
def test_the_next_start_reaches_the_results_of_an_undisturbed_run_or_says_why_not(seed, fault, world, tmp_path):
    rng = random.Random(seed)
    stages = "locator,estimator" if rng.random() < 0.25 else "locator"
    world.results(stages, "given")
    start = Start(world, tmp_path, stages)
    fault(start, rng)
    outcome = finish(start, "changed" if fault is changed_table else "given")
    said = f"equal after {outcome} refusals" if isinstance(outcome, int) else outcome
    print(said)  # noqa: T201
    world.counts[fault.__name__, said] += 1
    shutil.rmtree(tmp_path)
