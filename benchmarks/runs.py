"""Finished runs in a file, so that an interrupted study goes on where it was."""

import json
import os
import sys


class Runs:
    """A file of JSON lines: the settings, then one line a run.

    Args:
        path: The file, made where there is none.
        settings: What all runs have in common. A file made under others is refused.
        keys: Names of what tells one run from another.
    """

    def __init__(self, path, settings, keys):
        self.path, self.keys, self.done = path, keys, {}
        content = path.read_bytes() if path.exists() else b""
        # A last line that lacks its end was interrupted.
        whole = content[: content.rfind(b"\n") + 1]
        path.touch()
        os.truncate(path, len(whole))
        if not whole:
            self._append({"settings": settings})
            return
        first, *runs = map(json.loads, whole.splitlines())
        found = first["settings"]
        other = [key for key in settings if found.get(key) != settings[key]]
        if other:
            sys.exit(
                f"{path} was made under other settings: "
                + ", ".join(f"{k} {found.get(k)}, now {settings[k]}" for k in other)
                + ". Give another --output, or remove the file."
            )
        self.done = {tuple(run[key] for key in keys): run for run in runs}

    def get(self, key, make):
        """The values of a run, made and written down unless that was done before."""
        if key not in self.done:
            line = {**dict(zip(self.keys, key, strict=True)), **make(*key)}
            self._append(line)
            self.done[key] = line
        return self.done[key]

    def _append(self, line):
        """In one write, to the disk."""
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")
            os.fsync(file.fileno())
