"""Finished runs in a file, so that an interrupted study can be resumed."""

import json
import os
import sys


class Runs:
    """A file of JSON lines: the settings, then one line per run.

    Args:
        path: The file, created if it does not exist.
        settings: The settings of all runs. A file with other settings is rejected.
        keys: Names of the values that identify a run.
    """

    def __init__(self, path, settings, keys):
        self.path, self.keys, self.finished = path, keys, {}
        content = path.read_bytes() if path.exists() else b""
        # A last line without a newline was interrupted.
        complete = content[: content.rfind(b"\n") + 1]
        path.touch()
        os.truncate(path, len(complete))
        if not complete:
            self._append({"settings": settings})
            return
        header, *runs = map(json.loads, complete.splitlines())
        saved = header["settings"]
        changed = [key for key in settings if saved.get(key) != settings[key]]
        if changed:
            changes = [f"{k} {saved.get(k)}, now {settings[k]}" for k in changed]
            sys.exit(
                f"{path} has other settings: {', '.join(changes)}. "
                "Pass another --output, or remove the file."
            )
        self.finished = {tuple(run[key] for key in keys): run for run in runs}

    def get(self, key, compute):
        """The values of a run, computed and saved unless the run is finished."""
        if key not in self.finished:
            line = {**dict(zip(self.keys, key, strict=True)), **compute(*key)}
            self._append(line)
            self.finished[key] = line
        return self.finished[key]

    def _append(self, line):
        """Appends a line in one write and flushes it to disk."""
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")
            os.fsync(file.fileno())
