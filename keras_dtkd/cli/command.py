"""Parses the command line and runs one of the commands."""

import argparse
import os
import signal
import subprocess
import sys

from keras_dtkd import backend
from keras_dtkd.cli import compare, evaluate, export, options, report, train
from keras_dtkd.cli.errors import UserError
from keras_dtkd.cli.run_schema import is_safe

DESCRIPTION = """Trains and compares students on CIFAR-like images, resumably: knowledge
distillation by the methods of docs/recipes.md. The same command continues an
interrupted run."""
COMMANDS = dict(
    train=train, compare=compare, report=report, evaluate=evaluate, export=export
)
# Of the extra that this command needs.
CLI_PACKAGES = "filelock", "jsonschema", "rich"
# The exit code of a shell after Ctrl-C, for systems without signals.
INTERRUPTED = 130


def main(argv=None):
    """Runs one command, of arguments after `keras-dtkd` or those of the process.

    Returns:
        The exit code: 0, or 1 if a run failed or an exported model differs. After
        Ctrl-C the process dies of SIGINT, so that a calling script ends too.

    Raises:
        SystemExit: 2, after a sentence on stderr, if nothing was started.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        "keras-dtkd", description=DESCRIPTION, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        text = str(module.__doc__).strip()
        # `compare --seed 3` would be `--seeds 3`.
        module.add_arguments(
            commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        )
    args = parser.parse_args(argv)
    is_resumable = args.command in ("train", "compare")
    for argument in argv:
        if is_resumable and not is_safe(argument):
            parser.error(
                f"{argument!r} has control characters, or bytes that are no UTF-8, "
                "which no run.json can hold. Rename that file or folder."
            )
    args.argv = argv
    requested = getattr(args, "backend", backend.backend_name())
    caller = f"keras-dtkd {args.command}"
    try:
        if requested != backend.backend_name():
            return _rerun_on_backend(requested, argv)
        return COMMANDS[args.command].run(args)
    except (UserError, ModuleNotFoundError) as error:
        text, missing = str(error), getattr(error, "name", None)
        if missing:
            package = missing.split(".")[0]
            text = f"`{missing}` is not installed: pip install {package}"
            if package in CLI_PACKAGES:
                text += ", or all of the command: pip install 'keras-dtkd[cli]'"
                text += ", from a clone pip install '.[cli]'"
        print(f"{caller}: {text}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        # A full disk, a folder that is read-only: what is there is whole.
        print(f"{caller}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        hint = " The same command continues the run." if is_resumable else ""
        print(f"\n{caller}: interrupted.{hint}", file=sys.stderr)
        return _exit_on_sigint()


def _exit_on_sigint():
    sys.stdout.flush()
    if os.name == "posix":
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return INTERRUPTED


def _rerun_on_backend(name, argv):
    """Runs the same command on another backend, which Keras selects on import."""
    options.require_backend("--backend", name)
    environment = {**os.environ, "KERAS_BACKEND": name}
    command = [sys.executable, "-m", "keras_dtkd.cli", *argv]
    sys.stdout.flush()
    if os.name == "posix":
        # In the same process, so that killing this command kills the run.
        os.execve(sys.executable, command, environment)
    return subprocess.call(command, env=environment)
