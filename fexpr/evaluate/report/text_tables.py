"""Tables on the terminal, without lines."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from fexpr.terminal import BANNER


def make_table(*headings: str, left: int = 1) -> Table:
    """A table without lines; its first `left` columns are text, the others numbers."""
    table = Table(box=None, pad_edge=False, header_style="")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i < left else "right")
    return table


def print_table(table: Table, console: Console) -> None:
    """Prints the table at its full width: a narrow terminal wraps the lines, whereas rich would cut
    numbers.
    """
    table.width = Measurement.get(console, console.options.update(width=1000), table).maximum
    console.print(table, crop=False)


def label_synthetic(source: str, console: Console) -> None:
    """Says below figures if their `source` is synthetic."""
    if source == "synthetic":
        console.print("SYNTHETIC DATA: these numbers say nothing about people", style=BANNER)
