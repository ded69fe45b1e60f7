"""Who teaches."""

from keras_dtkd.core.fingerprint import model_fingerprint as model_fingerprint
from keras_dtkd.teachers.base import Teacher as Teacher
from keras_dtkd.teachers.base import resolve_teacher as resolve_teacher
from keras_dtkd.teachers.ensemble import Ensemble as Ensemble
from keras_dtkd.teachers.model_teacher import ModelTeacher as ModelTeacher
from keras_dtkd.teachers.pruned import Pruned as Pruned
from keras_dtkd.teachers.sample_ids import with_sample_ids as with_sample_ids
from keras_dtkd.teachers.store import store as store
from keras_dtkd.teachers.stored import Stored as Stored
