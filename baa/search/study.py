"""A sweep on this machine: Optuna proposes, processes train, and what has been tried survives a kill.

Optuna stands in for W&B's server, whose own search package (`sweeps`) still asks for NumPy 1. `bayes` is a Gaussian process
there and here; `hyperband` is successive halving there and here.
"""

import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import optuna
import pandas as pd
from filelock import FileLock, Timeout
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from optuna.visualization import matplotlib as pictures
from tqdm import tqdm

from baa.config import to_plain
from baa.errors import InputError
from baa.report.figures import save
from baa.search.sweepfile import Sweep
from baa.search.trials import Trial
from baa.training.callbacks import write_whole

STARTUP_TRIALS = 4
"""Random ones, before the Gaussian process has anything to go by."""

POLL_SECONDS = 0.5
HOPELESS_FAILURES = 3
RUN = "wandb run"


class Study:
    """A sweep and the trials of it so far, in a folder.

    Args:
        sweep: what is searched.
        folder: for the journal, the trials' logs and the results; a study that is begun there goes on.
        overrides: settings that go over the sweep file's.
        seed: of the proposals.

    Raises:
        InputError: a trial's command that `baa.fit` would refuse, or another process that runs this study.
    """

    def __init__(self, sweep: Sweep, folder: Path, overrides: Sequence[str] = (), seed: int = 0) -> None:
        self.sweep = sweep
        self.folder = folder
        self.overrides = overrides
        usual = sweep.config(sweep.trial({}, overrides), run="none")
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder / ".lock")
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{folder}: another process runs this sweep; give another --out, or wait for it") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / "trials.journal"))),
            study_name=sweep.file.stem,
            direction="minimize" if sweep.minimise else "maximize",
            pruner=_pruner(sweep),
            load_if_exists=True,
        )
        self.study.sampler = _sampler(sweep, seed + len(self.study.trials))
        if not self.study.trials:
            for point in sweep.grid() if sweep.method == "grid" else [_usual_point(sweep, to_plain(usual))]:
                self.study.enqueue_trial(point)
        self.running: dict[int, tuple[optuna.Trial, Trial]] = {}

    def run(self, count: int, workers: int, progress: bool = True) -> None:
        """Go on until so many trials are finished, those of an earlier call included, `workers` at a time.

        Raises:
            InputError: the first trials all failed.
        """
        if self.sweep.method == "grid":
            count = min(count, sum(1 for _ in self.sweep.grid()))
        left_behind = [trial for trial in self.study.trials if trial.state == TrialState.RUNNING]
        with tqdm(total=count, initial=self._finished(), desc="trials", disable=not progress) as bar:
            try:
                while (finished := self._finished()) < count:
                    while len(self.running) < min(workers, count - finished):
                        begun = left_behind.pop(0) if left_behind else None
                        self._start(begun, threads=max(1, (os.cpu_count() or 1) // workers))
                    time.sleep(POLL_SECONDS)
                    for number in list(self.running):
                        self._follow(number)
                    self._give_up_if_hopeless()
                    bar.update(self._finished() - bar.n)
            finally:
                for _, process in self.running.values():
                    process.end()

    def _finished(self) -> int:
        return sum(trial.state.is_finished() for trial in self.study.trials)

    def _start(self, begun: optuna.trial.FrozenTrial | None, threads: int) -> None:
        if begun is None:
            trial = self.study.ask(fixed_distributions=dict(self.sweep.searched))
            trial.set_user_attr(RUN, secrets.token_hex(4))
        else:
            trial = optuna.Trial(self.study, begun._trial_id)
        run = trial.user_attrs[RUN]
        command = self.sweep.trial(trial.params, self.overrides)
        config = self.sweep.config(command, run)
        reported = max(begun.intermediate_values, default=0) if begun else 0
        self.running[trial.number] = (
            trial,
            Trial(
                command,
                run=run,
                group=self.sweep.file.stem,
                folder=config.folder,
                stage=config.stages[-1],
                log=self._log(trial.number),
                threads=threads,
                reported=reported,
            ),
        )

    def _log(self, number: int) -> Path:
        return self.folder / f"trial-{number:03}.log"

    def _follow(self, number: int) -> None:
        trial, process = self.running[number]
        code = process.process.poll()
        values = process.values(self.sweep.metric)
        for epoch, value in values.items():
            if epoch >= process.reported:
                trial.report(value, epoch + 1)
                process.reported = epoch + 1
        if code is None and values and trial.should_prune():
            process.end()
            self._tell(trial, None, TrialState.PRUNED, "ended early")
        elif code == 0 and values:
            self._tell(trial, list(values.values())[-1], TrialState.COMPLETE, "")
        elif code is not None:
            said = "no " + self.sweep.metric if code == 0 else f"exit code {code}"
            self._tell(trial, None, TrialState.FAIL, f"failed ({said}), see {self._log(number)}")

    def _tell(self, trial: optuna.Trial, value: float | None, state: TrialState, said: str) -> None:
        self.study.tell(trial, value, state=state)
        del self.running[trial.number]
        chosen = ", ".join(f"{name.split('.')[-1]}={_short(value)}" for name, value in trial.params.items())
        tqdm.write(f"trial {trial.number}: {said or f'{self.sweep.metric} {value:.3f}'} ({chosen})", file=sys.stderr)

    def _give_up_if_hopeless(self) -> None:
        ended = [trial for trial in self.study.trials if trial.state.is_finished()]
        if len(ended) >= HOPELESS_FAILURES and all(trial.state == TrialState.FAIL for trial in ended):
            log = self._log(ended[-1].number)
            last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
            raise InputError(f"the first {len(ended)} trials all failed; the last said: {last}")

    def table(self) -> pd.DataFrame:
        """A row a trial, best first: number, state, metric, what was searched, where it ran."""
        rows = [
            {"trial": t.number, "state": t.state.name.lower(), self.sweep.metric: t.value}
            | t.params
            | {"run": t.user_attrs.get(RUN)}
            for t in self.study.trials
            if t.state != TrialState.WAITING
        ]
        return pd.DataFrame(rows).sort_values(self.sweep.metric, ascending=self.sweep.minimise, ignore_index=True)

    def report(self) -> None:
        """Write `trials.csv`, and where two trials were completed `parallel.png` and `importance.png`."""
        write_whole(self.folder / "trials.csv", self.table().to_csv(index=False))
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len({trial.value for trial in done}) < 2:
            return
        pictures.plot_parallel_coordinate(self.study, target_name=self.sweep.metric)
        save(plt.gcf(), self.folder / "parallel.png")
        pictures.plot_param_importances(self.study, evaluator=PedAnovaImportanceEvaluator())
        save(plt.gcf(), self.folder / "importance.png")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _sampler(sweep: Sweep, seed: int) -> BaseSampler:
    return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS) if sweep.method == "bayes" else RandomSampler(seed=seed)


def _pruner(sweep: Sweep) -> BasePruner:
    if sweep.early is None:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=sweep.early[0], reduction_factor=sweep.early[1])


def _usual_point(sweep: Sweep, settings: dict[str, Any]) -> dict[str, Any]:
    """What the config would have without a sweep, as far as the search allows it: tried first, to compare with."""
    point: dict[str, Any] = {}
    for name, space in sweep.searched.items():
        value: Any = settings
        for key in name.split("."):
            value = value[key]
        if isinstance(value, int | float | str | bool) and space._contains(space.to_internal_repr(value)):
            point[name] = value
    return point
