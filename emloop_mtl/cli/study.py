"""The record of a search: all of its trials, in a database of Optuna's."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.located_error import LocatedError
from ..config.search_range import SearchRange
from ..config.search_settings import SearchSettings
from ..errors import ConfigError
from ..utils.shown import printable
from .samplers import asking, made
from .trial_claims import TrialClaims
from .trial_result import TrialResult

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

DATABASE = "study.db"
CLAIMS = "study.lock"
NAME = "search"
RUN_NAME = re.compile(r"trial-\d{4,}")

PATIENCE = 120.0
"""Seconds that a process waits for others that write into the database."""

CONFIG, EXHAUSTED, GIVEN_UP, FAILURE = "config", "exhausted", "given_up", "failure"
"""What is kept of a study, and of its trials."""

IMPORTED = ("optuna.storages", "optuna.trial", "alembic.command", "sqlalchemy.orm", "sqlalchemy.dialects.sqlite")
"""What a process imports that uses a study."""

STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


class Study:
    """All trials of a search, those of other processes included.

    What a trial tries depends on the seed, its number and the trials that have ended before it: a search that was
    interrupted goes on as one that was not.

    :param folder: where the database lies; None for a study in memory
    :param settings: the section ``search`` of the config
    :param mode: ``min`` if less of the watched number is better, ``max`` if more is
    :param seed: what the random choices derive from
    :raise ConfigError: if the database cannot be used, or sampler or pruner cannot be made
    """

    def __init__(self, folder: Path | None, settings: SearchSettings, mode: str, seed: int) -> None:
        import optuna

        self._settings, self._seed = settings, seed
        self._sign = 1 if mode == "min" else -1
        self._folder = folder
        self._sampler(0)
        with self._speaking_of_it():
            self._storage = optuna.storages.InMemoryStorage() if folder is None else _storage(folder / DATABASE)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=NAME,
                pruner=self._pruner(),
                direction="minimize" if mode == "min" else "maximize",
                load_if_exists=True,
            )
            self._id = self._storage.get_study_id_from_name(NAME)

    @property
    def config(self) -> Any:
        """The config that the study was begun with; None if it was not begun."""
        with self._speaking_of_it():
            text = self._study.user_attrs.get(CONFIG)
            return None if text is None else json.loads(text)

    @config.setter
    def config(self, data: Mapping[str, Any]) -> None:
        with self._speaking_of_it():
            self._study.set_user_attr(CONFIG, json.dumps(data))

    def check(self) -> None:
        """Check that the database knows what lies beside it: one that was cut off is made anew, and empty.

        :raise ConfigError: if something has been lost
        """
        assert self._folder is not None
        lost = None
        with self._speaking_of_it():
            trials = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]
            for trial in trials:
                known = trial.params.keys() >= {each.name for each in self._settings.ranges}
                if trial.state.name == "COMPLETE" and not (known and trial.intermediate_values):
                    lost = f"what trial {trial.number} has tried, or what has come out"
            if trials and self.config is None:
                lost = "the config that it was begun with"
            runs = {self._result(trial).folder for trial in trials}
            for run in sorted(self._folder.glob("trial-*")):
                if RUN_NAME.fullmatch(run.name) and run.name not in runs:
                    lost = f"the trial whose run is {run.name}"
        if lost is not None:
            text = f"has lost {lost}; put back a copy of it, or choose another --output-dir"
            raise LocatedError(f"{printable(self._folder / DATABASE)}: {text}")

    def next(self, claims: TrialClaims) -> TrialResult | None:
        """Return a trial that nobody works on, begun before or new; None if there are as many as there are to be."""
        with claims.choosing(), self._speaking_of_it():
            trials = self._study.get_trials(deepcopy=False)
            for trial in trials:
                if trial.state.name == "RUNNING" and claims.take(trial.number):
                    return self._choose(trial.number, begun=True)
            is_exhausted = self._study.user_attrs.get(EXHAUSTED) == json.dumps(self._settings.sampler)
            begun = len([trial for trial in trials if trial.state.name != "WAITING"])
            if is_exhausted or begun >= self._settings.trials:
                return None
            # One that was enqueued elsewhere comes first, and has its number.
            waiting = [trial.number for trial in trials if trial.state.name == "WAITING"]
            result = self._choose(min(waiting, default=len(trials)), begun=False)
            claims.take(result.number)
            return result

    def first(self) -> TrialResult:
        """Return the first trial of a study that has none."""
        return self._choose(0, begun=False)

    def _choose(self, number: int, begun: bool) -> TrialResult:
        import optuna

        self._study.sampler = self._sampler(number)
        # A process may have died between the choices for one trial; what it had chosen stays.
        trial = optuna.trial.Trial(self._study, self._trial_id(number)) if begun else self._study.ask()
        with asking("sampler"):
            for each in self._settings.ranges:
                _suggest(trial, each)
        return self.result(trial.number)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Record the watched number of an epoch, and return whether the trial is given up.

        What an epoch has reported before, in a training that is resumed, is not reported again.
        """
        with self._speaking_of_it():
            trial = self._trial(number)
            if trial.user_attrs.get(GIVEN_UP) is not None:
                return epoch >= int(trial.user_attrs[GIVEN_UP])
            if epoch in trial.intermediate_values:
                return False
            self._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
            with asking("pruner"):
                is_given_up = self._study.pruner.prune(self._study, self._trial(number))
            if not is_given_up:
                return False
            self._storage.set_trial_user_attr(trial._trial_id, GIVEN_UP, epoch)
            return True

    def end(self, number: int, failure: str | None = None) -> TrialResult:
        """Record that a trial has ended.

        :param failure: why it has failed
        """
        from optuna.trial import TrialState

        with self._speaking_of_it():
            result = self.result(number)
            if failure is None and result.value is None:
                failure = "the watched number was never there, or nan"
            if failure is not None:
                self._storage.set_trial_user_attr(self._trial_id(number), FAILURE, failure)
                self._tell(number, state=TrialState.FAIL)
            elif self._trial(number).user_attrs.get(GIVEN_UP) is not None:
                self._tell(number, state=TrialState.PRUNED)
            else:
                self._tell(number, values=result.value)
            return self.result(number)

    def _tell(self, number: int, **how: Any) -> None:
        try:
            self._study.tell(number, **how)
        except RuntimeError as error:  # from a sampler that has tried all there is, once the end is recorded
            if "Study.stop" not in str(error):
                raise
            self._study.set_user_attr(EXHAUSTED, json.dumps(self._settings.sampler))

    def results(self) -> list[TrialResult]:
        """Return all trials by number."""
        with self._speaking_of_it():
            trials = self._study.get_trials(deepcopy=False)
            return [self._result(trial) for trial in trials if trial.state.name != "WAITING"]

    def result(self, number: int) -> TrialResult:
        """Return one trial."""
        with self._speaking_of_it():
            return self._result(self._trial(number))

    def best(self, results: list[TrialResult]) -> list[TrialResult]:
        """Return those that have finished, the best one first."""
        finished = [result for result in results if result.state == "finished" and result.value is not None]
        return sorted(finished, key=lambda result: (self._sign * (result.value or 0.0), result.number))

    def _result(self, trial: FrozenTrial) -> TrialResult:
        values = {epoch: value for epoch, value in trial.intermediate_values.items() if value == value}
        epoch = min(values, key=lambda each: (self._sign * values[each], each), default=None)
        return TrialResult(
            trial.number,
            STATES[trial.state.name],
            dict(trial.params),
            None if epoch is None else values[epoch],
            epoch,
            len(values),
            trial.user_attrs.get(FAILURE),
        )

    def _trial(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _sampler(self, number: int) -> Any:
        from optuna.samplers import BaseSampler

        section = self._settings.sampler or {"class": "TPESampler"}
        return made(section, "sampler", BaseSampler, self._seed, number)

    def _pruner(self) -> Any:
        from optuna.pruners import BasePruner

        return made(self._settings.pruner or {"class": "MedianPruner"}, "pruner", BasePruner, self._seed, 0)

    @contextmanager
    def _speaking_of_it(self) -> Iterator[None]:
        """Name the database in errors that come from it."""
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except ConfigError:
            raise
        except (StorageInternalError, SQLAlchemyError, sqlite3.Error, ValueError, LookupError, RuntimeError) as error:
            # A ValueError comes from what cannot be decoded, a LookupError from what is not there. Of other
            # RuntimeErrors one is of Optuna's version.
            if isinstance(error, RuntimeError) and "version" not in str(error):
                raise
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            place = None if self._folder is None else self._folder / DATABASE
            why = f"{type(cause).__name__}: {cause}" if isinstance(cause, LookupError) else cause
            raise LocatedError(f"{place}: cannot be used: {why}") from error


def prepare_optuna() -> None:
    """Check that Optuna is installed, and let nothing but its warnings be told.

    :raise ConfigError: naming the extra, if it is not
    """
    try:
        import optuna  # here: takes half a second, and no other command needs it
    except ImportError as error:
        raise ConfigError("a search needs optuna: pip install 'emloop_mtl[optuna]'") from error
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _storage(path: Path) -> RDBStorage:
    import optuna
    from sqlalchemy.engine import URL

    url = URL.create("sqlite", database=str(path.resolve())).render_as_string()
    braced = url.replace("{", "{{").replace("}", "}}")  # Optuna fills in its version
    return optuna.storages.RDBStorage(braced, engine_kwargs={"connect_args": {"timeout": PATIENCE}})


def _suggest(trial: Any, each: SearchRange) -> None:
    if each.choices:
        trial.suggest_categorical(each.name, list(each.names))
    elif each.is_whole:
        trial.suggest_int(each.name, each.low, each.high, step=each.step or 1, log=each.log)
    else:
        trial.suggest_float(each.name, each.low, each.high, step=each.step, log=each.log)
