"""Training through chunks, epochs and their parts: one progress bar, histories, checkpoints, and
resuming.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import PyTree

from fexpr.errors import INTERRUPTED, RESUMABLE, Preempted, UserError
from fexpr.runs import chunks, utilization
from fexpr.runs.spec import RunSpec
from fexpr.signals import CTRL_C
from fexpr.terminal import event, progress, say
from fexpr.train import distributed, resources, unfinished
from fexpr.train.log import History, Writers
from fexpr.train.state import NEVER, State
from fexpr.train.trials import Engine

if TYPE_CHECKING:
    from fexpr.train.checkpoint import Checkpoints

STRETCH = 2.0  # seconds for which the devices compute before signals are checked


class Loop:
    """Chunk after chunk, epoch after epoch, with one progress bar, history and checkpoints.

    Args:
      engine: compiled.
      owner: identifies the runs in their checkpoints (opening.owner_of).
      stopped_by: what asks to save and stop, for example 'SIGTERM'; '' while nothing does.
      initial_variables: variables by trial from which training starts, instead of the engine's own.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        engine: Engine,
        folder: Path,
        owner: str,
        stopped_by: Callable[[], str] = lambda: "",
        initial_variables: PyTree = None,
    ):
        self.specs, self.engine, self.config = specs, engine, specs[0].config
        self.stopped_by, self.initial_variables = stopped_by, initial_variables
        self.epochs, self.folder, self.owner = self.config.train.epochs, folder, owner

    def run(self, share: tuple[int, int] | None = None) -> State | None:
        """The final state of all trials, on the host, without what only training needs.

        Args:
          share: (i, n), train every n-th chunk, from the i-th on; their final states stay on disk
              for `gather`, and None is returned.
        """
        index, count = share or (None, 1)
        with contextlib.ExitStack() as stack:
            event("compiled", **resources.of_program(self.engine))
            saved = unfinished.find_saved(self.folder, self.owner)
            split = chunks.cut if share is None else chunks.cut_share
            every = split(self.engine.plan.trials, self.engine.plan.size, saved)
            self.chunks = dict(list(enumerate(every))[index or 0 :: count])
            self.checkpoints = {i: self._checkpoints_of(c) for i, c in self.chunks.items()}
            for kept in self.checkpoints.values():
                stack.callback(kept.close)
            keep = share is not None or len(every) > 1
            done = {i: bool(c.saved and c.saved.done) for i, c in self.chunks.items()}
            starts = {
                i: self.epochs * self._units if done[i] else c.saved.position if c.saved else 0
                for i, c in self.chunks.items()
            }
            self._check_saved(done, starts)
            self._say_resumed(done, starts)
            self._open_writers(index, starts)
            states = []
            with progress(
                "training", len(self.chunks) * self.epochs, self._in_epochs(sum(starts.values()))
            ) as advance:
                for i, kept in self.checkpoints.items():
                    if done[i]:
                        like = self.engine.abstract(len(self.chunks[i].trials))
                        states.append(kept.restore_done(_kept(like)))
                        continue
                    self.engine.load(self.chunks[i].trials)
                    states.append(self._train_chunk(i, starts[i], advance))
                    if keep:
                        kept.save_done(states[-1])
            for log in (*self.histories, *self.writers):
                log.close()
        return (
            jax.tree.map(lambda *parts: np.concatenate(parts), *states) if share is None else None
        )

    def gather(self) -> State | None:
        """The result of `run`, from trials that were trained in chunks of any size; None if some
        are missing. Compiles nothing. Combines the chunks' histories.
        """
        from fexpr.train import checkpoint

        found, done = unfinished.find_done(self.folder, self.owner), []
        while (first := done[-1].stop if done else 0) < len(self.engine.specs):
            if first not in found:
                return None
            done.append(found[first])
        parts = [
            checkpoint.Checkpoints(self.folder, chunk).restore_done(
                _kept(self.engine.abstract(len(chunk)))
            )
            for chunk in done
        ]
        for point in self.specs if distributed.is_main_process() else ():
            History(point.workdir, lambda row: True)
        return jax.tree.map(lambda *parts: np.concatenate(parts), *parts)

    def _checkpoints_of(self, chunk: chunks.Chunk) -> Checkpoints:
        from fexpr.train import checkpoint

        saved = chunk.saved.trials if chunk.saved else None
        return checkpoint.Checkpoints(self.folder, chunk.trials, saved, self.owner)

    def _check_saved(self, done: dict[int, bool], starts: dict[int, int]) -> None:
        """Raises a UserError, before anything is written, if saved states are of another model."""
        resumed = [i for i, chunk in self.chunks.items() if chunk.saved]
        one = self.engine.abstract(1) if resumed else None
        for i in resumed:
            count = len(self.chunks[i].trials)
            like = jax.tree.map(
                lambda s, n=count: jax.ShapeDtypeStruct((n, *s.shape[1:]), s.dtype), one
            )
            self.checkpoints[i].check(
                None if done[i] else starts[i], _kept(like) if done[i] else like
            )

    @property
    def _units(self) -> int:
        """The number of positions in an epoch at which a state can be saved; a chunk's positions
        count from the start of its first epoch.
        """
        return self.engine.resumable + 1

    def _in_epochs(self, position: int) -> float:
        return position / self._units

    def _say_resumed(self, done: dict[int, bool], starts: dict[int, int]) -> None:
        chunk = next((i for i, start in starts.items() if start and not done[i]), None)
        if chunk is None and not any(done.values()):
            return
        epoch, within = divmod(starts[chunk], self._units) if chunk is not None else (0, 0)
        say(
            f"resumed    from epoch {epoch} of {self.epochs}"
            + (f" and {within / self._units:.0%} of the next" if within else "")
            + (f", {sum(done.values())} of {len(done)} chunks done" if any(done.values()) else "")
        )
        event("resumed", epoch=epoch, part=within, chunk=chunk, done=[i for i in done if done[i]])

    def _open_writers(self, share: int | None, starts: dict[int, int]) -> None:
        # chunks are renumbered from the first that is only a part of what was trained together
        known = {i for i, _ in itertools.takewhile(lambda x: x[1].as_saved, self.chunks.items())}

        def keep(row):
            chunk = row.get("chunk", 0)
            return chunk in known and row["epoch"] <= starts[chunk] // self._units

        written = self.specs if distributed.is_main_process() else ()
        self.histories = [History(p.workdir, keep, share) for p in written]
        self.writers = [
            Writers(p.workdir, p.config.log.tensorboard, p.config.log.wandb, p.config.to_dict())
            for p in written
        ]

    def _train_chunk(self, chunk: int, start: int, advance: Callable[..., None]) -> State:
        """Trains a chunk from the position `start` on.

        The devices are given work for a moment at a time, so that a signal is answered soon even if
        an epoch takes an hour.
        """
        engine, kept = self.engine, self.checkpoints[chunk]
        state = (
            engine.to_devices(kept.restore(start, engine.abstract()))
            if start
            else self._fresh(chunk)
        )
        (epoch, part), many = divmod(start, self._units), 1
        saved, saved_at, cost, spent, dispatches = time.monotonic(), start, 0.0, 0.0, 0
        while epoch < self.epochs:
            began, upto = time.monotonic(), min(part + many, engine.dispatches_per_epoch)
            with self._traced(dispatches == 1):  # the first is not typical: caches are cold
                state, scalars = engine.advance(state, part, upto)
                scalars, failed = (
                    engine.to_host((scalars, state.failed_step))
                    if scalars
                    else jax.block_until_ready((None, state.step))
                )
            pace = (time.monotonic() - began) / (upto - part)
            dispatches, spent = dispatches + 1, spent + time.monotonic() - began
            note = None  # the previous epoch's stays
            if scalars:
                epoch += 1
                self._stop_if_all_failed(failed, epoch)
                whole = (epoch - 1) * self._units >= start
                used = resources.of_epoch(engine, spent, whole)
                if whole:
                    used |= utilization.of_epoch(engine, spent, scalars["ran"])
                note, spent = self._record(chunk, epoch, scalars, spent, used), 0.0
            advance((upto - part) / engine.dispatches_per_epoch, note=note)
            part = 0 if scalars else upto
            if scalars and not scalars["active"].any():
                advance(self.epochs - epoch)
                break
            wait = self.config.log.checkpoint_seconds * max(1.0, cost)
            due, stop, pace = distributed.all_gather_scalars(
                [time.monotonic() - saved >= wait, bool(self.stopped_by()), pace]
            ).T
            # the clock is the main process's, a signal may come to any process
            many = max(1, int(STRETCH / max(pace[0], 1e-9)))
            position = epoch * self._units + min(part, engine.resumable)
            if (due[0] or stop.any()) and epoch < self.epochs:
                saving = time.monotonic()
                if position != saved_at:
                    kept.save(position, engine.to_host(state), [h.path for h in self.histories])
                saved, saved_at, cost = time.monotonic(), position, time.monotonic() - saving
                saved_as = {"epoch": epoch, "part": min(part, engine.resumable), "chunk": chunk}
                event("checkpoint saved", **saved_as, seconds=round(cost, 3))
                if stop.any():
                    kept.wait()
                    event("preempted", **saved_as)
                    share = min(part, engine.resumable) / engine.dispatches_per_epoch
                    done = f"epoch {epoch}" if not part else f"{share:.0%} of epoch {epoch + 1}"
                    by = self.stopped_by() or "a signal"
                    raise Preempted(
                        f"stopped by {by} after {done}, which is saved",
                        INTERRUPTED if by == CTRL_C else RESUMABLE,
                    )
        return _kept(engine.to_host(state))

    def _traced(self, wanted: bool) -> contextlib.AbstractContextManager:
        on = wanted and self.config.log.profile and distributed.is_main_process()
        return (
            jax.profiler.trace(str(self.specs[0].workdir / "profile"))
            if on
            else contextlib.nullcontext()
        )

    def _fresh(self, chunk: int) -> State:
        """The chunk's states before the first step."""
        state = self.engine.init()
        if self.initial_variables is None:
            return state
        mine = self.chunks[chunk].trials
        given = jax.tree.map(lambda x: x[mine.start : mine.stop], self.initial_variables)
        host = self.engine.to_host(state)
        average = given if jax.tree.leaves(host.average) else host.average
        return self.engine.to_devices(
            host._replace(variables=given, best_variables=given, average=average)
        )

    def _record(
        self,
        chunk: int,
        epoch: int,
        scalars: dict[str, np.ndarray],
        seconds: float,
        used: dict[str, float],
    ) -> str:
        """Writes one line of metrics.jsonl for every run with trials in this chunk; returns the
        note for the bar.
        """
        first, share = self.chunks[chunk].trials[0], len(self.engine.specs) // len(self.specs)
        owner = (first + np.arange(len(scalars["ran"]))) // share
        row = {}
        for i in np.unique(owner[scalars["ran"]]):
            mine = scalars["ran"] & (owner == i)
            row = {"epoch": epoch} | {
                name: float(np.mean(scalars[name][mine], dtype=np.float64))
                for name in ("train_loss", "val_loss")
            }
            if self.config.train.monitor != "loss":
                row[f"val_{self.config.train.monitor}"] = float(
                    np.mean(scalars["val_score"][mine], dtype=np.float64)
                )
            row |= {"seconds": round(seconds, 4)} | used
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
            event("diverged", epoch=epoch, step=int(failed_step.max()))
            rates = sorted({p.config.optimizer.learning_rate for p in self.specs})
            raise UserError(
                f"training diverged: loss or gradient is not finite at epoch {epoch}, "
                f"optimiser step {failed_step.max()}",
                fix=f"lower optimizer.learning_rate (now {', '.join(f'{r:g}' for r in rates)}) or "
                "set optimizer.clip_norm=1.0, "
                "in a new --workdir",
            )


def _kept(state: State) -> State:
    """The state without the optimiser's, as needed once training is over."""
    return state._replace(opt_state=())
