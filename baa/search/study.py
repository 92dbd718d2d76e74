"""A sweep on this machine: Optuna proposes, processes train, and what has been tried survives a kill.

Optuna stands in for W&B's server, whose own search package (`sweeps`) still asks for NumPy 1. Where that has a Gaussian process
for `bayes`, this has a tree-structured Parzen estimator, which learns from trials that were ended early too; `hyperband` is
successive halving in both.
"""

import json
import math
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import distribution_to_json
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from baa.atomic_io import make_folder
from baa.config.load import to_plain
from baa.errors import InputError
from baa.search.results import RUN
from baa.search.sweepfile import Sweep, allows
from baa.search.trials import TrialProcess, share_of_the_machine

STARTUP_TRIALS = 4
"""Random ones, before there is anything to learn from."""

POLL_SECONDS = 0.5
HOPELESS_FAILURES = 3
ASKED = "asked"
"""User attribute of a study: the sweep and the overrides that it was begun with."""


class Study:
    """A sweep and its trials so far, in a folder.

    Args:
        sweep: what is searched.
        folder: for the journal and the trials' logs; a study that is begun there goes on.
        overrides: settings that go over the sweep file's.
        seed: of the proposals.

    Raises:
        InputError: a trial's command that `baa.fit` would refuse, another process that runs this study, or a study of something
            else in the folder.
    """

    def __init__(self, sweep: Sweep, folder: Path, overrides: Sequence[str] = (), seed: int = 0) -> None:
        self.sweep = sweep
        self.folder = folder
        self.overrides = overrides
        self._check_commands()
        make_folder(folder)
        self.lock = FileLock(folder / ".lock")
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{folder}: another process runs this sweep; give another --out, or wait for it") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / "trials.journal"))),
            study_name=sweep.file.stem,
            direction="minimize" if sweep.minimise else "maximize",
            pruner=_pruner(sweep),
            load_if_exists=True,
        )
        asked = _asked(sweep, overrides)
        if self.optuna.user_attrs.get(ASKED, asked) != asked:
            raise InputError(f"{folder} holds trials of another sweep, or of other settings; give another --out, or remove it")
        self.optuna.set_user_attr(ASKED, asked)
        self.optuna.sampler = _sampler(sweep, seed + len(self.optuna.trials))
        self._forget_never_begun()
        self._enqueue()
        self.running: dict[int, tuple[optuna.Trial, TrialProcess, int]] = {}
        self.failures_in_a_row = 0

    def _check_commands(self) -> None:
        """Nothing is started before a trial's settings are known to be good, and its folder its own."""
        for example in self.sweep.grid() if self.sweep.method == "grid" else [self.sweep.example()]:
            command = self.sweep.trial(example, self.overrides)
            if self.sweep.config(command, "one").folder == self.sweep.config(command, "other").folder:
                raise InputError(
                    f"{self.sweep.file}: all trials would share a folder; "
                    'give parameters a name: {value: "NAME/${oc.env:WANDB_RUN_ID}"}'
                )

    def _forget_never_begun(self) -> None:
        """A kill while a trial was being proposed leaves one without all of its settings."""
        for trial in self._trials():
            if trial.state == TrialState.RUNNING and RUN not in trial.user_attrs:
                self.optuna.tell(trial.number, state=TrialState.FAIL)

    def _enqueue(self) -> None:
        """The grid, as far as it is not tried yet; or first of all what the config has without a sweep."""
        known = [
            trial.params or trial.system_attrs.get("fixed_params")
            for trial in self._trials()
            if RUN in trial.user_attrs or trial.state == TrialState.WAITING
        ]
        if self.sweep.method == "grid":
            for point in self.sweep.grid():
                if point not in known:
                    self.optuna.enqueue_trial(point)
        elif not known:
            self.optuna.enqueue_trial(self._usual_point())

    def _usual_point(self) -> dict[str, Any]:
        """What the config would have without a sweep, as far as the search allows it: tried first, to compare with."""
        try:
            settings = to_plain(self.sweep.config(self.sweep.trial({}, self.overrides), "none"))
        except InputError:
            return {}
        point: dict[str, Any] = {}
        for name, space in self.sweep.searched.items():
            value: Any = settings
            for key in name.split("."):
                value = value[key]
            if allows(space, value):
                point[name] = value
        return point

    def run(self, count: int, workers: int, progress: bool = True) -> None:
        """Go on until so many trials are finished, those of an earlier call included, `workers` at a time.

        Raises:
            InputError: several trials failed in a row, or none was ever completed.
        """
        if self.sweep.method == "grid":
            count = min(count, sum(1 for _ in self.sweep.grid()))
        left_behind = [trial for trial in self._trials() if trial.state == TrialState.RUNNING]
        with tqdm(total=count, initial=self._finished(), desc="trials", disable=not progress) as bar:
            try:
                while (finished := self._finished()) < count:
                    while len(self.running) < min(workers, count - finished):
                        self._start(left_behind.pop(0) if left_behind else None, workers)
                    time.sleep(POLL_SECONDS)
                    for number in list(self.running):
                        self._follow(number)
                    if (more := self._finished() - bar.n) > 0:  # a bar that stands still is not printed again
                        bar.update(more)
                    if self.failures_in_a_row >= HOPELESS_FAILURES:
                        raise InputError(
                            f"{self.failures_in_a_row} trials failed in a row; the last said: {self._last_words()}"
                        )
            finally:
                for _, process, _ in self.running.values():
                    process.end()
        if not any(trial.state == TrialState.COMPLETE for trial in self._trials()):
            raise InputError(f"not one of the {count} trials was completed; the last said: {self._last_words()}")

    def _trials(self) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False)

    def _finished(self) -> int:
        return sum(trial.state.is_finished() and RUN in trial.user_attrs for trial in self._trials())

    def _start(self, begun: FrozenTrial | None, workers: int) -> None:
        if begun is None:
            trial = self.optuna.ask(fixed_distributions=dict(self.sweep.searched))
            trial.set_user_attr(RUN, secrets.token_hex(4))
        else:
            trial = optuna.Trial(self.optuna, begun._trial_id)
        run = trial.user_attrs[RUN]
        slot = min(set(range(workers)) - {taken for _, _, taken in self.running.values()})
        command = self.sweep.trial(trial.params, self.overrides)
        self.running[trial.number] = (
            trial,
            TrialProcess(
                command,
                self.sweep.config(command, run),
                run=run,
                group=self.sweep.file.stem,
                log=self._log(trial.number),
                environment=share_of_the_machine(slot, workers),
                reported=max(begun.intermediate_values, default=0) if begun else 0,
            ),
            slot,
        )

    def _log(self, number: int) -> Path:
        return self.folder / f"trial-{number:03}.log"

    def _last_words(self) -> str:
        log = self._log(max(trial.number for trial in self._trials() if trial.state == TrialState.FAIL))
        return (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]

    def _follow(self, number: int) -> None:
        trial, process, _ = self.running[number]
        code = process.exit_code()
        for epoch, reached in process.by_epoch(self.sweep.metric).items():
            if epoch > process.reported:
                trial.report(reached, epoch)
                process.reported = epoch
        if code is None:
            if 0 < process.reported < process.epochs and trial.should_prune():
                process.end()
                self._tell(trial, None, TrialState.PRUNED, f"ended early, after epoch {process.reported}")
            return
        value = None if code else process.final(self.sweep.metric)
        if value is not None and math.isfinite(value):
            self._tell(trial, value, TrialState.COMPLETE, f"{self.sweep.metric} {value:.3f}")
        else:
            said = f"exit code {code}" if code else f"{self.sweep.metric} is {value}"
            self._tell(trial, None, TrialState.FAIL, f"failed ({said}), see {self._log(number)}")

    def _tell(self, trial: optuna.Trial, value: float | None, state: TrialState, said: str) -> None:
        self.optuna.tell(trial, value, state=state)
        del self.running[trial.number]
        self.failures_in_a_row = self.failures_in_a_row + 1 if state == TrialState.FAIL else 0
        chosen = ", ".join(
            f"{name.split('.')[-1]}={setting:.3g}" if isinstance(setting, float) else f"{name.split('.')[-1]}={setting}"
            for name, setting in trial.params.items()
        )
        tqdm.write(f"trial {trial.number}: {said} ({chosen})", file=sys.stderr)


def _asked(sweep: Sweep, overrides: Sequence[str]) -> str:
    searched = {name: distribution_to_json(space) for name, space in sweep.searched.items()}
    aim = [sweep.method, sweep.metric, sweep.minimise, sweep.early]
    return json.dumps([aim, sweep.command, dict(sweep.shared), searched, list(overrides)])


def _sampler(sweep: Sweep, seed: int) -> BaseSampler:
    if sweep.method == "bayes":
        return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)
    return RandomSampler(seed=seed)


def _pruner(sweep: Sweep) -> BasePruner:
    if sweep.early is None:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=sweep.early[0], reduction_factor=sweep.early[1])
