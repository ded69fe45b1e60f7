"""From the words on the command line to one of the commands."""

import argparse
import os
import signal
import subprocess
import sys

from keras_dtkd import backend
from keras_dtkd.cli import compare, evaluate, export, options, report, train
from keras_dtkd.cli.errors import UserError

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
GOES_ON = ("train", "compare")
# Where there are no signals, the code that a shell gives for Ctrl-C.
INTERRUPTED = 130


def main(argv=None):
    """Runs one command.

    Args:
        argv: The words after `keras-dtkd`. Those of the process if `None`.

    Returns:
        The exit code: 0, or 1 where a run failed or an artifact is not the model.
        After Ctrl-C the process dies of it, so that a script that called it ends too.

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
    who = f"keras-dtkd {args.command}"
    try:
        if wanted not in (None, backend.backend_name()):
            return _elsewhere(wanted, argv)
        return COMMANDS[args.command].run(args)
    except UserError as refused:
        print(f"{who}: {refused}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        more = " The same command goes on." if args.command in GOES_ON else ""
        print(f"\n{who}: interrupted.{more}", file=sys.stderr)
        return _die()


def _die():
    sys.stdout.flush()
    if os.name == "posix":
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return INTERRUPTED


def _elsewhere(wanted, argv):
    """The same command on another backend: Keras chooses when it is imported."""
    options.check_backend("--backend", wanted)
    environment = {**os.environ, "KERAS_BACKEND": wanted}
    command = [sys.executable, "-m", "keras_dtkd.cli", *argv]
    sys.stdout.flush()
    if os.name == "posix":
        # In the same process: whoever kills this command kills the run.
        os.execve(sys.executable, command, environment)
    return subprocess.call(command, env=environment)
