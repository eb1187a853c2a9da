"""The outputs of a network's convolutions for an image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from fexpr.models import layers
from fexpr.recognizer.network import Network

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float32, Num


def layer_names(network: Network, shape: tuple[int, ...]) -> list[str]:
    """The convolutions of a network, in the order in which an image [H, W, C] of this shape passes
    them; 'outer/inner' where nested.
    """
    names = []
    jax.eval_shape(
        lambda images: names.extend(_captured(network, images)),
        jax.ShapeDtypeStruct((1, *shape), jnp.float32),
    )
    return names


def feature_maps(
    network: Network, image: Num[np.ndarray, "H W C"], names: Sequence[str]
) -> dict[str, Float32[np.ndarray, "h w D"]]:
    """The outputs float32 [h, w, D] of the named convolutions for an image [H, W, C] in 0..255,
    before norm and activation.
    """
    return {
        name: np.asarray(output[0])
        for name, output in zip(names, _outputs(network, image[None], tuple(names)), strict=True)
    }


@partial(jax.jit, static_argnums=2)
def _outputs(network: Network, images: jax.Array, names: tuple[str, ...]) -> list[jax.Array]:
    captured = _captured(network, images.astype(jnp.float32))
    return [captured[name].astype(jnp.float32) for name in names]


def _captured(network: Network, images: jax.Array) -> dict[str, jax.Array]:
    def wanted(module, method):
        return isinstance(module, (layers.Conv, nn.Conv)) and method == "__call__"

    _, state = network.model.apply(
        network.variables,
        network.normalized(images),
        train=False,
        capture_intermediates=wanted,
        mutable=["intermediates"],
    )
    return {
        "/".join(path[:-1]): outputs[0]
        for path, outputs in flatten_dict(state.get("intermediates", {})).items()
    }
