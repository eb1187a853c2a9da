"""One compiled program: the trials of one or several points, trained together, resumed where they stopped.

A point is one config with a run directory of its own. Points that differ only in values (VALUES) share a program; `launch.py --sweep`
makes many, every other run has one. The program's own checkpoints lie in `program_dir` (of a single point: its run directory).
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from experiments import attention, results
from experiments.transfer import Start
from fexpr import models, run
from fexpr.data.dataset import Dataset
from fexpr.data.splits import Fold, validation_turn
from fexpr.errors import Preempted, UserError
from fexpr.models.transfer import StandingStill
from fexpr.terminal import progress, say, terminated
from fexpr.train import checkpoint, hosts, optim, trials
from fexpr.train.augment import Augment
from fexpr.train.log import History, Writers
from fexpr.train.step import NEVER, Recipe, State, evaluated
from fexpr.train.streaming import StreamedEngine

VALUES = ("seed", "optimizer.learning_rate", "optimizer.weight_decay", "train.label_smoothing", "train.class_weights",
          "train.class_weights_max")  # fields that are arrays in the program: trials that differ in them need no other


@dataclasses.dataclass(frozen=True)
class Point:
    """A config and where its run goes."""

    config: ConfigDict
    workdir: Path

    @property
    def finished(self) -> bool:
        return (self.workdir / run.PREDICTIONS).exists()


def make_engine(points: Sequence[Point], dataset: Dataset, folds: Sequence[Fold], start: Start | None = None) -> trials.Engine:
    """The engine for every fold x repeat of every point; point by point, repeat by repeat, fold by fold.

    Args:
      start: what all trials begin with (transfer.begin).

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
    pictures = {name: value for name, value in c.augment.to_dict().items() if name != "mixup"}
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
        gamma=c.train.focal_gamma if c.train.loss == "focal" else 0.0, mixup=c.augment.mixup, precision=c.train.precision,
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
    engine = make(recipe, images, dataset.labels, classes, specs, mesh, scale, c.train.trial_axis, c.train.chunk, soft,
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
          start: Start | None = None, carried: Any = None) -> None:
    """Trains to the end, or on to the end; every point gets its variables (`last`, `best_val`), then its predictions.npz.

    What is saved is the whole network, also where its trunk was frozen and `start` holds it.

    Args:
      carried: variables by trial that training begins with, in the place of the engine's own; a tree of arrays [T, ...] like the model's.

    Raises:
      UserError: every trial's loss is not finite (says at which epoch and step), or the disk is full.
      Preempted: SIGTERM came; the state is saved.
    """
    state = _Loop(points, engine, program_dir, carried).run()
    hosts.on_writer(lambda: _save(points, dataset, folds, engine, state, program_dir, start))


def _save(points: Sequence[Point], dataset: Dataset, folds: Sequence[Fold], engine: trials.Engine, state: State, program_dir: Path,
          start: Start | None) -> None:
    share = len(engine.specs) // len(points)
    for i, point in enumerate(points):
        mine = slice(i * share, (i + 1) * share)
        part = jax.tree.map(lambda x, mine=mine: x[mine], state)
        # with what an image is normalised by, so that a checkpoint is all that predicting needs
        scaling = {"input": {"mean": engine.trials.mean[mine], "std": engine.trials.std[mine]}}
        kept = {"last": {**evaluated(part), **scaling}, "best_val": {**part.best_variables, **scaling}}
        kept = {name: start.whole(variables, share) for name, variables in kept.items()} if start else kept
        if point.config.log.variables:
            for name, variables in kept.items():
                checkpoint.save_variables(point.workdir, name, variables)
        attention.write(point.config, point.workdir, dataset, folds, kept[point.config.train.selection])
        found = results.predictions(dataset, folds, engine, mine, part)
        run.write_arrays(point.workdir / run.PREDICTIONS, found)  # last of a point: its presence says that training is done
    shutil.rmtree(program_dir / run.CHECKPOINTS / checkpoint.RESUME, ignore_errors=True)  # nothing is left to resume


class _Loop:
    """Chunk after chunk, epoch after epoch, with one progress bar, history and checkpoints."""

    def __init__(self, points: Sequence[Point], engine: trials.Engine, program_dir: Path, carried: Any = None):
        self.points, self.engine, self.config = points, engine, points[0].config
        self.carried = carried
        self.epochs, self.program_dir = self.config.train.epochs, program_dir
        self.checkpoints = checkpoint.Checkpoints(program_dir)

    def run(self) -> State:
        """The final state of all trials, on the host, without what only training needs."""
        try:
            with terminated() as self.terminated:
                return self._run()
        finally:
            self.checkpoints.close()

    def _run(self) -> State:
        position, parts = self.checkpoints.latest() or 0, self.engine.parts
        chunk, within = divmod(position, self.epochs * parts)
        epoch, part = divmod(within, parts)
        if position:
            say(f"resumed    from epoch {epoch} of {self.epochs}" + (f" and {part / parts:.0%} of the next" if part else "")
                + (f", chunk {chunk + 1}" if chunk else ""))
        written = self.points if hosts.is_writer() else ()
        self.histories = [History(p.workdir, lambda row: (row.get("chunk", 0), row["epoch"]) <= (chunk, epoch)) for p in written]
        self.writers = [Writers(p.workdir, p.config.log.tensorboard, p.config.log.wandb, p.config.to_dict()) for p in written]
        with progress("compiling", 1) as advance:
            chunks = self.engine.plan.chunks
            advance()
        done = []
        with progress("training", chunks * self.epochs * parts, position) as advance:
            for i in range(chunks):
                self.engine.load(i)
                folder = f"{checkpoint.RESUME}/chunk_{i}"
                if i < chunk:
                    done.append(self.checkpoints.restore_tree(folder, _kept(self.engine.abstract())))
                    continue
                done.append(self._train_chunk(i, within if i == chunk else 0, advance))
                if chunks > 1:
                    self.checkpoints.save_tree(folder, done[-1])
        for writer in self.writers:
            writer.close()
        return jax.tree.map(lambda *parts: np.concatenate(parts), *done)

    def _train_chunk(self, chunk: int, start: int, advance: Any) -> State:
        """Trains on from the part of all its epochs' parts where it stands."""
        engine, parts = self.engine, self.engine.parts
        total = self.epochs * parts
        state = engine.to_devices(self.checkpoints.restore(chunk * total + start, engine.abstract())) if start else self._fresh(chunk)
        saved, cost, began = time.monotonic(), 0.0, time.monotonic()
        for at in range(start, total):
            epoch, part = divmod(at, parts)
            with self._traced(at == start + 1):  # the first is not like the others: caches are cold
                state, scalars = engine.part(state, part)
                if scalars:
                    scalars, failed = engine.to_host((scalars, state.failed_step))
            note = None  # that of the epoch before stays
            if scalars:
                self._stop_if_all_failed(failed, epoch + 1)
                note, began = self._record(chunk, epoch + 1, scalars, time.monotonic() - began), time.monotonic()
            advance(note=note)
            if scalars and not scalars["active"].any():
                advance(total - at - 1)
                break
            wait = self.config.log.checkpoint_seconds * max(1.0, cost)
            due, stop = hosts.gathered([time.monotonic() - saved >= wait, self.terminated()]).T
            if (due[0] or stop.any()) and at + 1 < total:
                saving = time.monotonic()
                self.checkpoints.save(chunk * total + at + 1, engine.to_host(state))
                saved, cost = time.monotonic(), time.monotonic() - saving
                if stop.any():  # the clock is the writer's, the signal anyone's
                    self.checkpoints.wait()
                    done = f"epoch {epoch + 1}" if scalars else f"{(part + 1) / parts:.0%} of epoch {epoch + 1}"
                    raise Preempted(f"stopped by SIGTERM after {done}, which is saved")
        return _kept(engine.to_host(state))

    def _traced(self, wanted: bool) -> contextlib.AbstractContextManager:
        on = wanted and self.config.log.profile and hosts.is_writer()
        return jax.profiler.trace(str(self.points[0].workdir / "profile")) if on else contextlib.nullcontext()

    def _fresh(self, chunk: int) -> State:
        """The chunk's states before the first step."""
        state = self.engine.init()
        if self.carried is None:
            return state
        first = chunk * self.engine.plan.size
        given = jax.tree.map(lambda x: x[first : first + self.engine.plan.size], self.carried)
        host = self.engine.to_host(state)
        average = given if jax.tree.leaves(host.average) else host.average
        return self.engine.to_devices(host._replace(variables=given, best_variables=given, average=average))

    def _record(self, chunk: int, epoch: int, scalars: dict[str, np.ndarray], seconds: float) -> str:
        """One line of metrics.jsonl for every point that has trials in this chunk; returns the note for the bar."""
        first, share = chunk * self.engine.plan.size, len(self.engine.specs) // len(self.points)
        owner = (first + np.arange(len(scalars["ran"]))) // share
        row = {}
        for i in np.unique(owner[scalars["ran"]]):
            mine = scalars["ran"] & (owner == i)
            row = {"epoch": epoch} | {name: float(np.mean(scalars[name][mine], dtype=np.float64)) for name in ("train_loss", "val_loss")}
            if self.config.train.monitor != "loss":
                row[f"val_{self.config.train.monitor}"] = float(np.mean(scalars["val_score"][mine], dtype=np.float64))
            row["seconds"] = round(seconds, 4)
            if share > 1:
                row["trials"] = int(mine.sum())
            if chunk:
                row["chunk"] = chunk
            if self.histories:
                self.histories[i].add(row)
                self.writers[i].add(row)
        return f"loss {row['train_loss']:.4f}  val {row['val_loss']:.4f}" if row else ""

    def _stop_if_all_failed(self, failed_step: np.ndarray, epoch: int) -> None:
        if (failed_step != NEVER).all():
            rates = sorted({p.config.optimizer.learning_rate for p in self.points})
            raise UserError(
                f"training diverged: loss or gradient is not finite at epoch {epoch}, optimiser step {failed_step.max()}",
                fix=f"lower optimizer.learning_rate (now {', '.join(f'{r:g}' for r in rates)}) or set optimizer.clip_norm=1.0, "
                "in a new --workdir",
            )


def _kept(state: Any) -> Any:
    """The state without the optimiser's: what is needed once training is over."""
    return state._replace(opt_state=())
