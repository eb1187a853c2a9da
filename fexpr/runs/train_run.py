"""Trains the runs of one program, from their configs to finished run directories without reports.
Every run has one program; runs of a sweep that differ only in values share one. A program's own
checkpoints are in a folder of their own; for a single run, in its run directory.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import jax
from jaxtyping import PyTree

from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.runs import attention, describe, opening, people, results
from fexpr.runs.build import build_engine
from fexpr.runs.initialize import Initialization, load_initialization
from fexpr.runs.loop import Loop
from fexpr.runs.spec import RunSpec
from fexpr.signals import stop_signals
from fexpr.storage import mirror, run
from fexpr.terminal import event, progress
from fexpr.train import distributed, resources, unfinished
from fexpr.train.state import State, eval_variables
from fexpr.train.trials import Engine


def train(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    folds: Sequence[Fold],
    folder: Path,
    *,
    start: Initialization | None = None,
    variables: PyTree = None,
    share: tuple[int, int] | None = None,
) -> Engine:
    """Trains these runs to the end, resuming if they were interrupted. If all are finished, only
    checks that they have these configs and data.

    Every run gets its variables (`last`, `best_val`), then its predictions.npz. The whole network
    is saved, even if its trunk was frozen. There are few calls between here and the gradient:
    `Engine.compile` traces `step.advance`, which takes it.

    Args:
      folder: for the program's checkpoints during training. start: what all trials start from;
          None: what `config.init` names, if anything. variables: initial variables by trial,
              instead of the engine's own; a tree of arrays [T, ...] like the model's. share: (i,
              n), train only part i of n of the trials, and save none of the runs: a call without
              `share` does so, once all are trained.

    Returns:
      The engine; compiled, unless all runs were finished.

    Raises:
      UserError: what the user can fix: config, run directory, a full disk; every trial's loss
          is not finite.
      Preempted: SIGTERM, SIGHUP or Ctrl-C came; the state is saved.
    """
    began = time.monotonic()
    finished = distributed.broadcast_from_main(all(spec.finished for spec in specs))
    if start is None and not finished:
        start = load_initialization(specs[0].config, dataset, folds)
    engine = build_engine(specs, dataset, folds, start, _chunk(specs, folds, share, folder))
    infos = open_runs(specs, dataset, folds, engine, start)
    describe.say_program(specs, folds, engine, start)
    if finished:
        return engine
    owner = opening.owner_of(specs, dataset.source)
    state = None if share else Loop(specs, engine, folder, owner).gather()
    gathered = state is not None
    if not gathered:
        with stop_signals() as stopped_by:
            with progress("compiling", 1) as advance:
                engine.compile()
                advance()
            state = Loop(specs, engine, folder, owner, stopped_by, variables).run(share)
    if state is not None:  # not of a share
        trained = state
        distributed.run_on_main_process(
            lambda: save(specs, dataset, folds, engine, trained, folder, start)
        )
        seconds = _training_seconds(specs[0].workdir) if gathered else time.monotonic() - began
        distributed.run_on_main_process(
            lambda: finish_runs(
                specs, infos, seconds / len(specs), folder, None if gathered else engine
            )
        )
    return engine


def _chunk(
    specs: Sequence[RunSpec], folds: Sequence[Fold], share: tuple[int, int] | None, folder: Path
) -> int:
    """Trials at a time: the config's, but no more than a share has; for an unfinished run, which
    may have been divided for other devices, at least as many as were trained together.
    """
    own, trials = specs[0].config.train.chunk, len(specs) * len(folds) * specs[0].config.split.seeds
    if share:
        return min(own or trials, -(-trials // share[1]))
    return own and max(own, *map(len, unfinished.saved_trials(folder)), 0)


def _training_seconds(workdir: Path) -> float:
    """Seconds of the chunk that took longest, from the history of all, as chunks may have been
    trained at the same time.
    """
    seconds: dict[int, float] = {}
    for row in run.read_history(workdir):
        chunk = int(row.get("chunk", 0))
        seconds[chunk] = seconds.get(chunk, 0.0) + row["seconds"]
    return max(seconds.values(), default=0.0)


def open_runs(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    folds: Sequence[Fold],
    engine: Engine,
    start: Initialization | None,
) -> list[dict]:
    """The content of each run's config.json; errors as in opening.open_run."""
    facts = describe.describe(specs[0].config, dataset, folds, engine, start)
    opened = distributed.run_on_main_process(
        lambda: [opening.open_run(spec, **facts) for spec in specs]
    )
    return opened or []


def save(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    folds: Sequence[Fold],
    engine: Engine,
    state: State,
    folder: Path,
    start: Initialization | None,
) -> None:
    """Writes the variables and predictions.npz of every run, from the final state of all trials."""
    from fexpr.train import checkpoint

    share = len(engine.specs) // len(specs)
    for i, spec in enumerate(specs):
        mine = slice(i * share, (i + 1) * share)
        part = jax.tree.map(lambda x, mine=mine: x[mine], state)
        # with the images' normalisation, so that prediction only needs a checkpoint
        scaling = {"input": {"mean": engine.trials.mean[mine], "std": engine.trials.std[mine]}}
        kept = {
            "last": {**eval_variables(part), **scaling},
            "best_val": {**part.best_variables, **scaling},
        }
        if not engine.trials.val_mask[mine].any():  # final training: no epoch was selected
            del kept["best_val"]
        kept = (
            {name: start.whole(variables, share) for name, variables in kept.items()}
            if start
            else kept
        )
        if spec.config.log.variables:
            for name, variables in kept.items():
                checkpoint.save_variables(spec.workdir, name, variables)
        attention.write(
            spec.config, spec.workdir, dataset, folds, kept[spec.config.train.selection]
        )
        seen = start.seen if start else None
        by_trial = [trial.fold for trial in engine.specs[mine]]
        people.write(spec.workdir, spec.config.data.name, dataset, folds, by_trial, seen)
        found = results.predictions(dataset, folds, engine, mine, part)
        # written last: if it exists, training is done
        run.write_arrays(spec.workdir / run.PREDICTIONS, found)
    mirror.remove(folder / run.CHECKPOINTS / checkpoint.RESUME)  # nothing is left to resume


def finish_runs(
    specs: Sequence[RunSpec],
    infos: Sequence[dict],
    seconds: float,
    folder: Path,
    engine: Engine | None = None,
) -> None:
    """Removes files that only training needed, and adds to each config.json how long the run took,
    and the resources it used if `engine` trained it in this process.
    """
    if all(folder != spec.workdir for spec in specs):
        mirror.remove(folder)
    used = {"wall_seconds": round(seconds, 1)} | (
        {"resources": resources.of_program(engine)} if engine else {}
    )
    for spec, info in zip(specs, infos, strict=True):
        run.write_json(spec.workdir / run.CONFIG, info | used)
        event("finished", run=str(spec.workdir), **used)
