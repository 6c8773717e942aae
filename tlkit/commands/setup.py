"""From a spec and its data to a model: the task, the backbone, and the top that joins them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras

from tlkit.backbones.build import Built, build_backbone, check_finite
from tlkit.backbones.colours import Colours
from tlkit.backbones.own.user_model import UserModel, build_user_model, open_user_model
from tlkit.commands.earlier import load_weights
from tlkit.compute.devices import ONE_CPU, Devices
from tlkit.compute.setup import precision
from tlkit.data.feed.colours import measure_colours
from tlkit.data.feed.dataset import Prepared
from tlkit.data.feed.examples import Examples
from tlkit.errors import SpecError
from tlkit.planning.freezing import plan_freeze
from tlkit.planning.phases import TrainPlan
from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.state import State
from tlkit.spec.run import RunSpec
from tlkit.tasks.pooled import attach, read_by_head
from tlkit.tasks.registry import task_of
from tlkit.tasks.task import Task
from tlkit.training.session import Parts, Session


@dataclass(frozen=True)
class Setup:
    """A run before its first step.

    Attributes:
        task: with what it knows of the training targets.
        built: the backbone; its layers are those of `model`.
        model: backbone and top.
        devices: where it trains.
    """

    prepared: Prepared
    task: Task
    built: Built
    model: keras.Model
    devices: Devices = ONE_CPU

    def session(
        self,
        plan: TrainPlan,
        folder: RunFolder,
        progress: Progress,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        *,
        state: State | None = None,
        test: bool = False,
        timed: Callable[[Examples], Examples] = lambda part: part,
    ) -> Session:
        """Return what the phases of `plan` share; with `state` the run goes on from there.

        Args:
            plan: it says how many views there are of training images, whatever the spec asks for.
            test: whether features are kept of the test part too, for it will be measured on.
            timed: returns a part whose images may end before they are all read.
        """
        prepared, encode = self.prepared.viewed(plan.views), self.task.encode
        parts = Parts(
            prepared.training(self.task),
            prepared.examples("val", encode),
            timed(prepared.whole(encode, test)),
        )
        return Session(
            *(self.model, self.task, prepared.spec, parts, folder, progress, callbacks),
            machine=self.devices,
            spent=prepared.seconds if test else 0.0,
            state=state,
        )


def open_backbone(
    spec: RunSpec, model: keras.Model | None = None
) -> tuple[RunSpec, UserModel | None]:
    """Open a backbone of the user's own; return the spec with its size, and its path in full."""
    if not spec.backbone.given:
        return spec, None
    keras.backend.clear_session()  # the layers that a function makes are numbered anew, as below
    if isinstance(spec.image_size, str):
        raise SpecError(
            "image_size: a model of your own is fed squares. Allowed: one number, or left out. "
            f"Received: {spec.image_size}"
        )
    given = open_user_model(spec.backbone.name, model, spec.image_size)
    backbone = spec.backbone.model_copy(update={"name": given.name})
    return spec.model_copy(update={"image_size": given.size, "backbone": backbone}), given


def set_up(prepared: Prepared, given: UserModel | None, machine: Devices = ONE_CPU) -> Setup:
    """Make the task, the backbone with its weights, and the whole model.

    Raises:
        WeightsError: those of the backbone cannot be had, or hold what is no number.
    """
    spec = prepared.spec
    keras.backend.clear_session()  # names of earlier models would number this one's layers
    # Whatever was drawn before: a resumed run starts as the stopped one did.
    keras.utils.set_random_seed(spec.seed)
    task = task_of(spec, prepared.source.outputs)
    train = prepared.examples("train", task.encode)
    task = task.fit(train.targets)
    # Balanced classes are equally frequent: all biases start at zero.
    frequencies = spec.head.bias == "frequencies" and spec.balance == "none"
    bias = task.bias(train.targets) if frequencies else None
    with prepared.reading.told():
        colours = None if spec.normalize == "application" else measure_colours(train)
    with machine.scope():  # its weights, on each device
        with precision(spec):
            weights = spec.backbone.weights if spec.init is None else "none"
            built = _backbone(spec, given, weights, colours)
        features = read_by_head(task, built.features, lambda: built.pyramid)
        model = attach(built.inputs, features, task, spec.head, bias)
    if spec.init is not None:
        load_weights(spec, task, model)
    if given is not None or spec.backbone.weights != "none":
        asked = spec.backbone
        check_finite(model, f"backbone {asked.name}" + ("" if given else f", {asked.weights}"))
    if len(machine.devices) > 1:
        # A model made in the scope would predict each batch once on every device.
        model = keras.Model(model.input, model.output)
    return Setup(prepared, task, built, model, machine)


def unweighted(spec: RunSpec, given: UserModel | None) -> Built:
    """Build the backbone for its layers' names and sizes; nothing is loaded or downloaded."""
    return _backbone(spec, given, "none", None)


def check_freeze(spec: RunSpec, given: UserModel | None) -> None:
    """Answer a wrong freeze rule before the data are read and weights fetched.

    Raises:
        FreezeError: it cannot be read, or matches nothing.
    """
    if spec.freeze != "auto":
        plan_freeze(unweighted(spec, given).layers, spec.freeze)


def _backbone(
    spec: RunSpec, given: UserModel | None, weights: str, colours: Colours | None
) -> Built:
    asked = spec.backbone
    if given is not None:
        return build_user_model(given, asked.cut, asked.preprocessing)
    whiten = spec.normalize == "pca"
    return build_backbone(asked.name, spec.size, weights, asked.alpha, colours, whiten)
