"""A phase of gradient steps, in batches that memory holds."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras

from tlkit.backbones.sides import told
from tlkit.compute.devices import precision_of
from tlkit.compute.memory import free_bytes, is_out_of_memory
from tlkit.data.feed.pipeline import endless
from tlkit.errors import OutOfMemoryError
from tlkit.features.batches import FeatureBatches, computed
from tlkit.features.cut import Cut
from tlkit.features.rows import JointRows, Rows
from tlkit.planning import rules
from tlkit.planning.phases import Phase
from tlkit.runfolder.batches import note_batch
from tlkit.runfolder.state import adapt, assign
from tlkit.training.callbacks import Bar, Log, Resumption, WholeEpochs
from tlkit.training.schedule import Averages, counting_callbacks, make_optimizer, scaled
from tlkit.training.session import Session
from tlkit.training.timing import TRIAL_STEPS, Speed, seconds_per_step
from tlkit.training.whole import WholePart


class Fitting:
    """One fitted phase of a session, from the state that its checkpoints hold.

    Where memory runs out, the batch is halved and the epoch begun again, with the rate that the
    rule gives for the smaller batch. Steps whose gradients are added up would keep rate and number
    of updates, but not the statistics of trained BatchNorm, and Keras counts schedules, decay and
    averages by the single steps.

    Args:
        suffix: what is fitted.
        cut: what is frozen ends there.
        rows: kept features of training and validation part; None: images are read anew in each
            epoch.
        deepest: whether no phase comes after it.
    """

    def __init__(
        self,
        session: Session,
        phase: Phase,
        suffix: keras.Model,
        cut: Cut | None,
        rows: tuple[Rows | JointRows, Rows | JointRows] | None,
        deepest: bool,
    ):
        self._session, self._phase, self._suffix, self._cut = session, phase, suffix, cut
        self._rows, self._deepest = rows, deepest
        self._free = free_bytes() if session.machine.kind == "cpu" else None

    def run(self) -> float | None:
        """Fit; return images per second, None if the budget has no time for an epoch.

        Raises:
            OutOfMemoryError: not even one image a step fits.
        """
        while True:
            try:
                return self._attempt(self._rated())
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self._session.batch_size == 1:
                    raise OutOfMemoryError(
                        f"out of memory in phase {self._phase.name} with 1 image of "
                        f"{told(self._session.spec.size)} px a step. Choose a smaller --image-size "
                        "or backbone, fewer layers to train (--freeze), or on a GPU --precision "
                        "bfloat16"
                    ) from error
            self._halve()  # outside the handler: the error holds what the frames of `fit` hold

    def _rated(self) -> Phase:
        """Return the phase with the rate for the present batch."""
        session, phase = self._session, self._phase
        asked, batch = session.spec.batch_size, session.batch_size
        rate = rules.rescaled_rate(phase.learning_rate, phase.name, phase.optimizer, asked, batch)
        return replace(phase, learning_rate=rate)

    def _smaller(self, batch: int) -> int:
        """Return half of a batch that did not fit; of main memory the next half that may.

        A library that gets no main memory may end the process as well, so it is not tried as often
        as on a GPU.
        """
        each = self._session.estimates.get(self._phase.name, {}).get("memory_per_image", 0)
        batch //= 2
        while self._free is not None and batch > 1 and batch * each > self._free:
            batch //= 2
        return batch

    def _halve(self) -> None:
        session, name = self._session, self._phase.name
        before, rate = session.batch_size, self._rated().learning_rate
        session.use_batch(self._smaller(before))
        state, now = session.checkpoints.state, self._rated().learning_rate
        with session.machine.scope():
            self._suffix.compile()  # lets go of the compiled steps
        gc.collect()
        session.folder.keep_log(state.log_rows, state.log_digest)
        text = (
            f"out of memory with {before} images of {told(session.spec.size)} px a step: goes on "
            f"with {session.batch_size}, from the start of epoch {state.epoch + 1}"
        )
        if now != rate:
            text += f", learning rate {now:.3g} instead of {rate:.3g}"
        session.progress.say(name, text)
        size = session.batch_size
        note_batch(session.folder, name, state.epoch + 1, size, now, "out of memory")

    def _attempt(self, phase: Phase) -> float | None:
        session, suffix = self._session, self._suffix
        batch, state = session.batch_size, session.checkpoints.state
        images = len(session.train)
        steps, val_steps = math.ceil(images / batch), math.ceil(len(session.val) / batch)
        train, val = self._data(phase)
        self._compile(phase, steps)
        if session.budget.limited:
            shorter = self._shortened(phase, train, steps + val_steps / 3)
            if shorter is None:
                return None
            phase = shorter
            self._compile(phase, steps)
        if state.variables:
            assign(suffix.variables, state.variables)
            assign(suffix.optimizer.variables, state.optimizer)
            before = state.fitted
            if before and before["batch_size"] != batch:
                was = math.ceil(images / before["batch_size"])
                rate = phase.learning_rate / (before["learning_rate"] or phase.learning_rate)
                adapt(suffix.optimizer, steps / was, rate)
        speed = Speed(images)
        bar = Bar(session.progress, phase.name, phase.epochs, steps, session.checkpoints)
        try:
            suffix.fit(
                endless(train.__iter__) if isinstance(train, FeatureBatches) else train,
                initial_epoch=state.epoch,
                epochs=phase.epochs,
                shuffle=False,  # the batches come shuffled, as they do in a resumed run
                steps_per_epoch=steps,
                validation_data=val,
                validation_steps=val_steps,
                callbacks=self._callbacks(phase, bar, speed, WholeEpochs(steps, val_steps)),
                verbose=0,
            )
        finally:
            bar.close()
        return speed.images_per_second

    def _data(self, phase: Phase) -> tuple[Any, Any]:
        """Return the batches of all epochs to come, and those of the validation, without end."""
        if self._rows is None:
            return self._stream(phase), endless(self._validation)
        session, batch = self._session, self._session.batch_size
        epochs = range(session.checkpoints.state.epoch, phase.epochs)
        own, targets = session.train, session.kept_targets[0]
        train = FeatureBatches(
            self._rows[0], targets, batch, session.spec.seed, own.balance, epochs, own.views
        )
        return train, endless(self._validation)

    def _validation(self) -> Iterable[tuple[Any, ...]]:
        """Return the batches of the validation part."""
        session = self._session
        if self._rows is not None:
            targets = session.kept_targets[1]
            return iter(FeatureBatches(self._rows[1], targets, session.batch_size))
        images = session.val.batches(range(len(session.val)))
        return images if self._cut is None else computed(session.store.function(self._cut), images)

    def _stream(self, phase: Phase) -> Any:
        """Return the batches of all epochs to come of a phase whose features are not kept."""
        session, cut = self._session, self._cut
        epochs = range(session.checkpoints.state.epoch, phase.epochs)
        # Where views cannot be kept, they are drawn.
        train = session.train.epochs(phase.augment or session.train.views > 1, epochs)
        if cut is None:
            return train
        return endless(partial(computed, session.store.function(cut), train))

    def _compile(self, phase: Phase, steps: int) -> None:
        session, suffix, options = self._session, self._suffix, self._session.spec.optimizer
        with session.machine.scope():
            metric = session.task.keras_metric()
            optimizer = make_optimizer(phase, options, suffix, steps)
            if precision_of(session.model) == "float16":
                optimizer = scaled(optimizer)
            suffix.compile(
                optimizer,
                session.task.loss(),
                metrics=[] if metric is None else [metric],
                steps_per_execution=min(options.steps_per_execution, steps),
                jit_compile=session.machine.jit_compile,
            )
            # Or the first state would lack its variables.
            optimizer.build(suffix.trainable_variables)

    def _shortened(self, phase: Phase, train: Any, steps: float) -> Phase | None:
        """Return `phase` with the epochs that the budget has time for; None: not one.

        Args:
            steps: of an epoch; a forward pass takes about a third of a training step.
        """
        session, state = self._session, self._session.checkpoints.state
        if state.epochs:  # decided before the run was stopped
            return replace(phase, epochs=state.epochs)
        if isinstance(train, FeatureBatches):
            trial = (train[i] for i in range(min(len(train), TRIAL_STEPS + 1)))
        else:  # the phase's own stream must not lose its first batches
            trial = self._stream(phase)
        seconds = steps * seconds_per_step(self._suffix, trial)
        session.reset_generators()
        shorter = session.budget.shortened(phase, seconds, self._deepest, session.progress)
        state.epochs = shorter.epochs if shorter else None
        return shorter

    def _callbacks(
        self, phase: Phase, *watching: keras.callbacks.Callback
    ) -> Sequence[keras.callbacks.Callback]:
        session, options = self._session, self._session.spec.optimizer
        counting, folder = counting_callbacks(phase, options), session.folder
        whole = [WholePart(session.task, self._validation)] if session.task.ranks_whole else []
        made = [
            *whole,
            session.checkpoints,
            Log(folder, phase.name, session.task.metric),
            *watching,
            *session.budget.callbacks(),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.TensorBoard(folder.tensorboard / phase.name, write_graph=False),
            *counting,
            *session.callbacks,
        ]
        if options.ema:
            made.append(Averages())
        fitted = {"batch_size": session.batch_size, "learning_rate": phase.learning_rate}
        return [*made, Resumption(session.checkpoints, phase.epochs, counting, fitted)]
