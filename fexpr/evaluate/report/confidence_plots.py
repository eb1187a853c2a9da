"""Figures of how far a one-of-K model's probabilities can be believed: reliability with counts,
risk by coverage, its mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fexpr.evaluate.report.plots import BLUE, GREY, ORANGE, RED, SKY, WIDTH, canvas


class Picture(NamedTuple):
    image: np.ndarray  # uint8 [H, W, C]
    caption: str  # up to three lines


def reliability_diagrams(path: Path, panels: Sequence[tuple[str, dict]], synthetic: bool) -> None:
    """Accuracy by bin of confidence above, how many rows the bin holds below; a column a panel.

    Args:
      panels: (title, `reliability` of metrics.json).
    """
    most = max(max(r["count"]) for _, r in panels)
    with canvas(path, "Reliability", (WIDTH, 5.0), synthetic) as figure:
        axes = figure.subplots(
            2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1.15]
        )
        for (above, below), (title, r) in zip(axes.T, panels, strict=True):
            edges, count = np.array(r["edges"]), np.array(r["count"])
            middle, width, full = (edges[1:] + edges[:-1]) / 2, np.diff(edges), count > 0
            accuracy, confidence = (
                np.array([np.nan if v is None else v for v in r[key]])
                for key in ("accuracy", "confidence")
            )
            above.plot([0, 1], [0, 1], color=GREY, lw=0.9, ls=":", zorder=1)
            above.bar(
                middle[full],
                accuracy[full],
                width[full] * 0.94,
                color=SKY,
                label="share that is right",
                zorder=2,
            )
            low, gap = np.minimum(accuracy, confidence)[full], np.abs(accuracy - confidence)[full]
            above.bar(
                middle[full],
                gap,
                width[full] * 0.94,
                low,
                color="none",
                edgecolor=RED,
                hatch="////",
                lw=0.7,
                label="gap",
                zorder=3,
            )
            above.plot(
                confidence[full],
                confidence[full],
                "o",
                ms=3.6,
                color=RED,
                zorder=4,
                label="mean confidence",
            )
            above.set(title=title, xlim=(0, 1), ylim=(0, 1))
            below.bar(middle, count, width * 0.94, color=BLUE)
            for x, n in zip(middle, count, strict=True):
                below.annotate(
                    f"{n:,.0f}",
                    (x, n),
                    xytext=(0, 2),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7,
                )
            below.set(xlabel="confidence of the named class", ylim=(0, most * 1.22))
            below.set_xticks(edges[::2])
        axes[0, 0].set_ylabel("share that is right")
        axes[1, 0].set_ylabel("rows")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def risk_coverage(
    path: Path, selective: dict[str, dict], names: dict[str, str], synthetic: bool
) -> None:
    """Share of wrong answers among the most confident rows, by how many are answered; dots with
    intervals at fixed coverages.

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
    """Rows of pictures of one size, with their captions under them; a row's name, if it has one,
    stands at its left.

    All are laid into one large picture: an axes for each would take a second for twenty.
    """
    high, wide, channels = rows[0][1][0].image.shape
    # from one picture to the next, room for the caption in it
    down, right = round(1.42 * high), round(1.08 * wide)
    sheet = np.full((down * len(rows), right * across, channels), 255, np.uint8)
    inch = WIDTH / (across * right + 0.3 * wide)  # of a pixel
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
