"""Figures of frames within clips: posteriors over a clip, frames that filters keep, the regions
that a spatial transformer samples, action units.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate.report.drawing import BLUE, GREY, ORANGE, RED, WIDTH, canvas

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Int, Num

UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)


def by_stage(path: Path, rows: Sequence[dict], synthetic: bool) -> None:
    """Draws the accuracy of clips with its interval (left axis) and the share of training frames
    kept (right axis), by stage.
    """
    with canvas(path, "Clips right, and frames trained on", (WIDTH, 3.4), synthetic) as figure:
        ax = figure.subplots()
        x = np.arange(len(rows))
        of = [row["rules"][row["rule"]]["accuracy"] for row in rows]
        value = np.array([e["value"] for e in of])
        for i, e in enumerate(of):
            if e["low"] is not None:
                ax.plot([i, i], [e["low"], e["high"]], color=BLUE, lw=1.4)
        ax.plot(x, value, "o", color=BLUE, label="clips right")
        filtered = [i for i, row in enumerate(rows) if "filtered_test" in row]
        ax.plot(
            filtered,
            [rows[i]["filtered_test"][rows[i]["rule"]]["accuracy"]["value"] for i in filtered],
            "D",
            ms=4.5,
            mfc="white",
            color=RED,
            label="with test frames filtered too",
        )
        kept = ax.twinx()
        kept.bar(
            x,
            [row["kept"] for row in rows],
            width=0.5,
            color=ORANGE,
            alpha=0.25,
            label="frames kept",
        )
        kept.set(ylim=(0, 1.05), ylabel="share of training frames")
        ax.set_zorder(kept.get_zorder() + 1)
        ax.patch.set_visible(False)
        ax.set_xticks(
            x,
            [row["name"] for row in rows],
            rotation=25 if len(rows) > 3 else 0,
            ha="right" if len(rows) > 3 else "center",
        )
        ax.set(ylabel="accuracy of clips", ylim=(0, 1))
        figure.legend(loc="outside lower center", ncols=3)


def kept_by_class(path: Path, rows: Sequence[dict], names: Sequence[str], synthetic: bool) -> None:
    """Draws a cell for each emotion and stage: the share of its training frames that is kept."""
    share = np.array([row["kept_by_class"] for row in rows]).T
    with canvas(
        path, "Frames kept of each emotion", (WIDTH, 0.9 + 0.3 * len(names)), synthetic
    ) as figure:
        ax = figure.subplots()
        ax.imshow(share, vmin=0, vmax=1, aspect="auto")
        for (i, j), s in np.ndenumerate(share):
            ax.text(
                j,
                i,
                f"{100 * s:.0f} %",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if s > 0.55 else "#222222",
            )
        ax.set_yticks(range(len(names)), names)
        ax.set_xticks(
            range(len(rows)),
            [row["name"] for row in rows],
            rotation=25 if len(rows) > 3 else 0,
            ha="right" if len(rows) > 3 else "center",
        )
        ax.tick_params(length=0)


def traces(
    path: Path,
    panels: Sequence[
        tuple[
            str, Float[np.ndarray, "_ K"], int, Bool[np.ndarray, " _"], Num[np.ndarray, " _"] | None
        ]
    ],
    synthetic: bool,
) -> None:
    """Draws posteriors over clips.

    Args:
      panels: (title, posteriors [F, K], the clip's class, frames kept bool [F], what is really
          shown [F] or None).
    """
    down = -(-len(panels) // 2)
    with canvas(
        path, "Posteriors over clips, and the frames kept", (WIDTH, 0.5 + 1.5 * down), synthetic
    ) as figure:
        axes = figure.subplots(down, min(2, len(panels)), squeeze=False, sharey=True).ravel()
        for ax in axes[len(panels) :]:
            ax.axis("off")
        for ax, (title, posteriors, label, kept, shown) in zip(axes, panels, strict=False):
            frames = np.arange(len(posteriors))
            if shown is not None:
                ax.fill_between(frames, shown, color=ORANGE, alpha=0.25, lw=0)
            ax.plot(frames, np.delete(posteriors, label, axis=1).max(axis=1), color=GREY, lw=0.9)
            ax.plot(frames, posteriors[:, label], color=BLUE, lw=1.4)
            ax.plot(frames[kept], posteriors[kept, label], "o", color=BLUE, ms=3.5)
            ax.set_title(title, loc="left", fontsize=8)
            ax.set(ylim=(-0.03, 1.03), xlim=(-0.5, len(frames) - 0.5))
        figure.supxlabel("frame", fontsize=9)
        figure.supylabel("posterior", fontsize=9)


def attention(
    path: Path,
    panels: Sequence[
        tuple[str, Int[np.ndarray, " _"], Float[np.ndarray, " _"], Num[np.ndarray, " _"] | None]
    ],
    synthetic: bool,
) -> None:
    """Draws weights over the frames of clips.

    Args:
      panels: (title, numbers of the frames [F], their weights [F], what is really shown [F] or
          None).
    """
    down = -(-len(panels) // 2)
    with canvas(path, "Which frames decide", (WIDTH, 0.5 + 1.5 * down), synthetic) as figure:
        axes = figure.subplots(down, min(2, len(panels)), squeeze=False, sharey=True).ravel()
        for ax in axes[len(panels) :]:
            ax.axis("off")
        top = 1.15 * max(weights.max() for _, _, weights, _ in panels)
        for ax, (title, numbers, weights, shown) in zip(axes, panels, strict=False):
            if shown is not None:
                ax.fill_between(numbers, top * shown, color=ORANGE, alpha=0.25, lw=0)
            ax.vlines(numbers, 0, weights, color=BLUE, lw=1.4)
            ax.plot(numbers, weights, "o", color=BLUE, ms=3.5)
            ax.axhline(1 / len(weights), color=GREY, lw=0.9, ls=":")
            ax.set_title(title, loc="left", fontsize=8)
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.set(ylim=(0, top))
        figure.supxlabel("frame", fontsize=9)
        figure.supylabel("weight", fontsize=9)


def looks(
    path: Path,
    faces: Num[np.ndarray, "n H W"],
    maps: Num[np.ndarray, "n H W"],
    sampled: Num[np.ndarray, "n H W"],
    ids: Sequence[str],
    synthetic: bool,
) -> None:
    """Draws faces, maps and sampled images, [n, H, W] each, in 0..255, above one another."""
    with canvas(path, "What the spatial transformer looks at", (WIDTH, 4.6), synthetic) as figure:
        axes = figure.subplots(3, len(faces), squeeze=False)
        for line, (name, images) in zip(
            axes, (("image", faces), ("map", maps), ("sampled", sampled)), strict=True
        ):
            for ax, picture in zip(line, images, strict=True):
                ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
                ax.set(xticks=[], yticks=[])
            line[0].set_ylabel(name)
        for ax, id_ in zip(axes[0], ids, strict=True):
            ax.set_title(str(id_)[-14:], fontsize=7)


def units_by_class(
    path: Path,
    units: Float[np.ndarray, "N 17"],
    labels: Int[np.ndarray, " N"],
    names: Sequence[str],
    synthetic: bool,
) -> None:
    """Draws median and quartiles of each action unit [N, 17], a panel for each emotion."""
    across = 4
    down = -(-len(names) // across)
    with canvas(path, "Action units by emotion", (WIDTH, 0.6 + 2.5 * down), synthetic) as figure:
        axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
        for ax in axes[len(names) :]:
            ax.axis("off")
        for k, (ax, name) in enumerate(zip(axes, names, strict=False)):
            mine = units[(labels == k) & ~np.isnan(units).any(axis=1)]
            ax.set_title(f"{name} ({len(mine):,})", fontsize=9)
            if len(mine):
                low, middle, high = np.percentile(mine, [25, 50, 75], axis=0)
                ax.hlines(range(len(UNITS)), low, high, color=BLUE, lw=3, alpha=0.5)
                ax.plot(middle, range(len(UNITS)), "o", color=BLUE, ms=3.5)
        axes[0].set_yticks(range(len(UNITS)), [f"AU{u:02d}" for u in UNITS], fontsize=7)
        axes[0].invert_yaxis()
        figure.supxlabel("intensity", fontsize=9)
