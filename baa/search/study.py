"""A sweep on this machine: Optuna proposes trials, processes train them, and a journal keeps them after a kill.

Optuna replaces W&B's server, whose search package (`sweeps`) still requires NumPy 1. For `bayes`, W&B uses a Gaussian process;
this module uses a tree-structured Parzen estimator, which also learns from pruned trials. Both implement `hyperband` as
successive halving.
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
from baa.search.journal import repair_journal
from baa.search.metrics import check_metric
from baa.search.results import MODEL, RUN
from baa.search.sweepfile import FLAGS, Sweep, allows
from baa.search.trials import TrialProcess, resource_share

STARTUP_TRIALS = 4
"""Random trials before the sampler uses results."""

ERROR = "baa: "
"""Prefix of the line in which a command refuses settings or data."""

POLL_SECONDS = 0.5
MAX_FAILURES_IN_A_ROW = 3
DEFINITION = "definition"
"""User attribute of a study: the sweep and the overrides that it was started with."""


class Study:
    """A sweep and its trials so far, in a folder.

    Args:
        sweep: the sweep file's content.
        folder: for the journal and the trials' logs; a study in this folder is resumed.
        overrides: settings that override the sweep file's.
        seed: seed of the sampler.

    Raises:
        InputError: `baa.fit` would refuse a trial's command, another process runs this study, or the folder contains trials of
            another sweep.
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
            raise InputError(f"{folder}: another process runs this sweep; wait for it, or choose another --out") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal = folder / "trials.journal"
        repair_journal(journal)
        self.optuna = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name=sweep.file.stem,
            direction="minimize" if sweep.minimize else "maximize",
            pruner=_pruner(sweep),
            load_if_exists=True,
        )
        definition = _definition(sweep, overrides)
        if self.optuna.user_attrs.get(DEFINITION, definition) != definition:
            raise InputError(
                f"{folder}: holds trials of another sweep, or of other settings; choose another --out, or delete the folder"
            )
        self.optuna.set_user_attr(DEFINITION, definition)
        self.optuna.sampler = _sampler(sweep, seed + len(self.optuna.trials))
        self._fail_incomplete()
        self._enqueue()
        self.running: dict[int, tuple[optuna.Trial, TrialProcess, int]] = {}
        self.failures_in_a_row = 0
        self.refusals: set[str] = set()

    def _check_commands(self) -> None:
        """Check before the first trial that settings and metric are valid and that each trial has its own folder."""
        for example in self.sweep.grid() if self.sweep.method == "grid" else [self.sweep.example()]:
            command = self.sweep.trial(example, self.overrides)
            config = self.sweep.config(command, "one")
            if config.folder == self.sweep.config(command, "other").folder:
                raise InputError(
                    f"{self.sweep.file}: all trials would share a folder; "
                    'add to parameters: name: {value: "NAME/${oc.env:WANDB_RUN_ID}"}'
                )
            try:
                check_metric(self.sweep.metric, config, every_epoch=self.sweep.early is not None)
            except InputError as error:
                raise InputError(f"{self.sweep.file}: {error}") from error
            self._check_flags(example)

    def _check_flags(self, example: dict[str, Any]) -> None:
        """Check that settings which are false are so in the config too, where the command leaves them out."""
        if FLAGS not in self.sweep.command:
            return
        searched = self.sweep.searched.items()
        off = {name: False for name, space in searched if any(choice is False for choice in getattr(space, "choices", ()))}
        settings = to_plain(self.sweep.config(self.sweep.trial(example | off), "one"))
        for name, value in {**self.sweep.shared, **off}.items():
            if value is False and _value_of(settings, name):
                raise InputError(
                    f"{self.sweep.file}: parameters.{name}: {FLAGS} leaves out false, and the config has true; use ${{args}}"
                )

    def _fail_incomplete(self) -> None:
        """Mark as failed the trials that were killed before all their settings were proposed."""
        for trial in self._trials():
            if trial.state == TrialState.RUNNING and RUN not in trial.user_attrs:
                self.optuna.tell(trial.number, state=TrialState.FAIL)

    def _enqueue(self) -> None:
        """Enqueue the rest of a grid, or the config's own values as the first trial of another search."""
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
            self.optuna.enqueue_trial(self._default_point())

    def _default_point(self) -> dict[str, Any]:
        """The config's own values where the search space contains them: a baseline."""
        try:
            settings = to_plain(self.sweep.config(self.sweep.trial({}, self.overrides), "none"))
        except InputError:
            return {}
        point: dict[str, Any] = {}
        for name, space in self.sweep.searched.items():
            value = _value_of(settings, name)
            if allows(space, value):
                point[name] = value
        return point

    def run(self, count: int, workers: int, progress: bool = True) -> None:
        """Run trials, `workers` at a time, until `count` are finished. Trials of an earlier call count too.

        Raises:
            InputError: two trials were refused for the same reason, several failed in a row, or none was completed.
        """
        if self.sweep.method == "grid":
            count = min(count, sum(1 for _ in self.sweep.grid()))
        interrupted = [trial for trial in self._trials() if trial.state == TrialState.RUNNING]
        with tqdm(total=count, initial=self._finished(), desc="trials", disable=not progress) as bar:
            try:
                while (finished := self._finished()) < count:
                    while len(self.running) < min(workers, count - finished):
                        self._start(interrupted.pop(0) if interrupted else None, workers)
                    time.sleep(POLL_SECONDS)
                    for number in list(self.running):
                        self._follow(number)
                    if (more := self._finished() - bar.n) > 0:  # tqdm would print an unchanged bar again
                        bar.update(more)
                    if self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                        raise InputError(f"{self.folder}: {self.failures_in_a_row} trials failed in a row; {self._advice()}")
            finally:
                for _, process, _ in self.running.values():
                    process.end()
        if not any(trial.state == TrialState.COMPLETE for trial in self._trials()):
            raise InputError(f"{self.folder}: none of the {count} trials was completed; {self._advice()}")

    def _trials(self) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False)

    def _finished(self) -> int:
        return sum(trial.state.is_finished() and RUN in trial.user_attrs for trial in self._trials())

    def _start(self, interrupted: FrozenTrial | None, workers: int) -> None:
        if interrupted is None:
            trial = self.optuna.ask(fixed_distributions=dict(self.sweep.searched))
            trial.set_user_attr(RUN, secrets.token_hex(4))
        else:
            trial = optuna.Trial(self.optuna, interrupted._trial_id)
        run = trial.user_attrs[RUN]
        slot = min(set(range(workers)) - {taken for _, _, taken in self.running.values()})
        command = self.sweep.trial(trial.params, self.overrides)
        config = self.sweep.config(command, run)
        trial.set_user_attr(MODEL, str(config.folder / config.stages[-1] / "best.ckpt"))
        self.running[trial.number] = (
            trial,
            TrialProcess(
                command,
                config,
                run=run,
                group=self.sweep.file.stem,
                log=self._log(trial.number),
                environment=resource_share(slot, workers),
                reported=max(interrupted.intermediate_values, default=0) if interrupted else 0,
            ),
            slot,
        )

    def _log(self, number: int) -> Path:
        return self.folder / f"trial-{number:03}.log"

    def _error(self, number: int) -> str:
        """The line with which the run of a trial refused its settings or data; empty without one."""
        log = self._log(number)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return next((f": {line.removeprefix(ERROR)}" for line in reversed(lines) if line.startswith(ERROR)), "")

    def _advice(self) -> str:
        """Where to look after failures: the log of the last failed trial, and its last line."""
        log = self._log(max(trial.number for trial in self._trials() if trial.state == TrialState.FAIL))
        lines = log.read_text(errors="replace").strip().splitlines()
        return f"see {log.name}, which ends with: {lines[-1]}" if lines else f"{log.name} is empty"

    def _follow(self, number: int) -> None:
        trial, process, _ = self.running[number]
        code = process.exit_code()
        best, better = math.nan, min if self.sweep.minimize else max
        for epoch, reached in process.by_epoch(self.sweep.metric).items():
            best = reached if math.isnan(best) else better(best, reached)
            if epoch > process.reported:
                trial.report(reached if self.sweep.strict else best, epoch)
                process.reported = epoch
        if code is None:
            if 0 < process.reported < process.epochs and trial.should_prune():
                process.end()
                self._tell(trial, None, TrialState.PRUNED, f"pruned after epoch {process.reported}")
            return
        value = None if code else process.final(self.sweep.metric)
        if value is not None and math.isfinite(value):
            self._tell(trial, value, TrialState.COMPLETE, f"{self.sweep.metric} {value:.3f}")
        else:
            reason, refusal = f"exit code {code}" if code else f"{self.sweep.metric} is {value}", self._error(number)
            self._tell(trial, None, TrialState.FAIL, f"failed ({reason}), see {self._log(number)}{refusal}")
            if refusal in self.refusals:
                raise InputError(f"{self.folder}: two trials were refused for the same reason{refusal}")
            self.refusals |= {refusal} - {""}

    def _tell(self, trial: optuna.Trial, value: float | None, state: TrialState, outcome: str) -> None:
        self.optuna.tell(trial, value, state=state)
        del self.running[trial.number]
        self.failures_in_a_row = self.failures_in_a_row + 1 if state == TrialState.FAIL else 0
        chosen = ", ".join(
            f"{name.split('.')[-1]}={setting:.3g}" if isinstance(setting, float) else f"{name.split('.')[-1]}={setting}"
            for name, setting in trial.params.items()
        )
        tqdm.write(f"trial {trial.number}: {outcome} ({chosen})", file=sys.stderr)


def _value_of(settings: Any, name: str) -> Any:
    for key in name.split("."):
        settings = settings[key]
    return settings


def _definition(sweep: Sweep, overrides: Sequence[str]) -> str:
    searched = {name: distribution_to_json(space) for name, space in sweep.searched.items()}
    objective = [sweep.method, sweep.metric, sweep.minimize, sweep.early, *([sweep.strict] if sweep.strict else [])]
    return json.dumps([objective, sweep.command, dict(sweep.shared), searched, list(overrides)])


def _sampler(sweep: Sweep, seed: int) -> BaseSampler:
    if sweep.method == "bayes":
        return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)
    return RandomSampler(seed=seed)


def _pruner(sweep: Sweep) -> BasePruner:
    if sweep.early is None:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=sweep.early[0], reduction_factor=sweep.early[1])
