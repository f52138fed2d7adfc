"""Searches for the best settings of a training."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..config.config import Config
from ..config.load import dump_config
from ..config.located_error import LocatedError
from ..config.search_settings import WATCHED, SearchSettings
from ..config.searched_config import check_searched, load_searched, with_values, without_search
from ..config.source_folder import folder_of
from ..config.yaml_text import write_yaml
from ..constants import BEST_FILE, DEFAULT_OUTPUT_ROOT, STUDY_FILE
from ..errors import ConfigError, EmloopError
from ..utils.files import make_folder, write_atomically
from ..utils.shown import printable
from .comparing import differing, flat_settings
from .folder_in_use import is_in_use
from .forwarded_signals import ForwardedSignals
from .listing import duration
from .reporting import MISTAKE, SIGNAL_BASE
from .run_config import RunConfig
from .run_folder import folder_name
from .running import name_of
from .said import why_failed
from .scratch_folder import scratch_folder
from .search_results import described, print_results, values_of
from .study import CLAIMS, DATABASE, IMPORTED, Study, prepare_optuna
from .training_server import TrainingServer
from .trial_claims import TrialClaims
from .trial_result import TrialResult

log = logging.getLogger(__name__)

LOOK = 0.1
"""Seconds between two looks at a training that was left alone and is about to end."""

_Train = Callable[[int, Mapping[str, Any], Path | None], tuple[int, str]]


def search_best(
    config_path: Path, overrides: Sequence[str], section: Path | None, folder: Path | None, as_json: bool
) -> None:
    """Train until there are as many trials as there are to be, then print the best.

    :param overrides: ``key.sub=value`` each
    :param section: a file that stands for the section ``search``
    :param folder: of the study
    :param as_json: print JSON for programs instead of a table
    :raise SystemExit: if a signal interrupts it
    :raise EmloopError: if too many trials in a row fail, or none has finished
    """
    prepare_optuna()
    config = load_searched(config_path, overrides, section)
    settings = check_searched(config)
    watch = _watched(config, settings)
    folder = folder or Path(DEFAULT_OUTPUT_ROOT) / f"{folder_name(name_of(config))}_search"
    order = {
        "working_folder": str(Path.cwd()),
        "config": str(config_path),
        "overrides": list(overrides),
        "section": None if section is None else str(section),
        "watch": watch,
    }
    with config.located():
        study = _Search(config, settings, watch, folder, order).run()
        results = study.results()
        best = study.best(results)
    print_results(folder, settings, watch, results, best, as_json)
    if not best and not any(result.state == "running" for result in results):
        failure = results[-1].failure
        how = "was given up by search.pruner" if failure is None else f"has failed: {failure}"
        raise EmloopError(f"no trial has finished; the last one {how}")
    if best:
        log.info("the best run lies in %s", printable(folder / best[0].folder))
        log.info("train it anew:  emloop-mtl train %s", shlex.quote(str(folder / BEST_FILE)))


def _watched(config: Config, settings: SearchSettings) -> dict[str, Any]:
    """Return the number that trials are compared by: that of ``watch``, else that of the first ``SaveBest``."""
    named = settings.watch
    if named is None:
        arguments = RunConfig(config.data).arguments_of("SaveBest")
        if arguments is None:
            text = "missing 'watch', the number to judge by, such as {stream: valid, variable: loss, mode: min}"
            with config.located():
                raise ConfigError(text, ("search",))
        named = {name: arguments[name] for name in WATCHED if name in arguments}
    return {"stream": "valid", "variable": "loss", "mode": "min", **named}


class _Search:
    """The trainings of a search, one after the other, each in a process of its own.

    A process of its own gives its memory back, and takes nothing with it when it is killed or its device fails.

    :param config: the config, section ``search`` included
    :param settings: what this section says
    :param watch: the number that trials are compared by
    :param folder: of the study
    :param order: what the processes are told, beside the trial
    """

    def __init__(
        self,
        config: Config,
        settings: SearchSettings,
        watch: Mapping[str, Any],
        folder: Path,
        order: Mapping[str, Any],
    ) -> None:
        self._config, self._settings, self._watch = config, settings, watch
        self._base = without_search(config)
        self._folder, self._order = folder, order
        self._failures: list[str] = []
        self._seconds: list[float] = []

    def run(self) -> Study:
        """Train what is left to be trained, and return the study.

        :raise SystemExit: if a signal interrupts it
        :raise EmloopError: if too many trials in a row fail
        """
        is_new = self._is_new()
        with (
            scratch_folder("search") as scratch,
            TrainingServer(*IMPORTED) as server,
            ForwardedSignals() as signals,
        ):
            train = partial(self._train, server, signals, scratch / "said")
            if is_new:
                self._check_first(train)
            if signals.caught is None:
                make_folder(self._folder)
                with TrialClaims(self._folder / CLAIMS) as claims:
                    study = self._opened(claims)
                    while signals.caught is None and (trial := study.next(claims)) is not None:
                        self._try(study, trial, train, signals)
                        self._write_best(study, claims)
                        claims.let_go(trial.number)
                        self._check_failures()
            if signals.caught is not None:
                if (self._folder / DATABASE).exists():
                    log.info("interrupted; the same command goes on with the study in %s", printable(self._folder))
                raise SystemExit(SIGNAL_BASE + signals.caught)
        return study

    def _is_new(self) -> bool:
        """Whether the folder holds no study yet, after a check that one can begin there."""
        known = {CLAIMS, STUDY_FILE}
        try:
            if (self._folder / DATABASE).exists():
                return False
            others = [entry.name for entry in self._folder.iterdir() if entry.name not in known]
        except FileNotFoundError:
            return True
        except OSError as error:
            raise LocatedError(f"{printable(self._folder)}: {error.strerror or error}") from error
        if others and not (self._folder / DATABASE).exists():  # else another command has just begun one
            text = f"is not empty, and holds no study: it has no {DATABASE}; choose another --output-dir"
            raise LocatedError(f"{printable(self._folder)}: {text}")
        return True

    def _check_first(self, train: _Train) -> None:
        """Check the first trial as ``emloop-mtl check`` does, before there is anything of the study."""
        study = Study(None, self._settings, self._watch["mode"], self._seed)
        first = study.first()
        code, text = train(0, values_of(self._settings, first), None)
        if code == MISTAKE:
            raise LocatedError(text)
        if code != 0 and code <= SIGNAL_BASE:
            raise EmloopError(f"the first trial cannot be trained: {text}")

    def _opened(self, claims: TrialClaims) -> Study:
        """Return the study, after a check that it is one of this config."""
        with claims.choosing():
            study = Study(self._folder, self._settings, self._watch["mode"], self._seed)
            study.check()
            comparable = {**self._base.data, "search": {"watch": self._watch, "ranges": self._ranges}}
            if study.config is None:
                self._write_record()
                study.config = comparable
        keys = differing([flat_settings(study.config), flat_settings(comparable)])
        if keys:
            some = ", ".join(map(printable, keys[:3])) + (", …" if len(keys) > 3 else "")
            text = f"holds a study of another config: {some} differs; choose another --output-dir"
            raise LocatedError(f"{printable(self._folder)}: {text}")
        return study

    def _write_record(self) -> None:
        """Record where the config came from, since modules beside it are needed where its best settings are trained."""
        assert self._config.path is not None
        record = {
            "config": self._config.path.name,
            "source_folder": str(folder_of(self._config.path).resolve()),
            "working_folder": str(Path.cwd()),
        }
        write_atomically(self._folder / STUDY_FILE, write_yaml(record))

    def _try(self, study: Study, trial: TrialResult, train: _Train, signals: ForwardedSignals) -> None:
        """Train a trial and record how it has ended; one that is interrupted is left as it is."""
        run_dir = self._folder / trial.folder
        if not self._is_free(run_dir, signals):
            return
        settings = described(self._settings, trial)
        log.info("trial %i%s: %s", trial.number, " goes on" if run_dir.exists() else "", settings)
        began = time.monotonic()
        code, text = train(trial.number, values_of(self._settings, trial), self._folder)
        if code != 0 and signals.caught is not None:
            return
        ended = study.end(trial.number, None if code == 0 else text)
        self._seconds.append(time.monotonic() - began)
        if ended.state == "failed":
            self._failures.append(f"trial {trial.number}: {ended.failure}")
            log.error("trial %i has failed: %s", trial.number, ended.failure)
        else:
            self._failures.clear()
        self._tell(study, ended)

    def _tell(self, study: Study, ended: TrialResult) -> None:
        """Tell how a trial has ended, how far the search is, and how long it may take."""
        results = study.results()
        done = sum(result.state != "running" for result in results)
        left = max(self._settings.trials - done, 0)
        best = study.best(results)
        parts = [f"{done} of {max(self._settings.trials, done)} done"]
        if best:
            parts.append(f"best {best[0].value:.4g}, of trial {best[0].number}")
        if left and self._seconds:
            parts.append(f"about {duration(left * sum(self._seconds) / len(self._seconds))} left")
        how = (
            "" if ended.value is None else f" {ended.state} at {ended.value:.4g}, the best of {_epochs(ended.epochs)};"
        )
        log.info("trial %i%s %s", ended.number, how or " failed;", ", ".join(parts))

    def _is_free(self, run_dir: Path, signals: ForwardedSignals) -> bool:
        """Wait for a training to end whose command was killed, as it does at its next border; False if interrupted."""
        if is_in_use(run_dir):
            log.info("waiting for a training in %s that ends", printable(run_dir))
        while is_in_use(run_dir) and signals.caught is None:
            time.sleep(LOOK)
        return signals.caught is None

    def _check_failures(self) -> None:
        most = self._settings.max_failures
        if len(self._failures) >= most:
            many = "1 trial has" if most == 1 else f"{most} trials in a row have"
            raise EmloopError(f"{many} failed, as many as search.max_failures lets; the last was {self._failures[-1]}")

    def _write_best(self, study: Study, claims: TrialClaims) -> None:
        """Write the config of the best trial so far."""
        with claims.choosing():
            best = study.best(study.results())
            if best:
                values = values_of(self._settings, best[0])
                config = with_values(self._base, self._settings.ranges, values, f"trial {best[0].number}")
                write_atomically(self._folder / BEST_FILE, dump_config(config))

    def _train(
        self,
        server: TrainingServer,
        signals: ForwardedSignals,
        said: Path,
        number: int,
        values: Mapping[str, Any],
        study: Path | None,
    ) -> tuple[int, str]:
        """Train a trial in a new process; return its exit code, and why it has failed.

        :param study: the folder of the study; None to check only that it can be trained
        """
        told = {"number": number, "values": values, "study": None if study is None else str(study)}
        code = server.try_out({**self._order, **told, "log": str(said)}, signals.forward_to)
        return code, why_failed(code, said)

    @property
    def _seed(self) -> int:
        return int(self._base.data["seed"])

    @property
    def _ranges(self) -> Mapping[str, Any]:
        ranges: Mapping[str, Any] = self._config.data["search"]["ranges"]
        return ranges


def _epochs(number: int) -> str:
    return "1 epoch" if number == 1 else f"{number} epochs"
