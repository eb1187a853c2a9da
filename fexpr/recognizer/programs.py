"""A recogniser as one function of images that contains the weights: for JAX, and as ONNX."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import jax.export
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from fexpr.arrays import AnyArray
from fexpr.errors import UserError
from fexpr.probabilities import Identity, affine
from fexpr.recognizer.ensemble import Ensemble
from fexpr.recognizer.network import Network

PLATFORMS = ("cpu", "cuda", "tpu")
TRIED = 5  # random images on which every program is compared with the recogniser
TINY = 1e-30  # a probability that float32 rounds to 0 has a logarithm

Program = Callable[[jax.Array], jax.Array]


def program(recognizer: Ensemble) -> Program:
    """The function of images uint8 or float32 [B, H, W, C] in 0..255 -> probabilities float32 [B,
    K], after each member's calibration map; for an ensemble, the mean. Its members are computed one
    after the other.
    """
    classes = len(recognizer.class_names)
    maps = recognizer.maps or (Identity(),) * len(recognizer.networks)
    numbers = [jax.tree.map(jnp.float32, affine(one, classes)) for one in maps]

    def one(network: Network, numbers: tuple[jax.Array, ...], images: jax.Array) -> jax.Array:
        logits = network.predict(images.astype(jnp.float32))
        return _calibrated(logits, numbers, recognizer.multilabel)

    if len(recognizer.networks) == 1:
        return lambda images: one(recognizer.network, numbers[0], images)
    members = tuple(
        jax.tree.map(lambda *x: jnp.stack(x), *of) for of in (recognizer.networks, numbers)
    )
    return lambda images: jax.lax.map(lambda m: one(m[0], m[1], images), members).mean(axis=0)


def _calibrated(logits: jax.Array, numbers: tuple[jax.Array, ...], multilabel: bool) -> jax.Array:
    """Probabilities [B, K] of logits after a map; `numbers` as in calibration_maps.affine."""
    temperature, smoothing, weights, bias = numbers
    scaled, keep = logits / temperature, 1 - smoothing
    if multilabel:
        share = smoothing / 2
        present = jnp.log(keep * nn.sigmoid(scaled) + share + TINY)
        absent = jnp.log(keep * nn.sigmoid(-scaled) + share + TINY)
        return nn.sigmoid(jnp.matmul(present - absent, weights.T, precision="highest") + bias[None])
    log_p = jnp.log(keep * nn.softmax(scaled) + smoothing / logits.shape[1] + TINY)
    return nn.softmax(jnp.matmul(log_p, weights.T, precision="highest") + bias[None])


def stablehlo(recognizer: Ensemble) -> bytes:
    """Serialises `program` by jax.export with the weights in it, for all PLATFORMS and any number
    of images uint8.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *recognizer.shape), recognizer.dtype)
    return bytes(
        jax.export.export(jax.jit(program(recognizer)), platforms=PLATFORMS)(images).serialize()
    )


def plain(function: Program) -> Program:
    """The function without custom rules for vmap and gradients, which jax2onnx does not support."""
    return lambda *arguments: _evaluated(jax.make_jaxpr(function)(*arguments), arguments)[0]


def _evaluated(closed: jax.extend.core.ClosedJaxpr, arguments: Sequence[AnyArray | float]) -> list:
    inner_of = {
        "custom_vmap_call": "call",
        "custom_vjp_call": "call_jaxpr",
        "custom_jvp_call": "call_jaxpr",
        "jit": "jaxpr",
    }
    known = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True)) | dict(
        zip(closed.jaxpr.invars, arguments, strict=True)
    )
    read = lambda variable: (
        variable.val if isinstance(variable, jax.extend.core.Literal) else known[variable]
    )
    for equation in closed.jaxpr.eqns:
        inputs = [read(v) for v in equation.invars]
        inner = inner_of.get(equation.primitive.name)
        if inner is not None:
            results = _evaluated(equation.params[inner], inputs)
        else:
            results = equation.primitive.bind(*inputs, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(v) for v in closed.jaxpr.outvars]


def write_onnx(recognizer: Ensemble, path: Path) -> float:
    """Writes `program` of a single network as ONNX, in float32, for any number of images float32 in
    0..255.

    Returns:
      The largest difference of a probability between onnxruntime and the recogniser, on random
      images.

    Raises:
      UserError: jax2onnx or onnxruntime is not installed; this is an ensemble.
    """
    missing = [
        name for name in ("jax2onnx", "onnxruntime") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise UserError(
            "ONNX needs packages that are not installed",
            missing,
            fix=f"pip install {' '.join(missing)}",
        )
    if len(recognizer.networks) > 1:
        raise UserError(
            "an ensemble is not exported as ONNX",
            [f"the run has {recognizer.trials} trials"],
            fix="choose one with --trial=0",
        )
    # of fexpr[onnx]
    import onnxruntime  # pyright: ignore[reportMissingImports]
    from jax2onnx import to_onnx  # pyright: ignore[reportMissingImports]

    # onnxruntime computes few operations in bfloat16 on a CPU
    network = dataclasses.replace(recognizer.network, precision="float32")
    recognizer = dataclasses.replace(recognizer, networks=(network,))
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of types that it does not need
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter
        to_onnx(
            plain(program(recognizer)),
            [("batch", *recognizer.shape)],
            model_name=recognizer.content["model"]["name"],
            return_mode="file",
            output_path=str(path),
            input_names=["images"],
            output_names=["probabilities"],
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return difference_of(
        recognizer, lambda images: session.run(None, {"images": images.astype(np.float32)})[0]
    )


def difference_of(recognizer: Ensemble, function: Callable[[np.ndarray], ArrayLike]) -> float:
    """The largest difference of a probability between `function` and the recogniser, on random
    images.
    """
    images = (
        np.random.default_rng(0)
        .integers(0, 256, (TRIED, *recognizer.shape))
        .astype(recognizer.dtype)
    )
    expected = recognizer.probabilities(images, calibrated=recognizer.maps is not None)
    return float(np.abs(np.asarray(function(images)) - expected).max())
