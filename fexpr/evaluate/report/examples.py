"""Chooses the test images that a report shows: clips with most and fewest correct decisions,
confident mistakes, the worst of each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate.report.confidence_plots import Picture
from fexpr.evaluate.scored_rows import ScoredRows

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Num, Shaped

CLIPS_SHOWN = 6
ACROSS = 8  # pictures in a row of a grid
MISTAKES_SHOWN = 3 * ACROSS
CLASSES_SHOWN = 10


def right_and_wrong(
    answer: ScoredRows, ids: Shaped[np.ndarray, " R"], names: list[str]
) -> tuple[list[str], int, list[str]]:
    """Ids to draw, how many of them are correct, and captions. Among equally correct clips, those
    that show more units come first.
    """
    wrong = (answer.presence != answer.decisions).sum(axis=1)
    if not answer.multilabel:
        wrong = 1 - np.where(answer.failed(), 0.0, answer.scores[answer.presence])
    order = np.lexsort((ids, -answer.presence.sum(axis=1), wrong))
    count = min(CLIPS_SHOWN, len(order) // 2)
    best, worst = order[:count], order[::-1][: len(order) - count][:CLIPS_SHOWN]

    def units(row: np.ndarray) -> str:
        return (
            " + ".join(
                n.removeprefix("AU") for n, present in zip(names, row, strict=True) if present
            )
            or "none"
        )

    def caption(r: int) -> str:
        lost, how = answer.failed()[r], f": {wrong[r]} wrong" if answer.multilabel else ""
        sure = "" if answer.multilabel or lost else f" ({1 - wrong[r]:.2f})"
        return (
            f"{ids[r]}{how}\ntrue: {units(answer.presence[r])}{sure}\npred.: "
            f"{'no answer' if lost else units(answer.decisions[r])}"
        )

    rows = [*best, *worst]
    return [str(ids[r]) for r in rows], len(best), [caption(r) for r in rows]


def mistakes(
    answer: ScoredRows,
    ids: Shaped[np.ndarray, " R"],
    names: list[str],
    images: Mapping[str, Num[np.ndarray, "H W C"]],
) -> list[tuple[str, list[Picture]]]:
    """Rows of a grid: the mistakes of one-of-K predictions, most confident first."""
    wrong = np.flatnonzero((answer.presence != answer.decisions).any(axis=1) & ~answer.failed())
    order = wrong[np.lexsort((ids[wrong], -answer.scores[wrong].max(axis=1)))][:MISTAKES_SHOWN]
    pictures = [_picture(answer, r, ids, names, images) for r in order]
    return [("", pictures[i : i + ACROSS]) for i in range(0, len(pictures), ACROSS)]


def worst_by_class(
    answer: ScoredRows,
    ids: Shaped[np.ndarray, " R"],
    names: list[str],
    images: Mapping[str, Num[np.ndarray, "H W C"]],
) -> list[tuple[str, list[Picture]]]:
    """Rows of a grid, one for each class with test rows (the CLASSES_SHOWN most frequent): the
    class's rows with the lowest probability.
    """
    frequent = np.argsort(-answer.presence.sum(axis=0), kind="stable")[:CLASSES_SHOWN]
    table = []
    for k in np.sort(frequent):
        members = np.flatnonzero(answer.presence[:, k] & ~answer.failed())
        order = members[np.lexsort((ids[members], answer.scores[members, k]))][:ACROSS]
        if len(order):
            table.append((names[k], [_picture(answer, r, ids, names, images) for r in order]))
    return table


def _picture(
    answer: ScoredRows,
    row: np.integer,
    ids: Shaped[np.ndarray, " R"],
    names: list[str],
    images: Mapping[str, Num[np.ndarray, "H W C"]],
) -> Picture:
    """The row's picture, captioned with its label, the decision, and the probability of each."""
    true, predicted = answer.presence[row].argmax(), answer.decisions[row].argmax()
    p = answer.scores[row]
    return Picture(
        images[str(ids[row])],
        f"true {names[true]} {p[true]:.2f}\npred. {names[predicted]} {p[predicted]:.2f}",
    )
