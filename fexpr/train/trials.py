"""All trials of a protocol as one compiled program over a mesh with the axes `trial` and `data`.

A trial is one fold x one seed x one point of the hyper-parameters that need no recompilation.
Trials are padded so that they divide over the devices of the axis `trial`; every device has one
copy of the data set. `jit(shard_map(vmap(one trial)))` inserts no collectives between trials; with
one trial and several devices, all devices are on the axis `data`, and the same program is
data-parallel.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int, Num, PyTree

from fexpr.train import devices, distributed, step
from fexpr.train.devices import bytes_of
from fexpr.train.image_statistics import Images
from fexpr.train.map_in_place import map_in_place
from fexpr.train.state import Data, Recipe, State, Trial
from fexpr.train.trial_tables import TrialSpec, pad_rows, padded_count, stack
from fexpr.train.views import passes


class Plan(NamedTuple):
    """The layout of the trials: `size` at a time, `chunks` times; memory of one device in bytes,
    and seconds of compilation.
    """

    trials: int
    size: int
    chunks: int
    bytes_needed: int
    bytes_limit: int
    compile_seconds: float


class Engine:
    """Trains a set of trials, all at once or, if they do not fit into memory, chunk by chunk with
    the same program.

    Results have a leading axis of trials, padding removed. `load` a chunk, then `init`; `compile`
    before the first epoch.

    Args:
      recipe: what the program is compiled from; the engine sets its `data_devices` and `in_turn`.
      images: uint8 [N,H,W,C], or feature vectors float32 [N,1,1,F]. labels: float32 [N,K] or int32
          [N]. classes: K.
      specs: the trials. mesh: from `make_mesh`.
      trial_axis: 'vmap' (all trials of a device at once), 'map' (one after the other: for networks
        that fill a device alone), or 'auto': 'map' on CPU, where plain products are faster than
        batched ones, else 'vmap'.
      chunk: trials at a time; 0, or more than fit = as many as fit, according to the compiled
          program's own memory analysis.
      soft: float32 [N,K], for a recipe whose targets are 'soft'.
      auxiliary: float32 [N,A], for a recipe with a second task.
      start: variables from which every trial starts, all or some of the model's: a tree of NumPy
          arrays.

    Attributes:
      size: trials at a time, padding included; `compile` may lower it. mapped: whether the trials
          of a device are computed one after the other.
      data: the arrays on the devices. trials: tables of all trials, on the host.
      dispatches_per_epoch: the parts of an epoch: its optimiser steps, then forward passes over
          validation and test rows. resumable: the number of parts, from the first, that change the
          state; it can be saved after each of them, and later parts are repeated when resuming.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: Images,
        labels: Int[np.ndarray, " N"] | Float[np.ndarray, "N K"],
        classes: int,
        specs: Sequence[TrialSpec],
        mesh: Mesh,
        trial_axis: str = "auto",
        chunk: int = 0,
        soft: Float[np.ndarray, "N K"] | None = None,
        start: PyTree = None,
        auxiliary: Float[np.ndarray, "N A"] | None = None,
    ):
        self.mesh, self.specs, self.images = mesh, tuple(specs), images
        self._on_cpu = mesh.devices.flat[0].platform == "cpu"
        self.mapped = trial_axis == "map" or (trial_axis == "auto" and self._on_cpu)
        self.recipe = dataclasses.replace(
            recipe, data_devices=mesh.shape["data"], in_turn=self.mapped
        )
        self.trials = stack(specs, images, labels, classes, recipe.train.normalize)
        everywhere = NamedSharding(mesh, P())
        labels, soft, auxiliary = jax.tree.map(pad_rows, (labels, soft, auxiliary))
        self.data = jax.tree.map(
            lambda x: distributed.to_global_array(x, everywhere),
            Data(self.resident_images(), labels, soft, auxiliary=auxiliary),
        )
        share, chunked = mesh.shape["trial"], 0 < chunk < len(specs)
        each = -(-(chunk if chunked else len(specs)) // share)
        # numbers of folds that are nearly the same share a compiled program, where trials that are
        # only padding take no time
        self.size = (padded_count(each) if self.mapped and not chunked else each) * share
        self._start = start  # on the host: only `init` needs it
        self._init = self.over_trials(step.init, once=True)
        self._chunk: range | None = None
        self._plan: Plan | None = None
        self.program: jax.stages.Compiled | None = None
        self.jitted_epoch = self.over_trials(
            step.advance, by_trial=3, shared=1, donate=(3, 4), common=step.is_early
        )
        self.resumable = self.steps
        self._passes, self._each = passes(self.recipe, self.trials.eval_rows.shape[1])
        self.dispatches_per_epoch = self.resumable + self._passes

    # seconds of waiting for streamed images in the current epoch
    input_wait_seconds: float | None = None

    @property
    def steps(self) -> int:
        """The number of optimiser steps of an epoch, for the trial with the most training rows; in
        other trials the last steps change nothing.
        """
        return -(-max(len(spec.train) for spec in self.specs) // self.recipe.batch_size)

    def resident_images(self) -> Num[np.ndarray, "N H W C"]:
        """The images that are kept on the devices, padded."""
        return pad_rows(self.images[:])

    @property
    def plan(self) -> Plan:
        """The layout of the trials; known once the program is compiled."""
        if self._plan is None:
            raise RuntimeError("Engine.compile() has not been called")
        return self._plan

    @property
    def loaded(self) -> range:
        """The numbers of the trials that `init` and `epoch` are about."""
        if self._chunk is None:
            raise RuntimeError("Engine.load() has not been called")
        return self._chunk

    def compile(self) -> Plan:
        """Compiles the program of an epoch, for fewer trials at a time if it would not fit. A chunk
        that was loaded before must be loaded again.

        A second call does nothing.
        """
        if self._plan is None:
            limit, began = (
                int(distributed.all_gather_scalars([devices.memory_limit()]).min()),
                time.monotonic(),
            )
            share = self.mesh.shape["trial"]
            for fitted in (False, True):
                program = self.jitted_epoch.lower(self.data, *self.abstract_epoch()).compile()
                self.program, needed = program, bytes_of(program)
                if fitted or needed <= limit or self.size <= share:
                    break
                self.size, self._chunk = (
                    max(share, int(self.size * limit / needed) // share * share),
                    None,
                )
            self._plan = Plan(
                len(self.specs),
                min(self.size, len(self.specs)),
                -(-len(self.specs) // self.size),
                needed,
                limit,
                time.monotonic() - began,
            )
        return self._plan

    def load(self, chunk: int | range) -> None:
        """Selects the trials for `init` and `epoch`: this chunk (of `size` trials, from 0), or
        these trials, at most `size`.
        """
        numbers = chunk if isinstance(chunk, range) else self.trials_of(chunk, self.size)
        self._chunk = numbers
        table = jax.tree.map(lambda x: x[numbers.start : numbers.stop], self.trials)
        # the trials that are padding have no training rows
        padded = np.pad(table.train_mask, ((0, self.size - len(numbers)), (0, 0)))
        self._trial = self._put(table._replace(train_mask=padded))

    def trials_of(self, chunk: int, size: int) -> range:
        """The numbers of the trials in a chunk, for chunks of this size."""
        return range(chunk * size, min((chunk + 1) * size, len(self.specs)))

    def init(self) -> State:
        """Initial states of the chunk, on the devices. Needs no compiled epoch."""
        start = jax.tree.map(
            lambda x: distributed.to_global_array(np.asarray(x), NamedSharding(self.mesh, P())),
            self._start,
        )
        return self._init(self.data._replace(start=start), self._trial)

    def epoch(self, state: State) -> tuple[State, dict[str, jax.Array]]:
        """One epoch of every trial of the chunk. `state` is donated. The scalars are returned as
        arrays that may not be computed yet.
        """
        state, scalars = self.advance(state, 0, self.dispatches_per_epoch)
        if scalars is None:
            raise RuntimeError("the last part of an epoch gave no scalars")
        return state, scalars

    def advance(
        self, state: State, first: int, last: int
    ) -> tuple[State, dict[str, jax.Array] | None]:
        """Computes the parts first .. last - 1 of an epoch, like `epoch`; scalars are only returned
        with the last part. Parts must be computed in order; a restored state continues at
        `resumable` or before.
        """
        if self.program is None:
            raise RuntimeError("Engine.compile() has not been called")
        steps = self.resumable
        if first <= steps:
            empty = np.zeros((self.size, *self._logits_shape()), np.float32)
            self._eval_logits = distributed.to_global_array(
                empty, NamedSharding(self.mesh, P("trial"))
            )
        bounds = np.array(
            [min(first, steps), min(last, steps), max(first - steps, 0), max(last - steps, 0)],
            np.int32,
        )
        state, self._eval_logits, scalars = self.program(
            self.data, bounds, self._trial, state, self._eval_logits
        )
        return state, scalars if last == self.dispatches_per_epoch else None

    def _logits_shape(self) -> tuple[int, int, int]:
        return (
            self._passes,
            self._each * self.mesh.shape["data"],
            self.trials.class_weights.shape[1],
        )

    def to_host(self, tree: PyTree) -> PyTree:
        """The state of the chunk's real trials as NumPy arrays, independent of the devices, for
        checkpoints and predictions.
        """
        return jax.tree.map(lambda x: np.asarray(x)[: len(self.loaded)], distributed.to_host(tree))

    def to_devices(self, state: State) -> State:
        """The inverse of `to_host`, onto this engine's devices (which may differ from those that
        the state came from).
        """
        return self._put(state)

    def abstract(self, trials: int | None = None) -> State:
        """Shapes and types of `to_host(init())` of this many trials (default: those of the chunk)
        without computing it.
        """
        size = trials or len(self.loaded)
        shapes = jax.eval_shape(
            jax.vmap(
                partial(step.init, dataclasses.replace(self.recipe, data_devices=1)),
                in_axes=(None, 0),
            ),
            self.data,
            self.abstract_trials(1),
        )
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct((size, *s.shape[1:]), s.dtype), shapes)

    def abstract_params(self) -> PyTree:
        """Shapes of one trial's parameters; nothing is compiled."""
        return jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype),
            self.abstract(1).variables["params"],
        )

    def abstract_trials(self, size: int) -> Trial:
        """Shapes and types of the tables of this many trials."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), self.trials
        )

    def abstract_epoch(self) -> tuple[jax.ShapeDtypeStruct, Trial, State, jax.ShapeDtypeStruct]:
        """The arguments of `jitted_epoch` besides the data: the bounds, and the tables, states and
        logits by trial, laid out over the mesh.
        """
        spread, logits = (
            NamedSharding(self.mesh, P("trial")),
            jax.ShapeDtypeStruct((self.size, *self._logits_shape()), np.float32),
        )
        by_trial = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=spread),
            (self.abstract_trials(self.size), self.abstract(self.size), logits),
        )
        return jax.ShapeDtypeStruct((4,), np.int32), *by_trial

    def _put(self, tree: PyTree) -> PyTree:
        """Puts the trials onto the mesh, padded to the program's size by repeating the last (the
        copies' results are discarded, and where trials go in turn they are not computed).
        """

        def put(x):
            padding = np.repeat(x[-1:], self.size - len(x), 0)
            return distributed.to_global_array(
                np.concatenate([x, padding]), NamedSharding(self.mesh, P("trial"))
            )

        return jax.tree.map(put, tree)

    def over_trials(
        self,
        one: Callable,
        by_trial: int = 1,
        shared: int = 0,
        donate: tuple[int, ...] = (),
        common: Callable | None = None,
        once: bool = False,
    ) -> jax.stages.Wrapped:
        """The jitted program (data, *shared, *by trial) that runs `one(recipe, data, *shared, by
        trial)` for all trials of the mesh. Several arguments by trial are passed to `one` as a
        tuple. The only function that distributes trials over devices.

        Args:
          by_trial: number of arguments with a leading axis of trials. shared: number of those that
              are the same for all.
          donate: positions of the last arguments, whose memory is reused for the first results.
          common: common(recipe, trials) is computed once from all trials of a device, and passed to
              each after the shared arguments.
          once: whether it runs only once; on CPU it is then compiled without optimisation, which
              takes half the time.
        """

        def all_trials(data, *arguments):
            trials = arguments[shared:] if by_trial > 1 else arguments[shared]
            extra = (common(self.recipe, trials),) if common else ()
            one_trial = partial(one, self.recipe, data, *arguments[:shared], *extra)
            if not self.mapped:
                return jax.vmap(one_trial)(trials)
            if donate and self.size > self.mesh.shape["trial"]:
                return map_in_place(one_trial, trials, len(donate))
            return jax.lax.map(one_trial, trials)

        specs = (*[P()] * (1 + shared), *[P("trial")] * by_trial)
        program = jax.shard_map(
            all_trials, mesh=self.mesh, in_specs=specs, out_specs=P("trial"), check_vma=False
        )
        options = {"xla_backend_optimization_level": 0} if once and self._on_cpu else None
        return jax.jit(program, donate_argnums=donate, compiler_options=options)
