"""The figures of a run, as PNG files. The only file that imports matplotlib, and without pyplot: no global state, no display.

Every figure has a title; with `synthetic` the title says so in white on red, and the file's own metadata repeats it.
"""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fexpr.run import atomic_path

BLUE, ORANGE, GREEN, RED, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"  # Okabe and Ito, 2008
PALE, GREY = "#CFE3F0", "#777777"
STYLE = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "figure.titlesize": 11, "figure.titleweight": "bold",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#555555", "axes.linewidth": 0.8,
    "xtick.color": "#333333", "ytick.color": "#333333", "legend.frameon": False, "legend.fontsize": 8.5, "image.cmap": "Blues",
}
DPI = 110
WIDTH = 8.6  # inches; an A4 page has room for 7


def learning_curves(path: Path, history: Sequence[dict], chosen: dict[str, int], synthetic: bool) -> None:
    """Losses on the left, validation scores on the right, by epoch.

    Args:
      history: the rows of metrics.jsonl; every key that ends in `loss`, and every other `val_…` key, is drawn.
      chosen: selection name -> epoch, marked by a line.
    """
    keys = list(dict.fromkeys(k for row in history for k, value in row.items() if value is not None))
    losses = [k for k in keys if k.endswith("loss")]
    panels = [p for p in (losses, [k for k in keys if k.startswith("val_") and k not in losses]) if p]
    with _figure(path, "Learning curves", (WIDTH, 3.1), synthetic) as figure:
        for ax, names in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for name, colour in zip(names, (BLUE, ORANGE, GREEN, RED, GREY), strict=False):
                points = [(row["epoch"], row[name]) for row in history if row.get(name) is not None]
                marker = "o" if len(points) == 1 else None
                ax.plot(*zip(*points, strict=True), color=colour, label=name.replace("_", " "), lw=1.6, marker=marker)
            for name, epoch in chosen.items():
                colour = RED if name == "oracle" else "#333333"
                ax.axvline(epoch, color=colour, lw=0.9, ls=":" if name == "oracle" else "--")
                ax.annotate(name.replace("_", " "), (epoch, 1), xycoords=("data", "axes fraction"), fontsize=7.5, va="bottom",
                            rotation=30, color=colour)
            ax.set(xlabel="epoch", ylabel="loss" if names is losses else "score")
            ax.legend()


def per_class_f1(path: Path, per_class: Sequence[dict], baseline: str, synthetic: bool) -> None:
    """F1 of each class with its interval, the constant predictor's F1 as a tick; pale where not part of the macro F1."""
    rows = sorted(per_class, key=lambda r: r["train_positives"])
    with _figure(path, "F1 by class", (WIDTH, max(2.4, 1.3 + 0.24 * len(rows))), synthetic) as figure:
        ax = figure.subplots()
        for y, row in enumerate(rows):
            f1 = row["f1"]
            if f1["value"] is None:
                ax.text(0.008, y, "undefined: no positive test row", va="center", color=GREY, fontsize=8, style="italic")
                continue
            ax.barh(y, f1["value"], color=SKY if row["headline"] else PALE, height=0.62)
            if f1["low"] is not None:
                ax.plot([f1["low"], f1["high"]], [y, y], color="#222222", lw=1.1)
            ax.plot([row["baseline_f1"]["value"]] * 2, [y - 0.4, y + 0.4], color=RED, lw=2)
        ax.set_yticks(range(len(rows)), [f"{r['name']}  ({r['train_positives']}, {r['positives']})" for r in rows])
        ax.set(xlim=(0, 1), ylim=(-0.6, len(rows) - 0.4), xlabel="F1 on test rows", ylabel="class  (training, test positives)")
        handles = [mpl.lines.Line2D([], [], color=c, lw=w) for c, w in ((SKY, 6), (PALE, 6), ("#222222", 1.1), (RED, 2))]
        names = ["in the macro F1", "too few training positives", "95 % interval", baseline]
        if all(r["headline"] or not r["defined"] for r in rows):
            del handles[1], names[1]
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))


def confusion_grid(path: Path, names: Sequence[str], presence: np.ndarray, decisions: np.ndarray, synthetic: bool) -> None:
    """A 2x2 matrix per action unit, from bool [R, K]: counts written, colour the share of the true row."""
    across = min(len(names), 7)
    down = -(-len(names) // across)
    canvas = np.full((3 * down, 3 * across), np.nan)
    with _figure(path, "Confusion matrices by action unit", (WIDTH, 0.7 + 1.05 * down), synthetic) as figure:
        ax = figure.subplots()
        for k, name in enumerate(names):
            top, left = 3 * (k // across) + 1, 3 * (k % across)
            counts = np.array([[np.sum((presence[:, k] == t) & (decisions[:, k] == d)) for d in (0, 1)] for t in (0, 1)])
            canvas[top : top + 2, left : left + 2] = share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            ax.text(left + 0.5, top - 0.62, name, ha="center", va="bottom", fontsize=9, weight="bold")
            for (i, j), count in np.ndenumerate(counts):
                _cell_text(ax, left + j, top + i, count, share[i, j])
        ax.imshow(np.ma.masked_invalid(canvas), vmin=0, vmax=1, aspect="auto")
        for row in range(down):
            for t, name in enumerate(("absent", "present")):
                ax.text(-0.6, 3 * row + 1 + t, name, ha="right", va="center", fontsize=8, color="#333333")
        for t, name in enumerate(("said\nabsent", "said\npresent")):
            ax.text(t, 3 * down - 0.42, name, ha="center", va="top", fontsize=7.5, color="#333333")
        ax.axis("off")


def confusion_matrix(path: Path, names: Sequence[str], presence: np.ndarray, decisions: np.ndarray, synthetic: bool) -> None:
    """One K x K matrix of a one-of-K task, from one-hot bool [R, K]: counts written, colour the share of the true row."""
    counts = presence.T.astype(int) @ decisions.astype(int)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.9 + 0.55 * len(names)
    with _figure(path, "Confusion matrix", (side + 0.8, side), synthetic) as figure:
        ax = figure.subplots()
        ax.imshow(share, vmin=0, vmax=1)
        for (i, j), count in np.ndenumerate(counts):
            _cell_text(ax, j, i, count, share[i, j])
        ax.set_xticks(range(len(names)), names, rotation=40, ha="right")
        ax.set_yticks(range(len(names)), names)
        ax.set(xlabel="predicted", ylabel="true")


def prevalence(path: Path, names: Sequence[str], presence: np.ndarray, synthetic: bool) -> None:
    """Rows with each class, from bool [N, K] of all data rows, and how often action units come together."""
    n, k = presence.shape
    together = presence.T.astype(int) @ presence.astype(int)
    exclusive = not (together - np.diag(np.diag(together))).any()
    title = "How often each class occurs" if exclusive else "How often action units occur, and together"
    with _figure(path, title, (WIDTH, max(2.4, 1.2 + 0.22 * k)), synthetic) as figure:
        left, *right = np.ravel(figure.subplots(1, 1 if exclusive else 2, width_ratios=None if exclusive else [1, 1.5]))
        counts = np.diag(together)
        left.barh(range(k), counts, color=BLUE, height=0.65)
        for y, c in enumerate(counts):
            left.text(c, y, f" {c}", va="center", fontsize=7.5)
        left.set_yticks(range(k), names)
        left.set(xlabel=f"rows (of {n})", ylim=(k - 0.4, -0.6), xlim=(0, counts.max() * 1.12 + 1))
        for ax in right:
            share = together / np.maximum(counts[:, None], 1)
            np.fill_diagonal(share, np.nan)
            image = ax.imshow(np.ma.masked_invalid(share), vmin=0, vmax=1, aspect="auto")
            for (i, j), c in np.ndenumerate(together):
                if i != j and c:
                    _cell_text(ax, j, i, c, share[i, j], size=6.5)
            ax.set_xticks(range(k), names, rotation=90)
            ax.set_yticks(range(k), names)
            figure.colorbar(image, ax=ax, label="share of the row's clips with the column's unit", shrink=0.9)


def clips(path: Path, images: np.ndarray, captions: Sequence[str], right: int, kind: str, synthetic: bool) -> None:
    """Test clips with what was true and what was said; the first `right` of them in the upper row, the others below.

    Args:
      images: uint8 [n, H, W, C]. kind 'flow': channels u, v, strain; the strain is drawn in grey, with arrows for (u, v) less
        their median over the map, since each channel was scaled by itself. kind 'face': drawn as it is.
      captions: one each; lines may be long, they are wrapped.
    """
    across = max(right, len(images) - right)
    rows = [group for group in (range(right), range(right, len(images))) if len(group)]
    with _figure(path, "Test clips, most right above and most wrong below", (WIDTH, 0.5 + 2.05 * len(rows)), synthetic) as figure:
        axes = figure.subplots(len(rows), across, squeeze=False)
        for ax in axes.flat:
            ax.axis("off")
            ax.set_anchor("N")
        for line, group in zip(axes, rows, strict=True):
            for ax, i in zip(line, group, strict=False):
                _draw_flow(ax, images[i]) if kind == "flow" else ax.imshow(images[i], cmap="gray")
                wrapped = "\n".join(textwrap.fill(part, 24, subsequent_indent="  ") for part in captions[i].split("\n"))
                ax.text(0, -0.04, wrapped, fontsize=7, transform=ax.transAxes, va="top", color="#222222")


def _draw_flow(ax, image: np.ndarray) -> None:
    u, v, strain = np.moveaxis(image.astype(float), -1, 0)
    ax.imshow(strain, cmap="Greys", vmin=0, vmax=255)
    step = max(1, image.shape[0] // 14)
    grid = np.s_[step // 2 :: step, step // 2 :: step]
    y, x = np.mgrid[: u.shape[0], : u.shape[1]]
    u, v = u - np.median(u), v - np.median(v)
    ax.quiver(x[grid], y[grid], u[grid], v[grid], color=RED, angles="xy", width=0.009, headwidth=4)


def _cell_text(ax, x: float, y: float, count: int, share: float, size: float = 8) -> None:
    ax.text(x, y, str(count), ha="center", va="center", fontsize=size, color="white" if share > 0.55 else "#222222")


@contextlib.contextmanager
def _figure(path: Path, title: str, size: tuple[float, float], synthetic: bool) -> Iterator[Figure]:
    """Yields a figure in the house style and saves it, whole or not at all, when the block ends."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        if synthetic:
            title = f"SYNTHETIC DATA · {title}"
            figure.suptitle(title, color="white", bbox={"facecolor": "#C00000", "edgecolor": "none", "pad": 4})
        else:
            figure.suptitle(title)
        with atomic_path(path) as partial:
            figure.savefig(partial, dpi=DPI, metadata={"Title": title})
