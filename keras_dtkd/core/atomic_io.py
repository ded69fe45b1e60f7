"""Files that are whole, or not there."""

import json
import os
import secrets


def atomic_write(path, writer):
    """Creates a file that appears under its name when it is whole and on the disk.

    `writer` gets another path beside it. A missing folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Each writer has its own. Keras goes by the suffix.
    unfinished = path.with_name(f"unfinished-{secrets.token_hex(8)}-{path.name}")
    try:
        writer(unfinished)
        fsync(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


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


def remove_partial_files(folder):
    """Removes what killed writers left. No other process may be writing."""
    for path in folder.glob("unfinished-*"):
        path.unlink(missing_ok=True)
