"""Figures of how far a one-of-K model's probabilities can be trusted: reliability with counts, risk
by coverage, mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fexpr.evaluate.report.drawing import BLUE, GREEN, GREY, ORANGE, RED, WIDTH, canvas

COLOURS = (BLUE, ORANGE, GREEN, RED)


class Picture(NamedTuple):
    image: np.ndarray  # uint8 [H, W, C]
    caption: str  # up to three lines


def reliability_diagram(path: Path, curves: Sequence[tuple[str, dict]], synthetic: bool) -> None:
    """Draws the accuracy at each confidence, with a 95 % band for each curve (above), and how many
    rows have that confidence (below).

    Args:
      curves: (label, `diagram` of metrics.json), drawn over one another.
    """
    with canvas(path, "Reliability", (WIDTH * 0.72, 5.4), synthetic) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        above.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":", label="perfect", zorder=4)
        for (label, d), colour in zip(curves, COLOURS, strict=False):
            mesh, curve, low, high = (
                np.array([np.nan if v is None else v for v in d[key]])
                for key in ("mesh", "curve", "low", "high")
            )
            above.fill_between(mesh, low, high, color=colour, alpha=0.22, lw=0)
            above.plot(mesh, curve, color=colour, lw=1.8, label=label)
            below.fill_between(mesh, d["density"], color=colour, alpha=0.22, lw=0)
            below.plot(mesh, d["density"], color=colour, lw=1)
        above.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
        below.set(
            xlabel="confidence in the predicted class", ylabel="rows", yticks=[], ylim=(0, None)
        )
        figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=2)


def risk_coverage(
    path: Path, selective: dict[str, dict], names: dict[str, str], synthetic: bool
) -> None:
    """Draws the share of wrong answers among the most confident rows, by how many are answered;
    dots with intervals at fixed coverages.

    Args:
      selective: the entry of metrics.json. names: its keys in words.
    """
    with canvas(path, "Risk and coverage", (WIDTH * 0.72, 3.8), synthetic) as figure:
        ax = figure.subplots()
        for (name, entry), colour, nudge in zip(
            selective.items(), (BLUE, ORANGE), (-0.004, 0.004), strict=False
        ):
            ax.plot(
                entry["curve"]["coverage"],
                entry["curve"]["risk"],
                color=colour,
                lw=1.6,
                label=f"{names[name]}: area {entry['aurc']['value']:.3f}",
            )
            for key, e in entry.items():
                if key.startswith("accuracy_at_"):
                    coverage = float(key.removeprefix("accuracy_at_")) + nudge
                    ax.plot(coverage, 1 - e["value"], "o", ms=4, color=colour)
                    if e["low"] is not None:
                        ax.plot([coverage] * 2, [1 - e["high"], 1 - e["low"]], color=colour, lw=1.1)
        ax.set(
            xlabel="coverage: share of the rows that is answered, the most confident first",
            ylabel="risk: share of wrong answers",
            xlim=(0, 1.01),
            ylim=(0, None),
        )
        figure.legend(loc="outside lower center", ncols=2)


def picture_grid(
    path: Path,
    title: str,
    rows: Sequence[tuple[str, Sequence[Picture]]],
    across: int,
    synthetic: bool,
) -> None:
    """Draws rows of pictures of one size, with their captions under them; a row's name, if it has
    one, is on its left.

    All are pasted into one large picture, as axes for each of twenty would take a second.
    """
    high, wide, channels = rows[0][1][0].image.shape
    # from one picture to the next, room for the caption in it
    down, right = round(1.42 * high), round(1.08 * wide)
    sheet = np.full((down * len(rows), right * across, channels), 255, np.uint8)
    inch = WIDTH / (across * right + 0.3 * wide)  # colour of a pixel
    with canvas(path, title, (WIDTH, 0.35 + down * len(rows) * inch), synthetic) as figure:
        ax = figure.subplots()
        for i, (name, pictures) in enumerate(rows):
            ax.text(
                -0.08 * wide,
                down * i + high / 2,
                name,
                rotation=90,
                ha="right",
                va="center",
                fontsize=8.5,
                weight="bold",
            )
            for j, picture in enumerate(pictures):
                sheet[down * i : down * i + high, right * j : right * j + wide] = picture.image
                ax.text(
                    right * j + wide / 2,
                    down * i + 1.04 * high,
                    picture.caption,
                    fontsize=6.8,
                    ha="center",
                    va="top",
                    color="#222222",
                    linespacing=1.15,
                )
        ax.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.axis("off")
