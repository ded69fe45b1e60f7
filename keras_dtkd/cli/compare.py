"""Trains the missing runs of methods, backends and seeds; one table, one figure."""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from keras_dtkd import backend
from keras_dtkd.cli import console, data, options, report, run_config, run_dir, train
from keras_dtkd.cli.errors import UserError, as_user_error
from keras_dtkd.cli.run_schema import remove_control_characters
from keras_dtkd.core.atomic_io import write_json

OUTPUT_FILE = "output.txt"


def add_arguments(parser):
    """Adds the options of the command."""
    _add_grid_arguments(parser)
    options.add_arguments(parser)


def _add_grid_arguments(parser):
    parser.add_argument(
        "--methods", nargs="+", type=options.method, required=True, metavar="NAME",
        help="see docs/recipes.md, or losses of your own, my.py:Squared; include the "
        "controls",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=options.positive_int, default=3, metavar="N",
        help="seeds 0 to N - 1 of each method (default: 3)",
    )  # fmt: skip
    parser.add_argument(
        "--backends", nargs="+", choices=options.BACKENDS,
        default=[backend.backend_name()],
        help="default: that of KERAS_BACKEND or keras.json",
    )  # fmt: skip
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the table there too, as JSON"
    )


def run(args):
    """Runs the command."""
    for name in args.backends:
        options.require_backend("--backends", name)
    with as_user_error():
        # Once for all runs: there may be millions.
        is_folder = args.data.startswith(data.FOLDER)
        images = data.compute_folder_digest(args.data) if is_folder else None
        # One seed of everything first: an interrupted command leaves a comparison.
        plans = [
            run_config.plan_run(args, method, name, seed, images)
            for seed in range(args.seeds)
            for name in dict.fromkeys(args.backends)
            for method in dict.fromkeys(args.methods)
        ]
    missing = [plan for plan in plans if not _is_finished(plan)]
    for plan in missing:
        try:
            with run_dir.lock(plan.folder):
                if run_dir.validate_run_dir(plan) is None:
                    # The table lists the run, whatever happens to it.
                    planned = {"status": "planned", **plan.to_dict()}
                    write_json(plan.folder / run_dir.RUN_FILE, planned)
        except run_dir.RunLocked:
            # It has its run.json from the process that trains it.
            run_dir.validate_run_dir(plan, is_locked=True)
    print(f"{len(plans) - len(missing)} of {len(plans)} runs are finished.")
    num_finished = 0
    for number, plan in enumerate(missing, 1):
        title = "{method} {backend} seed {seed}".format(**plan.settings)
        title = f"{number}/{len(missing)} {title}"
        try:
            run = _run(plan, args, title)
            if run["status"] == "finished":
                num_finished += 1
                text = train.summary(run)
            else:
                reason, *lines = run["error"]
                text = f"failed, {reason}; see {plan.folder / OUTPUT_FILE}"
                text = "\n    ".join([text, *lines])
        except UserError as error:
            # The folder belongs to another process, which records its own result.
            text = str(error)
        print(f"{title}: {text}", flush=True)
    try:
        # DIR/<data>/<pair>/<method>/<run>
        folder = plans[0].folder.parents[1]
        result = report.write_report(folder)
        if args.json is not None:
            write_json(args.json, {**result, "folder": str(folder)})
    except UserError as error:
        # After hours of training this is not an error of the user.
        print(error, file=sys.stderr)
        return 1
    return 0 if num_finished == len(missing) else 1


def _is_finished(plan):
    return (run_dir.validate_run_dir(plan) or {}).get("status") == "finished"


def _run(plan, args, title):
    """Trains one run in a process of its own. Returns the content of its run.json."""
    if _wait_for_lock(plan, title) and _is_finished(plan):
        return run_dir.read_run(plan.folder)
    exit_code = _train_in_subprocess(plan, args, title)
    output = (plan.folder / OUTPUT_FILE).read_text(errors="replace")
    with run_dir.lock(plan.folder):
        # Raises if another comparison started a run with other settings.
        run = run_dir.validate_run_dir(plan) or {"status": "planned", **plan.to_dict()}
        if run["status"] != "finished":
            last = output.splitlines()[-5:]
            lines = [remove_control_characters(line[:1000]) for line in last]
            run |= {"status": "failed", "error": [f"exit code {exit_code}", *lines]}
            write_json(plan.folder / run_dir.RUN_FILE, run)
    return run


def _train_in_subprocess(plan, args, title):
    """Runs `keras-dtkd train` and shows its progress. Returns its exit code."""
    settings, parser = plan.settings, argparse.ArgumentParser(allow_abbrev=False)
    _add_grid_arguments(parser)
    _, shared_options = parser.parse_known_args(args.argv[1:])
    command = [
        *(sys.executable, "-m", "keras_dtkd.cli", "train", "--verbose", "2"),
        *("--method", settings["method"], "--backend", settings["backend"]),
        *("--seed", str(settings["seed"]), *shared_options),
    ]
    backend_name = {"KERAS_BACKEND": settings["backend"]}
    with (
        (plan.folder / OUTPUT_FILE).open("a") as output,
        subprocess.Popen(
            command,
            env={**os.environ, **train.EXIT_WITH_PARENT, **backend_name},
            # Watched by the process, which ends when this one closes it or ends.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
        console.console().status(console.escape(title)) as status,
    ):
        try:
            while process.poll() is None:
                epochs_done = 0
                with contextlib.suppress(UserError):
                    run = run_dir.read_run(plan.folder) or {}
                    epochs_done = run.get("epochs_done", 0)
                progress = f"epoch {epochs_done} of {settings['epochs']}"
                status.update(f"{console.escape(title)}: {progress}")
                time.sleep(0.5)
        except BaseException:
            process.kill()
            raise
    return process.returncode


def _wait_for_lock(plan, title):
    """Waits until no other process trains this run. Returns whether one did."""
    try:
        with run_dir.lock(plan.folder):
            return False
    except run_dir.RunLocked:
        print(f"{title}: another process trains it, waiting", flush=True)
    status = console.console().status(console.escape(title))
    with status, run_dir.lock(plan.folder, wait=True):
        return True
