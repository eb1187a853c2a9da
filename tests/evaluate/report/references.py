"""What a report shows, as text that a fixture can hold: the content of figures without drawing
them, and comparison with numbers within rounding.

FEXPR_WRITE_REFERENCES=1 pytest tests/evaluate/report/test_references.py writes the fixtures again;
then read what `git diff` shows, word by word.
"""

import os
import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FuncFormatter

from tests.launching import PNG

FIXTURES = Path(__file__).parents[2] / "fixtures" / "reports"
NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]\d+)?)")


def record_figures(monkeypatch):
    """Figures are described instead of drawn: the returned dict has the lines of each file."""
    found = {}

    def savefig(figure, path, **_):
        name = Path(path).name.lstrip(".").split(".")[0]
        found[name] = list(describe(figure))
        Path(path).write_bytes(PNG)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return found


def describe(figure):
    """What the arguments of the drawing calls decide: data, words, and the ticks that were set."""
    yield from (text.get_text() for text in figure.texts)
    for ax in figure.axes:
        words = [ax.get_title(loc) for loc in ("left", "center", "right")]
        words += [ax.get_xlabel(), ax.get_ylabel(), *(t.get_text() for t in ax.texts)]
        for axis in (ax.xaxis, ax.yaxis):
            if isinstance(axis.get_major_formatter(), (FixedFormatter, FuncFormatter)):
                words += [tick.get_text() for tick in axis.get_ticklabels()]
        if ax.get_legend():
            words += [text.get_text() for text in ax.get_legend().get_texts()]
        yield "axes " + " | ".join(filter(None, words))
        for line in ax.get_lines():
            yield f"  line {_sums(line.get_xdata())} {_sums(line.get_ydata())}"
        for patch in ax.patches:
            if hasattr(patch, "get_width"):
                box = (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
                yield "  box " + " ".join(f"{side:.3f}" for side in box)
        for shapes in ax.collections:
            parts = [path.vertices for path in shapes.get_paths()]
            at = np.ma.getdata(shapes.get_offsets())
            yield f"  shapes {_sums(np.concatenate(parts) if parts else [])} {_sums(at)}"
        for picture in ax.images:
            yield f"  image {_sums(picture.get_array())} {picture.get_clim()[1] or 0:.3f}"


def _sums(values):
    """The number of values, their sum, and their sum weighted by place, which orders them."""
    flat = np.asarray(values, np.float64).ravel()
    flat = np.nan_to_num(flat, nan=-7.0)
    return f"{flat.size}: {flat.sum():.2f} {flat @ np.linspace(0, 1, flat.size):.2f}"


def lines_of(figures):
    """The recorded figures, in the order in which they were drawn."""
    return [line for name, of in figures.items() for line in (f"## {name}", *of)]


def text_of(page):
    """The words of an HTML page, a line for each row of a table."""
    page = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    page = re.sub(r"\s+", " ", page)
    page = re.sub(r"</(tr|p|h\d|li|figcaption|dd|div)>", "\n", page)
    lines = (" ".join(re.sub(r"<[^>]*>", " ", line).split()) for line in page.split("\n"))
    return "\n".join(line for line in lines if line)


def rows_of(value, path=""):
    """A nested dict as lines `path: values`, numbers with five digits, estimates of one dict in
    one line.
    """
    if isinstance(value, dict):
        short = {k: v for k, v in value.items() if isinstance(v, dict) and "value" in v}
        if short:
            parts = (f"{k} {' '.join(map(_plain, v.values()))}" for k, v in short.items())
            yield f"{path}: {', '.join(parts)}"
        for key, inner in value.items():
            if key not in short:
                yield from rows_of(inner, f"{path}/{key}")
    elif isinstance(value, (list, tuple)) and any(isinstance(v, dict) for v in value):
        for i, inner in enumerate(value):
            yield from rows_of(inner, f"{path}/{i}")
    else:
        yield f"{path}: {_plain(value)}"


def _plain(value):
    if isinstance(value, (list, tuple)):
        flat = list(_leaves(value))
        if len(flat) > 8 and all(isinstance(v, (int, float)) for v in flat):
            return _sums(flat)
        return " ".join(map(_plain, flat))
    return f"{value:.5f}" if isinstance(value, float) else str(value)


def _leaves(value):
    for inner in value:
        yield from _leaves(inner) if isinstance(inner, (list, tuple)) else (inner,)


def assert_as_stored(name, lines, digits=2e-3):
    """The lines are those of the fixture: words and whole numbers the same, others to `digits`."""
    file, text = FIXTURES / f"{name}.txt", "\n".join(lines) + "\n"
    if os.environ.get("FEXPR_WRITE_REFERENCES"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    expected = file.read_text(encoding="utf-8").splitlines()
    found = text.splitlines()
    for number, (line, stored) in enumerate(zip(found, expected, strict=False), 1):
        words, stored_words = NUMBER.split(line), NUMBER.split(stored)
        alike = len(words) == len(stored_words) and all(
            a == b
            or ("." in a and "." in b and abs(float(a) - float(b)) <= digits * max(1, float(b)))
            for a, b in zip(words, stored_words, strict=True)
        )
        assert alike, f"{file.name}, line {number}:\n{line}\nstored:\n{stored}"
    assert len(found) == len(expected)
