"""A finished run, restored: from uint8 images to logits and probabilities, with nothing but the run directory.

    recognizer = Recognizer.restore("runs/cnn_simple_fer2013")
    recognizer.probabilities(images)  # uint8 [N, 48, 48, 1] -> float32 [N, 7], any N
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.traverse_util import flatten_dict

from fexpr import models, run
from fexpr.errors import UserError
from fexpr.train import checkpoint
from fexpr.train.views import normalized, predict_views

BATCH = 64  # images a forward pass


@struct.dataclass
class Network:
    """A trained model and what its images are normalised by. A pytree: an argument of jitted functions, one program for all trials.

    Attributes:
      variables: what `model.apply` takes. mean, std: float32 [C] or [H, W, C], in 0..255.
      precision: of activations. tta: test-time augmentation, as in fexpr/train/views.py.
    """

    model: nn.Module = struct.field(pytree_node=False)
    precision: str = struct.field(pytree_node=False)
    tta: str = struct.field(pytree_node=False)
    variables: Any
    mean: jax.Array
    std: jax.Array

    def normalized(self, images: jax.Array) -> jax.Array:
        """What the model sees of images float32 [B, H, W, C] in 0..255."""
        return normalized(images, self.mean, self.std, self.precision)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images float32 [B, H, W, C] in 0..255 -> logits float32 [B, K] of this one view."""
        return predict_views(self.model, self.variables, images, self.mean, self.std, self.precision, "none")

    def predict(self, images: jax.Array) -> jax.Array:
        """The same over all views: what stands in predictions.npz."""
        return predict_views(self.model, self.variables, images, self.mean, self.std, self.precision, self.tta)


@dataclasses.dataclass(frozen=True, eq=False)
class Recognizer:
    """One trial of a finished run.

    Attributes:
      network: the trained network, on the default device.
      class_names: K names. multilabel: whether several classes (action units) may be there at once.
      shape: (H, W, C) of an image.
      trials: how many the run has; trial: which of them this is, from 0. selection: 'last' or 'best_val', its epoch.
      temperature: of temperature scaling, fitted on the trial's validation rows when the run was evaluated; None where it was not.
    """

    network: Network
    class_names: tuple[str, ...]
    multilabel: bool
    shape: tuple[int, int, int]
    trials: int
    trial: int
    selection: str
    temperature: float | None

    @classmethod
    def restore(cls, run_dir: Path | str, selection: str | None = None, trial: int = 0) -> Recognizer:
        """Reads a run directory of the experiments fit and cross_validate.

        Args:
          selection: 'last' or 'best_val'; None: the one that the run's result is about (config.train.selection).
          trial: fold x seed, numbered as in predictions.npz.

        Raises:
          UserError: not a finished run, no such selection or trial, weights that the run did not keep, that were saved before the
            normalisation was saved with them, or that do not fit the model of this version of fexpr.
        """
        run_dir = Path(run_dir)
        content, metrics = _read(run_dir)
        config, names = content["config"], tuple(content["data"]["classes"])
        selection = selection or config["train"]["selection"]
        saved = _load(run_dir, selection)
        trials = len(saved["input"]["mean"])
        _check_trial(run_dir, trial, trials, metrics)
        variables = jax.tree.map(lambda x: x[trial], saved)
        mean, std = (variables["input"][name] for name in ("mean", "std"))
        del variables["input"]
        shape = tuple(content["data"]["image"])
        model = models.build(num_classes=len(names), **config["model"])
        _check_fit(run_dir, model, shape, variables)
        network = Network(model, config["train"]["precision"], config["train"]["tta"], *jax.device_put((variables, mean, std)))
        fitted = metrics["calibration"].get("temperature") if metrics["selection"] == selection else None
        return cls(network, names, config["train"]["loss"] != "cross_entropy", shape, trials, trial, selection,
                   fitted["parameters"]["temperature"][trial] if fitted else None)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 [N, H, W, C], any N -> float32 [N, K]: those of predictions.npz, to float32 rounding. Compiled once.

        Raises:
          UserError: images of another shape, type or range.
        """
        self._check(images)
        if not len(images):
            return np.zeros((0, len(self.class_names)), np.float32)
        return in_batches(partial(_predict, self.network), images)

    def probabilities(self, images: np.ndarray, calibrated: bool = False) -> np.ndarray:
        """`scores` of the `logits` of images. Errors as there."""
        return self.scores(self.logits(images), calibrated)

    def scores(self, logits: np.ndarray, calibrated: bool = False) -> np.ndarray:
        """Logits [N, K] -> probabilities [N, K]: a softmax, or of action units a sigmoid each; `calibrated`: after temperature scaling.

        Raises:
          UserError: `calibrated`, and the run has no temperature.
        """
        if calibrated and self.temperature is None:
            reason = ("temperature scaling is for one class a row, this run is about action units" if self.multilabel else
                      f"metrics.json has none for {self.selection!r}: the run's result is another selection, or has no validation rows")
            raise UserError("there is no temperature to calibrate with", [reason], fix="ask for calibrated=False")
        if self.multilabel:
            return np.exp(-np.logaddexp(0, -logits))
        scaled = logits / np.float32(self.temperature if calibrated else 1)
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def _check(self, images: np.ndarray) -> None:
        problems = []
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[1:] != self.shape:
            found = list(images.shape) if isinstance(images, np.ndarray) else type(images).__name__
            problems.append(f"shape: expected [N, {', '.join(map(str, self.shape))}] (rows, height, width, channels), found {found}")
        if isinstance(images, np.ndarray) and images.dtype != np.uint8:
            span = f" from {images.min():g} to {images.max():g}" if images.size and images.dtype.kind in "iuf" else ""
            problems.append(f"type: expected uint8, 0 to 255, found {images.dtype}{span}")
        if problems:
            raise UserError("the recogniser cannot read these images", problems,
                            fix="give what the run was trained on: the same crop and size, as np.uint8 in 0 to 255, channels last")


def in_batches(function: Callable[[np.ndarray], jax.Array], rows: np.ndarray, size: int = BATCH) -> np.ndarray:
    """`function`, which maps rows [size, ...] to as many, over N > 0 rows. The last batch is filled up: one compilation for every N."""
    done = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        done.append(np.asarray(function(filled))[: len(part)])
    return np.concatenate(done)


@jax.jit
def _predict(network: Network, images: jax.Array) -> jax.Array:
    return network.predict(images.astype(jnp.float32))


def _read(run_dir: Path) -> tuple[dict, dict]:
    """The contents of config.json and metrics.json of a finished run."""
    missing = [f"{name}: missing" for name in (run.CONFIG, run.PREDICTIONS, run.METRICS) if not (run_dir / name).is_file()]
    if missing:
        state = "does not exist" if not run_dir.is_dir() else "holds no finished run"
        raise UserError(f"{run_dir} {state}", missing,
                        fix="give a finished run directory; the command of an unfinished one goes on with it")
    content = run.read_json(run_dir / run.CONFIG)
    if content["format"] != run.FORMAT_VERSION:
        raise UserError(f"{run_dir}: run directory of format {content['format']}, this fexpr reads {run.FORMAT_VERSION}")
    return content, run.read_json(run_dir / run.METRICS)


def _load(run_dir: Path, selection: str) -> dict:
    """The checkpoint of a selection, all trials."""
    folder = run_dir / run.CHECKPOINTS
    known = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != checkpoint.RESUME) if folder.is_dir() else []
    if not known:
        raise UserError(f"{run_dir} keeps no weights", ["expected checkpoints/last and checkpoints/best_val, found neither"],
                        fix="train a network with --config.log.variables=True (an SVM has none), and copy run directories as a whole")
    if selection not in known:
        raise UserError(f"{run_dir} keeps no weights of selection {selection!r}", fix=f"choose one of {', '.join(known)}")
    saved = checkpoint.load_variables(run_dir, selection)
    if "input" not in saved:
        raise UserError(f"{folder / selection} does not say how images are normalised",
                        ["it was written by an fexpr that did not yet save the training rows' mean and deviation with the weights"],
                        fix="train again into a new --workdir")
    return saved


def _check_trial(run_dir: Path, trial: int, trials: int, metrics: dict) -> None:
    if not 0 <= trial < trials:
        raise UserError(f"{run_dir} has no trial {trial}", fix=f"choose one of 0 to {trials - 1}" if trials > 1 else "its only trial is 0")
    if trial in [failed["trial"] for failed in metrics["trials"]["failed"]]:
        raise UserError(f"trial {trial} of {run_dir} failed: its loss was not finite", fix="choose another trial")


def _check_fit(run_dir: Path, model: nn.Module, shape: tuple[int, int, int], variables: dict) -> None:
    """Raises one UserError with every array that the model of this fexpr has in another shape, has not, or has besides."""
    made = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    wanted, found = ({name: x.shape for name, x in flatten_dict(tree, sep="/").items()} for tree in (made, variables))
    problems = [f"{name}: the model has {wanted.get(name, 'none')}, the run {found.get(name, 'none')}"
                for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
    if problems:
        raise UserError(f"the weights of {run_dir} do not fit the model", [f"images: {'x'.join(map(str, shape))}", *problems],
                        fix="use the version of fexpr in its config.json")
