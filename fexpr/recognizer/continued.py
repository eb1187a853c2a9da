"""Continues the training of a restored network, on the user's rows and on all available devices."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar

import jax
import numpy as np
import pandas as pd

from fexpr import models
from fexpr.errors import UserError
from fexpr.models.arithmetic import count_convolutions
from fexpr.terminal import progress
from fexpr.train import devices, trials
from fexpr.train.mesh import make_mesh
from fexpr.train.state import NEVER, eval_variables, make_recipe
from fexpr.train.train_config import AUXILIARY
from fexpr.train.trial_tables import TrialSpec
from fexpr.train.views import input_shape

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Integer, Num

    from fexpr.recognizer.ensemble import Ensemble

    Continued = TypeVar("Continued", bound=Ensemble)

# settings for a few further epochs: no early stopping, averaging or resizing
PLAIN_TRAINING = {
    "patience": 0,
    "ema": 0.0,
    "early_size": 0,
    "eval_batch": 256,
    "auxiliary": "none",
}
PLAIN_OPTIMIZER = {"schedule": "constant", "warmup": 0.0, "tolerance": 0.0, "rates": ""}


def continue_training(
    recognizer: Continued,
    images: Num[np.ndarray, "N H W C"],
    labels: Integer[np.ndarray, " N"] | Float[np.ndarray, "N K"],
    train: Integer[np.ndarray, " n"],
    val: Integer[np.ndarray, " m"],
    *,
    epochs: int = 2,
    learning_rate: float | None = None,
    seed: int = 0,
) -> tuple[Continued, pd.DataFrame]:
    """Trains a single trial's network further with the run's own loss, augmentation, batch size,
    normalisation and frozen layers, from a fresh optimiser at a constant rate, the same for all
    layers. All devices share the batch; on a CPU those that a run would use (devices.share_batch).

    Args:
      images: as `Recognizer.logits` takes them. labels: integers [N], class ids, or floats [N, K],
          action units, of the run's classes.
      train, val: row numbers. For an honest figure afterwards, test on rows, and people, in neither
          of them.
      learning_rate: default: a tenth of the run's.

    Returns:
      A recogniser with the network after the last epoch, without map, thresholds and sets, which
      belonged to the original network; and the history: one row per epoch, `train_loss`,
      `val_loss`, `val_score` (the run's monitor, higher is better).

    Raises:
      UserError: this is an ensemble; rows, labels or images that do not fit the run; the loss is
          not finite.
    """
    network, config = recognizer.network, recognizer.content["config"]
    _check(recognizer, images, labels, train, val)
    labels = labels.astype(np.float32 if recognizer.multilabel else np.int32)
    c = {**config["train"], **PLAIN_TRAINING, "epochs": epochs}
    if not recognizer.multilabel:
        c["targets"] = "presence"  # class ids, even if the run was trained on votes
    o = {"freeze": "", **config["optimizer"], **PLAIN_OPTIMIZER}  # older runs lack that field
    auxiliary = AUXILIARY[config["train"].get("auxiliary", "none")]  # older runs lack it
    arguments = config["model"], len(recognizer.class_names)
    work = count_convolutions(
        models.build_to_train(*arguments, 1, o["freeze"], auxiliary),
        input_shape(images.shape[1:], network.crop),
    )
    batch = c["batch_size"] or len(train)
    shared_by = devices.share_batch(batch, work)
    batch = -(-batch // len(shared_by)) * len(shared_by)
    mesh = make_mesh(1, batch, shared_by)
    model = models.build_to_train(*arguments, len(shared_by), o["freeze"], auxiliary)
    recipe = make_recipe(
        {**config, "train": c, "optimizer": o}, model, recognizer.kind, recognizer.multilabel, batch
    )
    recipe = dataclasses.replace(recipe, augment=recipe.augment.pictures)
    spec = TrialSpec(
        np.asarray(train),
        np.asarray(val),
        np.zeros(0, int),
        seed=seed,
        weight_decay=o["weight_decay"],
        learning_rate=o["learning_rate"] / 10 if learning_rate is None else learning_rate,
        label_smoothing=c["label_smoothing"],
        weight_strength=c["class_weights"],
        weight_maximum=c["class_weights_max"],
        scaling=(np.asarray(network.mean), np.asarray(network.std)),
    )
    engine = trials.Engine(recipe, images, labels, len(recognizer.class_names), [spec], mesh)
    variables, history = _trained(
        engine, jax.tree.map(lambda x: np.asarray(x)[None], network.variables), epochs
    )
    seen = recognizer.seen and dataclasses.replace(
        recognizer.seen, unknown=(*recognizer.seen.unknown, "the rows of continue_training")
    )
    further = dataclasses.replace(
        recognizer,
        networks=(dataclasses.replace(network, variables=jax.device_put(variables)),),
        maps=None,
        thresholds=None,
        limits=None,
        coverage=None,
        seen=seen,
        further=True,
    )
    return further, history


def _trained(engine: trials.Engine, variables: dict, epochs: int) -> tuple[dict, pd.DataFrame]:
    """The variables after `epochs` from `variables` [1, ...], and the history."""
    with progress("compiling", 1) as advance:
        engine.compile()
        engine.load(0)
        advance()
    fresh = engine.to_host(engine.init())
    state, rows = (
        engine.to_devices(fresh._replace(variables=variables, best_variables=variables)),
        [],
    )
    with progress("training", epochs) as advance:
        for _ in range(epochs):
            state, scalars = engine.epoch(state)
            scalars = engine.to_host(scalars)
            rows.append(
                {name: float(scalars[name][0]) for name in ("train_loss", "val_loss", "val_score")}
            )
            advance(note=f"loss {rows[-1]['train_loss']:.4f}  val {rows[-1]['val_loss']:.4f}")
    state = engine.to_host(state)
    if state.failed_step[0] != NEVER:
        raise UserError(
            "training diverged: loss or gradient is not finite", fix="give a lower learning_rate"
        )
    history = pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="epoch"))
    return jax.tree.map(lambda x: x[0], eval_variables(state)), history


def _check(
    recognizer: Ensemble, images: np.ndarray, labels: np.ndarray, train: np.ndarray, val: np.ndarray
) -> None:
    k, n = len(recognizer.class_names), len(images)
    problems = []
    if (
        not isinstance(images, np.ndarray)
        or images.shape[1:] != recognizer.shape
        or images.dtype != recognizer.dtype
    ):
        problems.append(
            f"images: expected {np.dtype(recognizer.dtype)} [N, "
            f"{', '.join(map(str, recognizer.shape))}], found {_found(images)}"
        )
    shape, kinds, wanted = (
        ((n, k), "f", "floats") if recognizer.multilabel else ((n,), "iu", "integers")
    )
    if (
        not isinstance(labels, np.ndarray)
        or labels.shape != shape
        or labels.dtype.kind not in kinds
    ):
        problems.append(f"labels: expected {wanted} {list(shape)}, found {_found(labels)}")
    elif n and (labels.min() < 0 or labels.max() > (1 if recognizer.multilabel else k - 1)):
        problems.append(
            f"labels: from {labels.min():g} to {labels.max():g}, the run has {k} classes"
        )
    for name, rows in (("train", np.asarray(train)), ("val", np.asarray(val))):
        if not len(rows) or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= n:
            problems.append(f"{name}: expected at least one row number from 0 to {n - 1}")
    if not problems and set(np.asarray(train).tolist()) & set(np.asarray(val).tolist()):
        problems.append("train and val have common rows")
    if problems:
        raise UserError("training cannot continue with these rows", problems)


def _found(given: object) -> str:
    if not isinstance(given, np.ndarray):
        return type(given).__name__
    return f"{given.dtype} {list(given.shape)}"
