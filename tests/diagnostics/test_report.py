"""A report can be read, and looked up."""

from keras_dtkd.diagnostics import Issue, Report

FIGURES = {
    "data": {"samples": 64.0, "batches": 1.0, "classes": 10.0},
    "inputs": {"given": {"min": 0.0}, "teacher": {"min": 0.125}},
    "teacher": {"accuracy": 0.9876, "logits": {"max": 12.34}},
    "student": {"accuracy": 0.1234, "logits": {"max": 0.5678}},
    "agreement": 0.3333,
    "dtkd": {"invalid_share": 0.25, "student_temperature_mean": 1.357},
    "task": {"value": 2.302, "gradient_norm": 0.9512},
    "losses": {"kd": {"value": 7.531, "weight": 1.0, "to_task": 3.271}},
}
NOTE = Issue("unbalanced", "note", "Something worth knowing, at some length. " * 5)
ERROR = Issue("chance_teacher", "error", "Nothing known.")


def test_the_table_has_the_numbers():
    text = str(Report(FIGURES, [NOTE, ERROR]))
    numbers = "0.9876 12.34 0.1234 0.5678 0.3333 0.25 1.357 2.302 0.9512 7.531 3.271"
    for number in [*numbers.split(), "0.125", "64 samples", "10 classes"]:
        assert number in text
    assert max(map(len, text.splitlines())) <= 88


def test_findings_stand_below_the_worst_first():
    report = Report(FIGURES, [NOTE, ERROR])
    assert [f.name for f in report.findings] == ["chance_teacher", "unbalanced"]
    text = str(report)
    assert text.index("error: chance_teacher: Nothing known.") < text.index("note: ")


def test_notes_alone_are_healthy():
    assert Report(FIGURES, [NOTE]).healthy
    assert not Report(FIGURES, [NOTE, ERROR]).healthy
    assert not Report(FIGURES, [NOTE._replace(severity="warning")]).healthy


def test_figures_are_looked_up_like_a_dict():
    report = Report(FIGURES, [])
    assert report["teacher"]["accuracy"] == 0.9876
    assert dict(report) == FIGURES and len(report) == len(FIGURES)
    assert report.as_dict()["figures"] == FIGURES
    assert "Nothing found" in str(report)


def test_a_report_of_next_to_nothing_can_be_read():
    assert "refused" in str(Report({}, [Issue("refused", "error", "It is wrong.")]))
