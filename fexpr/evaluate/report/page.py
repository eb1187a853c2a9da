"""What all pages share: the template environment, numbers in cells, inlined figures. A page is one
self-contained file.
"""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import jinja2
from markupsafe import Markup

from fexpr.storage import run

# figures are shown larger than on paper, from a file that is sharp on a dense screen too
CSS_PIXELS_PER_INCH = 110


def write_html(
    path: Path, template: str, *, title: str, subtitle: str, synthetic: bool, **context: object
) -> Path:
    """Writes a page whose body is `template` and returns its path. A page about synthetic data is
    labelled so at its head.

    Raises:
      UserError: the folder cannot be written to.
    """
    run.write_text(
        path, _render(template, title=title, subtitle=subtitle, synthetic=synthetic, **context)
    )
    return path


def _render(template: str, **context: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "thousands": lambda n: f"{n:,}"}
    return environment.get_template(template).render(context)


def number(estimate: dict, interval: bool = True, decimals: int = 3) -> Markup:
    """A value, followed by its interval in small print."""
    if estimate["value"] is None:
        return Markup('<span class="none">–</span>')

    def figure(value: float) -> str:
        return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")

    text = Markup("{}").format(figure(estimate["value"]))
    if interval and estimate["low"] is not None:
        low, high = figure(estimate["low"]), figure(estimate["high"])
        between = " to " if low.startswith("−") else "–"
        text += Markup(" <small>{}{}{}</small>").format(low, between, high)
    elif interval and estimate.get("seed_std") is not None:
        text += Markup(f" <small>±{{:.{decimals}f}}</small>").format(estimate["seed_std"])
    return text


def image(path: Path) -> Markup:
    """An <img> with the file embedded; the caption serves as its alternative text."""
    from fexpr.evaluate.report import drawing  # matplotlib

    data = path.read_bytes()
    (width,) = struct.unpack(">I", data[16:20])  # of the IHDR chunk
    source = "data:image/png;base64," + base64.b64encode(data).decode()
    return Markup('<img src="{}" width="{}" alt="">').format(
        source, round(width / drawing.DPI * CSS_PIXELS_PER_INCH)
    )
