"""Logs the figures of a run during training: to metrics.jsonl always, to TensorBoard and Weights &
Biases on request.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fexpr.errors import UserError
from fexpr.storage import mirror, run


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise run.unwritable(path, e) from e


class History:
    """`metrics.jsonl`: one JSON object per epoch. A resumed run keeps the rows before its
    checkpoint and continues from there. At an address it is updated every few seconds, and always
    before a checkpoint that it covers (`Checkpoints.save`).

    Args:
      keep: whether to keep an existing row. chunk: write into a separate file for this chunk, as
          others train at the same time; opening the history of all merges them.
    """

    def __init__(
        self, run_dir: Path, keep: Callable[[dict[str, float]], bool], chunk: int | None = None
    ):
        self.path = run.history_file(run_dir, chunk)
        rows = [row for row in run.read_history(run_dir) if keep(row)]
        run.write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        if chunk is None:
            for file in run.history_files(run_dir)[1:]:
                mirror.remove(file)

    def add(self, row: dict[str, float]) -> None:
        """Appends an epoch. Raises a UserError if the disk is full."""
        with _disk_errors(self.path), open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")
        mirror.push_soon(self.path)

    def close(self) -> None:
        """Copies the file to the run's address, if it has one."""
        mirror.push(self.path)


class Writers:
    """TensorBoard event files (without TensorFlow) under `tensorboard/`, and Weights & Biases
    ('online' or 'offline', '' = off).

    Raises:
      UserError: Weights & Biases is asked for and not installed; also of `add` and `close`: the
        disk is full, or the folder cannot be written to.
    """

    def __init__(self, run_dir: Path, tensorboard: bool, wandb: str, config: dict):
        self._board = self._wandb = None
        if tensorboard:
            # takes 0.3 s, which only runs with TensorBoard need. Its SummaryWriter writes in a
            # thread, whose errors would be lost
            from tensorboardX.event_file_writer import EventsWriter

            self._folder = Path(run_dir) / "tensorboard"
            with _disk_errors(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._board = EventsWriter(str(self._folder / "events"))
        if wandb:
            try:
                import wandb as package  # pyright: ignore[reportMissingImports]  # optional
            except ImportError as e:
                raise UserError(
                    f"log.wandb={wandb!r}, but Weights & Biases is not installed",
                    fix="pip install wandb, or --config.log.wandb=''",
                ) from e
            name = Path(run_dir).resolve().name
            self._wandb = package.init(
                project="fexpr",
                name=name,
                id=name,
                resume="allow",
                mode=wandb,
                dir=str(run_dir),
                config=config,
            )

    def add(self, row: dict[str, float]) -> None:
        """Writes the numbers of an epoch; those that are None are left out. Those of later chunks,
        whose epochs begin with 1 again, have curves of their own.
        """
        step, scalars = (
            row["epoch"],
            {k: v for k, v in row.items() if k != "epoch" and v is not None},
        )
        if self._board:
            # made at run time, by protobuf
            from tensorboardX.proto.event_pb2 import (
                Event,  # pyright: ignore[reportAttributeAccessIssue]
            )
            from tensorboardX.summary import scalar

            chunk = f"chunk_{row['chunk']}/" if row.get("chunk") else ""
            with _disk_errors(self._folder):
                for name, value in scalars.items():
                    written = scalar(chunk + name, value)
                    event = Event(wall_time=time.time(), step=step, summary=written)
                    self._board.write_event(event)
                self._board.flush()
        if self._wandb:
            self._wandb.log(scalars, step=step)

    def close(self) -> None:
        if self._board:
            with _disk_errors(self._folder):
                self._board.close()
        if self._wandb:
            self._wandb.finish()
