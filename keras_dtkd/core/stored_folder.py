"""Folders that one call fills; the same call completes them after an interruption."""

import json

from keras_dtkd.core.atomic_io import compute_file_digest, lock_folder, write_json

# `METADATA_FILE` is written last.
METADATA_FILE, PROGRESS_FILE = "stored.json", "progress.json"


def fill_folder(folder, metadata, store_missing, waits=False):
    """Calls `store_missing()` unless a folder holds everything already.

    Args:
        folder: A `pathlib.Path`. Made where there is none.
        metadata: A dict, plain as JSON, of all that decides about the content.
        store_missing: Stores what is missing, and calls `complete_folder`.
        waits: Whether to wait for another process that is writing.

    Raises:
        ValueError: The folder holds something else, or another process is writing and
            this one does not wait.
    """
    if _is_complete(folder, metadata):
        return
    try:
        with lock_folder(folder, waits):
            # Another process may have ended just now.
            if not _is_complete(folder, metadata):
                store_missing()
    except BlockingIOError:
        raise ValueError(
            f"`store`: another process is writing into {folder}. Wait for it, or "
            "give another folder."
        ) from None


def complete_folder(folder, metadata):
    """Marks a folder as complete."""
    write_json(folder / METADATA_FILE, metadata)
    (folder / PROGRESS_FILE).unlink()


def read_folder(folder, names, writer):
    """The metadata of a complete folder, with at least these names.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is not complete, or its metadata is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. `{writer}` makes it.")
    if not (folder / METADATA_FILE).is_file():
        raise ValueError(
            f"{folder} holds no complete set of what `{writer}` stores. Call it again: "
            "it resumes."
        )
    return _read_json(folder / METADATA_FILE, names)


def read_progress(folder):
    """What was noted in a folder that is not complete; empty if nothing was."""
    path = folder / PROGRESS_FILE
    return _read_json(path) if path.is_file() else {}


def check_file(path, digest):
    """Raises a `ValueError` for a file that is not the one that was stored."""
    if not path.is_file() or compute_file_digest(path) != digest:
        raise _damaged(path, "is missing, damaged, or of another run")


def _is_complete(folder, metadata):
    """Whether all is stored; an error if it is something else."""
    for name in (METADATA_FILE, PROGRESS_FILE):
        if not (folder / name).is_file():
            continue
        stored = _read_json(folder / name)
        if unlike := [k for k, value in metadata.items() if stored.get(k) != value]:
            others = [f"{'other' if k[-1] == 's' else 'another'} {k}" for k in unlike]
            raise ValueError(
                f"`store`: {folder} holds what was stored with "
                f"{' and '.join(others)}. Give another folder, or remove it."
            )
        return name == METADATA_FILE
    return False


def _read_json(path, names=()):
    """The dict in a file, which has these names; or a `ValueError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _damaged(path, f"cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise _damaged(path, "holds no dict")
    if missing := set(names) - set(content):
        raise _damaged(path, f"lacks {', '.join(sorted(missing))}")
    return content


def _damaged(path, problem):
    return ValueError(
        f"{path} {problem}. Put it back from a copy, or remove {path.parent} and store "
        "again."
    )
