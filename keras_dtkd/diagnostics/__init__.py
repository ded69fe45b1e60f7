"""Diagnosis of a teacher, a student and their data before training."""

from keras_dtkd.core.issue import Issue as Issue
from keras_dtkd.diagnostics.diagnose import diagnose as diagnose
from keras_dtkd.diagnostics.report import Report as Report
