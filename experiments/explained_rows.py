"""Chooses the rows of a run's data to explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fexpr.data.dataset import Dataset
from fexpr.recognizer import Recognizer


class ExplainTarget(NamedTuple):
    """An image to be explained: its row, the class, and why it was chosen."""

    row: int
    class_id: int
    why: str


def given(
    recognizer: Recognizer, dataset: Dataset, ids: Sequence[str], class_id: int | None
) -> list[ExplainTarget]:
    """The rows with these ids, with the class that the network predicts if none is given."""
    rows, why = (
        [dataset.ids.tolist().index(id_) for id_ in dict.fromkeys(ids)],
        "named on the command line",
    )
    decided = recognizer.logits(dataset.images[rows]).argmax(axis=1)
    return [
        ExplainTarget(row, int(k) if class_id is None else class_id, why)
        for row, k in zip(rows, decided, strict=True)
    ]


def surest(
    recognizer: Recognizer, dataset: Dataset, found: dict[str, np.ndarray], class_id: int | None
) -> list[ExplainTarget]:
    """The trial's most confident correct test row and its most confident wrong one. With a class:
    the rows with the highest probability of that class, one from those that show it and one from
    those that do not.
    """
    test = np.flatnonzero(
        (found["trial"] == recognizer.trial)
        & (found["selection"] == recognizer.selection)
        & (found["split"] == "test")
    )
    scores, labels = recognizer.scores(found["logits"][test]), found["labels"][test]
    classes = scores.argmax(axis=1) if class_id is None else np.full(len(test), class_id)
    correct = (
        labels[np.arange(len(test)), classes] > 0 if recognizer.multilabel else labels == classes
    )
    confidence, place = scores[np.arange(len(test)), classes], dataset.ids.tolist()
    if class_id is None:
        words = "most confident correct test row", "most confident wrong test row"
    else:
        name = recognizer.class_names[class_id]
        words = (
            f"highest probability of {name} in test rows that show it",
            f"highest probability of {name} in test rows that do not",
        )
    chosen = []
    for side, why in zip((True, False), words, strict=True):
        rows = np.flatnonzero(correct == side)
        if len(rows):
            best = rows[confidence[rows].argmax()]
            chosen.append(
                ExplainTarget(place.index(found["ids"][test[best]]), int(classes[best]), why)
            )
    return chosen
