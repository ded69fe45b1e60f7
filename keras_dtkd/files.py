"""Files that are whole, or not there."""

import os


def replace(path, writer):
    """A file appears under its name when it is whole and on the disk.

    Args:
        path: A `pathlib.Path`. Its folder is made where there is none.
        writer: A function that writes the file, given another path beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keras goes by the suffix.
    unfinished = path.with_name(f"unfinished-{path.name}")
    writer(unfinished)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)
