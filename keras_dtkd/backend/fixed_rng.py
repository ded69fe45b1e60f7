"""Functions that draw the same random numbers in each call."""

from keras_dtkd import backend


def with_fixed_rng(function):
    """The function, whose every call draws the random numbers of its first call.

    Only the first one advances the generator, from which layers without a seed draw
    under torch. Keras's own seeds are for the caller to reset, in a
    `keras.StatelessScope`. Cannot be called inside of `jvp`.
    """
    states: list = []

    def call(*args):
        if states:
            backend.set_rng_state(states[0])
        else:
            states.append(backend.get_rng_state())
        result = function(*args)
        if len(states) > 1:
            backend.set_rng_state(states[1])
        else:
            states.append(backend.get_rng_state())
        return result

    return call
