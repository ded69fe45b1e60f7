"""Random numbers that are drawn again."""

from keras_dtkd import backend


def with_fixed_rng(function):
    """The function, whose every call draws the random numbers of its first.

    Keras's own seeds are for the caller to reset, in a `keras.StatelessScope`; this is
    about the generator of which layers without a seed draw under torch. Not to be
    called inside of `jvp`, where that cannot be read.

    Args:
        function: Of anything.

    Returns:
        A function. The first call moves the generator on, those after it do not.
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
