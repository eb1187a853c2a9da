"""The page that explains a network: which pixels a class depends on, and the outputs of the
convolutions, laid over the image.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate.report import drawing
from fexpr.evaluate.report.page import image, write_html

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Int, UInt8

FOLDER, PAGE = "inside", "inside.html"
CHANNELS_SHOWN = 16  # of a layer
ACROSS = 8  # channels in a row
# red above zero, blue below; opacity grows with a value's size
COLOURS = "RdBu_r"


@dataclasses.dataclass(frozen=True)
class Explained:
    """One image and its explanation.

    Attributes:
      id: the row's. image: uint8 [H, W, C]. kind: 'face' or 'flow', as in the data set. facts:
          (name, value) pairs of text. class_name: the class that the maps explain.
      gradient: float [H, W], |d logit / d grey level|. smooth: the same, SmoothGrad.
      occlusion: float [H, W], how much the probability drops when a patch hides the pixel; negative
          where it rises.
      features: name of a convolution -> its output float [h, w, D], before the activation.
    """

    id: str
    image: UInt8[np.ndarray, "H W C"]
    kind: str
    facts: Sequence[tuple[str, str]]
    class_name: str
    gradient: Float[np.ndarray, "H W"]
    smooth: Float[np.ndarray, "H W"]
    occlusion: Float[np.ndarray, "H W"]
    features: dict[str, Float[np.ndarray, "_ _ _"]]

    @property
    def grey(self) -> Float[np.ndarray, "H W"]:
        """The image as grey values [H, W] in 0..255: a face as the mean of its channels (without
        its map); a flow map as its strain, dark where strain is large.
        """
        if self.kind == "flow":
            return 255.0 - self.image[..., 2]
        return (self.image[..., :1] if self.image.shape[2] == 2 else self.image).mean(axis=2)


def write_inside(
    folder: Path | str,
    explained: Sequence[Explained],
    title: str,
    subtitle: str,
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str],
    synthetic: bool,
) -> Path:
    """Writes the figures as PNG files and the self-contained page inside.html; other files in the
    folder are left alone.

    Args:
      facts: names and values at the head of the page. notes: paragraphs that apply to all maps.

    Returns:
      The path of the page.

    Raises:
      UserError: the folder cannot be written to.
    """
    folder, sections = Path(folder), []
    for number, one in enumerate(explained, 1):
        name = f"{number}_{_file_name(one.id)}"
        maps = folder / f"{name}_maps.png"
        draw_maps(maps, one, synthetic)
        layers = []
        for layer, output in one.features.items():
            path = folder / f"{name}_{_file_name(layer)}.png"
            shown = draw_features(path, f"{layer} of {one.id}", one.grey, output, synthetic)
            layers.append((image(path), layer, shown, output.shape))
        sections.append((one, image(maps), layers))
    return write_html(
        folder / PAGE,
        "inside.html.j2",
        title=title,
        subtitle=subtitle,
        facts=facts,
        notes=notes,
        synthetic=synthetic,
        sections=sections,
    )


def strongest(output: Float[np.ndarray, "h w D"]) -> Int[np.ndarray, " shown"]:
    """The channels of an output [h, w, D] to show, by decreasing mean |value|; among equal ones,
    the lower number first.
    """
    return np.argsort(-np.abs(output).mean(axis=(0, 1)), kind="stable")[:CHANNELS_SHOWN]


def draw_maps(path: Path, one: Explained, synthetic: bool) -> None:
    """Draws the image, and gradient, SmoothGrad and occlusion of the class over it. Every map has
    its own scale.
    """
    drop, rise = one.occlusion.max(), -one.occlusion.min()
    panels = [
        ("strain of the flow map" if one.kind == "flow" else "image", None),
        (f"gradient: |d logit / d grey level|\nat most {one.gradient.max():.2g}", one.gradient),
        (f"SmoothGrad\nat most {one.smooth.max():.2g}", one.smooth),
        (
            f"occlusion: probability {'falls' if drop >= rise else 'rises'}\nby at most "
            f"{max(drop, rise):.2g}",
            one.occlusion,
        ),
    ]
    with drawing.canvas(
        path, f"{one.class_name}: what it depends on", (drawing.WIDTH, 3.0), synthetic
    ) as figure:
        for ax, (words, values) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            _overlay(ax, one.grey, values, 0, 0)
            ax.text(
                0.5,
                -0.04,
                words,
                fontsize=8,
                ha="center",
                va="top",
                color="#222222",
                transform=ax.transAxes,
            )
            ax.axis("off")


def draw_features(
    path: Path,
    title: str,
    grey: Float[np.ndarray, "H W"],
    output: Float[np.ndarray, "h w D"],
    synthetic: bool,
) -> list[int]:
    """Draws the strongest channels of a convolution's output [h, w, D] over the image, all on one
    scale; returns their numbers in order. All share one axes, as twenty axes would take a second.
    """
    chosen = strongest(output)
    high, wide = grey.shape
    down, right = 1.22 * high, 1.06 * wide  # from one to the next, with room for its number
    rows, columns = -(-len(chosen) // ACROSS), min(ACROSS, len(chosen))
    inch = drawing.WIDTH / (ACROSS * right)  # of a pixel
    with drawing.canvas(
        path, title, (drawing.WIDTH, 0.4 + rows * down * inch), synthetic
    ) as figure:
        ax = figure.subplots()
        for i, channel in enumerate(chosen):
            x, y = i % ACROSS * right, i // ACROSS * down
            _overlay(ax, grey, output[..., channel], x, y, float(np.abs(output).max()))
            ax.text(
                x + wide / 2,
                y + 1.03 * high,
                f"channel {channel}",
                fontsize=6.5,
                ha="center",
                va="top",
                color="#222222",
            )
        ax.set(xlim=(0, max(columns, ACROSS) * right), ylim=(rows * down, 0), aspect="equal")
        ax.axis("off")
    return chosen.tolist()


def _overlay(
    ax, grey: np.ndarray, values: np.ndarray | None, x: float, y: float, limit: float | None = None
) -> None:
    """Draws a picture [H, W] with its corner at (x, y), and values [h, w] stretched over it: colour
    from -limit to limit, opacity by size.
    """
    high, wide = grey.shape
    box = (x, x + wide, y + high, y)
    ax.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=box, interpolation="nearest")
    if values is not None and values.any():
        limit = limit or float(np.abs(values).max())
        ax.imshow(
            values,
            cmap=COLOURS,
            vmin=-limit,
            vmax=limit,
            alpha=np.abs(values) / limit,
            extent=box,
            interpolation="nearest",
        )


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text)
