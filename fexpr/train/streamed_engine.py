"""Training on images that stay on the disk: Grain reads them ahead in threads; each process reads
its own share of every batch.

An epoch is cut into parts of some optimiser steps each. A part's images travel to the devices while
the part before it is computed. Which rows per step sees, and its random numbers, are those of the
engine that holds all images on the devices: a position is an epoch and a part, whatever the number
of devices or processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, Num, PyTree

from fexpr.train import devices, distributed, step
from fexpr.train.devices import bytes_of
from fexpr.train.state import Batch, Data, Recipe, State, Trial, eval_variables
from fexpr.train.trials import Engine, Plan
from fexpr.train.views import predict_images

PART_BYTES = 32 * 2**20  # of images in a part
AHEAD = 4  # parts that are read before they are needed
THREADS = 4


class StreamedEngine(Engine):
    """An engine whose images are not kept on the devices: only their `shape`, `dtype` and indexing
    by row numbers are used.

    It trains one trial at a time, all devices sharing its batches. Arguments as in Engine; the mesh
    is that of a single trial.

    Args:
      part_bytes: of images in a part, 0 = PART_BYTES; a part has at least one step.

    Attributes:
      input_wait_seconds: seconds of the current epoch in which this process waited for images. Its
          devices may have been computing the previous part meanwhile, so they were idle for no
          longer than that.
    """

    def __init__(self, *args: Any, part_bytes: int = 0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        batch, share, self.size = self.recipe.batch_size, self.mesh.shape["data"], 1
        self.part_steps = min(
            self.steps,
            max(1, (part_bytes or PART_BYTES) // (batch * int(np.prod(self.images.shape[1:])))),
        )
        self.resumable = self.dispatches_per_epoch = -(-self.steps // self.part_steps)
        evaluated_rows = min(self.part_steps * batch, self.trials.eval_rows.shape[1])
        self._eval_rows = -(-evaluated_rows // share) * share
        self._arriving, self._at, self._busy, self.input_wait_seconds = iter(()), 0, None, 0.0

    def resident_images(self) -> Num[np.ndarray, "0 H W C"]:
        """None: [0, H, W, C]."""
        return np.zeros((0, *self.images.shape[1:]), np.uint8)

    def compile(self) -> Plan:
        """Compiles the program of a part's steps. A second call does nothing."""
        if self._plan is None:
            self._plan = self._compile()
        return self._plan

    def _compile(self) -> Plan:
        spread, images, began = (
            NamedSharding(self.mesh, P("trial")),
            P(None, "data"),
            time.monotonic(),
        )
        trial, state = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=spread),
            (self.abstract_trials(1), self.abstract(1)),
        )
        order = partial(_order, self.recipe, self.dispatches_per_epoch, self.part_steps)
        self._order = jax.jit(order, out_shardings=NamedSharding(self.mesh, P()))
        self._say, self._conclude = (
            self._program(_say, P("data"), donate=False),
            self._program(step.conclude, P(), donate=True),
        )
        given = (
            jax.eval_shape(self._order, self.data, trial, state.epoch),
            jax.ShapeDtypeStruct((), np.int32),
            jax.ShapeDtypeStruct(
                (self.part_steps, self.recipe.batch_size, *self.images.shape[1:]),
                np.uint8,
                sharding=NamedSharding(self.mesh, images),
            ),
        )
        self._train = (
            self._program(_train, (P(), P(), images), donate=True)
            .lower(self.data, trial, state, given)
            .compile()
        )
        seconds, limit = (
            time.monotonic() - began,
            int(distributed.all_gather_scalars([devices.memory_limit()]).min()),
        )
        return Plan(len(self.specs), 1, len(self.specs), bytes_of(self._train), limit, seconds)

    def advance(
        self, state: State, first: int, last: int
    ) -> tuple[State, dict[str, jax.Array] | None]:
        """As `Engine.advance`; a part is `part_steps` steps, and the last one evaluates too."""
        scalars = None
        for i in range(first, last):
            state, scalars = self._part(state, i)
        return state, scalars

    def _part(self, state: State, part: int) -> tuple[State, dict[str, jax.Array] | None]:
        if part == 0 or part != self._at:  # an epoch starts or is resumed
            self._batches = self._order(self.data, self._trial, state.epoch)
            self._arriving, self._busy, self.input_wait_seconds = (
                self.read(np.asarray(self._batches.rows)[part:]),
                None,
                0.0,
            )
        images = next(self._arriving)
        jax.block_until_ready(self._busy)  # no more than one part ahead of the devices
        state, self._busy = self._train(
            self.data, self._trial, state, (self._batches, np.int32(part), images)
        )
        self._at = part + 1
        if self._at < self.dispatches_per_epoch:
            return state, None
        logits = [
            np.asarray(self._say(self.data, self._trial, state, images).addressable_data(0))[0]
            for images in self._arriving
        ]
        eval_logits = np.concatenate(logits)[: self.trials.eval_rows.shape[1]]
        return self._conclude(
            self.data,
            self._trial,
            state,
            distributed.to_global_array(eval_logits, NamedSharding(self.mesh, P())),
        )

    def read(
        self, train_rows: Int[np.ndarray, "parts steps B"]
    ) -> Iterator[Num[Array, "... H W C"]]:
        """Yields the images of these batches [parts, steps, B], then those of the rows that are
        evaluated, each of which is transferred to the devices while the previous one is used."""
        import grain  # takes two seconds to import, which only streaming needs

        rows = self.trials.eval_rows[self.loaded[0]]
        padded = np.pad(rows, (0, -len(rows) % self._eval_rows)).reshape(-1, self._eval_rows)
        items = [*train_rows, *padded]
        options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
        reader = iter(grain.MapDataset.source(items).map(self._share_of).to_iter_dataset(options))
        waiting = None
        for item in items:
            began = time.monotonic()
            mine = next(reader)
            waited = time.monotonic() - began
            self.input_wait_seconds = (self.input_wait_seconds or 0.0) + waited
            axes = P(None, "data") if item.ndim == 2 else P("data")
            placed = distributed.to_global_array_of_shares(
                mine, (*item.shape, *self.images.shape[1:]), NamedSharding(self.mesh, axes)
            )
            if waiting is not None:
                yield waiting
            waiting = placed
        if waiting is not None:
            yield waiting

    def _share_of(self, rows: np.ndarray) -> np.ndarray:
        """Reads this process's images of rows [..., R]: the R rows are divided over the processes
        in order.
        """
        mine = np.split(rows, jax.process_count(), axis=-1)[jax.process_index()]
        return self.images[mine.reshape(-1)].reshape(*mine.shape, *self.images.shape[1:])

    def _program(self, one: Callable, spec: P | tuple[P, ...], donate: bool) -> jax.stages.Wrapped:
        """Jits `one(recipe, data, trial, state, x)` for the single trial of a chunk; x is laid out
        by `spec`.
        """

        def many(data, trial, state, x):
            return jax.tree.map(
                lambda a: a[None], one(self.recipe, data, _first(trial), _first(state), x)
            )

        program = jax.shard_map(
            many,
            mesh=self.mesh,
            in_specs=(P(), P("trial"), P("trial"), spec),
            out_specs=P("trial"),
            check_vma=False,
        )
        return jax.jit(program, donate_argnums=(2,) if donate else ())


def _order(
    recipe: Recipe, parts: int, steps: int, data: Data, trial: Trial, epoch: jax.Array
) -> Batch:
    """The epoch's batches, part by part: arrays [parts, steps, ...], padded with steps without
    rows.
    """
    batches = step.batches(recipe, data, _first(trial), epoch[0])
    missing = parts * steps - len(batches.rows)

    def in_parts(x):
        return jnp.concatenate([x, jnp.repeat(x[-1:], missing, axis=0)]).reshape(
            parts, steps, *x.shape[1:]
        )

    real = jnp.arange(parts * steps).reshape(parts, steps, 1) < len(batches.rows)
    key, batches = batches.key, jax.tree.map(in_parts, batches._replace(key=None))
    return batches._replace(key=key, mask=batches.mask & real)


def _train(
    recipe: Recipe,
    data: Data,
    trial: Trial,
    state: State,
    given: tuple[Batch, jax.Array, jax.Array],
) -> tuple[State, jax.Array]:
    """Runs the steps of one part of the batches with their images; also returns a small array to
    wait for.
    """
    batches, part, images = given
    state = step.train(recipe, data, trial, state, batches.at(part)._replace(images=images))
    return state, state.step + 0


def _say(recipe: Recipe, data: Data, trial: Trial, state: State, images: jax.Array) -> jax.Array:
    return predict_images(recipe, trial, eval_variables(state), images)


def _first(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[0], tree)
