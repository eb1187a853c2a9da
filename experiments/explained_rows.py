"""Which rows of the data of a run are explained."""

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
    """The rows of these ids, with the class that the network decides on where none is given."""
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
    """The test row of the trial that the network was surest of and right, and the one where it was
    wrong.

    With a class: of the rows where it is there the one that was given the highest probability of
    it, and of those where it is not.
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
        words = "surest of the right test rows", "surest of the wrong test rows"
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
