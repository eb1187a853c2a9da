"""Hands a finished run on to those without fexpr: a program for JAX alone, ONNX, plain weights, a
model card.

    python -m fexpr.export runs/cnn_simple_fer2013 handed_on --onnx

`model.stablehlo` is read with `jax.export.deserialize`, on CPU, GPU and TPU, for any number of
images; it takes uint8 and gives probabilities: normalisation, views, temperature and the mean over
an ensemble are in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# C++ chatter of XLA; must be set before it is loaded
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import flax.linen as nn
import jax
import jax.export
import jax.extend
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

import fexpr
from fexpr import terminal
from fexpr.errors import UserError
from fexpr.evaluate.report.model_card import model_card
from fexpr.models.weights import layouts
from fexpr.models.weights.files import write_safetensors
from fexpr.probabilities import Identity, affine, to_json
from fexpr.recognizer import Network, Recognizer, calibrated
from fexpr.storage import run
from fexpr.storage.seen_people import to_metadata

FORMAT_VERSION = 1  # of model.json
PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, WEIGHTS, ONNX, ABOUT, CARD = (
    "model.stablehlo",
    "weights.safetensors",
    "model.onnx",
    "model.json",
    "MODEL_CARD.md",
)
TRIED = 5  # random images on which every program is compared with the recogniser
# largest difference of a probability; bfloat16 networks are rounded alike, for it is the same
# program
TOLERANCE = 1e-4
TINY = 1e-30  # a probability that float32 rounds to 0 has a logarithm

Program = Callable[[jax.Array], jax.Array]


def program(recognizer: Recognizer) -> Program:
    """The function of images uint8 or float32 [B, H, W, C] in 0..255 -> probabilities float32 [B,
    K], after each member's calibration map; of an ensemble the mean. Its members are computed
    one after the other."""
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
    return lambda images: jax.lax.map(lambda member: one(*member, images), members).mean(axis=0)


def _calibrated(logits: jax.Array, numbers: tuple[jax.Array, ...], multilabel: bool) -> jax.Array:
    """Probabilities [B, K] of logits after a map; `numbers` as of calibration_maps.affine."""
    temperature, smoothing, weights, bias = numbers
    scaled, keep = logits / temperature, 1 - smoothing
    if multilabel:
        share = smoothing / 2
        present = jnp.log(keep * nn.sigmoid(scaled) + share + TINY)
        absent = jnp.log(keep * nn.sigmoid(-scaled) + share + TINY)
        return nn.sigmoid(jnp.matmul(present - absent, weights.T, precision="highest") + bias[None])
    log_p = jnp.log(keep * nn.softmax(scaled) + smoothing / logits.shape[1] + TINY)
    return nn.softmax(jnp.matmul(log_p, weights.T, precision="highest") + bias[None])


def stablehlo(recognizer: Recognizer) -> bytes:
    """`program`, serialised by jax.export with the weights in it, for all PLATFORMS and any number
    of images uint8.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *recognizer.shape), recognizer.dtype)
    return bytes(
        jax.export.export(jax.jit(program(recognizer)), platforms=PLATFORMS)(images).serialize()
    )


def plain(function: Program) -> Program:
    """The same function without custom rules for vmap and gradients, which jax2onnx does not
    know.
    """
    return lambda *arguments: _evaluated(jax.make_jaxpr(function)(*arguments), arguments)[0]


def _evaluated(closed: Any, arguments: Sequence[jax.Array]) -> list[jax.Array]:
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


def write_onnx(recognizer: Recognizer, path: Path) -> float:
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
    import onnxruntime
    from jax2onnx import to_onnx

    # onnxruntime computes few operations in bfloat16 on a CPU
    network = dataclasses.replace(recognizer.network, precision="float32")
    recognizer = dataclasses.replace(recognizer, networks=(network,))
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it tells of types that it does not need
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
    return _difference(
        recognizer, lambda images: session.run(None, {"images": images.astype(np.float32)})[0]
    )


def export(recognizer: Recognizer, folder: Path, onnx: bool) -> list[tuple[str, str]]:
    """Writes everything into a new folder, whole or not at all; returns name and content of each
    file.

    Raises:
      UserError: the folder exists already or cannot be written; ONNX was asked for and is not to
          be had.
      RuntimeError: what was exported does not say what the recogniser says.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already", fix="name a new folder")
    with run.atomic_path(folder) as partial:
        partial.mkdir()
        (partial / PROGRAM).write_bytes(stablehlo(recognizer))
        loaded = jax.export.deserialize(bytearray((partial / PROGRAM).read_bytes()))
        _verified(PROGRAM, _difference(recognizer, loaded.call))
        kind = (
            f"images {np.dtype(recognizer.dtype)} [N, "
            f"{', '.join(map(str, recognizer.shape))}] to probabilities float32 "
            f"[N, {len(recognizer.class_names)}]"
        )
        files = [
            (PROGRAM, f"a program for JAX ({', '.join(PLATFORMS)}), weights in it: {kind}"),
            (WEIGHTS, "weights and what images are normalised by, under fexpr's names"),
        ]
        write_weights(recognizer, partial / WEIGHTS)
        if onnx:
            _verified(ONNX, write_onnx(recognizer, partial / ONNX))
            files.append(
                (
                    ONNX,
                    f"the same for ONNX, in float32: {kind.replace('uint8', 'float32 in 0..255')}",
                )
            )
        files.append((ABOUT, "names of the classes, thresholds, what an image is"))
        run.write_json(partial / ABOUT, about(recognizer))
        run.write_text(
            partial / CARD,
            model_card(
                recognizer.content, recognizer.metrics, described(recognizer), files, usage(onnx)
            ),
        )
    return [
        *files,
        (CARD, "data, protocol, results with intervals, calibration, intended use and limits"),
    ]


def about(recognizer: Recognizer) -> dict:
    """What model.json says."""
    return {
        "format": FORMAT_VERSION,
        "class_names": recognizer.class_names,
        "multilabel": recognizer.multilabel,
        "kind": recognizer.kind,
        "image": {
            "dtype": str(np.dtype(recognizer.dtype)),
            **dict(zip(("height", "width", "channels"), recognizer.shape, strict=True)),
        },
        "calibrated": recognizer.calibrated,
        "calibration": recognizer.maps and [to_json(one) for one in recognizer.maps],
        "temperatures": recognizer.temperatures,
        "sets": recognizer.limits and recognizer.limits.to_json(),
        "thresholds": recognizer.thresholds,
        "trials": recognizer.members,
        "selection": recognizer.selection,
        "source": recognizer.content["data"]["source"],
        "model": recognizer.content["config"]["model"],
        "versions": {"fexpr": fexpr.__version__, "jax": jax.__version__},
    }


def described(recognizer: Recognizer) -> list[str]:
    """What was exported, for the card."""
    lines = [
        f"Trial {recognizer.members[0]} of {recognizer.trials}"
        if len(recognizer.members) == 1
        else f"An ensemble of {len(recognizer.members)} networks, trained on different folds or "
        "seeds: the mean of their probabilities"
    ]
    lines[0] += (
        f"; weights of the {'last' if recognizer.selection == 'last' else 'best validation'} epoch"
    )
    if recognizer.multilabel:
        lines.append(calibrated.in_words(recognizer.maps))
        lines.append(
            "Several action units may be there at once; one is decided present at or above its "
            "threshold (model.json)"
            if recognizer.thresholds is not None
            else "Several action units may be there at once; no thresholds for this epoch"
        )
    else:
        lines.append(calibrated.in_words(recognizer.maps))
    if recognizer.selection != recognizer.metrics["selection"]:
        lines.append("The results below are of the weights of another epoch")
    return lines


def usage(onnx: bool) -> str:
    lines = [
        "```python",
        "import jax.export, numpy as np",
        "",
        "with open('model.stablehlo', 'rb') as f:",
        "    program = jax.export.deserialize(bytearray(f.read()))",
        "probabilities = np.asarray(program.call(images))  # images [N, height, width, "
        "channels], of the type in model.json",
    ]
    if onnx:
        lines += [
            "",
            "import onnxruntime",
            "",
            "session = onnxruntime.InferenceSession('model.onnx')",
            "(probabilities,) = session.run(None, {'images': images.astype('float32')})",
        ]
    return "\n".join([*lines, "```"])


def write_weights(
    recognizer: Recognizer, path: Path, layout: str = "fexpr"
) -> dict[str, np.ndarray]:
    """Writes the weights as safetensors, and returns them: of a single network under its own names,
    or under those of its PyTorch release (layout 'pytorch'); of an ensemble as 'trial_3/params/…'.

    Raises:
      UserError: a model without that layout; an ensemble under PyTorch's names; the file cannot be
          written.
    """
    arrays, config = {}, recognizer.content
    for trial, network in zip(recognizer.members, recognizer.networks, strict=True):
        prefix = f"trial_{trial}/" if len(recognizer.networks) > 1 else ""
        tree = {**network.variables, "input": {"mean": network.mean, "std": network.std}}
        arrays |= {
            prefix + name: np.asarray(array) for name, array in flatten_dict(tree, sep="/").items()
        }
    if layout == "pytorch":
        arrays = layouts.to_torch(recognizer.network.model, recognizer.network.variables)
    about = {
        "fexpr": fexpr.__version__,
        "model": config["config"]["model"],
        "classes": recognizer.class_names,
        "image": recognizer.shape,
        "data": config["data"]["source"],
        "selection": recognizer.selection,
        "trials": recognizer.members,
        "layout": layout,
    }
    if recognizer.seen:  # hashed: so that nobody is tested by a run that begins with them
        about["people"] = to_metadata(recognizer.seen)
    with run.atomic_path(path) as partial:
        write_safetensors(
            partial,
            arrays,
            {
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in about.items()
            },
        )
    return arrays


def _difference(recognizer: Recognizer, function: Callable[[np.ndarray], Any]) -> float:
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


def _verified(name: str, difference: float) -> None:
    if not difference <= TOLERANCE:
        raise RuntimeError(f"{name} differs from the recogniser by {difference:.2g}")
    terminal.say(
        f"verified   {name}: differs from the recogniser by {difference:.1g} at most, on "
        f"{TRIED} random images"
    )


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=terminal.program("fexpr.export"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "run_dir",
        metavar="RUN",
        help="run directory, a .zip or .tar.gz of one, or an address that fsspec opens",
    )
    p.add_argument("folder", metavar="OUT", type=Path, help="a new folder")
    p.add_argument(
        "--onnx",
        action="store_true",
        help="write ONNX too, checked in onnxruntime; needs jax2onnx and onnxruntime",
    )
    p.add_argument(
        "--trial",
        type=int,
        metavar="N",
        help="one trial of a cross-validation, instead of all as an ensemble",
    )
    p.add_argument(
        "--selection",
        choices=("last", "best_val"),
        help="weights of this epoch (default: those of the run's result)",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)

    def work() -> None:
        files = export(
            Recognizer.restore(args.run_dir, args.selection, args.trial), args.folder, args.onnx
        )
        for name, content in files:
            terminal.say(f"{name:<22} {content}")

    return terminal.exit_code(work)
