"""Counts the arithmetic of a network: of its convolutions, which decides whether CPU cores share
its batches, and with its matrix products, which says how full a device is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp


class Network(Protocol):
    """A linen module, or a wrapper of one (backbone.py, auxiliary.py)."""

    def init(self, *args: Any, **kwargs: Any) -> Any: ...

    def apply(self, *args: Any, **kwargs: Any) -> Any: ...


def count_convolutions(model: Network, shape: Sequence[int]) -> int:
    """Multiply-adds of all convolutions in a forward pass of one image of this shape [H, W, C],
    padding included; nothing is computed.
    """
    return _count_pass(model, shape)[0]


def count_products(model: Network, shape: Sequence[int]) -> int:
    """Multiply-adds of all convolutions and matrix products, as `count_convolutions`."""
    return sum(_count_pass(model, shape))


def _count_pass(model: Network, shape: Sequence[int]) -> tuple[int, int]:
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)
    return _count(jax.make_jaxpr(partial(model.apply, train=False))(variables, image).jaxpr)


def _count(jaxpr: Any) -> tuple[int, int]:
    """Multiply-adds of convolutions, and of matrix products. Of several branches, the one with the
    most convolutions, then the fewest products is counted: the others are for CPUs and compute
    small convolutions, and repeated numbers, as products.
    """
    convolutions = products = 0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = kernel[parameters["dimension_numbers"].rhs_spec[0]]
            convolutions += equation.outvars[0].aval.size * math.prod(kernel) // features
        if name == "dot_general":
            contracted, left = parameters["dimension_numbers"][0][0], equation.invars[0].aval.shape
            products += equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)
        repeats = parameters["length"] if name == "scan" else 1
        least = -1 if name == "cond" else 1
        inner = max(
            map(_count, _inner(parameters.values())),
            key=lambda count, least=least: (count[0], least * count[1]),
            default=(0, 0),
        )
        convolutions += repeats * inner[0]
        products += repeats * inner[1]
    return convolutions, products


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
