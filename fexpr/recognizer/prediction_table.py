"""Probabilities as a table that people and programs read: decision, uncertainty, one column for
each class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

NO_FACE = "no face"
UNCERTAIN = "uncertain"


def table(
    names: Sequence[str],
    members: np.ndarray,
    class_names: Sequence[str],
    thresholds: np.ndarray | None,
    found: np.ndarray,
    sets: np.ndarray | None = None,
    uncertain: bool = False,
) -> pd.DataFrame:
    """One row an image.

    Args:
      names: of the N images: the index.
      members: probabilities float [T, N, K] of the T members of an ensemble, or of the one network.
      thresholds: [K] of action units; None: one class a row.
      found: bool [N], whether there was a face; rows without have no probabilities, and NO_FACE for
          a decision.
      sets: bool [N, K], the classes in each row's prediction set; None: no such column.
      uncertain: a row of one class whose set holds several is decided UNCERTAIN.

    Returns:
      Columns `decision` (the class; of action units those at or above their threshold, 'AU4+AU7',
      or 'none'); `set` ('happy or neutral', the most probable first; of action units those that
      may be present, 'AU4+AU7', or 'none'); `entropy` of the mean probabilities, 0 (sure) to 1
      (knows nothing): divided by log K, of action units the mean over units divided by log 2; with
      an ensemble `spread`, the standard deviation over its members of the decided class's
      probability (of action units the mean over units); then each class's mean probability.
    """
    mean = members.mean(axis=0)
    if thresholds is None:
        decided = mean.argmax(axis=1)
        decision = np.array(class_names, object)[decided]
        entropy = _bits(mean).sum(axis=1) / np.log(max(2, mean.shape[1]))
        spread = np.take_along_axis(members.std(axis=0), decided[:, None], axis=1)[:, 0]
    else:
        present = mean >= thresholds
        decision = np.array(
            ["+".join(np.array(class_names)[row]) or "none" for row in present], object
        )
        entropy = (_bits(mean) + _bits(1 - mean)).mean(axis=1) / np.log(2)
        spread = members.std(axis=0).mean(axis=1)
    if sets is not None and uncertain and thresholds is None:
        decision = np.where(sets.sum(axis=1) > 1, UNCERTAIN, decision)
    columns = {"decision": np.where(found, decision, NO_FACE)}
    if sets is not None:
        in_words = _sets_in_words(sets, mean, class_names, thresholds is not None)
        columns["set"] = np.where(found, in_words, "")
    columns["entropy"] = entropy
    if len(members) > 1:
        columns["spread"] = spread
    made = pd.DataFrame(
        columns | dict(zip(class_names, mean.T, strict=True)), index=pd.Index(names, name="image")
    )
    texts = ("decision", "set")
    made.loc[~found, [name for name in made.columns if name not in texts]] = np.nan
    return made


def _sets_in_words(
    sets: np.ndarray, mean: np.ndarray, class_names: Sequence[str], multilabel: bool
) -> np.ndarray:
    names = np.array(class_names, object)
    if multilabel:
        return np.array(["+".join(names[held]) or "none" for held in sets], object)
    order = np.argsort(-mean, axis=1, kind="stable")
    rows = zip(order, sets, strict=True)
    return np.array([" or ".join(names[o[held[o]]]) for o, held in rows], object)


def _bits(p: np.ndarray) -> np.ndarray:
    """-p log p, 0 where p is 0."""
    return -p * np.log(np.where(p > 0, p, 1))
