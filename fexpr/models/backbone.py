"""Splits a network into a trunk, which serves any task, and the dense head for one task; and
freezes batch norms.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Float, PRNGKeyArray, PyTree

from fexpr.arrays import AnyArray
from fexpr.models.auxiliary import AuxiliaryOutputs
from fexpr.models.normalization import BatchNorm

PARTS = ("top", "head")  # the head of a network: the first of these modules that it has


@dataclasses.dataclass(frozen=True)
class FrozenBatchNorm:
    """A model for training in which the batch norms that match a regex neither use nor update batch
    statistics (like Keras' frozen layers).

    Attributes:
      frozen: regex of the paths of their parameters, `conv1_bn/scale`.
    """

    model: nn.Module | AuxiliaryOutputs
    frozen: str

    def init(self, *arguments: Any, **named: Any) -> Any:
        """The model's own."""
        return self.model.init(*arguments, **named)

    def apply(self, *arguments: Any, **named: Any) -> Any:
        """The model's own, with the frozen layers as in evaluation."""
        with nn.intercept_methods(self._as_at_test):
            return self.model.apply(*arguments, **named)

    def _as_at_test(
        self, call: Callable, arguments: tuple, named: dict, context: nn.module.InterceptorContext
    ) -> Any:
        module = context.module
        if isinstance(module, BatchNorm) and re.search(
            self.frozen, "/".join((*module.path, "scale"))
        ):
            return call(arguments[0], False)
        return call(*arguments, **named)


@dataclasses.dataclass(frozen=True)
class Head:
    """The head of a network as a model of its own: features float32 [B, ...] -> logits float32 [B,
    K]. Parameters keep their names.

    Attributes:
      part: the module, from `split_backbone_and_head`. name: 'top' or 'head'.
    """

    part: nn.Module
    name: str

    def init(
        self, key: PRNGKeyArray, x: Float[AnyArray, "B ..."], **named: Any
    ) -> dict[str, PyTree]:
        """(key, features [B, ...]) -> the head's variables, under its name in the whole network."""
        return {
            "params": {
                self.name: self.part.init(key, x.reshape(len(x), -1), **self._taken(named))[
                    "params"
                ]
            }
        }

    def apply(
        self, variables: Mapping[str, PyTree], x: Float[AnyArray, "B ..."], **named: Any
    ) -> Any:
        """(variables, features [B, ...]) -> logits [B, K]."""
        return self.part.apply(
            {"params": variables["params"][self.name]}, x.reshape(len(x), -1), **self._taken(named)
        )

    def _taken(self, named: dict[str, Any]) -> dict[str, Any]:
        """The arguments that the module accepts: a plain dense layer has neither `train` nor
        `mask`.
        """
        return (
            named
            if self.name == "top"
            else {name: value for name, value in named.items() if name not in ("train", "mask")}
        )


def split_backbone_and_head(
    model: nn.Module | AuxiliaryOutputs, image: jax.ShapeDtypeStruct
) -> tuple[Callable[[Mapping[str, PyTree], AnyArray], jax.Array], Head]:
    """The trunk as (variables, images) -> features [B, D], the head's input in evaluation, and the
    head.

    Args:
      image: shape and type of a batch that the model reads.

    Raises:
      ValueError: the model has no part called `top` or `head`.
    """
    ends: dict[str, nn.Module] = {}

    def look(call, arguments, named, context):
        if context.method_name == "__call__" and context.module.path in [(name,) for name in PARTS]:
            ends[context.module.name] = context.module.clone(parent=None)
        return call(*arguments, **named)

    with nn.intercept_methods(look):
        jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)
    name = next((name for name in PARTS if name in ends), None)
    if name is None:
        raise ValueError(f"{type(model).__name__} has no part called {' or '.join(PARTS)}")
    return partial(_features, model, name), Head(ends[name], name)


def _features(
    model: nn.Module | AuxiliaryOutputs,
    name: str,
    variables: Mapping[str, PyTree],
    images: AnyArray,
) -> jax.Array:
    seen = []

    def look(call, arguments, named, context):
        if context.method_name == "__call__" and context.module.path == (name,):
            seen.append(arguments[0])
        return call(*arguments, **named)

    with nn.intercept_methods(look):
        model.apply(variables, images, train=False)
    return seen[0].reshape(len(images), -1)
