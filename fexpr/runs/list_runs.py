"""python -m experiments.status runs: the progress of the runs below a folder, during training and
after.

Only reads files; at an address, only a few small ones. A run is finished when its predictions
exist; until then the last line of its metrics.jsonl gives its progress and age. Its last epochs
give its needs: `step` is the median of an epoch's seconds over its optimiser steps, `wait` the
share of the time without images (where they are streamed), `memory` the peak of its fullest device,
or of the whole process if devices do not report it (a CPU).
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fexpr import terminal
from fexpr.command_parser import Parser
from fexpr.errors import UserError
from fexpr.evaluate.report.headline import in_words
from fexpr.evaluate.report.run_report import duration, memory
from fexpr.evaluate.report.text_tables import make_table, print_table
from fexpr.storage import bounded, contents, mirror, run
from fexpr.storage.addresses import path_or_url

# nothing written for longer than both: training seems to have stopped
SILENT_EPOCHS, SILENT_SECONDS = 5, 120


@dataclasses.dataclass(frozen=True)
class Status:
    """One run directory.

    Attributes:
      state: 'finished', 'training', 'silent' (nothing written for long: stopped or killed; its
          command resumes it), or 'starting'. epoch, epochs: finished and all epochs, over the
          chunks that have started. age: seconds since it last wrote. left: seconds to the end of
          these chunks at the present pace; None if unknown. row: the last of metrics.jsonl.
      step: seconds of an optimiser step, and wait: share of the time without images, medians; None
          where unknown.
      result: metric and estimate of the configured selection on test rows; None before the report.
    """

    folder: Path
    state: str
    epoch: int
    epochs: int
    age: float
    left: float | None
    step: float | None
    wait: float | None
    row: dict
    result: tuple[str, dict] | None


def find(folder: Path) -> list[Path]:
    """Run directories at or below `folder`, by name.

    Raises:
      UserError: it contains none.
    """
    found = sorted(path.parent for path in folder.rglob(run.CONFIG))
    if not found:
        state = "contains no runs" if bounded.is_folder(folder) else "does not exist"
        raise UserError(f"{folder} {state}", fix="give a run, a sweep, or a folder of them")
    return found


def status(folder: Path, now: float) -> Status:
    """The status of a run directory. `now`: seconds since the epoch, like file times.

    Raises:
      UserError: a file of the run cannot be read, is damaged, or does not belong to a run.
    """
    config = contents.read_config(folder / run.CONFIG, contents.STARTED)["config"] or {}
    history = run.read_history(folder)
    # fused runs have no config, and train nothing
    row, epochs = (history or [{}])[-1], config.get("train", {}).get("epochs", 0)
    last = {int(row.get("chunk", 0)): int(row["epoch"]) for row in history}
    done = sum(last.values()), len(last) * epochs
    age = now - max(
        file.stat().st_mtime
        for file in (run.history_files(folder) if history else [folder / run.CONFIG])
    )
    pace, step = (_median(r.get(key) for r in history) for key in ("seconds", "step_seconds"))
    wait = _median(
        r["input_wait"] / r["seconds"] for r in history if "input_wait" in r and r["seconds"]
    )
    result = None
    # a laboratory has no predictions of its own
    if (folder / run.METRICS).exists() and (folder / run.PREDICTIONS).exists():
        metrics = contents.read_metrics(folder / run.METRICS, contents.HEADLINE)
        name = metrics["headline"]["metrics"][0]
        label = "SYNTHETIC " if metrics.get("source") == "synthetic" else ""
        result = label + name, metrics["test"][name]
    if (folder / run.PREDICTIONS).exists():
        return Status(folder, "finished", *done, age, None, step, wait, row, result)
    quiet = age > max(SILENT_SECONDS, SILENT_EPOCHS * (pace or 0))
    state = "silent" if quiet else "training" if history else "starting"
    # otherwise all chunks but the last are finished
    side_by_side = history and run.history_files(folder)[-1].name != run.HISTORY
    behind = min(last.values(), default=0) if side_by_side else row.get("epoch", 0)
    left = (epochs - behind) * pace if pace is not None and not quiet else None
    return Status(folder, state, *done, age, left, step, wait, row, result)


def _median(values: Iterable[float | None]) -> float | None:
    """The median of the last twenty values."""
    last = [v for v in values if v is not None][-20:]
    return float(np.median(last)) if last else None


def _resources(s: Status, streams: bool) -> list[str]:
    """Cells for a step's time, the share of waiting (if any run streams) and memory."""
    step = (
        None if s.step is None else f"{s.step:.2f} s" if s.step >= 1 else f"{1000 * s.step:.3g} ms"
    )
    wait = [s.wait if s.wait is None else f"{s.wait:.0%}"] * streams
    peak = s.row.get("device_bytes", s.row.get("host_bytes"))
    return [cell or "–" for cell in (step, *wait, peak and memory(peak))]


def _short(seconds: float) -> str:
    """A duration in words, '57 s', '12 min', '3 h', '4 d', in the largest unit of which at least
    one has passed.
    """
    size, unit = next(
        ((n, u) for n, u in ((86400, "d"), (3600, "h"), (60, "min")) if seconds >= n), (1, "s")
    )
    return f"{int(seconds // size)} {unit}"


def print_status(root: Path, found: Sequence[Status]) -> None:
    streams = any(s.wait is not None for s in found)
    table = make_table(
        "", "", "epoch", "left", "ago", "loss", "val", "step", *["wait"] * streams, "memory", left=2
    )
    table.add_column("result on test rows", no_wrap=True)
    styles = {"finished": "green", "training": "bold", "silent": "yellow", "starting": "bold"}
    for s in found:
        name = s.folder.relative_to(root).as_posix() if s.folder != root else root.name
        losses = [
            f"{s.row[key]:.3f}" if s.row.get(key) is not None else "–"
            for key in ("train_loss", "val_loss")
        ]
        table.add_row(
            name,
            s.state,
            f"{s.epoch} of {s.epochs}" if s.row else "–",
            duration(s.left) if s.left is not None else "–",
            _short(s.age),
            *losses,
            *_resources(s, streams),
            f"{s.result[0]} {in_words(s.result[1])}" if s.result else "–",
            style=styles[s.state],
        )
    print_table(table, terminal.console)
    counts = {state: sum(s.state == state for s in found) for state in styles}
    terminal.say("  ".join(f"{n} {state}" for state, n in counts.items() if n))
    if counts["silent"]:
        terminal.say(
            "silent runs have stopped, or their epochs take long: the same command resumes them",
            style="yellow",
        )


def show(where: Path | str) -> None:
    """Prints the status of everything at or below a folder or an address. Errors as in `find`."""
    files = (run.CONFIG, run.HISTORY, run.HISTORY_OF_CHUNK.format("*"), run.METRICS)
    with mirror.opened(where, only=files, names_only=(run.PREDICTIONS,)) as folder:
        found, unread = [], []
        for each in find(folder):
            try:
                found.append(status(each, time.time()))
            except UserError as e:  # a faulty folder must not hide the others
                unread.append(f"{e.title}: {'; '.join(e.problems[:2])}".removesuffix(": "))
        if found:
            print_status(folder, found)
        for reason in unread:
            terminal.say(f"not shown  {reason}", style="yellow")


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog=terminal.program("experiments.status"),
        description="Progress of the runs at or below a folder: epochs, time left, losses, "
        "results; also during training.",
    )
    p.add_argument(
        "folder",
        type=path_or_url,
        nargs="?",
        default=Path("runs"),
        help="a run, a sweep, or a folder of them, or the address of one (default: runs)",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return terminal.exit_code(lambda: show(args.folder))
