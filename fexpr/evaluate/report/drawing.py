"""The canvas of every figure. The only file that imports matplotlib, without pyplot: no global
state, no display.

Every figure has a title; with `synthetic` the title says so in white on red, and the metadata of
the file repeats it.
"""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fexpr.storage.run import atomic_path

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# Okabe and Ito, 2008
BLUE, ORANGE, GREEN, RED, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
PALE, GREY, ORACLE = "#CFE3F0", "#777777", "#A3307E"
STYLE: dict[RcKeyType, Any] = {
    "font.size": 9,
    # names of classes and clips may contain a $, which must not start a formula
    "text.parse_math": False,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.8,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "image.cmap": "Blues",
}
DPI = 150
BANNER = 4  # points around the words SYNTHETIC DATA
NAME = 28  # letters of a line of a run's name beside an axis or in a legend
WIDTH = 8.6  # inches; the page shows an inch as 96 CSS pixels, the paper 7 inches of it


@contextlib.contextmanager
def canvas(path: Path, title: str, size: tuple[float, float], synthetic: bool) -> Iterator[Figure]:
    """Yields a figure in the common style and saves it, completely or not at all, when the block
    ends.
    """
    with mpl.rc_context(STYLE):
        layout = ConstrainedLayoutEngine()
        figure = Figure(figsize=size, layout=layout)
        FigureCanvasAgg(figure)
        yield figure
        if synthetic:
            title = f"SYNTHETIC DATA · {title}"
            # inches: room for the banner's own margin above it
            layout.set(h_pad=BANNER / 72 + 0.02)
            figure.suptitle(
                title,
                color="white",
                bbox={"facecolor": "#C00000", "edgecolor": "none", "pad": BANNER},
            )
        else:
            figure.suptitle(title)
        with atomic_path(path) as partial:
            figure.savefig(
                partial, dpi=DPI, metadata={"Title": title}, pil_kwargs={"compress_level": 4}
            )


def in_lines(name: str) -> str:
    """A name, which may be as long as a run's, on as many lines as it needs."""
    return textwrap.fill(name, NAME)


def whole_numbers(axis: Axis, most: int = 10) -> None:
    """Puts ticks of an axis only at whole numbers, with at most this many intervals."""
    axis.set_major_locator(MaxNLocator(most, integer=True))


def legend_line(colour: str, width: float) -> Line2D:
    """A line that only appears in a legend."""
    return Line2D([], [], color=colour, lw=width)
