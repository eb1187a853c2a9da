"""Figures of classes: confusion matrices, F1 by class, how often each occurs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate.report.drawing import BLUE, GREY, PALE, RED, SKY, WIDTH, canvas, legend_line

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Num


def per_class_f1(path: Path, per_class: Sequence[dict], baseline: str, synthetic: bool) -> None:
    """Draws the F1 of each class with its interval, and the constant predictor's F1 as a tick; pale
    if not part of the macro F1.
    """
    rows = sorted(per_class, key=lambda r: r["train_positives"])
    with canvas(path, "F1 by class", (WIDTH, 1.2 + 0.24 * len(rows)), synthetic) as figure:
        ax = figure.subplots()
        for y, row in enumerate(rows):
            f1 = row["f1"]
            if f1["value"] is None:
                ax.text(
                    0.008,
                    y,
                    "undefined: no positive test row",
                    va="center",
                    color=GREY,
                    fontsize=8,
                    style="italic",
                )
                continue
            ax.barh(y, f1["value"], color=SKY if row["headline"] else PALE, height=0.62)
            ax.plot(f1["value"], y, "o", color="#222222", ms=3.2, clip_on=False)
            if f1["low"] is not None:
                ax.plot([f1["low"], f1["high"]], [y, y], color="#222222", lw=1.1)
            ax.plot([row["baseline_f1"]["value"]] * 2, [y - 0.4, y + 0.4], color=RED, lw=2)
        ax.set_yticks(
            range(len(rows)),
            [f"{r['name']}  ({r['train_positives']}, {r['positives']})" for r in rows],
        )
        ax.set(xlim=(0, 1), ylim=(-0.6, len(rows) - 0.4), xlabel="F1 on test rows")
        handles = [legend_line(c, w) for c, w in ((SKY, 6), (PALE, 6), ("#222222", 1.1), (RED, 2))]
        names = ["in the macro F1", "too few training positives", "95 % interval", baseline]
        if all(r["headline"] or not r["defined"] for r in rows):
            del handles[1], names[1]
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))


def confusion_grid(
    path: Path,
    names: Sequence[str],
    tp: Sequence[float],
    fp: Sequence[float],
    fn: Sequence[float],
    tn: Sequence[float],
    synthetic: bool,
) -> None:
    """Draws a 2x2 matrix per action unit, from counts [K]: cells show counts, colours the share
    within the true row.
    """
    across = min(len(names), 7)
    down = -(-len(names) // across)
    cells = np.full((3 * down, 3 * across), np.nan)
    with canvas(
        path, "Confusion matrices by action unit", (WIDTH, 0.8 + 1.0 * down), synthetic
    ) as figure:
        ax = figure.subplots()
        for k, name in enumerate(names):
            top, left = 3 * (k // across) + 1, 3 * (k % across)
            counts = np.array([[tn[k], fp[k]], [fn[k], tp[k]]])
            cells[top : top + 2, left : left + 2] = share = counts / np.maximum(
                counts.sum(axis=1, keepdims=True), 1e-9
            )
            ax.text(
                left + 0.5, top - 0.62, name, ha="center", va="bottom", fontsize=9, weight="bold"
            )
            for (i, j), count in np.ndenumerate(counts):
                _cell_text(ax, left + j, top + i, _count(count), share[i, j])
        ax.imshow(np.ma.masked_invalid(cells), vmin=0, vmax=1, aspect="auto")
        for row in range(down):
            for t, name in enumerate(("absent", "present")):
                ax.text(
                    -0.6,
                    3 * row + 1 + t,
                    name,
                    ha="right",
                    va="center",
                    fontsize=8,
                    color="#333333",
                )
        for t, name in enumerate(("predicted\nabsent", "predicted\npresent")):
            ax.text(
                t + 0.34 * (2 * t - 1),
                3 * down - 0.42,
                name,
                ha="center",
                va="top",
                fontsize=7.5,
                color="#333333",
            )
        ax.axis("off")


def confusion_matrix(
    path: Path,
    names: Sequence[str],
    counts: Num[np.ndarray, "K K"],
    unanswered: Num[np.ndarray, " K"],
    synthetic: bool,
) -> None:
    """Draws counts [K, K] (true classes down, predicted ones across) on the left, shares of the
    true row on the right.

    Args:
      unanswered: [K], rows of failed trials, which get a column of their own if there are any. They
          count in the shares.
    """
    columns = [*names, *(["no answer"] if np.any(unanswered) else [])]  # across
    counts = np.column_stack([counts, unanswered])[:, : len(columns)]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
    side = 1.5 + 0.5 * len(names)
    with canvas(path, "Confusion matrix", (min(WIDTH, 2 * side + 1.4), side), synthetic) as figure:
        for ax, title, texts in zip(
            figure.subplots(1, 2),
            ("rows", "share of the true class"),
            (
                [[_count(c) for c in row] for row in counts],
                [[f"{s:.2f}" for s in row] for row in share],
            ),
            strict=True,
        ):
            ax.imshow(share, vmin=0, vmax=1, aspect="auto")
            for (i, j), s in np.ndenumerate(share):
                _cell_text(ax, j, i, texts[i][j], s)
            ax.set_xticks(
                range(len(columns)),
                columns,
                rotation=0 if len(columns) < 5 else 40,
                ha="center" if len(columns) < 5 else "right",
            )
            ax.set_yticks(
                range(len(names)),
                [f"{n}  ({_count(c)})" for n, c in zip(names, counts.sum(axis=1), strict=True)],
            )
            ax.set(xlabel="predicted", title=title)
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
        figure.axes[0].set_ylabel("true  (rows)")
        figure.axes[1].set_yticks([])


def prevalence(
    path: Path, names: Sequence[str], presence: Bool[np.ndarray, "N K"], synthetic: bool
) -> None:
    """Draws the number of rows with each class, from bool [N, K] of all data rows, and how often
    action units occur together.
    """
    n, k = presence.shape
    co_occurrence = presence.T.astype(int) @ presence.astype(int)
    exclusive = not (co_occurrence - np.diag(np.diag(co_occurrence))).any()
    title = (
        "How often each class occurs" if exclusive else "How often action units occur, and together"
    )
    with canvas(path, title, (WIDTH, 1.2 + 0.22 * k), synthetic) as figure:
        left, *right = np.ravel(
            figure.subplots(1, 1 if exclusive else 2, width_ratios=None if exclusive else [1, 1.5])
        )
        counts = np.diag(co_occurrence)
        left.barh(range(k), counts, color=BLUE, height=0.65)
        for y, c in enumerate(counts):
            left.text(c, y, f" {c}", va="center", fontsize=7.5)
        left.set_yticks(range(k), names)
        left.set(xlabel=f"rows (of {n})", ylim=(k - 0.4, -0.6), xlim=(0, counts.max() * 1.12 + 1))
        for ax in right:
            share = co_occurrence / np.maximum(counts[:, None], 1)
            np.fill_diagonal(share, np.nan)
            image = ax.imshow(np.ma.masked_invalid(share), vmin=0, vmax=1, aspect="auto")
            for (i, j), c in np.ndenumerate(co_occurrence):
                if i != j and c:
                    _cell_text(ax, j, i, _count(c), float(share[i, j]), size=6.5)
            ax.set_xticks(range(k), names, rotation=90)
            ax.set_yticks(range(k), names)
            figure.colorbar(image, ax=ax, label="share of the row's clips", shrink=0.9)


def _count(value: float) -> str:
    """A count, or a mean of counts over seeds."""
    return f"{value:.0f}" if abs(value - round(value)) < 1e-6 else f"{value:.1f}"


def _cell_text(ax, x: float, y: float, text: str, share: float, size: float = 8) -> None:
    ax.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=size,
        color="white" if share > 0.55 else "#222222",
    )
