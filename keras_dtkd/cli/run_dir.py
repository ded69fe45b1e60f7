"""The folder of a run: run.json, log.csv and the lock."""

import contextlib
import csv

from keras_dtkd.cli.errors import UserError
from keras_dtkd.cli.run_schema import parse_run
from keras_dtkd.core.atomic_io import atomic_write

RUN_FILE = "run.json"
LOG_FILE = "log.csv"
STUDENT_FILE = "student.keras"
BEST_FILE = "best.keras"


def read_run(folder):
    """The content of run.json, or `None` without such a file."""
    path = folder / RUN_FILE
    try:
        run = parse_run(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    recipe = run.get("recipe", {})
    if "factor" in recipe:
        # The name in published studies.
        recipe["lr_decay_factor"] = recipe.pop("factor")
    return run


def validate_run_dir(plan, is_locked=False):
    """The content of run.json, or `None` if the run has not started.

    Nor has another run without an epoch, of which nothing is lost, unless a process
    trains it (`is_locked`). Raises `UserError`, with the differences, if the folder
    holds another run.
    """
    run = read_run(plan.folder)
    if run is None or run["status"] == "planned":
        return None
    if differences := plan.diff(run):
        has_epochs = run["status"] == "finished" or run.get("epochs_done")
        # That of a failed run is there until the process that holds the lock begins.
        is_running = is_locked and run["status"] == "running"
        if not has_epochs and not is_running:
            return None
        text = ", ".join(f"{n} {old!r}, now {new!r}" for n, old, new in differences)
        raise UserError(
            f"{plan.folder} holds a run with other settings: {text}. Give another "
            "--output, or remove that folder."
        )
    return run


class RunLocked(UserError):
    """Another process uses this folder."""


@contextlib.contextmanager
def lock(folder, wait=False):
    """A context in which no other process uses this folder, created if missing.

    The operating system releases the lock of a process that dies. Raises `RunLocked` if
    another process uses the folder and `wait` is false.
    """
    import filelock

    file_lock = filelock.FileLock(folder / "lock", timeout=-1 if wait else 0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        acquired = file_lock.acquire()
    except filelock.Timeout:
        raise RunLocked(f"{folder}: another process trains this run.") from None
    except OSError as error:
        raise UserError(f"{folder} cannot be written to: {error}.") from None
    with acquired:
        yield


def read_log(folder):
    """log.csv as a dict of lists, with one entry per epoch."""
    with (folder / LOG_FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows or [{}])[0]}


def truncate_log(folder, epochs):
    """Removes the epochs from log.csv that the saved state does not include."""
    path = folder / LOG_FILE
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = lines[: epochs + 1] if epochs else []
    logged = [line.split(b",")[0] for line in kept[1:]]
    if logged != [b"%d" % epoch for epoch in range(epochs)]:
        raise UserError(
            f"{path} does not hold the {epochs} epochs of the state in that folder. "
            f"Remove {folder} to start again."
        )
    if lines:
        atomic_write(path, lambda partial: partial.write_bytes(b"".join(kept)))
