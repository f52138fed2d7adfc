"""The main loop: epochs, streams and steps."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from inspect import signature
from pathlib import Path
from signal import Signals
from time import perf_counter
from types import TracebackType
from typing import Any

from .abstract_hook import AbstractHook
from .batch_gate import BatchGate, check_disjoint
from .batch_trial import BatchTrial
from .checkpoint import Checkpoint, complete_checkpoint
from .constants import CHECKPOINT_FOLDER, TRAIN_STREAM
from .data.stream_wrapper import StreamWrapper
from .data.task_stream import TaskStream
from .epoch_book import EpochBook
from .errors import CheckpointError, ConfigError, DataError, NotFiniteError, TrainingTerminated
from .hook_list import HookList
from .loop_arguments import check_actions, check_extra_streams, check_whole, refuse_unknown
from .loop_state import LoopState
from .models.abstract_model import AbstractModel
from .saver import Exchange, Saver
from .slow_streams import SlowStreams
from .streams import AnyStream, Streams
from .types import EpochData, Position, State, TimeProfile
from .utils.caught_signals import CaughtSignals
from .utils.contexts import Contexts, Make
from .utils.random import check_random_state, get_random_state, set_random_state
from .utils.wait_given_up import WaitGivenUp

log = logging.getLogger(__name__)

WAIT = 2.0
"""Seconds after a signal in which a batch may come whose step has not begun; nothing is lost without it."""

WAIT_IN_STEP = 8.0
"""The same for a step that has begun. Without it the run cannot be saved, and most schedulers kill after 30 s."""


class MainLoop:
    """Train and evaluate a model on the streams of a dataset, with hooks acting at every event.

    A training goes like this::

        before_training
        for each epoch (the zeroth is evaluation only):
            before_epoch
            for each batch of the train streams, then of the eval streams:
                model.run
                after_batch
            after_epoch
            after_epoch_profile
        after_training

    It ends when a hook raises ``TrainingTerminated``, at a first SIGINT, SIGTERM or SIGHUP (saved at the next border,
    or at the last one where no batch comes), or with an error; ``end`` tells which. The loop owns position, length
    and saving: a hook asks for a checkpoint by ``request_save``, and it is written once every hook has finished the
    event.

    :param model: the model to train
    :param dataset: provides a stream ``<name>`` by a method ``<name>_stream()``
    :param hooks: side concerns, in the order in which they act
    :param train_stream_name: the stream to train on
    :param extra_streams: streams to evaluate after each epoch
    :param buffer: batches to read ahead in a thread, 0 for none
    :param on_empty_batch: ``error``, ``warn`` or ``ignore``: what to do about a batch without samples
    :param on_empty_stream: the same about a stream without batches
    :param on_unused_sources: the same about sources that the model does not read
    :param on_incorrect_config: the same about arguments that the main loop does not know
    :param fixed_batch_size: leave out batches of any other size; how long an epoch is, is then not known beforehand
    :param fixed_epoch_size: length of a training epoch: steps, ``{"samples": n}`` or ``{"passes": x}``; None for
        one pass through the train stream
    :param skip_zeroth_epoch: do not evaluate before the first training epoch
    :param try_batches: whether a training begins with ``try_batches``, which reads what comes first of each stream once
        more; false for data that take long to begin, or do not begin anew
    :param output_dir: folder of the run; without it nothing can be saved
    :param asynchronous_saving: write checkpoints in a thread, so that the training waits only while its state is
        copied to host memory; what goes wrong there ends the training at the next border
    :param seed: what the isolated randomness of plain generator streams derives from
    :raise ConfigError: for an argument out of range, a stream or source that does not exist, wrong hooks
    """

    def __init__(
        self,
        model: AbstractModel,
        dataset: Any,
        hooks: Iterable[AbstractHook] = (),
        train_stream_name: str = TRAIN_STREAM,
        extra_streams: Iterable[str] = (),
        buffer: int = 0,
        on_empty_batch: str = "error",
        on_empty_stream: str = "error",
        on_unused_sources: str = "warn",
        on_incorrect_config: str = "error",
        fixed_batch_size: int | None = None,
        fixed_epoch_size: int | Mapping[str, float] | None = None,
        skip_zeroth_epoch: bool = False,
        try_batches: bool = True,
        output_dir: str | Path | None = None,
        seed: int = 0,
        asynchronous_saving: bool = False,
        **kwargs: Any,
    ) -> None:
        check_actions(
            {
                "on_empty_batch": on_empty_batch,
                "on_empty_stream": on_empty_stream,
                "on_unused_sources": on_unused_sources,
                "on_incorrect_config": on_incorrect_config,
            }
        )
        check_whole("buffer", buffer, least=0)
        check_whole("fixed_batch_size", fixed_batch_size, least=1)
        refuse_unknown(kwargs, signature(MainLoop).parameters.keys() - {"kwargs"}, on_incorrect_config)
        self.model = model
        self.dataset = dataset
        self.hooks = HookList(hooks)
        self.output_dir = None if output_dir is None else str(output_dir)
        self.train_stream_name = train_stream_name
        self.extra_streams = check_extra_streams(extra_streams, train_stream_name)
        self.fixed_epoch_size = fixed_epoch_size
        self.end: str | None = None
        """How the training ended: ``finished``, ``interrupted`` or ``failed``; None until then."""
        self.epoch_data: EpochData = {}
        """The numbers of the last finished epoch."""
        self.config: Mapping[str, Any] | None = None
        """The config of the training as plain data, for hooks that keep it with the numbers; None if there is none."""
        self._skip_zeroth_epoch = skip_zeroth_epoch
        self._fixed_batch_size = fixed_batch_size
        self._profile: TimeProfile = {}
        self._saving = array("d")
        self._streams = Streams(dataset, model, train_stream_name, fixed_epoch_size, buffer, self._profile, seed)
        self._gate = BatchGate(model, on_empty_batch, on_empty_stream, on_unused_sources, fixed_batch_size)
        self._slow_streams = SlowStreams(buffer)
        self._signals = CaughtSignals()
        self._signals.patience = self._patience
        self._walked: StreamWrapper | None = None
        self._position = Position()
        self._total_steps: int | None = None
        self._zeroth_done = False
        self._epoch: dict[str, Any] | None = None
        """The epoch under way: its streams, and how many of them are done."""
        self._random_state: dict[str, State] | None = None
        self._is_training = False
        self._is_tried = not try_batches
        self._is_over = False
        self._is_run_training = False
        self._is_run_evaluation = False
        self._evaluation = Contexts()
        self._saver = Saver(self.output_dir, model, asynchronous_saving)
        for key, name in [
            ("train_stream_name", train_stream_name),
            *(("extra_streams", n) for n in self.extra_streams),
        ]:
            try:
                self._streams.check(name)
            except ConfigError as error:
                raise (error if error.path else error.below(("main_loop", key))) from error.__cause__
        self.hooks.register(self)

    # -------------------------------------------------------------------------------------------- what hooks ask

    @property
    def position(self) -> Position:
        """Finished epochs, steps, passes through the train stream, and samples trained on."""
        return self._position

    @property
    def training_epochs_done(self) -> int:
        """Number of finished training epochs."""
        return self._position.epoch

    @property
    def has_begun(self) -> bool:
        """Whether a batch has been run."""
        return (
            self._position.step > 0
            or self._zeroth_done
            or any(times for name, times in self._profile.items() if name.startswith("after_batch_hooks_"))
        )

    @property
    def is_training(self) -> bool:
        """Whether the batches of the stream under way are trained on, not evaluated."""
        return self._is_training

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole run: the smallest limit that a hook sets; None where none does."""
        return self._total_steps if self._total_steps is not None else self.hooks.max_steps()

    @property
    def epoch_steps(self) -> int | None:
        """Steps of a training epoch, None where they are not known or not always the same."""
        steps = self.get_stream(self.train_stream_name).epoch_steps
        return steps if self._fixed_batch_size is None else None

    def steps_of(self, epochs: int) -> int | None:
        """Return how many steps the first ``epochs`` training epochs have together, None where that is not known."""
        steps = self.get_stream(self.train_stream_name).steps_of(epochs)
        return steps if self._fixed_batch_size is None else None

    @property
    def pass_steps(self) -> int | None:
        """Steps of one pass through the train stream, None where they are not known."""
        steps = self.get_stream(self.train_stream_name).num_steps_per_pass
        return steps if self._fixed_batch_size is None else None

    @property
    def interrupted_by(self) -> Signals | None:
        """The signal that interrupted the training."""
        return self._signals.caught

    def get_stream(self, stream_name: str) -> StreamWrapper:
        """Return the stream that is trained on under this name.

        :raise ConfigError: if the dataset has no such stream
        """
        return self._streams.get(stream_name)

    def stream_info(self, stream_name: str) -> TaskStream | None:
        """Return loaders, sources and lengths of a stream, None where a stream does not tell them."""
        return self._streams.info(stream_name)

    def check_stream(self, stream_name: str) -> None:
        """Check that a stream exists and, as far as it tells beforehand, holds all that the model needs.

        :raise ConfigError: naming stream, loader, task and source
        """
        self._streams.check(stream_name)

    def request_save(self, tag: str) -> None:
        """Ask for a checkpoint, written when every hook has finished the current event.

        :param tag: what the checkpoint is kept as, e.g. ``latest``; an older one of this tag is replaced
        :raise ConfigError: if the run has no folder, or the model cannot be checkpointed
        """
        self._saver.ask(tag)

    def when_saved(self, act: Callable[[], None], in_thread: bool = False) -> None:
        """Have ``act`` called once every hook has finished the current event and what was asked for is saved.

        Where saving is asynchronous, the training may have gone on by then: it is called at the first border after
        that, or at the end of the training. In ``run_evaluation``, which saves nothing, it is not called.

        :param act: what to do; those of one event, and of several, are called in the order in which they were given
        :param in_thread: where saving is asynchronous, call it in the thread that has written the checkpoint: for
            what looks at files only and may take its time
        """
        self._saver.when_written(act, in_thread)

    def before_saved(self, act: Callable[[], None]) -> None:
        """Have ``act`` called before a state is written, by a hook in its ``state_dict`` that has files to flush.

        It is called at once, but where saving is asynchronous in the thread that writes the checkpoint. If it fails,
        there is no checkpoint.
        """
        self._saver.before_written(act)

    def evaluate_under(self, make: Make) -> None:
        """Have every stream that is evaluated run under a context, by a hook that lets the model be another one there.

        The context is left before the stream that is trained on goes on, however the evaluation ends, and while a
        checkpoint is written in the middle of it: the state of a training is that in which it trains.

        :param make: makes the context, once per stream and after each such checkpoint
        """
        self._evaluation.add(make)

    def save_weights_as(self, exchange: Exchange) -> None:
        """Have checkpoints hold other weights than those that are trained.

        A resumed training begins with what is saved, and the hook has to give it back what was trained.

        :param exchange: gets what the model's ``state_dict`` has returned, and returns what to save in its place
        """
        self._saver.exchange_weights(exchange)

    def check_can_save(self) -> None:
        """Check that checkpoints can be written.

        :raise ConfigError: if the run has no folder, or the model cannot be checkpointed
        """
        self._saver.check()

    def check_room(self) -> None:
        """Check, where hooks will save, that the disk has room for a whole checkpoint, as every training does.

        It is estimated from the weights, what the optimizer will keep of each, open gradients, and what hooks tell.

        :raise ConfigError: if it has not
        """
        self._saver.check_room(self.hooks.checkpoint_bytes())

    # --------------------------------------------------------------------------------------------------- running

    def run_training(self) -> None:
        """Train until a hook raises ``TrainingTerminated`` or a signal arrives.

        :raise ConfigError: if the model cannot be trained
        """
        self.check_trainable()
        self._is_run_training = True
        try:
            with self:
                if self.total_steps is None:
                    log.info("no hook sets the length of the run: it goes on until a hook or a signal ends it")
                if self._random_state is not None:
                    set_random_state(self._random_state)
                    self._random_state = None
                if self._signals.caught is not None:  # while hooks began: there is nothing to save yet
                    self.end = "interrupted"
                    raise TrainingTerminated(f"caught {self._signals.caught.name}")
                if self._is_over:
                    raise TrainingTerminated(f"all {self._position.step} steps were done before")
                if self._epoch is not None:
                    for name in (*self._epoch["train_streams"], *self._epoch["eval_streams"]):
                        self._streams.check(name)
                    self._run_streams(resumed=True)
                elif not self._zeroth_done and not self._skip_zeroth_epoch:
                    self._run_epoch([], [self.train_stream_name, *self.extra_streams])
                while True:
                    self._run_epoch([self.train_stream_name], list(self.extra_streams))
        except TrainingTerminated as end:
            log.info("Training %s: %s", self.end, end)
        finally:
            self._is_run_training = False

    def run_evaluation(self, stream_name: str, position: Position | None = None) -> None:
        """Evaluate one stream as an epoch of its own, without training and without saving.

        :param stream_name: name of the stream, e.g. ``valid``
        :param position: how far the weights were trained, which is what hooks are told; None for where this loop is
        """
        self.check_stream(stream_name)
        epoch, before, self._is_run_evaluation = self._epoch, self._position, True
        self._position = before if position is None else position
        try:
            with self:
                self._run_epoch([], [stream_name], only_these=True)
        except TrainingTerminated as end:
            log.info("Evaluation ended: %s", end)
        finally:
            self._epoch, self._position, self._is_run_evaluation = epoch, before, False

    def epoch(self, train_streams: Iterable[AnyStream], eval_streams: Iterable[AnyStream]) -> None:
        """Run a single epoch; to be called inside ``with main_loop:``.

        :param train_streams: streams to train on: names, ``StreamWrapper``s or iterables of batches
        :param eval_streams: streams to evaluate
        :raise ConfigError: if two of them have one name
        """
        trained = self._streams.adopt(train_streams, "train", {})
        evaluated = self._streams.adopt(eval_streams, "eval", trained)
        given = {**trained, **evaluated}
        try:
            self._run_epoch(list(trained), list(evaluated), given)
        finally:
            for stream in given.values():
                stream.close()

    def restore(self, checkpoint: Checkpoint, stay_finished: bool = False) -> None:
        """Go on from a checkpoint when ``run_training`` is called next.

        :param stay_finished: of a training that had finished, run the beginning and the end of the hooks only
        :raise CheckpointError: if the checkpoint does not fit the model or the hooks
        """
        state = checkpoint.state
        if self.output_dir is not None and checkpoint.path.parent == Path(self.output_dir) / CHECKPOINT_FOLDER:
            complete_checkpoint(checkpoint)
        self._saver.go_back()
        self.hooks.load_state_dict(state["hooks"])  # first, since one that changes the model's tasks does so again here
        try:
            self.model.load_state_dict(checkpoint.weights)
            self.model.load_training_state_dict(state["model"])
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())  # torch lists parameters line by line
            raise CheckpointError(f"{checkpoint.path}: does not fit the model: {reason}") from error
        try:
            loop = LoopState.of_state(state.get("loop"))
            self._streams.load_state_dict(state.get("streams"))
            check_random_state(state.get("random"))
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoint.path}: {error}") from error
        self._position = checkpoint.position
        self._zeroth_done, self._epoch = loop.zeroth_done, loop.epoch
        self._random_state = state["random"]
        total_steps = self.total_steps
        is_long_enough = total_steps is not None and self._position.step >= total_steps
        self._is_over = checkpoint.finished and (stay_finished or is_long_enough)
        if loop.total_steps != total_steps:
            log.info("the run is now %s steps long (it was %s)", total_steps, loop.total_steps)

    def check_trainable(self) -> None:
        """Check that the model can be trained.

        :raise ConfigError: if it can only be evaluated
        """
        if not self.model.can_be_trained:
            kind = type(self.model).__name__
            text = f"{kind} is made of trained models and cannot be trained itself; emloop-mtl eval scores it"
            raise ConfigError(text, ("model", "class"))

    def check(self) -> None:
        """Check lengths and the wiring of the hooks, as every training does before its first batch.

        :raise ConfigError: naming what is missing and what would give it
        """
        self._total_steps = self.hooks.max_steps()
        missing = "hook StopAfter with 'steps', or with 'epochs' and a train stream of known length"
        self.model.set_length(self._total_steps, self.pass_steps, missing)
        sources = self._streams.known_sources()
        if sources is not None and not self._is_run_evaluation:
            self._streams.check_tasks()
        self.hooks.check_wiring(None if sources is None else sources | set(self.model.output_names))

    def try_batches(self) -> None:
        """Try whether the modules fit each other and the data, on the first batch of every loader.

        Of the streams, that is, which are trained on or evaluated; of one without loaders on its own first batch.
        ``run_training`` does so before its first batch, once, unless ``try_batches`` is false or nothing is left to do;
        nothing is trained, and no stream moves: what is tried is read for this alone, where it will be read later.

        :raise DataError: naming stream and loader, for data that cannot be used
        :raise Exception: what a module raises, with a note that names its task and action
        """
        total_steps = self.total_steps
        is_done = self._is_over or (total_steps is not None and 0 < total_steps <= self._position.step)
        if not self._is_tried and not is_done:
            is_in_training = self._epoch is not None and bool(self._epoch["train_streams"])
            only_trains = self._skip_zeroth_epoch or self._zeroth_done or is_in_training
            how = self.train_stream_name, only_trains, self._fixed_batch_size
            BatchTrial(self.model, self.hooks, *how).run(self._streams.checked, self._streams.first_batches)
            self._is_tried = True

    def __enter__(self) -> MainLoop:
        """Check everything, then start the hooks."""
        self.end = None
        try:
            if not self._is_run_evaluation:
                self.check_room()
            self.check()
            if self._is_run_training:  # else nobody knows what will be run, and how
                self.try_batches()
            # signals still do what they do elsewhere: nothing has begun that could be saved
            self._signals.__enter__()
            self.hooks.before_training()
        except BaseException as error:
            self._finish(success=isinstance(error, TrainingTerminated))
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the hooks."""
        if isinstance(error, Exception) and not isinstance(error, TrainingTerminated | NotFiniteError):
            self._tell_what_was_put_off()
        is_interrupted = error is not None and not isinstance(error, Exception)
        self._finish(success=error is None or isinstance(error, TrainingTerminated), at_once=is_interrupted)

    def _tell_what_was_put_off(self) -> None:
        """A training may fail because of what is not known yet, such as a nan that is on its way from a device."""
        with suppress(RuntimeError):  # a device that has failed cannot be asked
            try:
                self.model.settle()
            except NotFiniteError as error:
                log.error("%s", error)

    def _finish(self, success: bool, at_once: bool = False) -> None:
        if not success:
            self.end = "failed"
        elif self.end is None:
            self.end = "finished"
        try:
            try:
                if success:
                    self._saver.finish()
            except BaseException:
                success, self.end = False, "failed"
                raise
            finally:
                self.hooks.after_training(success)
            if success:
                self._save(finished=self.end == "finished")
                self._saver.finish()
        except BaseException as error:
            self.end, at_once = "failed", at_once or not isinstance(error, Exception)
            raise
        finally:
            self._is_training, self._walked = False, None
            try:
                self._saver.close(at_once)  # which may be interrupted
            finally:
                try:
                    self._streams.close()
                finally:
                    self._signals.__exit__(None, None, None)

    # ---------------------------------------------------------------------------------------- epochs and batches

    def _run_epoch(
        self,
        train_streams: list[str],
        eval_streams: list[str],
        given: Mapping[str, StreamWrapper] | None = None,
        only_these: bool = False,
    ) -> None:
        announced = list(eval_streams)
        self.hooks.before_epoch(self._position.epoch + bool(train_streams), train_streams, announced)
        self._streams.check_new_tasks()
        if not only_these:
            eval_streams = [name for name in dict.fromkeys(announced) if name not in train_streams]
            for name in eval_streams:
                if name not in (given or {}):
                    self._streams.check(name)
        self._epoch = {"train_streams": train_streams, "eval_streams": eval_streams, "streams_done": 0}
        self._run_streams(given)

    def _run_streams(self, given: Mapping[str, StreamWrapper] | None = None, resumed: bool = False) -> None:
        assert self._epoch is not None
        epoch, given = self._epoch, given or {}
        self._profile.clear()
        jobs = [(name, True) for name in epoch["train_streams"]] + [(name, False) for name in epoch["eval_streams"]]
        for name, train in jobs[epoch["streams_done"] :]:
            if name in given:
                self._run_stream(given[name], train)
            elif train:
                self._run_stream(self.get_stream(name), train, resumed)
            else:
                with self._streams.evaluation(name, resumed) as stream:
                    self._run_stream(stream, train, resumed)
            epoch["streams_done"] += 1
            resumed = False
        self._end_epoch(epoch["train_streams"], epoch["eval_streams"])

    def _end_epoch(self, train_streams: list[str], eval_streams: list[str]) -> None:
        self._epoch = None
        if train_streams:
            self._position = self._position._replace(epoch=self._position.epoch + 1)
        elif self._is_run_training:
            self._zeroth_done = True
        streams = list(dict.fromkeys([*train_streams, *eval_streams]))
        began = perf_counter()
        self.epoch_data = EpochBook(streams)
        end = self.hooks.after_epoch(self._position.epoch, self.epoch_data)
        if not self._is_run_evaluation:
            self._streams.after_epoch(self.epoch_data)
        self._profile["after_epoch_hooks"] = array("d", [perf_counter() - began])
        if self._saving:
            self._profile["saving"], self._saving = self._saving, array("d")
        self._slow_streams.tell(self._profile, streams)
        end = self.hooks.after_epoch_profile(self._position.epoch, self._profile, streams) or end
        self._border(end)

    def _run_stream(self, stream: StreamWrapper, train: bool, resumed: bool = False) -> None:
        run, after_batch, signals, saver = self.model.run, self.hooks.after_batch, self._signals, self._saver
        run_times = self._profile.setdefault(f"eval_batch_{stream.name}", array("d"))
        hook_times = self._profile.setdefault(f"after_batch_hooks_{stream.name}", array("d"))
        stream.outputs, stream.is_undisturbed = self.hooks.outputs(train), self.hooks.are_ours
        self._is_training, self._walked = train, stream
        name = stream.name or ""
        end: TrainingTerminated | None = None
        with nullcontext() if train else self._evaluation.entered(), stream, self._giving_up_waiting():
            for batch in self._gate.accepted(stream, train, may_be_empty=resumed):
                began = perf_counter()
                try:
                    outputs = run(batch, train=train, stream=stream)
                except DataError as error:
                    raise error.within(f"stream {name!r}, {batch.place}") from error
                if type(outputs) is not dict or not batch.keys().isdisjoint(outputs):
                    check_disjoint(batch, outputs, stream)
                batch.update(outputs)
                ran = perf_counter()
                run_times.append(ran - began)
                if train:
                    epoch, step, _, samples = self._position
                    step += batch.ends_step
                    self._position = Position(epoch, step, stream.passes, samples + (batch.size or 0))
                end = after_batch(name, batch) or end
                hook_times.append(perf_counter() - ran)
                if (end is not None or signals.caught is not None or saver.is_asked) and (batch.ends_step or not train):
                    self._border(end)
        if train:
            self._position = self._position._replace(passes=stream.passes)
            self.model.settle()
        self._is_training, self._walked = False, None

    def _patience(self) -> float | None:
        """Return for how long after a signal the wait that is under way may last, None if none is."""
        stream = self._walked
        if stream is None or not stream.is_waiting:
            return None
        return WAIT if not self._is_training or stream.is_between_steps else WAIT_IN_STEP

    @contextmanager
    def _giving_up_waiting(self) -> Iterator[None]:
        """Where no batch comes after a signal, the border is where the last one has ended."""
        try:
            yield
        except WaitGivenUp:
            assert self._walked is not None
            if not self._is_training or self._walked.is_between_steps:
                self._border(None)
            log.warning("no batch has come in the middle of a step, so what has come since the last checkpoint is lost")
            raise

    def _border(self, end: TrainingTerminated | None) -> None:
        """At the end of a step, an evaluated batch or an epoch: save what was asked for, and end if wished."""
        self.model.settle()
        signal = self._signals.caught
        if end is not None:
            self._save(finished=True)
            self.end = "finished"
            raise end
        if signal is not None:
            if self._is_run_training and self._saver.can_save:
                self.request_save("latest")
            self._save(finished=False)
            self.end = "interrupted"
            raise TrainingTerminated(f"caught {signal.name}")
        if self._saver.is_asked:
            self._save(finished=False)

    def _save(self, finished: bool) -> None:
        if self._is_run_evaluation:  # a training has nothing to go on with from there
            self._saver.forget()
            return
        evaluated = self._streams.evaluated
        streams_done = None if self._epoch is None else self._epoch["streams_done"]
        stamp = (self._position, streams_done, evaluated and evaluated.batches, finished)
        began = perf_counter()
        with self._evaluation.left():
            self._saver.write(stamp, self._state, self._position, finished)
        self._saving.append(perf_counter() - began)

    def _state(self) -> dict[str, State]:
        """Return all that goes on with the training, but for its weights and position."""
        return {
            "loop": {"zeroth_done": self._zeroth_done, "epoch": self._epoch, "total_steps": self._total_steps},
            "streams": self._streams.state_dict(),
            "hooks": self.hooks.state_dict(),
            "model": self.model.training_state_dict(),
            "random": get_random_state(),
        }
