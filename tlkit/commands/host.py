"""What a run sets for its whole process, and how the program that called it gets its own back."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context
from tensorflow.python.framework import config as tf_config


@contextlib.contextmanager
def as_guest() -> Iterator[None]:
    """Begin with Keras as a new process finds it; put back afterwards what the host had set.

    That is the draws to come of `random`, `numpy.random`, TensorFlow and Keras (a run seeds all
    four), TensorFlow's determinism of operations, and of Keras the dtype policy, float type,
    epsilon, order of channels and the counters by which layers are named: with those of a cleared
    session the host's next `Dense` would bear the name of one that it has already. Inside, a
    run's own precision and order of channels hold, whatever the host's are.

    Devices stay as a run has set them: TensorFlow takes no others once it has started.
    """
    with contextlib.ExitStack() as after:
        for put_back in (_draws(), _tensorflow(), _jax(), _keras()):
            after.callback(put_back)
        keras.config.set_floatx("float32")
        keras.config.set_epsilon(1e-7)
        keras.config.set_image_data_format("channels_last")
        yield


def _draws() -> Callable[[], None]:
    python, numpy = random.getstate(), np.random.get_state()

    def put_back() -> None:
        random.setstate(python)
        np.random.set_state(numpy)

    return put_back


def _tensorflow() -> Callable[[], None]:
    # Setting a seed replaces the generator that eager operations draw their own seeds from.
    session = context.context()
    seeds = {name: vars(session)[name] for name in ("_seed", "_rng") if name in vars(session)}
    deterministic = tf_config.is_op_determinism_enabled()

    def put_back() -> None:
        for name in ("_seed", "_rng"):
            if name in seeds:
                setattr(session, name, seeds[name])
            else:
                vars(session).pop(name, None)
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        else:
            tf_config.disable_op_determinism()

    return put_back


def _jax() -> Callable[[], None]:
    if keras.backend.backend() != "jax":
        return lambda: None
    import jax

    return functools.partial(jax.config.update, "jax_default_device", jax.config.jax_default_device)


def _keras() -> Callable[[], None]:
    # `clear_session` puts a new object in the place of this one, so that the old is as it was.
    state = global_state.GLOBAL_STATE_TRACKER
    settings = global_state.GLOBAL_SETTINGS_TRACKER
    floats, epsilon = keras.config.floatx(), keras.config.epsilon()
    order = keras.config.image_data_format()
    keras.backend.clear_session(free_memory=False)

    def put_back() -> None:
        keras.config.set_floatx(floats)
        keras.config.set_epsilon(epsilon)
        keras.config.set_image_data_format(order)
        global_state.GLOBAL_STATE_TRACKER = state
        global_state.GLOBAL_SETTINGS_TRACKER = settings

    return put_back
