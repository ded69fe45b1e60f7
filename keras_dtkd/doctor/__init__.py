"""What is wrong with a teacher, a student and their data, before any training."""

from keras_dtkd.doctor.diagnose import diagnose as diagnose
from keras_dtkd.doctor.findings import Finding as Finding
from keras_dtkd.doctor.report import Report as Report
