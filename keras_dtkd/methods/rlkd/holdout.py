"""A temperature that learns from samples that the student is not trained on."""

import numbers
from typing import Any

from keras_dtkd.core import arrays
from keras_dtkd.core.arguments import check_in_range
from keras_dtkd.core.issue import report_issues
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.methods.rlkd.reward_callback import RewardCallback
from keras_dtkd.methods.rlkd.validation import check_policy
from keras_dtkd.temperatures.base import Temperature
from keras_dtkd.validation.data import check_lists


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
            report_issues(check_lists(value[0], value[1], "held-out "))
            if arrays.num_samples(value[0]) != arrays.num_samples(value[1]):
                raise ValueError(
                    f"`Policy`: `holdout` has {arrays.num_samples(value[0])} inputs "
                    f"and {arrays.num_samples(value[1])} labels."
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

    def issues(self, context):
        """Runs in which rewards cannot be measured, see `FitHooks`."""
        return check_policy(self, context)

    def hold_out(self, data):
        """The share of the training data that is held out; `None` for `(x, y)`."""
        return self.holdout if isinstance(self.holdout, numbers.Real) else None

    def training_callbacks(self, distiller):
        """The callback that measures the rewards."""
        is_given = isinstance(self.holdout, list | tuple)
        x, y = self.holdout if is_given else distiller.run_context.held_out
        losses = distiller.distillation_losses.values()
        loss = next(loss for loss in losses if self in list(iter_layers(loss)))
        spec = distiller.output_specs.get(loss.distilled_output).student
        name = self._reward_name(distiller)
        return [RewardCallback(self, spec, x, spec.select(y), name)]

    def _reward_name(self, distiller):
        names = {
            layer: name
            for name, loss in distiller.distillation_losses.items()
            for layer in iter_layers(loss)
            if isinstance(layer, HoldoutTemperature)
        }
        is_first = next(iter(names)) is self
        return "reward" if is_first else f"{names[self]}_reward"

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
