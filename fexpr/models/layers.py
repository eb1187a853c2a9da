"""Layers of which all models are built: values and parameters as in the standard layers, in forms
that stay fast under vmap.

Layers compute in the dtype of their input, float32 or bfloat16; parameters are float32 and cast
when they are used, and batch statistics are float32. All images are NHWC, all kernels HWIO as in
`flax.linen.Conv`, so weights interchange with the standard layers.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.errors import UserError
from fexpr.models.compute_once import compute_once
from fexpr.models.convolution import conv2d
from fexpr.threefry import threefry

# PyTorch's default for dense and convolutional weights, kaiming_uniform(a=sqrt(5)): uniform in
# +-1/sqrt(fan_in).
torch_kernel = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_bias(fan_in: int):
    """PyTorch's default for biases: uniform in +-1/sqrt(fan_in), with the fan-in of the layer's
    kernel.
    """
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


class Dense(nn.Module):
    """`nn.Dense`, with PyTorch's initial values if no others are given. x [..., I] -> [...,
    features]; kernel [I, features], bias.

    One matrix product over all leading axes at once: XLA transposes and copies less, a step of
    HTNet is 10 to 15 % faster.

    Attributes:
      kernel_init, bias_init: initialisers; bias_init None: PyTorch's, which depends on the kernel's
          fan-in.
    """

    features: int
    kernel_init: nn.initializers.Initializer = torch_kernel
    bias_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[AnyArray, "... D"]) -> Float[Array, "... features"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features)).astype(
            x.dtype
        )
        bias = self.param("bias", self.bias_init or torch_bias(x.shape[-1]), (self.features,))
        rows = _add_bias(rearrange(x, "... i -> (...) i") @ kernel, bias)
        return rows.reshape(*x.shape[:-1], self.features)


def _add_bias(x: AnyArray, bias: AnyArray) -> jax.Array:
    """x [..., C] + bias [C], added in float32: so is the bias's gradient, and XLA sums bfloat16
    very slowly on CPU.
    """
    row = bias.reshape((1,) * (x.ndim - 1) + (-1,))
    return (jnp.asarray(x, jnp.float32) + row).astype(x.dtype)


class Conv(nn.Module):
    """`conv2d` with a bias: the parameters of `nn.Conv` (kernel HWIO, bias), PyTorch's initial
    values if no others are given.

    Attributes:
      features: output channels.
      size: height and width of the kernel.
      padding: see `conv2d`.
      kernel_init, bias_init: as in `Dense`.
    """

    features: int
    size: int = 3
    padding: str | int = "SAME"
    kernel_init: nn.initializers.Initializer = torch_kernel
    bias_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B H W C"]) -> Float[Array, "B h w features"]:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", self.bias_init or torch_bias(math.prod(shape[:-1])), shape[-1:])
        return _add_bias(conv2d(x, kernel, self.padding), bias)


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) that is the same for a sample, however many devices share
    its batch.

    What is dropped depends on the key and on a value's place in the whole batch: the devices must
    hold equal shares in the order of the axis, and the batch must lie on the leading axis of x.
    Give `rngs={"dropout": key}`.

    Attributes:
      rate: share of values set to zero in training, in [0, 1); the others are divided by 1 - rate.
      axis_name: the mapped axis (of vmap or shard_map) that shares the batch, or None.
      broadcast_dims: axes along which values are dropped together (not the leading one).
    """

    rate: float
    axis_name: str | None = None
    broadcast_dims: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*shape"], train: bool) -> Float[Array, "*shape"]:
        if not train or self.rate == 0:
            return jnp.asarray(x)
        key = jax.random.bits(self.make_rng("dropout"), (2,))
        shared = {axis % x.ndim for axis in self.broadcast_dims}
        shape = [1 if axis in shared else n for axis, n in enumerate(x.shape)]
        row = lax.broadcasted_iota(jnp.uint32, (len(x), *(1,) * (x.ndim - 1)), 0)
        # during initialisation no axis is mapped
        if self.axis_name is not None and not self.is_initializing():
            row += (lax.axis_index(self.axis_name) * len(x)).astype(jnp.uint32)
        place = lax.iota(jnp.uint32, math.prod(shape[1:])).reshape(1, *shape[1:])
        drop = lax.platform_dependent(
            row,
            place,
            key,
            cpu=partial(compute_once, partial(_dropped, self.rate)),
            default=partial(_dropped, self.rate),
        )
        return jnp.where(drop, jnp.zeros_like(x), x / (1 - self.rate))


def _dropped(rate: float, row: jax.Array, place: jax.Array, key: jax.Array) -> jax.Array:
    """bool [B, ...] from counters uint32 `row` [B, ...] and `place` [1, ...]."""
    words, _ = threefry(key, *jnp.broadcast_arrays(row, place))
    return words < jnp.uint32(round(rate * 2**32))


class BatchNorm(nn.Module):
    """Batch normalisation over the real rows of a padded batch, over all devices that share it.

    Without mask and axis: `nn.BatchNorm(momentum=0.9)`, the same parameters and statistics.
    `nn.BatchNorm` has a mask too, but it averages the devices' means with equal weights however
    many real rows each holds, and is NaN on a device that contains none. Sums and counts are added
    up here instead. A batch without any real row leaves the running statistics as they were.

    Attributes:
      axis_name: the mapped axis (of vmap or shard_map) that shares the batch, or None.
    """

    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(
        self,
        x: Float[AnyArray, "B ... C"],
        train: bool,
        mask: Bool[AnyArray, " B"] | None = None,
    ) -> Float[Array, "B ... C"]:
        """x [B, ..., C], mask bool [B] (True: a real row; None: all) -> [B, ..., C] in the dtype of
        x; computed in float32.
        """
        shape = x.shape[-1:]
        scale = self.param("scale", self.scale_init, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if not train:
            return _affine(x, mean.value, lax.rsqrt(var.value + self.epsilon) * scale, bias)
        real = jnp.ones(len(x), bool) if mask is None else jnp.asarray(mask)
        # During initialisation no axis is mapped, and the statistics keep their initial values.
        y, new_mean, new_var, count = _normalise(
            None if self.is_initializing() else self.axis_name, self.epsilon, x, scale, bias, real
        )
        if not self.is_initializing():
            step = jnp.where(count > 0, 1 - self.momentum, 0.0)
            mean.value += step * (new_mean - mean.value)
            var.value += step * (new_var - var.value)
        return y


def _affine(x: AnyArray, mean: AnyArray, factor: AnyArray, bias: AnyArray) -> jax.Array:
    mean, factor, bias = (a.reshape((1,) * (x.ndim - 1) + (-1,)) for a in (mean, factor, bias))
    return ((jnp.asarray(x, jnp.float32) - mean) * factor + bias).astype(x.dtype)


def _normalise_batch(
    axis_name: str | None,
    epsilon: float,
    x: AnyArray,
    scale: AnyArray,
    bias: AnyArray,
    real: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """x normalised by its batch; mean [C] and biased variance [C] of the real rows of all devices,
    and their number of values.

    Only y has a gradient; it is hand-written and takes half as many passes over the batch as
    automatic differentiation.
    """
    return _normalise_forward(axis_name, epsilon, x, scale, bias, real)[0]


_normalise = jax.custom_vjp(_normalise_batch, nondiff_argnums=(0, 1))


def _normalise_forward(axis_name, epsilon, x, scale, bias, real):
    # over the real rows; values are summed within rows first, as masking all of them would be
    # another pass
    def total(values: jax.Array) -> jax.Array:
        return _over_devices(
            jnp.where(real[:, None], values.sum(tuple(range(1, x.ndim - 1))), 0.0).sum(0), axis_name
        )

    values = x.astype(jnp.float32)
    count = _over_devices(
        real.sum(dtype=jnp.float32) * (x.size // x.shape[0] // x.shape[-1]), axis_name
    )
    mean = total(values) / jnp.maximum(count, 1.0)
    var = total(jnp.square(values - mean.reshape((1,) * (x.ndim - 1) + (-1,)))) / jnp.maximum(
        count, 1.0
    )
    inverse = lax.rsqrt(var + epsilon)
    return (_affine(x, mean, inverse * scale, bias), mean, var, count), (
        x,
        scale,
        real,
        mean,
        inverse,
        count,
    )


def _normalise_backward(axis_name, epsilon, saved, gradients):
    del epsilon
    x, scale, real, mean, inverse, count = saved
    g = gradients[0].astype(jnp.float32)
    x_hat = _affine(x.astype(jnp.float32), mean, inverse, jnp.zeros_like(mean))
    d_bias, d_scale = (a.sum(tuple(range(x.ndim - 1))) for a in (g, g * x_hat))
    by_mean, by_var = (
        _over_devices(d, axis_name) / jnp.maximum(count, 1.0) for d in (d_bias, d_scale)
    )
    common = _affine(x_hat, jnp.zeros_like(mean), by_var, by_mean)
    dx = (g - jnp.where(real.reshape(-1, *(1,) * (x.ndim - 1)), common, 0.0)) * (
        inverse * scale
    ).reshape((1,) * (x.ndim - 1) + (-1,))
    return dx.astype(x.dtype), d_scale, d_bias, None


def _over_devices(x: jax.Array, axis_name: str | None) -> jax.Array:
    return x if axis_name is None else lax.psum(x, axis_name)


_normalise.defvjp(_normalise_forward, _normalise_backward)


class Classifier(nn.Module):
    """Base class of networks whose only argument is the number of classes, without dropout and
    batch statistics.

    Attributes:
      num_classes: K, logits.

    Raises:
      UserError: num_classes is not a whole number above 0.
    """

    num_classes: int

    def __post_init__(self):
        check_arguments(type(self).__name__, {"num_classes": self.num_classes})
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        images: Num[AnyArray, "B H W C"],
        train: bool = False,
        mask: Bool[AnyArray, " B"] | None = None,
    ) -> Float[Array, "B K"]:
        """images [B, H, W, C] -> logits float32 [B, K]. `train` and `mask` are not used; all models
        are called alike.
        """
        del train, mask
        return self.logits(images)


def check_arguments(
    model: str,
    counts: Mapping[str, object],
    rates: Mapping[str, object] | None = None,
    others: Sequence[str] = (),
) -> None:
    """Raises one UserError that lists every constructor argument of `model` with an impossible
    value.

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
        if not isinstance(value, numbers.Real)
        or isinstance(value, bool)
        or not 0 <= float(value) < 1
    ]
    if problems or others:
        raise UserError(
            f"{model} cannot be built",
            [*problems, *others],
            fix="correct these fields of config.model",
        )
