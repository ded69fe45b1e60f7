"""A run.json is input: what is wrong is one sentence, and none of it is markup."""

import copy
import json
import re

import pytest

from keras_dtkd.cli import main, run_dir
from keras_dtkd.cli.errors import UserError
from tests.cli.fake_runs import make_run, report

pytestmark = pytest.mark.invariant(number=10)

RUN = json.loads(json.dumps(make_run()))


def changed(path, value):
    """The run with another value at a path; `...` removes it."""
    run = copy.deepcopy(RUN)
    *parents, last = path.split("/")
    place = run
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return json.dumps(run)


def nested(depth):
    return "[" * depth + "]" * depth


REQUIRED = ["status", "settings", "recipe", "result", "sessions", "parameters"]
REQUIRED += ["val_accuracy", "judged_on", "settings/method", "settings/seed"]
REQUIRED += ["settings/backend", "settings/teacher", "settings/student"]
REQUIRED += ["settings/validation", "result/best", "result/last"]
REQUIRED += ["result/step_seconds", "result/best/accuracy", "result/last/accuracy"]
REQUIRED += ["recipe/distillation_losses"]
WRONG = {
    "status": [None, 1, "done", ["finished"], {}],
    "settings": [None, [], "x", 1],
    "settings/method": [None, 1, {}, []],
    "settings/data": [None, 5, [], {}],
    "settings/backend": [None, 5, []],
    "settings/image_size": ["x", -1, 0.5],
    "settings/seed": ["0", -1, 0.5, None, []],
    "settings/validation": [2.0, -1, "x", None],
    "settings/teacher": [{}, [], "\x1b[31m"],
    "settings/student": ["\x1b[31mx", "\x9b31mx", "a\nb", "a\u202eb", "x" * 10_000],
    "recipe": [None, [], "x", {}],
    "recipe/distillation_losses": [None, [], {"kd": 1}, {"kd": {}}, {"\x1b": {}}],
    "sessions": [None, {}, [1], [{"versions": 1}], [{"wall_seconds": "x"}]],
    "result": [None, [], {}, 1],
    "result/best": [None, [], {}, 0.5],
    "result/best/accuracy": [None, "x", 2.0, -1, [], 1e400],
    "result/step_seconds": ["x", [], {}],
    "parameters": [None, "x", -1, 1.5, []],
    "val_accuracy": [None, {}, ["x"], [2.0]],
    "judged_on": ["[red]", "\x1b[0m"],
}
TEXTS = {
    "no JSON": "{",
    "empty": "",
    "a list": "[]",
    "a number": "1",
    "nothing": "null",
    "too deep": nested(100_000),
    "deep": '{"status": ' + nested(500) + "}",
    "too large": '{"status": "' + "x" * 10_000_001 + '"}',
    "NaN": changed("parameters", 1).replace('"parameters": 1', '"parameters": NaN'),
}
CASES = {
    **TEXTS,
    **{f"no {path}": changed(path, ...) for path in REQUIRED},
    **{
        f"{path} {i}": changed(path, value)
        for path, values in WRONG.items()
        for i, value in enumerate(values)
    },
}


def test_there_are_many_cases():
    assert len(CASES) > 80


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_is_wrong_is_one_sentence(tmp_path, capsys, case):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(CASES[case])
    with pytest.raises(SystemExit) as exit_info:
        main(["report", str(tmp_path)])
    error = capsys.readouterr().err
    assert exit_info.value.code == 2 and len(error) < 1000
    assert error.count("\n") == 1 and "run.json" in error
    assert all(c.isprintable() for c in error.strip())
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_no_text_is_no_utf8(tmp_path):
    (tmp_path / "run.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match="not valid"):
        run_dir.read_run(tmp_path)


# What a file system has, and what would be markup.
NAMES = ["./cats&dogs", "o'brien #1!", "C:\\images\\x", "[red]x[/]", "a|b", "<b>`*"]
NAMES += [r"$\foo$", "C:\\a\\[", "ü日本\u3000\u200d"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_a_file_system_has_are_text_in_a_report(
    name, tmp_path, capsys, monkeypatch
):
    # So that no row is broken.
    monkeypatch.setenv("COLUMNS", "200")
    for number, path in enumerate((f"{name}.py:f", "b.py:f")):
        text = changed("settings/student", path)
        run = json.loads(text.replace('"KD"', json.dumps(path)))
        run["code"] = {path: "0123"}
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "run.json").write_text(json.dumps(run))
    result = report(tmp_path)
    assert {row["student"] for row in result["rows"]} == {f"{name}.py:f", "b.py:f"}
    shown = f"{name}.py:f"
    shown = shown if len(shown) <= 16 else f"{shown[:7]}…{shown[-8:]}"
    assert shown in capsys.readouterr().out
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    cells = [line for line in markdown.splitlines() if line.startswith("| kd")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in cells}) == 1
    assert not re.search(r"(?<!\\)[\[<`*$&#]", markdown)


def test_a_sound_file_is_read(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    assert run_dir.read_run(tmp_path)["settings"] == RUN["settings"]
