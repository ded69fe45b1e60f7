"""A rule that learns from samples that its student is not trained on."""

import numbers
from typing import Any

from keras_dtkd.core import arrays
from keras_dtkd.core.arguments import check_in_range
from keras_dtkd.preparation import data_peek
from keras_dtkd.temperatures.base import Temperature


class HoldoutTemperature(Temperature):
    """A temperature rule with `holdout`: `(x, y)`, or a share of the training data.

    Raises:
        ValueError: `holdout` is neither, when it is set.
    """

    _holdout: Any

    @property
    def holdout(self):
        """A share, or inputs and labels. To be set again after loading, if these."""
        return self._holdout

    @holdout.setter
    def holdout(self, value):
        pair = isinstance(value, list | tuple) and len(value) == 2
        if pair and value[1] is not None:
            data_peek.reject_lists_of_scalars(value[0], value[1], "held-out ")
            if arrays.num_samples(value[0]) != arrays.num_samples(value[1]):
                raise ValueError(
                    f"`Policy`: `holdout` has {arrays.num_samples(value[0])} inputs and "
                    f"{arrays.num_samples(value[1])} labels."
                )
        elif isinstance(value, numbers.Real):
            check_in_range("Policy", "holdout", value, 0.0, 1.0)
        elif value is not None:
            raise ValueError(
                f"`Policy`: `holdout` is a {type(value).__name__}. Give "
                "`holdout=(x, y)`, inputs and labels, or a share of the data between "
                "0 and 1."
            )
        # No list that Keras would look for layers in.
        self.__dict__["_holdout"] = value

    def __setattr__(self, name, value):
        # Keras would hand the setter tracked dicts and lists, which no model takes for
        # inputs.
        if name == "holdout":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def get_config(self):
        """The arguments that make this rule again; of data held out, `None`."""
        share = self.holdout
        share = share if isinstance(share, numbers.Real) else None
        return {**super().get_config(), "holdout": share}
