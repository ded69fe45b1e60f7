"""Files that are whole, or not there."""

import contextlib
import hashlib
import json
import os
import secrets


def atomic_write(path, writer):
    """Creates a file that appears under its name when it is whole and on the disk.

    `writer` gets another path beside it. A missing folder is created. An `OSError`
    where the disk is full, or the folder is none or cannot be written into.
    """
    # Each writer has its own. Keras goes by the suffix.
    unfinished = path.with_name(f"unfinished-{secrets.token_hex(8)}-{path.name}")
    with name_os_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            writer(unfinished)
            fsync(unfinished)
            os.replace(unfinished, path)
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def name_os_errors(path):
    """A context in which an `OSError` says that `path` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"{path} cannot be written: {reason}. Free space, or give another folder; "
            "what was there before is whole."
        ) from error


def write_json(path, value):
    """Writes plain data as indented JSON: the whole of it, or nothing."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path, text):
    """Writes a text in UTF-8: the whole of it, or nothing."""
    atomic_write(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def fsync(path):
    """Forces a written file to the disk, so that it survives a power cut."""
    # Windows wants it open for writing.
    with path.open("r+b") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def lock_folder(folder, waits=False):
    """A context in which no other process that asks for it writes into the folder.

    Where another one does, it `waits`, or raises a `BlockingIOError`. The lock ends
    with its process, however that ends. On Windows there is none.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = folder / ".lock"
    with name_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        yield
        # The one that was waited for has removed it.
        path.unlink(missing_ok=True)


def compute_file_digest(path):
    """A digest of a file's bytes, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def remove_partial_files(folder):
    """Removes what killed writers left. No other process may be writing."""
    for path in folder.glob("unfinished-*"):
        path.unlink(missing_ok=True)
