"""Counts the arithmetic of a network's convolutions, which decides whether CPU cores share its
batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fexpr.models.auxiliary import AuxiliaryOutputs
from fexpr.models.backbone import FrozenBatchNorm


def count_convolutions(
    model: nn.Module | AuxiliaryOutputs | FrozenBatchNorm, shape: Sequence[int]
) -> int:
    """Multiply-adds of all convolutions in a forward pass of one image of this shape [H, W, C],
    padding included; nothing is computed.

    Args:
      model: without `axis_name`.
    """
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)
    return _count(jax.make_jaxpr(partial(model.apply, train=False))(variables, image).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            total += equation.outvars[0].aval.size * math.prod(kernel) // features
        repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += repeats * max(map(_count, _inner(equation.params.values())), default=0)
    return total


def _inner(values: Any) -> list[Any]:
    """The programs among an equation's parameters: the body of a loop, the branches of a
    condition.
    """
    found = []
    for value in values:
        if isinstance(value, list | tuple):
            found += _inner(value)
        elif hasattr(value, "eqns"):
            found.append(value)
        elif hasattr(value, "jaxpr"):
            found.append(value.jaxpr)
    return found
