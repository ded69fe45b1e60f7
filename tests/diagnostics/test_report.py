"""A report can be printed, and its statistics looked up."""

import dataclasses

from keras_dtkd.diagnostics import Issue, Report

STATISTICS = {
    "data": {"samples": 64.0, "batches": 1.0, "classes": 10.0},
    "inputs": {"given": {"min": 0.0}, "teacher": {"min": 0.125}},
    "teacher": {"accuracy": 0.9876, "logits": {"max": 12.34}},
    "student": {"accuracy": 0.1234, "logits": {"max": 0.5678}},
    "agreement": 0.3333,
    "dtkd": {"invalid_share": 0.25, "student_temperature_mean": 1.357},
    "task": {"value": 2.302, "gradient_norm": 0.9512},
    "losses": {"kd": {"value": 7.531, "weight": 1.0, "to_task": 3.271}},
}
INFO = Issue("unbalanced", "info", "Something worth knowing, at some length. " * 5)
ERROR = Issue("chance_teacher", "error", "It is at [chance].", "Train it.")
NUMBERS = "0.9876 12.34 0.1234 0.5678 0.3333 0.25 1.357 2.302 0.9512 7.531 3.271"
TEXTS = [*NUMBERS.split(), "0.125", "64 samples", "10 classes"]


def test_tables_have_all_numbers():
    text = str(Report(STATISTICS, [INFO, ERROR]))
    assert all(part in text for part in TEXTS)
    assert max(map(len, text.splitlines())) <= 88


def test_issues_are_sorted_by_severity():
    report = Report(STATISTICS, [INFO, ERROR])
    assert [issue.code for issue in report.issues] == ["chance_teacher", "unbalanced"]
    text = str(report)
    first = text.index("error: chance_teacher: It is at [chance]. Train it.")
    assert first < text.index("info: ")


def test_report_with_infos_only_is_healthy():
    assert Report(STATISTICS, [INFO]).is_healthy
    assert not Report(STATISTICS, [INFO, ERROR]).is_healthy
    warning = dataclasses.replace(INFO, severity="warning")
    assert not Report(STATISTICS, [warning]).is_healthy


def test_report_is_a_dict_of_statistics():
    report = Report(STATISTICS, [])
    assert report["teacher"]["accuracy"] == 0.9876
    assert dict(report) == STATISTICS and len(report) == len(STATISTICS)
    assert report.to_dict()["statistics"] == STATISTICS
    assert "No issues found" in str(report)


def test_report_without_statistics_can_be_printed():
    assert "invalid" in str(Report({}, [Issue("invalid", "error", "It is wrong.")]))
