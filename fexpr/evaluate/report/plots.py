"""The figures of a run, as PNG files. The only file that imports matplotlib, and without pyplot: no
global state, no display. Other files draw on a `canvas` (confidence_plots.py).

Every figure has a title; with `synthetic` the title says so in white on red, and the file's own
metadata repeats it.
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

from fexpr.evaluate.report.headline import MONITORS_IN_WORDS
from fexpr.storage.run import atomic_path

# Okabe and Ito, 2008
BLUE, ORANGE, GREEN, RED, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
PALE, GREY, ORACLE = "#CFE3F0", "#777777", "#A3307E"
STYLE = {
    "font.size": 9,
    "text.parse_math": False,  # names of classes and clips are anybody's; a $ in them is a $
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
WIDTH = 8.6  # inches; the page shows an inch as 96 CSS pixels, the paper 7 inches of it


def learning_curves(
    path: Path, history: Sequence[dict], chosen: dict[str, int], synthetic: bool
) -> None:
    """Losses on the left, validation scores on the right, by epoch.

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
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        handles = {
            label: h
            for ax in figure.axes
            for h, label in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles, loc="outside right upper")


def selected_epochs(path: Path, epochs: dict[str, np.ndarray], last: int, synthetic: bool) -> None:
    """How often each epoch was selected, a histogram a selection above one another; a tick marks
    the median.

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
            ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(3, integer=True))
        axes[-1].set(xlabel="epoch", xlim=(0.5, last + 0.5))
        axes[-1].xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))


def per_class_f1(path: Path, per_class: Sequence[dict], baseline: str, synthetic: bool) -> None:
    """F1 of each class with its interval, the constant predictor's F1 as a tick; pale where not
    part of the macro F1.
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
        handles = [
            mpl.lines.Line2D([], [], color=c, lw=w)
            for c, w in ((SKY, 6), (PALE, 6), ("#222222", 1.1), (RED, 2))
        ]
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
    """A 2x2 matrix per action unit, from counts [K]: counts written, colour the share of the true
    row.
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
    path: Path, names: Sequence[str], counts: np.ndarray, unanswered: np.ndarray, synthetic: bool
) -> None:
    """Counts [K, K] (true down, predicted across) on the left, shares of the true row on the right.

    Args:
      unanswered: [K], rows of failed trials; a column of its own where there are any. They are part
          of the shares.
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


def prevalence(path: Path, names: Sequence[str], presence: np.ndarray, synthetic: bool) -> None:
    """Rows with each class, from bool [N, K] of all data rows, and how often action units come
    together.
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
                    _cell_text(ax, j, i, _count(c), share[i, j], size=6.5)
            ax.set_xticks(range(k), names, rotation=90)
            ax.set_yticks(range(k), names)
            figure.colorbar(
                image, ax=ax, label="share of the row's clips with the column's unit", shrink=0.9
            )


def clips(
    path: Path, images: np.ndarray, captions: Sequence[str], right: int, kind: str, synthetic: bool
) -> None:
    """Test clips with their labels and predictions; the first `right` of them in the upper row,
    the others below.

    Args:
      images: uint8 [n, H, W, C]. kind 'flow': channels u, v, strain; the strain is drawn in grey,
        with arrows for (u, v) less their median over the map, since each channel was scaled by
        itself. kind 'face': drawn as it is.
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
    """Test against validation, a dot a point, numbered by its rank (1 is the best by validation,
    and filled).
    """
    with canvas(path, f"{metric}: test against validation", (5.6, 4.4), synthetic) as figure:
        ax = figure.subplots()
        for rank, val, test in points:
            ax.plot(val, test, "o", ms=9, color=BLUE if rank == 1 else "white", mec=BLUE, zorder=3)
            ax.annotate(
                str(rank), (val, test), xytext=(7, 5), textcoords="offset points", fontsize=8
            )
        low, high = ax.dataLim.min.min(), ax.dataLim.max.max()
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


@contextlib.contextmanager
def canvas(path: Path, title: str, size: tuple[float, float], synthetic: bool) -> Iterator[Figure]:
    """Yields a figure in the house style and saves it, whole or not at all, when the block ends."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        if synthetic:
            title = f"SYNTHETIC DATA · {title}"
            # inches: room for the banner's own margin above it
            figure.get_layout_engine().set(h_pad=BANNER / 72 + 0.02)
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
