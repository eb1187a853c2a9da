"""Convolution that is fast on a CPU and stays fast under vmap; elsewhere it is XLA's.

Images are NHWC, kernels HWIO. Differentiable in reverse mode only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import export, lax
from jaxtyping import Array, Float

from fexpr.arrays import AnyArray
from fexpr.models.convolution_forms import (
    Pads,
    cpu_conv,
    input_gradient,
    kernel_gradient,
    shifted_conv,
    single_conv,
)

LARGE = 2**26  # multiply-adds from which a single convolution keeps any device busy


def conv2d(
    x: Float[AnyArray, "B H W I"],
    kernel: Float[AnyArray, "kh kw I O"],
    padding: str | int = "SAME",
) -> Float[Array, "B h w O"]:
    """Stride-1 convolution. `vmap` over kernels does not turn it into a grouped convolution, which
    is slow everywhere. A single convolution is XLA's (`single_conv`), on CPU with hand-written
    gradients. Under `vmap` small ones become one product (`shifted_conv`), large ones are computed
    one after the other.

    Args:
      x: [B, H, W, I].
      kernel: [kh, kw, I, O], of x's dtype or float32; its gradient has its own dtype.
      padding: 'SAME' (for an even kernel, one more zero after than before, as in XLA and Keras),
        'VALID', or PyTorch's: that many zeros on each side.

    Returns:
      [B, H', W', O] in the dtype of x.
    """
    pads = (
        [(padding, padding)] * 2
        if isinstance(padding, int)
        else lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (1, 1), padding)
    )
    return _conv(tuple(pads), x, kernel)


def strided_conv2d(
    x: Float[AnyArray, "B H W I"],
    kernel: Float[AnyArray, "kh kw I O"],
    stride: int,
) -> Float[Array, "B -(-H//{stride}) -(-W//{stride}) O"]:
    """Convolution with `stride` and TF's SAME padding (an odd zero goes at the end): [B, H, W, I]
    -> [B, ceil(H / stride), …, O].

    Computed as a stride-1 convolution of the image's stride x stride cells, with their pixels as
    channels and the kernel zero-padded to whole cells, so that `conv2d` and its gradients are used.
    A 1x1 kernel only reads the first pixel of a cell.
    """
    if stride == 1 or kernel.shape[:2] == (1, 1):
        return conv2d(x[:, ::stride, ::stride], kernel)
    pads, fill = [], []
    for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        out, whole = -(-n // stride), -(-k // stride) * stride
        before = max((out - 1) * stride + k - n, 0) // 2
        pads.append((before, (out - 1) * stride + whole - n - before))
        fill.append((0, whole - k))
    cells = rearrange(
        jnp.pad(x, ((0, 0), *pads, (0, 0))), "b (h m) (w n) c -> b h w (m n c)", m=stride, n=stride
    )
    kernel = rearrange(
        jnp.pad(kernel, (*fill, (0, 0), (0, 0))),
        "(kh m) (kw n) i o -> kh kw (m n i) o",
        m=stride,
        n=stride,
    )
    return conv2d(cells, kernel, "VALID")


def _by_itself(
    one: Callable[..., jax.Array],
    stacked: Callable[..., jax.Array],
    large: bool,
    *arrays: AnyArray,
) -> jax.Array:
    """Computes one(*arrays); under vmap `stacked`, or, if the arrays are large or only one is
    mapped, `one` in a loop.
    """
    call = jax.custom_batching.custom_vmap(one)

    @call.def_vmap
    def _(size: int, mapped: Sequence[bool], *arrays: AnyArray) -> tuple[jax.Array, bool]:
        if not large and size > 1:
            return jax.vmap(stacked, [0 if m else None for m in mapped])(*arrays), True

        def each(parts: list[AnyArray]) -> jax.Array:
            part = iter(parts)
            return _by_itself(
                one,
                stacked,
                large,
                *(next(part) if m else a for a, m in zip(arrays, mapped, strict=True)),
            )

        return lax.map(each, [a for a, m in zip(arrays, mapped, strict=True) if m]), True

    return call(*arrays)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(pads: Pads, x: AnyArray, kernel: AnyArray) -> jax.Array:
    on_cpu, single = partial(cpu_conv, pads), partial(single_conv, pads)
    one = lambda *arrays: lax.platform_dependent(*arrays, cpu=on_cpu, default=single)
    return _by_itself(one, partial(shifted_conv, pads), _large(x, kernel), x, kernel)


def _conv_backward(
    pads: Pads, inputs: tuple[AnyArray, AnyArray], g: AnyArray
) -> tuple[jax.Array, jax.Array]:
    def gradient(i: int) -> jax.Array:
        single, stacked = (
            lambda x, kernel, g, f=f: jax.vjp(partial(f, pads), x, kernel)[1](g)[i]
            for f in (single_conv, shifted_conv)
        )
        on_cpu = partial((input_gradient, kernel_gradient)[i], pads)
        one = lambda *arrays: lax.platform_dependent(*arrays, cpu=on_cpu, default=single)
        return _by_itself(one, stacked, _large(*inputs), *inputs, g)

    return gradient(0), gradient(1)


_conv.defvjp(lambda pads, x, kernel: (_conv(pads, x, kernel), (x, kernel)), _conv_backward)


def _large(x: AnyArray, kernel: AnyArray) -> bool:
    # an exported program takes batches of any size: one convolution at a time suits large ones
    if export.is_symbolic_dim(x.shape[0]):
        return True
    return x.size * kernel.size // x.shape[-1] >= LARGE
