"""Figures of training and of test clips: learning curves, selected epochs, sweeps, pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate.report.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORACLE,
    ORANGE,
    RED,
    SKY,
    WIDTH,
    canvas,
    whole_numbers,
)
from fexpr.evaluate.report.headline import MONITORS_IN_WORDS

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Int, UInt8


def learning_curves(
    path: Path, history: Sequence[dict], chosen: dict[str, int], synthetic: bool
) -> None:
    """Draws losses (left) and validation scores (right) by epoch.

    Args:
      history: the rows of metrics.jsonl; every key that ends in `loss`, and every other `val_…`
          key, is drawn.
      chosen: selection name -> epoch, marked by a line.
    """
    keys = list(
        dict.fromkeys(k for row in history for k, value in row.items() if value is not None)
    )
    losses = [k for k in keys if k.endswith("loss")]
    panels = [
        p for p in (losses, [k for k in keys if k.startswith("val_") and k not in losses]) if p
    ]
    with canvas(path, "Learning curves", (WIDTH, 3.1), synthetic) as figure:
        for ax, names in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            for name, colour in zip(
                names,
                (BLUE, ORANGE, GREY) if names is losses else (GREEN, RED, SKY, GREY),
                strict=False,
            ):
                points = [(row["epoch"], row[name]) for row in history if row.get(name) is not None]
                marker = "o" if len(points) == 1 else None
                words = (
                    f"val {MONITORS_IN_WORDS[name[4:]]}"
                    if name[4:] in MONITORS_IN_WORDS
                    else name.replace("_", " ")
                )
                ax.plot(
                    *zip(*points, strict=True), color=colour, label=words, lw=1.6, marker=marker
                )
            for name, epoch in chosen.items():
                look = (
                    {"color": ORACLE, "ls": ":"}
                    if name == "oracle"
                    else {"color": "#333333", "ls": "--" if name == "best_val" else "-"}
                )
                ax.axvline(
                    epoch,
                    lw=1.1,
                    label=f"{name.replace('_', ' ')}: epoch {epoch}",
                    zorder=0,
                    **look,
                )
            ax.set(xlabel="epoch", ylabel="loss" if names is losses else "score")
            whole_numbers(ax.xaxis)
        handles = {
            label: h
            for ax in figure.axes
            for h, label in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles, loc="outside right upper")


def selected_epochs(
    path: Path, epochs: dict[str, Int[np.ndarray, " T"]], last: int, synthetic: bool
) -> None:
    """Draws how often each epoch was selected, one histogram per selection, stacked vertically; a
    tick marks the median.

    Args:
      epochs: selection name -> int [T], the selected epoch of each trial. last: the highest epoch
          of the axis.
    """
    edges = np.linspace(0.5, last + 0.5, min(last, 50) + 1)
    with canvas(path, "Selected epochs", (WIDTH, 0.9 + 1.05 * len(epochs)), synthetic) as figure:
        axes = figure.subplots(len(epochs), 1, sharex=True, squeeze=False)[:, 0]
        for ax, (name, chosen) in zip(axes, epochs.items(), strict=True):
            colour = ORACLE if name == "oracle" else BLUE
            ax.hist(chosen, edges, color=colour, alpha=0.75, rwidth=0.92)
            ax.axvline(np.median(chosen), color="#222222", lw=1.2)
            ax.set_title(
                f"{name.replace('_', ' ')}: median {np.median(chosen):g}", loc="left", color=colour
            )
            ax.set_ylabel("trials")
            whole_numbers(ax.yaxis, 3)
        axes[-1].set(xlabel="epoch", xlim=(0.5, last + 0.5))
        whole_numbers(axes[-1].xaxis)


def clips(
    path: Path,
    images: UInt8[np.ndarray, "n H W C"],
    captions: Sequence[str],
    right: int,
    kind: str,
    synthetic: bool,
) -> None:
    """Draws test clips with their labels and predictions; the first `right` of them in the upper
    row, the others below.

    Args:
      images: uint8 [n, H, W, C]. kind 'flow': channels u, v, strain; the strain is drawn in grey,
        with arrows for (u, v) minus their median over the map, since each channel was scaled
        separately. kind 'face': drawn as it is.
      captions: one each; lines may be long, they are wrapped.
    """
    across = max(right, len(images) - right)
    rows = [group for group in (range(right), range(right, len(images))) if len(group)]
    texts = [
        "\n".join(textwrap.fill(part, 24, subsequent_indent="  ") for part in caption.split("\n"))
        for caption in captions
    ]
    # inches: an image and its caption
    heights = [1.38 + 0.122 * max(texts[i].count("\n") + 1 for i in group) for group in rows]
    title = "Test clips: best predictions above, worst below"
    with canvas(path, title, (WIDTH, 0.55 + sum(heights)), synthetic) as figure:
        axes = figure.subplots(len(rows), across, squeeze=False, height_ratios=heights)
        for ax in axes.flat:
            ax.axis("off")
            ax.set_anchor("N")
        for line, group in zip(axes, rows, strict=True):
            for ax, i in zip(line, group, strict=False):
                _draw_flow(ax, images[i]) if kind == "flow" else ax.imshow(
                    images[i], cmap="gray", vmin=0, vmax=255
                )
                ax.text(
                    0,
                    -0.04,
                    texts[i],
                    fontsize=7,
                    transform=ax.transAxes,
                    va="top",
                    color="#222222",
                    in_layout=False,
                )


def sweep_scatter(
    path: Path,
    points: Sequence[tuple[int, float, float]],
    metric: str,
    lower_is_better: bool,
    synthetic: bool,
) -> None:
    """Draws test figures against validation figures, one dot per point, numbered by its rank (1,
    the best by validation, is filled).
    """
    with canvas(path, f"{metric}: test against validation", (5.6, 4.4), synthetic) as figure:
        ax = figure.subplots()
        for rank, val, test in points:
            ax.plot(val, test, "o", ms=9, color=BLUE if rank == 1 else "white", mec=BLUE, zorder=3)
            ax.annotate(
                str(rank), (val, test), xytext=(7, 5), textcoords="offset points", fontsize=8
            )
        low, high = min(ax.dataLim.min), max(ax.dataLim.max)
        ax.plot([low, high], [low, high], color=GREY, lw=0.8, ls=":", zorder=0)
        better = "lower is better" if lower_is_better else "higher is better"
        ax.set(xlabel=f"validation ({better}): chosen by this", ylabel="test: only to look at")


def _draw_flow(ax, image: np.ndarray) -> None:
    u, v, strain = np.moveaxis(image.astype(float), -1, 0)
    ax.imshow(strain, cmap="Greys", vmin=0, vmax=255)
    step = max(1, image.shape[0] // 14)
    grid = np.s_[step // 2 :: step, step // 2 :: step]
    y, x = np.mgrid[: u.shape[0], : u.shape[1]]
    u, v = u - np.median(u), v - np.median(v)
    if u[grid].any() or v[grid].any():
        ax.quiver(
            x[grid], y[grid], u[grid], v[grid], color=RED, angles="xy", width=0.009, headwidth=4
        )
