"""The layers that every model here is built from: the standard ones' values and parameters, in forms that stay fast under vmap.

Trials are trained side by side with `vmap` over their parameters. A plain convolution then becomes a grouped convolution and a
pooling gradient a `select_and_scatter`, both slow on CPU; shifted slices, one (batched) matrix product and `jnp.maximum` are not.

All images are NHWC, all kernels HWIO as in `flax.linen.Conv`, so weights interchange with the standard layers.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax

from fexpr.errors import UserError

# PyTorch's default for dense and convolutional weights, kaiming_uniform(a=sqrt(5)): uniform in +-1/sqrt(fan_in).
torch_kernel = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_bias(fan_in: int):
    """PyTorch's default for biases: uniform in +-1/sqrt(fan_in), with the fan of the kernel beside it."""
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class Dense(nn.Module):
    """`nn.Dense` with PyTorch's initialisation. x [..., I] -> [..., features]; parameters kernel [I, features] and bias.

    One matrix product over all leading axes at once: XLA transposes and copies less, a step of HTNet is 10 to 15 % faster.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", torch_kernel, (x.shape[-1], self.features))
        bias = self.param("bias", torch_bias(x.shape[-1]), (self.features,))
        rows = rearrange(x, "... i -> (...) i") @ kernel + rearrange(bias, "o -> 1 o")
        return rows.reshape(*x.shape[:-1], self.features)


def conv2d(x: jax.Array, kernel: jax.Array, padding: str | int = "SAME") -> jax.Array:
    """Stride-1 convolution as concatenated shifts and one matrix product; the values of `lax.conv` up to rounding.

    Args:
      x: [B, H, W, I].
      kernel: [kh, kw, I, O].
      padding: 'SAME' (an even kernel pads one more after than before, as XLA and Keras do), 'VALID', or PyTorch's: that many
        zeros on each side.

    Returns:
      [B, H', W', O]. Between the two, kh*kw copies of x are held.
    """
    kh, kw, channels, features = kernel.shape
    pads = [(padding, padding)] * 2 if isinstance(padding, int) else lax.padtype_to_pads(x.shape[1:3], (kh, kw), (1, 1), padding)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    shifts = [x[:, i : i + height, j : j + width] for i in range(kh) for j in range(kw)]
    return jnp.concatenate(shifts, axis=-1) @ kernel.reshape(kh * kw * channels, features)


class Conv(nn.Module):
    """`conv2d` with a bias: the parameters of `nn.Conv` (kernel HWIO, bias), PyTorch's initialisation.

    Attributes:
      features: output channels.
      size: height and width of the kernel.
      padding: see `conv2d`.
    """

    features: int
    size: int = 3
    padding: str | int = "SAME"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", torch_kernel, shape)
        bias = self.param("bias", torch_bias(math.prod(shape[:-1])), shape[-1:])
        return conv2d(x, kernel, self.padding) + rearrange(bias, "o -> 1 1 1 o")


def max_pool(x: jax.Array, window: int, stride: int, padding: int = 0) -> jax.Array:
    """PyTorch's MaxPool2d: `padding` rows of -inf on each side; where the stride does not divide, the rest is left out.

    Rows first, then columns, as shifted slices and `jnp.maximum`. Equal to `nn.max_pool`. The gradient is the same too wherever
    the maximum is unique; among equal values it is shared out (it sums to the incoming one), where `nn.max_pool` and PyTorch
    give it all to the first.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, H', W', C] with H' = (H + 2 padding - window) // stride + 1.
    """
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=-jnp.inf)
    for axis in (1, 2):
        last = x.shape[axis] - window  # the last place where a window may start
        shifts = [lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(window)]
        x = functools.reduce(jnp.maximum, shifts)
    return x


class BatchNorm(nn.Module):
    """Batch normalisation over the real rows of a padded batch, over all devices that share it.

    Without mask and axis: `nn.BatchNorm(momentum=0.9)`, the same parameters and statistics. `nn.BatchNorm` has a mask too, but it
    averages the devices' means with equal weights however many real rows each holds, and is NaN on a device that holds none.
    Sums and counts are added up here instead. A batch without any real row leaves the running statistics as they were.

    Attributes:
      axis_name: the mapped axis (of vmap or shard_map) that shares the batch, or None.
    """

    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """x [B, ..., C], mask bool [B] (True: a real row; None: all) -> [B, ..., C]."""
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        mean, var = running_mean.value, running_var.value
        if train:
            # While parameters are made no axis is mapped, and the statistics keep their first values.
            mean, var, count = _moments(x, mask, None if self.is_initializing() else self.axis_name)
            if not self.is_initializing():
                step = jnp.where(count > 0, 1 - self.momentum, 0.0)
                running_mean.value += step * (mean - running_mean.value)
                running_var.value += step * (var - running_var.value)
        over = tuple(range(x.ndim - 1))
        mean, factor, bias = (jnp.expand_dims(a, over) for a in (mean, lax.rsqrt(var + self.epsilon) * scale, bias))
        return (x - mean) * factor + bias


def _moments(x: jax.Array, mask: jax.Array | None, axis_name: str | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean [C] and biased variance [C] over the real rows of all devices, and how many values each was taken over."""
    real = jnp.ones(len(x), bool) if mask is None else mask
    real = jnp.expand_dims(real, tuple(range(1, x.ndim)))

    def total(values: jax.Array) -> jax.Array:
        summed = jnp.where(real, values, 0.0).sum(tuple(range(x.ndim - 1)))
        return summed if axis_name is None else lax.psum(summed, axis_name)

    count = total(jnp.ones((*x.shape[:-1], 1), x.dtype))
    mean = total(x) / jnp.maximum(count, 1.0)
    var = total(jnp.square(x - mean.reshape((1,) * (x.ndim - 1) + (-1,)))) / jnp.maximum(count, 1.0)
    return mean, var, count


def check_arguments(
    model: str, counts: Mapping[str, object], rates: Mapping[str, object] | None = None, others: Sequence[str] = ()
) -> None:
    """Raises one UserError that lists every constructor argument of `model` with an impossible value.

    Args:
      counts: arguments that must be whole numbers above 0.
      rates: arguments that must lie in [0, 1).
      others: problems that the model found itself, for instance between arguments.
    """
    problems = [
        f"{name}: expected a whole number above 0, found {value!r}"
        for name, value in counts.items()
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1
    ]
    problems += [
        f"{name}: expected a number in [0, 1), found {value!r}"
        for name, value in (rates or {}).items()
        if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= value < 1
    ]
    if problems or others:
        raise UserError(f"{model} cannot be built", [*problems, *others], fix="correct these fields of config.model")
