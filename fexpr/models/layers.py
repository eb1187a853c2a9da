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
from fexpr.models.channels import by_channel
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
    return by_channel(jnp.add, (jnp.asarray(x, jnp.float32),), bias).astype(x.dtype)


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
