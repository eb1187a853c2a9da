"""Networks that learn a second task from the same features, and predict the first alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
from jaxtyping import PyTree


@dataclasses.dataclass(frozen=True)
class AuxiliaryOutputs:
    """A network with more outputs than classes: all of them in training, the classes alone in
    evaluation.

    Attributes:
      model: its `num_classes` counts both tasks; the classes come first.
      classes: K, what is predicted.
    """

    model: nn.Module
    classes: int

    def init(self, *arguments: Any, **named: Any) -> Any:
        """The model's own."""
        return self.model.init(*arguments, **named)

    def apply(self, variables: PyTree, *arguments: Any, train: bool = False, **named: Any) -> Any:
        """The model's own, [B, K + A], in training; those of the classes, [B, K], in evaluation."""
        found = self.model.apply(variables, *arguments, train=train, **named)
        if train:
            return found
        if isinstance(found, tuple):  # with the collections that were asked for
            return found[0][:, : self.classes], *found[1:]
        return found[:, : self.classes]
