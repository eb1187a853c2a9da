"""Trains a list of trials in a run directory, resuming where it stopped; leaves predictions.npz. Used by every experiment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fexpr import models, run
from fexpr.data.dataset import Dataset
from fexpr.data.splits import Fold
from fexpr.errors import UserError
from fexpr.evaluate import evaluate
from fexpr.evaluate.headline import print_headline
from fexpr.evaluate.report import write_report
from fexpr.terminal import progress, say
from fexpr.train import checkpoint, trials
from fexpr.train.augment import Augment
from fexpr.train.log import History, Writers
from fexpr.train.step import NEVER, Recipe, State

SELECTIONS = ("last", "best_val", "oracle")


def make_engine(config: ConfigDict, dataset: Dataset, folds: Sequence[tuple[Fold, int]]) -> trials.Engine:
    """The engine for these (fold, seed) pairs. `config.model` names the network and its arguments.

    Raises:
      UserError: unknown model or argument, loss that does not fit the labels, batch that does not fit the devices.
    """
    c, classes = config, len(dataset.class_names)
    if dataset.multilabel != (c.train.loss != "cross_entropy"):
        kind = "one class a row: 'cross_entropy'" if not dataset.multilabel else "several classes a row: 'bce' or 'focal'"
        raise UserError(f"train.loss={c.train.loss!r} does not fit {c.data.name}", fix=f"its labels are {kind}")
    arguments = {k: v for k, v in c.model.to_dict().items() if k != "name"}
    recipe = Recipe(
        model=models.build(c.model.name, num_classes=classes, **arguments),
        augment=Augment(dataset.kind, c.augment.flip, c.augment.shift, c.augment.noise),
        loss=c.train.loss, targets=c.train.targets if dataset.multilabel else "class", monitor=c.train.monitor,
        batch_size=c.train.batch_size, epochs=c.train.epochs, patience=c.train.patience, optimizer=c.optimizer.name,
        schedule=c.optimizer.schedule, warmup=c.optimizer.warmup, clip_norm=c.optimizer.clip_norm,
        gamma=c.train.focal_gamma if c.train.loss == "focal" else 0.0,
    )
    specs = [
        trials.TrialSpec(
            fold.train, fold.val, fold.test, fold=i, seed=seed, learning_rate=c.optimizer.learning_rate,
            weight_decay=c.optimizer.weight_decay, label_smoothing=c.train.label_smoothing, weight_strength=c.train.class_weights,
            weight_maximum=c.train.class_weights_max,
        )
        for i, (fold, seed) in enumerate(folds)
    ]
    mesh = trials.make_mesh(len(specs), c.train.batch_size)
    return trials.Engine(recipe, dataset.images, dataset.labels, classes, specs, mesh, c.train.normalize, c.train.trial_axis)


def train(config: ConfigDict, dataset: Dataset, engine: trials.Engine, workdir: Path) -> None:
    """Trains to the end, or on to the end, and writes the variables of `last` and `best_val`, then predictions.npz.

    Raises:
      UserError: the loss is not finite (says at which epoch and step), or the disk is full.
    """
    checkpoints = checkpoint.Checkpoints(workdir)
    try:
        state = _loop(config, engine, checkpoints, workdir)
    finally:
        checkpoints.close()
    checkpoint.save_variables(workdir, "last", state.variables)
    checkpoint.save_variables(workdir, "best_val", state.best_variables)
    run.write_arrays(workdir / run.PREDICTIONS, predictions(dataset, engine, state))  # last: its presence says that training is done


def _loop(config: ConfigDict, engine: trials.Engine, checkpoints: checkpoint.Checkpoints, workdir: Path) -> State:
    """The epochs. Returns the final state on the host."""
    restored = checkpoints.restore(engine.abstract())
    start, state = (restored[0], engine.to_devices(restored[1])) if restored else (0, engine.init())
    if start:
        say(f"resumed    from epoch {start} of {config.train.epochs}")
    history = History(workdir, start)
    writers = Writers(workdir, config.log.tensorboard, config.log.wandb, config.to_dict())
    saved = time.monotonic()
    with progress("training", config.train.epochs, start) as advance:
        advance(0, note="compiling" if not start else "")
        for epoch in range(start + 1, config.train.epochs + 1):
            began = time.monotonic()
            state, scalars = engine.epoch(state)
            row, running = _row(epoch, engine.to_host(scalars), config.train.monitor)
            row["seconds"] = round(time.monotonic() - began, 4)
            _stop_if_failed(engine.to_host(state.failed_step), epoch, config)
            history.add(row)
            writers.add(row)
            advance(note=f"loss {row['train_loss']:.4f}  val {row['val_loss']:.4f}")
            if not running:
                break
            if time.monotonic() - saved >= config.log.checkpoint_seconds and epoch < config.train.epochs:
                checkpoints.save(epoch, engine.to_host(state))
                saved = time.monotonic()
    checkpoints.wait()
    writers.close()
    return engine.to_host(state)


def _row(epoch: int, scalars: dict[str, np.ndarray], monitor: str) -> tuple[dict[str, float], bool]:
    """This epoch's line of metrics.jsonl: means over the trials that trained; and whether any goes on."""
    ran = scalars["ran"]
    mean = lambda name: float(np.mean(scalars[name][ran], dtype=np.float64))
    row = {"epoch": epoch, "train_loss": mean("train_loss"), "val_loss": mean("val_loss")}
    if monitor != "loss":
        row[f"val_{monitor}"] = mean("val_score")
    if len(ran) > 1:
        row["trials"] = int(ran.sum())
    return row, bool(scalars["active"].any())


def _stop_if_failed(failed_step: np.ndarray, epoch: int, config: ConfigDict) -> None:
    if (failed_step != NEVER).all():
        raise UserError(
            f"training diverged: loss or gradient is not finite at epoch {epoch}, optimiser step {failed_step.max()}",
            fix=f"lower optimizer.learning_rate (now {config.optimizer.learning_rate:g}) or set optimizer.clip_norm=1.0, "
                "in a new --workdir",
        )


def predictions(dataset: Dataset, engine: trials.Engine, state: State) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz (DESIGN.md, contracts), every validation and test row of every trial under every selection.

    Beside the contract: `train_positives` float32 [T,K] and `train_rows` int32 [T], what the training rows of each trial held.
    """
    parts = []
    for name in SELECTIONS:
        choice = getattr(state, name)
        for t in range(len(engine.specs)):
            for side, mask in (("val", engine.val_mask[t]), ("test", engine.test_mask[t])):
                rows = engine.eval_rows[t][mask]
                parts.append((rows, choice.logits[t][mask], np.full(len(rows), t, np.int32), np.full(len(rows), side),
                              np.full(len(rows), name)))
    rows, logits, trial, split, selection = (np.concatenate(column) for column in zip(*parts, strict=True))
    train_labels = [dataset.labels[s.train] for s in engine.specs]
    count = lambda y: (y > 0).sum(0) if dataset.multilabel else np.bincount(y, minlength=len(dataset.class_names))
    return {
        "ids": dataset.ids[rows], "groups": dataset.groups[rows], "labels": dataset.labels[rows], "logits": logits, "trial": trial,
        "split": split, "selection": selection, "class_names": np.array(dataset.class_names),
        "train_positives": np.stack([count(y) for y in train_labels]).astype(np.float32),
        "train_rows": np.array([len(y) for y in train_labels], np.int32),
        "epoch": np.stack([getattr(state, name).epoch for name in SELECTIONS], 1).astype(np.int32),
    }


def report(config: ConfigDict, dataset: Dataset, workdir: Path) -> None:
    """From predictions.npz to metrics.json, figures, report.html and the headline on the terminal. Needs no device."""
    found = run.read_arrays(workdir / run.PREDICTIONS)
    metrics = evaluate(found, config.train.selection, dataset.source, config.evaluate.min_train_positives, config.evaluate.resamples)
    run.write_json(workdir / run.METRICS, metrics)
    page = write_report(workdir, dict(zip(dataset.ids, dataset.images, strict=True)), dataset.labels, dataset.kind)
    say()
    print_headline(metrics)
    say(f"\nreport     {page}")
