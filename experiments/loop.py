"""Training through chunks, epochs and their parts: one progress bar, histories, checkpoints, and going on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from fexpr import run
from fexpr.errors import Preempted, UserError
from fexpr.terminal import event, progress, say, terminated
from fexpr.train import checkpoint, hosts, resources
from fexpr.train.log import History, Writers
from fexpr.train.step import NEVER, State
from fexpr.train.trials import Engine


@dataclasses.dataclass(frozen=True)
class Point:
    """A config and where its run goes."""

    config: ConfigDict
    workdir: Path

    @property
    def finished(self) -> bool:
        return (self.workdir / run.PREDICTIONS).exists()


class Loop:
    """Chunk after chunk, epoch after epoch, with one progress bar, history and checkpoints."""

    def __init__(self, points: Sequence[Point], engine: Engine, program_dir: Path, carried: Any = None):
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
            event("resumed", epoch=epoch, part=part, chunk=chunk)
        written = self.points if hosts.is_writer() else ()
        self.histories = [History(p.workdir, lambda row: (row.get("chunk", 0), row["epoch"]) <= (chunk, epoch)) for p in written]
        self.writers = [Writers(p.workdir, p.config.log.tensorboard, p.config.log.wandb, p.config.to_dict()) for p in written]
        with progress("compiling", 1) as advance:
            chunks = self.engine.plan.chunks
            advance()
        event("compiled", **resources.of_program(self.engine))
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
        saved, cost, spent = time.monotonic(), 0.0, 0.0
        for at in range(start, total):
            (epoch, part), began = divmod(at, parts), time.monotonic()
            with self._traced(at == start + 1):  # the first is not like the others: caches are cold
                state, scalars = engine.part(state, part)
                if scalars:
                    scalars, failed = engine.to_host((scalars, state.failed_step))
            spent += time.monotonic() - began
            note = None  # that of the epoch before stays
            if scalars:
                self._stop_if_all_failed(failed, epoch + 1)
                used = resources.of_epoch(engine, spent, whole=epoch * parts >= start)
                note, spent = self._record(chunk, epoch + 1, scalars, spent, used), 0.0
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
                here = dict(zip(("epoch", "part"), divmod(at + 1, parts), strict=True)) | {"chunk": chunk}
                event("checkpoint saved", **here, seconds=round(cost, 3))
                if stop.any():  # the clock is the writer's, the signal anyone's
                    self.checkpoints.wait()
                    event("preempted", **here)
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

    def _record(self, chunk: int, epoch: int, scalars: dict[str, np.ndarray], seconds: float, used: dict[str, float]) -> str:
        """One line of metrics.jsonl for every point that has trials in this chunk; returns the note for the bar."""
        first, share = chunk * self.engine.plan.size, len(self.engine.specs) // len(self.points)
        owner = (first + np.arange(len(scalars["ran"]))) // share
        row = {}
        for i in np.unique(owner[scalars["ran"]]):
            mine = scalars["ran"] & (owner == i)
            row = {"epoch": epoch} | {name: float(np.mean(scalars[name][mine], dtype=np.float64)) for name in ("train_loss", "val_loss")}
            if self.config.train.monitor != "loss":
                row[f"val_{self.config.train.monitor}"] = float(np.mean(scalars["val_score"][mine], dtype=np.float64))
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
            rates = sorted({p.config.optimizer.learning_rate for p in self.points})
            raise UserError(
                f"training diverged: loss or gradient is not finite at epoch {epoch}, optimiser step {failed_step.max()}",
                fix=f"lower optimizer.learning_rate (now {', '.join(f'{r:g}' for r in rates)}) or set optimizer.clip_norm=1.0, "
                "in a new --workdir",
            )


def _kept(state: Any) -> Any:
    """The state without the optimiser's: what is needed once training is over."""
    return state._replace(opt_state=())
