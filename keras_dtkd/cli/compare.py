"""Trains what is missing of methods, backends and seeds; one table, one picture."""

import contextlib
import os
import subprocess
import sys
import time

from keras_dtkd import backend, recipes
from keras_dtkd.cli import (
    console,
    options,
    parent_watch,
    report,
    run_config,
    run_dir,
    train,
)
from keras_dtkd.cli.errors import UserError, as_user_error

OUTPUT = "output.txt"
# Of what a failed run said at its end.
LINES = 5


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument(
        "--methods", nargs="+", choices=recipes.methods(), required=True,
        metavar="NAME", help="see docs/recipes.md; give the controls too",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=options.whole, default=3, metavar="N",
        help="seeds 0 to N - 1 of each (default: 3)",
    )  # fmt: skip
    parser.add_argument(
        "--backends", nargs="+", choices=options.BACKENDS, default=[backend.backend_name()],
        help="default: what KERAS_BACKEND or keras.json says",
    )  # fmt: skip
    options.add(parser)


def run(args):
    """The command."""
    screen = console.console()
    for name in args.backends:
        options.check_backend("--backends", name)
    with as_user_error():
        # A seed for all before another: what breaks off is a comparison already.
        plans = [
            run_config.plan_run(args, method, name, seed)
            for seed in range(args.seeds)
            for name in dict.fromkeys(args.backends)
            for method in dict.fromkeys(args.methods)
        ]
    missing = [plan for plan in plans if not _finished(plan)]
    for plan in missing:
        # One that another process trains is known to the table.
        with contextlib.suppress(run_dir.RunLocked), run_dir.alone(plan.folder):
            if run_dir.claim(plan) is None:
                # So that the table knows of it, whatever happens.
                run_dir.write(plan.folder, _planned(plan))
    print(f"{len(plans) - len(missing)} of {len(plans)} runs are finished.")
    failed = 0
    for number, plan in enumerate(missing, 1):
        failed += not _run(plan, args, f"{number}/{len(missing)}", screen)
    # DIR/<data>/<pair>/<method>/<run>
    folder = plans[0].folder.parents[1]
    try:
        report.show(report.report(folder), folder)
    except UserError as refused:
        # After hours of training that is no refusal of the command.
        print(refused, file=sys.stderr)
        return 1
    return 1 if failed else 0


def _planned(plan):
    return {"status": "planned", **plan.to_dict()}


def _finished(plan):
    found = run_dir.claim(plan)
    return found is not None and found["status"] == "finished"


def _run(plan, args, number, screen):
    """One run in a process of its own. Gives whether it is finished now."""
    chosen = plan.settings
    who = f"{number} {chosen.method} {chosen.backend} seed {chosen.seed}"
    try:
        if _waited(plan, who, screen) and _finished(plan):
            return _told(run_dir.read(plan.folder), who)
    except UserError as refused:
        print(f"{who}: {refused}", flush=True)
        return False
    command = [
        *(sys.executable, "-m", "keras_dtkd.cli", "train", "--method", chosen.method),
        *("--backend", chosen.backend, "--seed", str(chosen.seed), "--verbose", "2"),
        *options.words(args),
    ]
    environment = {**os.environ, **parent_watch.ON, "KERAS_BACKEND": chosen.backend}
    with (
        (plan.folder / OUTPUT).open("a") as output,
        subprocess.Popen(
            command,
            env=environment,
            # Its leash: whatever ends this process closes it.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
        screen.status(who) as status,
    ):
        try:
            while process.poll() is None:
                done = 0
                with contextlib.suppress(UserError):
                    done = (run_dir.read(plan.folder) or {}).get("epochs_done", 0)
                status.update(f"{who}: epoch {done} of {chosen.epochs}")
                time.sleep(0.5)
        except BaseException:
            process.kill()
            raise
    error = f"exit code {process.returncode}"
    lines = (plan.folder / OUTPUT).read_text(errors="replace").splitlines()[-LINES:]
    try:
        with run_dir.alone(plan.folder):
            # Refused if another comparison has taken the folder for other settings.
            found = run_dir.claim(plan) or _planned(plan)
            if found["status"] != "finished":
                failed = {"status": "failed", "error": [error, *lines]}
                run_dir.write(plan.folder, {**found, **failed})
    except UserError as another:
        # It was quicker; what it does is not ours to judge.
        print(f"{who}: {another}", flush=True)
        return False
    if found["status"] == "finished":
        return _told(found, who)
    print(f"{who}: failed, {error}; see {plan.folder / OUTPUT}", flush=True)
    print("\n".join(f"    {line}" for line in lines), flush=True)
    return False


def _told(found, who):
    print(f"{who}: {train.summary(found)}", flush=True)
    return True


def _waited(plan, who, screen):
    """Waits until no other process trains this run. Gives whether one did."""
    try:
        with run_dir.alone(plan.folder):
            return False
    except run_dir.RunLocked:
        print(f"{who}: another process trains it, waiting", flush=True)
    with screen.status(f"{who}: waiting"), run_dir.alone(plan.folder, wait=True):
        return True
