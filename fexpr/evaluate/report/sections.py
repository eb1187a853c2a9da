"""Additional sections of report.html: a heading and a function that returns its content. Extensions
add theirs here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Block = str | Sequence[Sequence[object]]  # a paragraph, or the rows of a table, its headings first
Section = Callable[[dict, dict, dict[str, np.ndarray]], Sequence[Block]]

# heading -> function of (config.json, metrics.json, the arrays of predictions.npz); no blocks: no
# section
SECTIONS: dict[str, Section] = {}


def filled(
    config: dict, metrics: dict, predictions: dict[str, np.ndarray]
) -> list[tuple[str, list[tuple[str, Block]]]]:
    """Every section with content: its heading, and its blocks as ('text' or 'table', block)."""
    found = [
        (heading, section(config, metrics, predictions)) for heading, section in SECTIONS.items()
    ]
    return [
        (heading, [("text" if isinstance(block, str) else "table", block) for block in blocks])
        for heading, blocks in found
        if blocks
    ]
