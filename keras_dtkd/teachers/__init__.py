"""Who teaches."""

from keras_dtkd.rows import with_rows as with_rows
from keras_dtkd.teachers.base import Teacher as Teacher
from keras_dtkd.teachers.base import fingerprint as fingerprint
from keras_dtkd.teachers.base import get as get
from keras_dtkd.teachers.ensemble import Ensemble as Ensemble
from keras_dtkd.teachers.live import Live as Live
from keras_dtkd.teachers.pruned import Pruned as Pruned
from keras_dtkd.teachers.store import store as store
from keras_dtkd.teachers.stored import Stored as Stored
