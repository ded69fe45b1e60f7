"""The folder of a run: run.json, and what must agree with it."""

import contextlib
import csv
import json

from keras_dtkd.cli.errors import UserError
from keras_dtkd.core.atomic_io import atomic_write, write_json

RUN, LOG, STUDENT, BEST, STATE = (
    "run.json",
    "log.csv",
    "student.keras",
    "best.keras",
    "state",
)


def read(folder):
    """What run.json says, or `None` where there is none.

    Raises:
        Refused: A file of that name that no run wrote, or that was spoiled since.
    """
    try:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UserError(
            f"{folder / RUN} is no JSON: {error}. Put it back from a copy, or remove "
            "its folder to begin anew."
        ) from None
    if not isinstance(run, dict) or not run.keys() >= {"status", "settings"}:
        raise UserError(
            f"{folder / RUN} is not of a run of keras-dtkd. Move it elsewhere."
        )
    return run


def write(folder, run):
    """Writes run.json: the whole of it, or nothing."""
    write_json(folder / RUN, run)


def claim(plan):
    """What was done of a run so far, if it is this run.

    Returns:
        What run.json says, or `None`: of a run that was planned nothing was done.

    Raises:
        Refused: The folder holds another run, with what differs.
    """
    run = read(plan.folder)
    if run is not None and run["status"] == "planned":
        return None
    if run is not None and (found := plan.differences(run)):
        listed = ", ".join(f"{name} {old!r}, now {new!r}" for name, old, new in found)
        raise UserError(
            f"{plan.folder} holds a run with other settings: {listed}. Give another "
            "--output, or remove that folder."
        )
    return run


class RunLocked(UserError):
    """Another process works in this folder."""


@contextlib.contextmanager
def alone(folder, wait=False):
    """A context in which no other process works in this folder.

    Args:
        folder: Made where there is none.
        wait: Whether to wait until the other one is done.

    On Windows nothing is locked: docs/cli.md says so.

    Raises:
        Busy: One does, and `wait` is false.
        Refused: Nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise UserError(f"{folder} cannot be written to: {error}.") from None
    with lock:
        try:
            import fcntl
        except ImportError:  # Windows has no such locks.
            yield
            return
        try:
            # Whoever dies lets go of it.
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise RunLocked(f"{folder}: another process trains this run.") from None
        except OSError as error:
            raise UserError(f"{folder} cannot be locked: {error}.") from None
        yield


def history(folder):
    """log.csv as a dict of lists, an entry an epoch."""
    with (folder / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return (
        {name: [float(row[name]) for row in rows] for name in rows[0]} if rows else {}
    )


def trim(folder, epochs):
    """Takes from log.csv what came after the epochs that the state holds.

    Raises:
        Refused: It lacks one of these epochs.
    """
    path = folder / LOG
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = lines[: epochs + 1] if epochs else []
    numbers = [line.split(b",")[0] for line in kept[1:]]
    if numbers != [b"%d" % epoch for epoch in range(epochs)]:
        raise UserError(
            f"{path} does not hold the {epochs} epochs of the state beside it. Remove "
            f"{folder} to begin anew."
        )
    if lines:
        atomic_write(path, lambda unfinished: unfinished.write_bytes(b"".join(kept)))
