"""From the words on the command line to one of the commands."""

import argparse
import os
import subprocess
import sys

from keras_dtkd import backend
from keras_dtkd.cli import compare, evaluate, export, report, train
from keras_dtkd.cli.refusal import Refused

DESCRIPTION = (
    "Trains and compares students of CIFAR-like images, resumably: knowledge "
    "distillation by the methods of docs/recipes.md. A command given again goes on."
)
COMMANDS = {
    "train": train,
    "compare": compare,
    "report": report,
    "evaluate": evaluate,
    "export": export,
}


def main(argv=None):
    """Runs one command.

    Args:
        argv: The words after `keras-dtkd`. Those of the process if `None`.

    Returns:
        The exit code: 0, or 1 where a run failed or an artifact is not the model.

    Raises:
        SystemExit: 2, after a sentence on stderr: what was asked cannot be done, and
            nothing was started.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser("keras-dtkd", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        words = str(module.__doc__).strip()
        command = commands.add_parser(name, help=words, description=words)
        module.add_arguments(command)
    args = parser.parse_args(argv)
    args.words = argv
    wanted = getattr(args, "backend", None)
    if wanted not in (None, backend.name()):
        return _elsewhere(wanted, argv)
    try:
        return COMMANDS[args.command].run(args)
    except Refused as refused:
        print(f"keras-dtkd {args.command}: {refused}", file=sys.stderr)
        raise SystemExit(2) from None


def _elsewhere(wanted, argv):
    """The same command on another backend: Keras chooses when it is imported."""
    environment = {**os.environ, "KERAS_BACKEND": wanted}
    command = [sys.executable, "-m", "keras_dtkd.cli", *argv]
    sys.stdout.flush()
    if os.name == "posix":
        # In the same process: whoever kills this command kills the run.
        os.execve(sys.executable, command, environment)
    return subprocess.call(command, env=environment)
