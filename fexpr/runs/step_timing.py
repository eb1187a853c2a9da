"""What a program's steps cost on the devices that are there: a few are run before anything is trained, and thrown away.

A device's load is what it has in one optimiser step: trials, or rows of the batch where one trial is spread. A step's time is taken as
fixed + per_unit x load. Trials that are mapped have no fixed part. Where they are vmapped, and for a batch, two loads are timed: the
program's own and the least there can be.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from fexpr.train import distributed, step
from fexpr.train.state import Data, Trial, evaluated
from fexpr.train.streaming import StreamedEngine
from fexpr.train.trials import Engine
from fexpr.train.views import predict

STEPS = 2  # optimiser steps of a sample: large networks on a CPU take seconds for one
PASSES, QUICK = 3, 0.5  # a sample is timed as often, but once where it takes longer than this many seconds
LEAST_ROWS = 2  # of a device: mixing pairs neighbours


class Measured(NamedTuple):
    """Seconds and rates of one program on the devices, and processes, that measured them.

    Attributes:
      devices: of the mesh. load: of a device, see above; of the program as it is.
      fixed, per_unit: a step takes fixed + per_unit x load seconds.
      evaluation: an epoch's evaluation of validation and test rows, in steps: it takes as long as so many.
      compile: seconds until the first step, with whatever the cache of compiled programs had.
      dispatch: seconds in which the host takes an epoch's scalars and agrees with the other processes.
      fetch: bytes of state that come to the host in a second. read: bytes of images that a process reads; 0 where none are streamed.
    """

    devices: int
    load: float
    fixed: float
    per_unit: float
    evaluation: float
    compile: float
    dispatch: float
    fetch: float
    read: float = 0.0


def measured(engine: Engine) -> Measured:
    """Compiles the program, if it is not yet, and samples of it; runs these. Takes about twice as long as compiling."""
    plan, share, rows = engine.compile(), engine.mesh.shape["trial"], engine.recipe.batch_size
    began = time.monotonic()
    engine.load(0)
    state = jax.block_until_ready(engine.init())
    compiled = plan.compile_seconds + time.monotonic() - began
    began = time.monotonic()
    host = engine.to_host(state)
    fetch = sum(x.nbytes for x in jax.tree.leaves(host)) / max(time.monotonic() - began, 1e-6)

    spread = len(engine.specs) == 1 or isinstance(engine, StreamedEngine)  # the batch, over the axis `data`
    mapped = engine.mapped and not spread
    at_once = share if mapped else plan.size  # trials of the sample: one a device, or all
    full, load = _step_seconds(engine, host, at_once, rows), rows / engine.mesh.shape["data"] if spread else at_once / share
    least, least_load = full, load
    if spread and load > LEAST_ROWS:
        least_load = LEAST_ROWS
        least = _step_seconds(engine, host, 1, LEAST_ROWS * engine.mesh.shape["data"])
    elif not spread and load > 1:
        least, least_load = _step_seconds(engine, host, share, rows), 1
    per_unit = (full - least) / (load - least_load) if load > least_load else 0.0
    if not 0 < per_unit < full / load:  # one load alone, or a difference that is lost in noise
        per_unit = full / load
    return Measured(
        engine.mesh.size, load if spread else plan.size / share, full - per_unit * load, per_unit,
        _evaluation_seconds(engine, host, at_once) / full, compiled, _dispatch_seconds(engine, state), fetch, _read_rate(engine),
    )


def _step_seconds(engine: Engine, state: Any, size: int, batch: int) -> float:
    """Of a step of `size` trials with batches of so many rows."""
    steps, recipe = min(engine.steps, STEPS), dataclasses.replace(engine.recipe, batch_size=batch)
    data, trial = _few(engine, size, steps * batch, 1)

    def train(_, data, by_trial):
        trial, state = by_trial
        return step.train(recipe, data, trial, state, step.batches(recipe, data, trial, state.epoch))

    return _seconds(engine.over_trials(train, by_trial=2, donate=(2,)), data, trial, _put(engine, state, size)) / steps


def _evaluation_seconds(engine: Engine, state: Any, size: int) -> float:
    """Of an epoch's: one forward pass, times their number."""
    rows, pass_rows = engine.trials.eval_rows.shape[1], engine.recipe.train.eval_batch * engine.mesh.shape["data"]
    data, trial = _few(engine, size, 1, min(rows, pass_rows))

    def evaluate(recipe, data, by_trial):
        trial, state = by_trial
        return state, predict(recipe, data, trial, evaluated(state))

    program = engine.over_trials(evaluate, by_trial=2, donate=(2,))
    return _seconds(lambda *given: program(*given)[0], data, trial, _put(engine, state, size)) * -(-rows // pass_rows)


def _few(engine: Engine, size: int, train: int, evaluate: int) -> tuple[Data, Trial]:
    """The chunk's first trials with so many of their rows, on the devices; of streamed images those rows alone."""
    trial = jax.tree.map(lambda x: x[:size], engine.trials)
    trial = trial._replace(
        train_rows=trial.train_rows[:, :train], train_mask=trial.train_mask[:, :train], eval_rows=trial.eval_rows[:, :evaluate],
        val_mask=trial.val_mask[:, :evaluate], test_mask=trial.test_mask[:, :evaluate])
    data = engine.data
    if isinstance(engine, StreamedEngine):
        rows = np.concatenate([trial.train_rows[0], trial.eval_rows[0]])
        places = np.arange(len(rows), dtype=np.int32)[None]
        trial = jax.tree.map(lambda x: x[:1], trial)._replace(
            train_rows=places[:, : trial.train_rows.shape[1]], eval_rows=places[:, trial.train_rows.shape[1] :])
        kept = data._replace(images=engine.images[rows], labels=_here(data.labels)[rows],
                             soft=None if data.soft is None else _here(data.soft)[rows])
        data = jax.tree.map(lambda x: distributed.to_global_array(x, NamedSharding(engine.mesh, P())), kept)
    return data, _put(engine, trial, size)


def _seconds(program: Callable, data: Data, trial: Trial, state: Any) -> float:
    """Of a call once it is compiled: the median of some. All processes make as many."""
    state = jax.block_until_ready(program(data, trial, state))
    took = []
    while len(took) < PASSES:
        began = time.monotonic()
        state = jax.block_until_ready(program(data, trial, state))
        took.append(time.monotonic() - began)
        if distributed.broadcast_from_main(took[-1] > QUICK):
            break
    return float(np.median(took))


def _dispatch_seconds(engine: Engine, state: Any) -> float:
    """What stands between two epochs: small arrays come to the host, and the processes ask one another whether to save or stop."""
    took = []
    for _ in range(PASSES):
        began = time.monotonic()
        engine.to_host((state.step, state.epoch, state.active, state.stale, state.rate, state.failed_step))
        distributed.all_gather_scalars([0.0, 0.0])
        took.append(time.monotonic() - began)
    return float(np.median(took))


def _read_rate(engine: Engine) -> float:
    """Bytes of images a second, from the disk to this process's devices, by as many threads as training has."""
    if not isinstance(engine, StreamedEngine):
        return 0.0
    rows, batch = engine.trials.train_rows[0], engine.recipe.batch_size
    steps = min(engine.part_steps, len(rows) // batch) or 1
    parts = min(3, max(1, len(rows) // (steps * batch)))
    drawn = np.resize(np.random.default_rng(0).permutation(rows), (parts, steps, batch))
    for _ in range(2):  # the first time loads the reader, and the file into the system's cache
        began, arriving = time.monotonic(), engine.read(drawn)
        for _ in range(parts):
            jax.block_until_ready(next(arriving))
        seconds = time.monotonic() - began
    return drawn.size / jax.process_count() * int(np.prod(engine.images.shape[1:])) / seconds


def _here(x: jax.Array) -> np.ndarray:
    """An array that every device holds whole."""
    return np.asarray(x.addressable_data(0))


def _put(engine: Engine, tree: Any, size: int) -> Any:
    """The first `size` trials, filled up by the last, over the mesh."""
    def put(x):
        x = x[:size]
        return distributed.to_global_array(np.concatenate([x, np.repeat(x[-1:], size - len(x), 0)]), NamedSharding(engine.mesh, P("trial")))

    return jax.tree.map(put, tree)
