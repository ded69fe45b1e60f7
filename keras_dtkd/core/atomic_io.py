"""Files that are whole, or not there."""

import json
import os
import secrets


def atomic_write(path, writer):
    """A file appears under its name when it is whole and on the disk.

    Args:
        path: A `pathlib.Path`. Its folder is made where there is none.
        writer: A function that writes the file, given another path beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another writer of the same file has another one. Keras goes by the suffix.
    unfinished = path.with_name(f"unfinished-{secrets.token_hex(8)}-{path.name}")
    try:
        writer(unfinished)
        fsync(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path, value):
    """Writes plain data, so that people can read it: the whole of it, or nothing."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_text(path, text)


def write_text(path, text):
    """Writes a text in UTF-8: the whole of it, or nothing."""
    atomic_write(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def fsync(path):
    """What was written to a file is on the disk, also after a power cut."""
    # Windows wants it open for writing.
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def remove_partial_files(folder):
    """Removes what killed writers left. For whoever is alone in the folder."""
    for path in folder.glob("unfinished-*"):
        path.unlink(missing_ok=True)
