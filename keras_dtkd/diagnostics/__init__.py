"""Diagnosis of a teacher, a student and their data, before and after training."""

from keras_dtkd.core.issue import Issue as Issue
from keras_dtkd.diagnostics.diagnose import diagnose as diagnose
from keras_dtkd.diagnostics.explain import explain as explain
from keras_dtkd.diagnostics.explanation import Explanation as Explanation
from keras_dtkd.diagnostics.report import Report as Report
