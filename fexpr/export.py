"""Exports a finished run for use without fexpr: a program for JAX, ONNX, plain weights, a model
card.

    python -m fexpr.export runs/cnn_simple_fer2013 exported --onnx

`model.stablehlo` is read with `jax.export.deserialize`, on CPU, GPU and TPU, for any number of
images; it takes uint8 and returns probabilities: it includes normalisation, views, calibration and
the mean over an ensemble.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# C++ chatter of XLA; must be set before it is loaded
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.export
import numpy as np

import fexpr
from fexpr import terminal
from fexpr.command_parser import Parser
from fexpr.errors import UserError
from fexpr.evaluate.report.model_card import model_card
from fexpr.probabilities import to_json
from fexpr.recognizer import Recognizer
from fexpr.recognizer.ensemble import described
from fexpr.recognizer.programs import PLATFORMS, TRIED, difference_of, stablehlo, write_onnx
from fexpr.recognizer.write_weights import write_weights
from fexpr.storage import run, zoo
from fexpr.storage.addresses import local_path

FORMAT_VERSION = 1  # of model.json
PROGRAM, WEIGHTS, ONNX, ABOUT, CARD = (
    "model.stablehlo",
    "weights.safetensors",
    "model.onnx",
    "model.json",
    "MODEL_CARD.md",
)
# largest allowed difference of a probability; bfloat16 networks are rounded alike, as it is the
# same program
TOLERANCE = 1e-4


def export(recognizer: Recognizer, folder: Path, onnx: bool) -> list[tuple[str, str]]:
    """Writes everything into a new folder, completely or not at all; returns name and description
    of each file.

    Raises:
      UserError: the folder exists already or cannot be written; ONNX was requested, but its
          packages are not installed. RuntimeError: the exported program's probabilities differ from
          the recogniser's.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already", fix="name a new folder")
    with run.atomic_path(folder) as partial:
        partial.mkdir()
        (partial / PROGRAM).write_bytes(stablehlo(recognizer))
        loaded = jax.export.deserialize(bytearray((partial / PROGRAM).read_bytes()))
        _verified(PROGRAM, difference_of(recognizer, loaded.call))
        kind = (
            f"images {np.dtype(recognizer.dtype)} [N, "
            f"{', '.join(map(str, recognizer.shape))}] to probabilities float32 "
            f"[N, {len(recognizer.class_names)}]"
        )
        files = [
            (PROGRAM, f"a program for JAX ({', '.join(PLATFORMS)}), weights in it: {kind}"),
            (WEIGHTS, "weights and the images' normalisation, under fexpr's names"),
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
    """The content of model.json."""
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
        "trained_further": recognizer.further,
        "source": recognizer.content["data"]["source"],
        "model": recognizer.content["config"]["model"],
        "versions": {"fexpr": fexpr.__version__, "jax": jax.__version__},
    }


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


def _verified(name: str, difference: float) -> None:
    if not difference <= TOLERANCE:
        raise RuntimeError(f"{name} differs from the recogniser by {difference:.2g}")
    terminal.say(
        f"verified   {name}: differs from the recogniser by {difference:.1g} at most, on "
        f"{TRIED} random images"
    )


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog=terminal.program("fexpr.export"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "run_dir",
        metavar="RUN",
        help="a model that `fexpr weights` lists (fer2013), a run directory, a .zip or .tar.gz of "
        "one, or an address that fsspec opens",
    )
    p.add_argument("folder", metavar="OUT", type=local_path, help="a new folder")
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
            Recognizer.restore(zoo.run_or_model(args.run_dir), args.selection, args.trial),
            args.folder,
            args.onnx,
        )
        for name, content in files:
            terminal.say(f"{name:<22} {content}")

    return terminal.exit_code(work)


if __name__ == "__main__":
    terminal.quiet()
    sys.exit(main())
