"""The layers that every model here is built from: the standard ones' values and parameters, in forms that stay fast under vmap.

Layers compute in the dtype of their input, float32 or bfloat16; parameters are float32 and cast where they are used, and batch
statistics are float32. All images are NHWC, all kernels HWIO as in `flax.linen.Conv`, so weights interchange with the standard layers.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from functools import partial

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
        kernel = self.param("kernel", torch_kernel, (x.shape[-1], self.features)).astype(x.dtype)
        bias = self.param("bias", torch_bias(x.shape[-1]), (self.features,))
        rows = _add_bias(rearrange(x, "... i -> (...) i") @ kernel, bias)
        return rows.reshape(*x.shape[:-1], self.features)


def _add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x [..., C] + bias [C], added in float32: so is the bias's gradient, and XLA sums bfloat16 very slowly on CPU."""
    return (x.astype(jnp.float32) + bias.reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


Pads = tuple[tuple[int, int], tuple[int, int]]
LARGE = 2**26  # multiply-adds of a convolution from which one alone keeps any device busy


def conv2d(x: jax.Array, kernel: jax.Array, padding: str | int = "SAME") -> jax.Array:
    """Stride-1 convolution. `vmap` over kernels does not make it a grouped convolution, slow everywhere.

    A convolution by itself is XLA's own (`single_conv`), on CPU with gradients written out. Under `vmap` small ones become one product
    (`shifted_conv`), large ones are computed one after the other.

    Args:
      x: [B, H, W, I].
      kernel: [kh, kw, I, O], of x's dtype or float32; its gradient has its own dtype.
      padding: 'SAME' (an even kernel pads one more after than before, as XLA and Keras do), 'VALID', or PyTorch's: that many
        zeros on each side.

    Returns:
      [B, H', W', O] in the dtype of x.
    """
    pads = [(padding, padding)] * 2 if isinstance(padding, int) else lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (1, 1), padding)
    return _conv(tuple(pads), x, kernel)


def single_conv(pads: Pads, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's convolution."""
    return lax.conv_general_dilated(x, kernel.astype(x.dtype), (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def shifted_conv(pads: Pads, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Concatenated shifts of x and one matrix product, which stays one under vmap. Holds kh*kw copies of x."""
    columns = jnp.concatenate(_shifts(jnp.pad(x, ((0, 0), *pads, (0, 0))), *kernel.shape[:2], 1), -1)
    return columns @ rearrange(kernel.astype(x.dtype), "kh kw i o -> (kh kw i) o")


def input_gradient(pads: Pads, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """The gradient of `single_conv` by x, on CPU: a convolution of g with the turned kernel.

    The barrier keeps XLA from folding the turn into the convolution: inside a loop it has no fast form for that and takes twenty to a
    hundred times as long.
    """
    turned = lax.optimization_barrier(rearrange(kernel[::-1, ::-1], "kh kw i o -> kh kw o i"))
    (kh, kw), ((top, bottom), (left, right)) = kernel.shape[:2], pads
    return single_conv(((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right)), g, turned)


def kernel_gradient(pads: Pads, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """The gradient of `single_conv` by its kernel, on CPU: products of shifts over a few images at a time, summed up.

    Either x is shifted along both axes, or x along one and g along the other: whatever takes fewer copies. XLA computes this as a
    convolution with a window as large as the map, far from the arithmetic rate of a CPU, or, inside a loop, hopelessly. Milliseconds on
    one core for 64 images and 3x3 kernels, XLA's (no loop) / this / arithmetic at full rate: 48x48 maps, 32 to 32 channels 125 / 51 / 20;
    24x24, 64 to 64 83 / 35 / 20; 12x12, 128 to 128 60 / 27 / 20; 48x48, 1 to 64 42 / 9 / 1.
    """
    kh, kw, channels, features = kernel.shape
    most = max(4, 2048 // (g.shape[1] * g.shape[2]))
    images = max(d for d in range(1, most + 1) if len(x) % d == 0)
    both = kh * channels <= channels + features

    def add(n: jax.Array, total: jax.Array) -> jax.Array:
        part, rows = (lax.dynamic_slice_in_dim(a, n * images, images).astype(jnp.float32) for a in (x, g))
        part = jnp.pad(rearrange(part, "b h w i -> i b h w"), ((0, 0), (0, 0), *pads))
        columns = jnp.concatenate(_shifts(lax.optimization_barrier(part), kh if both else 1, kw, 2))
        if not both:
            rows = lax.optimization_barrier(jnp.pad(rows, ((0, 0), (kh - 1, kh - 1), (0, 0), (0, 0))))
            rows = jnp.concatenate(_shifts(rows, kh, 1, 1)[::-1], -1)
        columns = lax.optimization_barrier(rearrange(columns, "i b h w -> i (b h w)"))  # a product of transposed rows is half as fast
        return total + lax.dot(columns, rearrange(rows, "b h w o -> (b h w) o"))

    total = jnp.zeros((kh * kw * channels, features) if both else (kw * channels, kh * features), jnp.float32)
    total = lax.fori_loop(0, len(x) // images, add, total)
    return rearrange(total, "(kh kw i) o -> kh kw i o" if both else "(kw i) (kh o) -> kh kw i o", kh=kh, kw=kw).astype(kernel.dtype)


def _shifts(x: jax.Array, kh: int, kw: int, axis: int) -> list[jax.Array]:
    """What each place of a kernel sees of a padded x whose rows and columns are `axis` and `axis + 1`."""
    height, width = x.shape[axis] - kh + 1, x.shape[axis + 1] - kw + 1
    cut = lax.slice_in_dim
    return [cut(cut(x, i, i + height, axis=axis), j, j + width, axis=axis + 1) for i in range(kh) for j in range(kw)]


def _by_itself(one: Callable[..., jax.Array], stacked: Callable[..., jax.Array], large: bool, *arrays: jax.Array) -> jax.Array:
    """one(*arrays); under vmap `stacked`, or, where large or only one is mapped, `one` after `one`."""
    call = jax.custom_batching.custom_vmap(one)

    @call.def_vmap
    def _(size: int, mapped: Sequence[bool], *arrays: jax.Array) -> tuple[jax.Array, bool]:
        if not large and size > 1:
            return jax.vmap(stacked, [0 if m else None for m in mapped])(*arrays), True

        def each(parts: list[jax.Array]) -> jax.Array:
            part = iter(parts)
            return _by_itself(one, stacked, large, *(next(part) if m else a for a, m in zip(arrays, mapped, strict=True)))

        return lax.map(each, [a for a, m in zip(arrays, mapped, strict=True) if m]), True

    return call(*arrays)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(pads: Pads, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _by_itself(partial(single_conv, pads), partial(shifted_conv, pads), _large(x, kernel), x, kernel)


def _conv_backward(pads: Pads, inputs: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    def gradient(i: int) -> jax.Array:
        single, stacked = (lambda x, kernel, g, f=f: jax.vjp(partial(f, pads), x, kernel)[1](g)[i] for f in (single_conv, shifted_conv))
        on_cpu = partial((input_gradient, kernel_gradient)[i], pads)
        one = lambda *arrays: lax.platform_dependent(*arrays, cpu=on_cpu, default=single)
        return _by_itself(one, stacked, _large(*inputs), *inputs, g)

    return gradient(0), gradient(1)


_conv.defvjp(lambda pads, x, kernel: (_conv(pads, x, kernel), (x, kernel)), _conv_backward)


def _large(x: jax.Array, kernel: jax.Array) -> bool:
    return x.size * kernel.size // x.shape[-1] >= LARGE


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
        return _add_bias(conv2d(x, kernel, self.padding), bias)


def max_pool(x: jax.Array, window: int, stride: int, padding: int = 0) -> jax.Array:
    """PyTorch's MaxPool2d: `padding` rows of -inf on each side; where the stride does not divide, the rest is left out.

    Values and gradients of `nn.max_pool`, a gradient among equals going to the first of them row by row, but computed along one axis
    after the other from shifted slices: for 64 maps of 48x48x64 and 3/2, 34 ms instead of 227 backward (one core), 4 instead of 15
    forward. Nothing here but slices and elementwise arithmetic: fast under vmap and on accelerators.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, H', W', C] with H' = (H + 2 padding - window) // stride + 1.
    """
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=-jnp.inf)
    return _pool(_pool(x, window, stride, 2), window, stride, 1)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _pool(x: jax.Array, window: int, stride: int, axis: int) -> jax.Array:
    return functools.reduce(jnp.maximum, _windows(x, window, stride, axis))


def _windows(x: jax.Array, window: int, stride: int, axis: int) -> list[jax.Array]:
    """The first value of every window, the second of every window …"""
    last = x.shape[axis] - window  # the last place where a window may start
    return [lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(window)]


def _pool_backward(window: int, stride: int, axis: int, inputs: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
    """Gives g to the first maximum of its window, and adds up what windows that overlap give."""
    x, y = inputs
    none = jnp.zeros_like(g)
    blocks = -(-x.shape[axis] // stride)
    places = [jnp.zeros((*x.shape[:axis], blocks, *x.shape[axis + 1 :]), g.dtype)] * stride  # the n-th of every `stride` values of x
    given = jnp.zeros(y.shape, bool)
    for i, value in enumerate(_windows(x, window, stride, axis)):
        here = ~given & (value == y)
        given |= here
        widths = [(0, 0)] * x.ndim
        widths[axis] = (i // stride, blocks - i // stride - g.shape[axis])
        places[i % stride] += jnp.pad(jnp.where(here, g, none), widths)
    dx = jnp.stack(places, axis + 1).reshape(*x.shape[:axis], blocks * stride, *x.shape[axis + 1 :])
    return (lax.slice_in_dim(dx, 0, x.shape[axis], axis=axis),)


def _pool_forward(x: jax.Array, window: int, stride: int, axis: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _pool(x, window, stride, axis)
    return y, (x, y)


_pool.defvjp(_pool_forward, _pool_backward)


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014), the same for a sample however many devices share its batch.

    What is dropped depends on the key and on a value's place in the whole batch: the devices must hold equal shares in the order of
    the axis, and the batch must lie on the leading axis of x. Give `rngs={"dropout": key}`.

    Attributes:
      rate: share of values set to zero in training, in [0, 1); the others are divided by 1 - rate.
      axis_name: the mapped axis (of vmap or shard_map) that shares the batch, or None.
      broadcast_dims: axes along which values are dropped together (not the leading one).
    """

    rate: float
    axis_name: str | None = None
    broadcast_dims: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or self.rate == 0:
            return x
        key = jax.random.bits(self.make_rng("dropout"), (2,))
        together = {axis % x.ndim for axis in self.broadcast_dims}
        shape = [1 if axis in together else n for axis, n in enumerate(x.shape)]
        row = lax.broadcasted_iota(jnp.uint32, shape, 0)
        if self.axis_name is not None and not self.is_initializing():  # while parameters are made no axis is mapped
            row += (lax.axis_index(self.axis_name) * len(x)).astype(jnp.uint32)
        place = lax.iota(jnp.uint32, math.prod(shape[1:])).reshape(1, *shape[1:])
        drop = threefry(key, row, jnp.broadcast_to(place, shape)) < jnp.uint32(round(self.rate * 2**32))
        return jnp.where(drop, jnp.zeros_like(x), x / (1 - self.rate))


def threefry(key: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """Threefry-2x32, 20 rounds (Salmon et al. 2011): random bits for every pair of counters; the first of its two words.

    The generator of `jax.random`, which on CPU runs it round after round through memory: 31 ms for a dropout of 64x23x23x64 values on
    one core, 5 ms written out as here, and no need to draw what other devices use.

    Args:
      key: uint32 [2].
      a, b: counters, uint32 [...].
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    a, b = (x + k.reshape((1,) * x.ndim) for x, k in ((a, keys[0]), (b, keys[1])))
    for i in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            a = a + b
            b = a ^ (b << jnp.uint32(turn) | b >> jnp.uint32(32 - turn))
        a = a + keys[(i + 1) % 3].reshape((1,) * a.ndim)
        b = b + (keys[(i + 2) % 3] + jnp.uint32(i + 1)).reshape((1,) * b.ndim)
    return a


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
        """x [B, ..., C], mask bool [B] (True: a real row; None: all) -> [B, ..., C] in the dtype of x; computed in float32."""
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if not train:
            return _affine(x, mean.value, lax.rsqrt(var.value + self.epsilon) * scale, bias)
        real = jnp.ones(len(x), bool) if mask is None else mask
        # While parameters are made no axis is mapped, and the statistics keep their first values.
        y, new_mean, new_var, count = _normalise(None if self.is_initializing() else self.axis_name, self.epsilon, x, scale, bias, real)
        if not self.is_initializing():
            step = jnp.where(count > 0, 1 - self.momentum, 0.0)
            mean.value += step * (new_mean - mean.value)
            var.value += step * (new_var - var.value)
        return y


def _affine(x: jax.Array, mean: jax.Array, factor: jax.Array, bias: jax.Array) -> jax.Array:
    mean, factor, bias = (a.reshape((1,) * (x.ndim - 1) + (-1,)) for a in (mean, factor, bias))
    return ((x.astype(jnp.float32) - mean) * factor + bias).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _normalise(axis_name: str | None, epsilon: float, x: jax.Array, scale: jax.Array, bias: jax.Array, real: jax.Array):
    """x normalised by its batch; mean [C] and biased variance [C] of the real rows of all devices, and their number of values.

    The gradient of y alone, by hand: half the passes over the batch that differentiating would make.
    """
    return _normalise_forward(axis_name, epsilon, x, scale, bias, real)[0]


def _normalise_forward(axis_name, epsilon, x, scale, bias, real):
    def total(values: jax.Array) -> jax.Array:  # of the real rows; sums of rows first, because masking all values is a pass over them
        return _over_devices(jnp.where(real[:, None], values.sum(tuple(range(1, x.ndim - 1))), 0.0).sum(0), axis_name)

    values = x.astype(jnp.float32)
    count = _over_devices(real.sum(dtype=jnp.float32) * (x.size // x.shape[0] // x.shape[-1]), axis_name)
    mean = total(values) / jnp.maximum(count, 1.0)
    var = total(jnp.square(values - mean.reshape((1,) * (x.ndim - 1) + (-1,)))) / jnp.maximum(count, 1.0)
    inverse = lax.rsqrt(var + epsilon)
    return (_affine(x, mean, inverse * scale, bias), mean, var, count), (x, scale, real, mean, inverse, count)


def _normalise_backward(axis_name, epsilon, saved, gradients):
    del epsilon
    x, scale, real, mean, inverse, count = saved
    g = gradients[0].astype(jnp.float32)
    x_hat = _affine(x.astype(jnp.float32), mean, inverse, jnp.zeros_like(mean))
    d_bias, d_scale = (a.sum(tuple(range(x.ndim - 1))) for a in (g, g * x_hat))
    by_mean, by_var = (_over_devices(d, axis_name) / jnp.maximum(count, 1.0) for d in (d_bias, d_scale))
    common = _affine(x_hat, jnp.zeros_like(mean), by_var, by_mean)
    dx = (g - jnp.where(real.reshape(-1, *(1,) * (x.ndim - 1)), common, 0.0)) * (inverse * scale).reshape((1,) * (x.ndim - 1) + (-1,))
    return dx.astype(x.dtype), d_scale, d_bias, None


def _over_devices(x: jax.Array, axis_name: str | None) -> jax.Array:
    return x if axis_name is None else lax.psum(x, axis_name)


_normalise.defvjp(_normalise_forward, _normalise_backward)


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
