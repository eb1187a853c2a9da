"""One compiled program: the trials of one or several points, trained together, resumed where they stopped.

A point is one config with a run directory of its own. Points that differ only in values (VALUES) share a program; `launch.py --sweep`
makes many, every other run has one. The program's own checkpoints lie in `program_dir` (of a single point: its run directory).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from experiments import attention, results
from experiments.loop import Loop, Point
from experiments.transfer import Start
from fexpr import mirror, models, run
from fexpr.data.dataset import Dataset
from fexpr.data.splits import Fold, validation_turn
from fexpr.errors import UserError
from fexpr.models.transfer import StandingStill
from fexpr.train import checkpoint, hosts, optim, trials
from fexpr.train.augment import Augment
from fexpr.train.state import Recipe, State, evaluated
from fexpr.train.streaming import StreamedEngine

VALUES = ("seed", "optimizer.learning_rate", "optimizer.weight_decay", "train.label_smoothing", "train.class_weights",
          "train.class_weights_max")  # fields that are arrays in the program: trials that differ in them need no other


def make_engine(points: Sequence[Point], dataset: Dataset, folds: Sequence[Fold], start: Start | None = None,
                chunk: int | None = None) -> trials.Engine:
    """The engine for every fold x repeat of every point; point by point, repeat by repeat, fold by fold.

    Args:
      start: what all trials begin with (transfer.begin).
      chunk: trials at a time, in the place of the config's.

    Raises:
      UserError: unknown model or argument, loss that does not fit the labels, batch that does not fit the devices; a layer to be frozen
        that the model has not.
    """
    c, classes = points[0].config, len(dataset.class_names)
    if dataset.multilabel != (c.train.loss != "cross_entropy"):
        kind = "one class a row: 'cross_entropy'" if not dataset.multilabel else "several classes a row: 'bce' or 'focal'"
        raise UserError(f"train.loss={c.train.loss!r} does not fit {c.data.name}", fix=f"its labels are {kind}")
    streamed = dataset.streamed and not (start and start.end)
    count = 1 if streamed else len(points) * len(folds) * c.split.seeds
    mesh = trials.make_mesh(count, c.train.batch_size)
    arguments = {k: v for k, v in c.model.to_dict().items() if k != "name"}
    if mesh.shape["data"] > 1 and "axis_name" in models.arguments_of(c.model.name):
        arguments["axis_name"] = "data"  # batch statistics of the whole batch, not of one device's share
    pictures = {name: value for name, value in c.augment.to_dict().items() if not name.startswith("mixup")}
    model = models.build(c.model.name, num_classes=classes, **arguments)
    model, images, scale = (start.end, start.features, "none") if start and start.end else (model, dataset.images, c.train.normalize)
    if c.optimizer.freeze:
        model = StandingStill(model, c.optimizer.freeze)
    recipe = Recipe(
        model=model, augment=Augment(dataset.kind, **pictures),
        loss=c.train.loss, targets=_targets(c, dataset), monitor=c.train.monitor, batch_size=_batch_size(c, folds, mesh),
        epochs=c.train.epochs, patience=c.train.patience, optimizer=c.optimizer.name,
        schedule=c.optimizer.schedule, warmup=c.optimizer.warmup, clip_norm=c.optimizer.clip_norm,
        plateau_patience=c.optimizer.plateau_patience, plateau_factor=c.optimizer.plateau_factor, tolerance=c.optimizer.tolerance,
        gamma=c.train.focal_gamma if c.train.loss == "focal" else 0.0, mixup=c.augment.mixup,
        mixup_p=c.augment.mixup_p, mixup_until=c.augment.mixup_until, early_size=c.train.early_size, early_share=c.train.early_share,
        precision=c.train.precision,
        ema=c.train.ema, tta=c.train.tta, eval_batch=c.train.eval_batch, frozen=c.optimizer.freeze, rates=rates(c.optimizer.rates),
    )
    turns = [[validation_turn(f, dataset.groups, c.split.inner, repeat, [c.split.seed, i]) for i, f in enumerate(folds)]
             for repeat in range(c.split.seeds)]
    specs = [
        trials.TrialSpec(
            fold.train, fold.val, fold.test, fold=i, seed=p.config.seed + repeat, learning_rate=p.config.optimizer.learning_rate,
            weight_decay=p.config.optimizer.weight_decay, label_smoothing=p.config.train.label_smoothing,
            weight_strength=p.config.train.class_weights, weight_maximum=p.config.train.class_weights_max,
        )
        for p in points for repeat, turn in enumerate(turns) for i, fold in enumerate(turn)
    ]
    soft = dataset.extras["soft"] if recipe.targets == "soft" else None
    make = StreamedEngine if streamed else trials.Engine
    engine = make(recipe, images, dataset.labels, classes, specs, mesh, scale, c.train.trial_axis,
                  c.train.chunk if chunk is None else chunk, soft,
                  start.variables if start else None)
    _check_names(c, engine)
    return engine


def rates(text: str) -> tuple[optim.Rate, ...]:
    """'conv5_=0.1,conv4_=0.05@0.5' -> learning rates of named layers (optim.Rate).

    Raises:
      ValueError: not of this form.
    """
    found = []
    for part in filter(None, text.split(",")):
        pattern, _, numbers = part.rpartition("=")
        factor, _, begin = numbers.partition("@")
        found.append(optim.Rate(pattern.strip(), float(factor), float(begin or 0)))
        if not pattern or found[-1].factor < 0 or not 0 <= found[-1].start < 1:
            raise ValueError(part)
    return tuple(found)


def trained_parameters(config: ConfigDict, engine: trials.Engine) -> int:
    """How many numbers a trial trains."""
    return models.count_parameters(optim.parted(engine.abstract_params(), config.optimizer.freeze)[0])


def _check_names(c: ConfigDict, engine: trials.Engine) -> None:
    """Regexes that name no layer are slips of the pen, and would go unseen."""
    patterns = {f"optimizer.freeze={c.optimizer.freeze!r}": c.optimizer.freeze} if c.optimizer.freeze else {}
    patterns |= {f"optimizer.rates, {rate.pattern!r}": rate.pattern for rate in engine.recipe.rates}
    paths = flatten_dict(engine.abstract_params(), sep="/")
    problems = [f"{field}: names no parameter" for field, pattern in patterns.items() if not any(re.search(pattern, p) for p in paths)]
    if c.optimizer.freeze and not problems and not trained_parameters(c, engine):
        problems = [f"optimizer.freeze={c.optimizer.freeze!r}: names every parameter, nothing is left to train"]
    if problems:
        layers = dict.fromkeys(path.rpartition("/")[0] for path in paths)
        raise UserError("layers are named that cannot be meant", problems, fix=f"the layers are {', '.join(layers)}")


def _targets(c: ConfigDict, dataset: Dataset) -> str:
    if c.train.targets == "soft" and "soft" not in dataset.extras:
        raise UserError(f"train.targets='soft', and {c.data.name} has no votes", fix="soft labels need data.labels='ferplus'")
    return c.train.targets if dataset.multilabel or c.train.targets == "soft" else "class"


def _batch_size(c: ConfigDict, folds: Sequence[Fold], mesh: jax.sharding.Mesh) -> int:
    """The config's; 0 stands for all training rows at once, rounded up to the devices."""
    share = mesh.shape["data"]
    return c.train.batch_size or -(-max(len(f.train) for f in folds) // share) * share


def train(points: Sequence[Point], dataset: Dataset, folds: Sequence[Fold], engine: trials.Engine, program_dir: Path,
          start: Start | None = None, carried: Any = None, watch: Callable | None = None) -> None:
    """Trains to the end, or on to the end; every point gets its variables (`last`, `best_val`), then its predictions.npz.

    What is saved is the whole network, also where its trunk was frozen and `start` holds it.

    Args:
      carried: variables by trial that training begins with, in the place of the engine's own; a tree of arrays [T, ...] like the model's.
      watch: as of Loop.

    Raises:
      UserError: every trial's loss is not finite (says at which epoch and step), or the disk is full.
      Preempted: SIGTERM came; the state is saved.
    """
    state = Loop(points, engine, program_dir, carried, watch).run()
    hosts.on_writer(lambda: _save(points, dataset, folds, engine, state, program_dir, start))


def gather(points: Sequence[Point], dataset: Dataset, folds: Sequence[Fold], engine: trials.Engine, program_dir: Path,
           start: Start | None, size: int) -> None:
    """What `train` leaves, out of chunks of so many trials that were trained one by one (Loop.run_chunk)."""
    _save(points, dataset, folds, engine, Loop(points, engine, program_dir).gathered(size), program_dir, start)


def _save(points: Sequence[Point], dataset: Dataset, folds: Sequence[Fold], engine: trials.Engine, state: State, program_dir: Path,
          start: Start | None) -> None:
    share = len(engine.specs) // len(points)
    for i, point in enumerate(points):
        mine = slice(i * share, (i + 1) * share)
        part = jax.tree.map(lambda x, mine=mine: x[mine], state)
        # with what an image is normalised by, so that a checkpoint is all that predicting needs
        scaling = {"input": {"mean": engine.trials.mean[mine], "std": engine.trials.std[mine]}}
        kept = {"last": {**evaluated(part), **scaling}, "best_val": {**part.best_variables, **scaling}}
        if not engine.trials.val_mask[mine].any():  # final training: no epoch was selected
            del kept["best_val"]
        kept = {name: start.whole(variables, share) for name, variables in kept.items()} if start else kept
        if point.config.log.variables:
            for name, variables in kept.items():
                checkpoint.save_variables(point.workdir, name, variables)
        attention.write(point.config, point.workdir, dataset, folds, kept[point.config.train.selection])
        found = results.predictions(dataset, folds, engine, mine, part)
        run.write_arrays(point.workdir / run.PREDICTIONS, found)  # last of a point: its presence says that training is done
    mirror.remove(program_dir / run.CHECKPOINTS / checkpoint.RESUME)  # nothing is left to resume
