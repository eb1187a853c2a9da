"""Probabilities as a table that people and programs read: decision, uncertainty, one column for
each class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fexpr.faces import POINTS, Face
from fexpr.recognizer.row_status import OK

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Shaped

UNCERTAIN = "uncertain"


def table(
    names: Sequence[str],
    members: Float[np.ndarray, "T N K"],
    class_names: Sequence[str],
    thresholds: Float[np.ndarray, " K"] | None,
    status: Sequence[str],
    sets: Bool[np.ndarray, "N K"] | None = None,
    uncertain: bool = False,
) -> pd.DataFrame:
    """One row per image.

    Args:
      names: of the N images: the index.
      members: probabilities float [T, N, K] of the T members of an ensemble (T = 1: a single
          network).
      thresholds: [K] of action units; None: one class per row.
      status: of each row (status.py); rows that are not OK have no probabilities, and their status,
          without its reason, as decision.
      sets: bool [N, K], the classes in each row's prediction set; None: no such column.
      uncertain: decide one-class rows whose set contains several classes as UNCERTAIN.

    Returns:
      Columns `decision` (the class; of action units those at or above their threshold, 'AU4+AU7',
      or 'none'); `status`; `set` ('happy or neutral', the most probable first; of action units
      those that may be present, 'AU4+AU7', or 'none'); `entropy` of the mean probabilities, 0
      (certain) to 1 (uniform): divided by log K, of action units the mean over units divided by log
      2; with an ensemble `spread`, the standard deviation over its members of the decided class's
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
    ok = np.array([text == OK for text in status], bool)
    decided = [
        d if good else text.partition(":")[0]
        for d, good, text in zip(decision, ok, status, strict=True)
    ]
    columns = {"decision": decided, "status": list(status)}
    if sets is not None:
        in_words = _sets_in_words(sets, mean, class_names, thresholds is not None)
        columns["set"] = np.where(ok, in_words, "")
    columns["entropy"] = entropy
    if len(members) > 1:
        columns["spread"] = spread
    made = pd.DataFrame(
        columns | dict(zip(class_names, mean.T, strict=True)),
        index=pd.Index([_encodable(name) for name in names], name="image"),
    )
    texts = ("decision", "status", "set")
    made.loc[~ok, [name for name in made.columns if name not in texts]] = np.nan
    return made


def _encodable(name: str) -> str:
    """The name, with escapes for bytes of a file's name that are not UTF-8: neither a table's
    strings nor a CSV can hold them.
    """
    return name.encode("utf-8", "backslashreplace").decode()


def _sets_in_words(
    sets: Bool[np.ndarray, "N K"],
    mean: Float[np.ndarray, "N K"],
    class_names: Sequence[str],
    multilabel: bool,
) -> Shaped[np.ndarray, " N"]:
    names = np.array(class_names, object)
    if multilabel:
        return np.array(["+".join(names[held]) or "none" for held in sets], object)
    order = np.argsort(-mean, axis=1, kind="stable")
    rows = zip(order, sets, strict=True)
    return np.array([" or ".join(names[o[held[o]]]) for o, held in rows], object)


def with_faces(
    rows: pd.DataFrame, faces: Sequence[Face | None], mesh: bool = False
) -> pd.DataFrame:
    """The table with the face of each row, NaN if there is none. Columns, after `status`: `face`,
    its number in the video or, from the left, in the picture; `face_x`, `face_y`, `face_width`,
    `face_height`; `face_score`; `roll`, `yaw`, `pitch` in degrees; `quality`; (x, y) of the five
    landmarks; with `mesh`, (x, y, depth) of its 468 points.
    """
    numbers: dict[object, int] = {}
    found: dict[str, list] = {name: [] for name in _face_columns(mesh)}
    for name, face in zip(rows.index, faces, strict=True):
        number = numbers.get(name, 0)
        numbers[name] = number + 1
        for column, value in zip(found, _face_values(face, number, mesh), strict=True):
            found[column].append(value)
    place = list(rows.columns).index("status") + 1
    added = pd.DataFrame(found, index=rows.index).astype({"face": "Int64"})
    made = pd.concat([rows.iloc[:, :place], added, rows.iloc[:, place:]], axis=1)
    made.attrs = rows.attrs
    return made


def _face_columns(mesh: bool) -> Iterable[str]:
    yield from ("face", "face_x", "face_y", "face_width", "face_height", "face_score")
    yield from ("roll", "yaw", "pitch", "quality")
    yield from (f"{point}_{axis}" for point in POINTS for axis in "xy")
    if mesh:
        yield from (f"mesh_{i}_{axis}" for i in range(468) for axis in ("x", "y", "depth"))


def _face_values(face: Face | None, number: int, mesh: bool) -> list:
    if face is None:
        return [None if name == "quality" else np.nan for name in _face_columns(mesh)]
    values = [*np.round(face.box, 1), *np.round([face.score, face.roll, face.yaw, face.pitch], 3)]
    points = np.round(face.points, 1).ravel()
    whole = np.round(face.mesh, 1).ravel() if mesh else ()
    return [number if face.track is None else face.track, *values, face.quality, *points, *whole]


def _bits(p: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N K"]:
    """-p log p, 0 where p is 0."""
    return -p * np.log(np.where(p > 0, p, 1))
