"""The live table of a sweep's tasks: where each runs, how far it is, how often it was begun."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.live import Live
from rich.table import Table

from fexpr.evaluate.report.run_report import duration
from fexpr.terminal import console, say

STYLES = {"done": "green", "training": "bold", "waiting": "dim", "failed": "red"}


@contextlib.contextmanager
def shown(epochs: int) -> Iterator[Callable[[Sequence[str], Mapping[str, str], Mapping[str, dict]], None]]:
    """Yields a function of the tasks' names, why those that ended failed ('' = they did not), and what they said of themselves.

    On a terminal it redraws the table; elsewhere a line is printed whenever a task begins, begins again, or ends.
    """
    began, before = time.monotonic(), {}
    with Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else contextlib.nullcontext() as live:
        def show(names, ended, said):
            rows = {name: _row(name, ended, said.get(name), epochs, time.monotonic() - began) for name in names}
            if live:
                live.update(_table(rows, len(ended), time.monotonic() - began), refresh=True)
                return
            for name, row in rows.items():
                state = row["state"], row["try"]
                if state != before.get(name) and row["state"] != "waiting":
                    say(f"{row['state']:<10} {name}" + (f" on {row['node']}" if row["node"] else "")
                        + (f", try {row['try']}" if row["try"] not in ("", "1") else ""), style=STYLES[row["state"]])
                before[name] = state

        yield show


def _row(name: str, ended: Mapping[str, str], said: dict | None, epochs: int, seconds: float) -> dict[str, str]:
    state = ("failed" if ended[name] else "done") if name in ended else "training" if said else "waiting"
    epoch = epochs if said and state == "done" else said["epoch"] if said else 0
    return {
        "state": state, "node": said["node"] if said else "", "try": str(said["tries"]) if said else "",
        "epoch": f"{epoch} of {epochs}" if said else "", "note": said["note"] if said else "",
    }


def _table(rows: Mapping[str, Mapping[str, str]], ended: int, seconds: float) -> Table:
    left = seconds / ended * (len(rows) - ended) if ended else None
    title = f"{ended} of {len(rows)} tasks done   {duration(seconds)}" + (f"   about {duration(left)} left" if left else "")
    table = Table(box=None, pad_edge=False, header_style="", caption=title, caption_justify="left", caption_style="")
    for heading in ("task", "", "epoch", "node", "try", "loss"):
        table.add_column(heading, no_wrap=True)
    for name, row in rows.items():
        table.add_row(name, row["state"], row["epoch"], row["node"], row["try"], row["note"], style=STYLES[row["state"]])
    return table
