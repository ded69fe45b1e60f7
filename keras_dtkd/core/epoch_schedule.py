"""A number for each epoch, by a user's function or a Keras schedule."""


def check_schedule(caller, schedule):
    """The schedule, or a `ValueError` if it cannot be called."""
    if not callable(schedule):
        raise ValueError(
            f"`{caller}`: `schedule` must be a function of the epoch or a Keras "
            f"learning-rate schedule. Received: schedule={schedule!r}."
        )
    return schedule


def evaluate_schedule(caller, schedule, epoch):
    """A schedule's number in an epoch, as a `float`."""
    value = schedule(epoch)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"`{caller}`: `schedule({epoch})` must be a number. Received: {value!r}."
        ) from None
