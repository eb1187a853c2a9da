"""FERPlus (Barsoum et al., ICMI 2016): ten annotators' votes on every image of FER2013, as labels
and as shares.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexpr.data.releases import fer2013_rows
from fexpr.data.releases.fer2013_rows import Faces
from fexpr.errors import UserError
from fexpr.storage import bounded, delimited
from fexpr.storage.delimited import BadTable
from fexpr.terminal import say

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Int

FILE = "fer2013new.csv"
CLASSES = (*fer2013_rows.CLASSES, "contempt")
NEITHER = ("unknown", "NF")  # NF: not a face in the order of CLASSES
COLUMNS = (
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
    "neutral",
    "contempt",
    *NEITHER,
)
# About two in three of FERPlus' labels agree with FER2013's; if the rows do not correspond, about
# one in five. The two shares between which `first_foreign_row` decides, and the log likelihood
# ratio at which it does: over all rows it is reached by chance in fewer than one release of a
# hundred.
SAME, FOREIGN, DECIDES = 0.6, 0.25, 16.0
RULES = ("ferplus", "ferplus_majority")  # of config.data.labels


@dataclasses.dataclass(frozen=True)
class Votes:
    """`kept` bool [N]: the rows that are kept; their `labels` int32 [M] and `soft` float32 [M, 8],
    each row's shares of the votes; `path` of the file.
    """

    kept: np.ndarray
    labels: np.ndarray
    soft: np.ndarray
    path: Path


def read(folder: Path, faces: Faces, rule: str = "ferplus") -> Votes:
    """The votes on `faces` in fer2013new.csv, which is in `folder` or in a folder in it.

    Args:
      rule: 'ferplus' (below), or 'ferplus_majority', Microsoft's (`majority_over_half`), with which
        published figures are computed.

    A row's label is the answer with the most votes. If emotions tie, FER2013's own label decides
    if it is one of them, else the smallest id; an emotion goes before `unknown` and `NF`. Rows
    without a vote, and those that are `unknown` or `NF`, are dropped.
    `soft` are the votes for the eight emotions, divided by their sum.

    Raises:
      UserError: the file is missing; the images are not numbered like its rows; or its rows are
          faulty (all problems are listed).
    """
    path = _find(folder)
    if not faces.numbered:
        raise UserError(
            f"config.data.labels=ferplus: the rows of {path.name} correspond to those of "
            "fer2013.csv, but image files have no row order",
            [f"{folder} was read as image files"],
            "add fer2013.csv or icml_face_data.csv to that folder",
        )
    votes = _read_votes(path, faces)
    kept, labels = majority(votes, faces.labels)
    _refuse_foreign_rows(path, faces, kept, labels)
    if rule == "ferplus_majority":
        votes = without_single_votes(votes)
        kept, labels = majority_over_half(votes)
    _report(rule, votes, kept, labels, faces.labels)
    if not kept.any():
        raise UserError(
            f"{path}: no image is left",
            fix="use the file of Microsoft's FERPlus repository unchanged",
        )
    emotions = votes[kept, : len(CLASSES)].astype(np.float32)
    return Votes(
        kept, labels[kept].astype(np.int32), emotions / emotions.sum(1, keepdims=True), path
    )


def majority(
    votes: Int[np.ndarray, "N 10"], labels: Int[np.ndarray, " N"]
) -> tuple[Bool[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """The rule of `read`: whether each row of votes [N, 10] (in the order of COLUMNS) is kept, bool
    [N], and its answer, int [N].

    `labels` [N] are FER2013's.
    """
    leads = votes == votes.max(1, keepdims=True)
    winner = np.where(np.take_along_axis(leads, labels[:, None], 1)[:, 0], labels, leads.argmax(1))
    return (votes.sum(1) > 0) & (winner < len(CLASSES)), winner


def without_single_votes(votes: Int[np.ndarray, "N 10"]) -> Int[np.ndarray, "N 10"]:
    """Votes [N, 10] without answers that one annotator alone gave, as in Microsoft's ferplus.py."""
    return np.where(votes == 1, 0, votes)


def majority_over_half(
    votes: Int[np.ndarray, "N 10"],
) -> tuple[Bool[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Microsoft's mode 'majority' (Barsoum et al. 2016; ferplus.py of the FERPlus repository): the
    answer with more than half of the votes that are left by `without_single_votes`; rows without
    such an answer, or whose answer is `unknown` or `NF`, are dropped. As `majority` otherwise.
    """
    winner = votes.argmax(1)
    return (2 * votes.max(1) > votes.sum(1)) & (winner < len(CLASSES)), winner


def first_foreign_row(agree: Bool[np.ndarray, " N"]) -> int | None:
    """The number of the first row after which labels agree no better than by chance; None if all
    rows agree.

    Page's CUSUM (Biometrika 41, 1954) of the log likelihood ratio of FOREIGN to SAME.

    Args:
      agree: bool [N].
    """
    steps = np.where(agree, np.log(FOREIGN / SAME), np.log((1 - FOREIGN) / (1 - SAME)))
    total = np.concatenate([[0.0], np.cumsum(steps)])
    above = total - np.minimum.accumulate(total)
    if above.max() < DECIDES:
        return None
    end = int(np.argmax(above >= DECIDES))
    return int(np.argmin(total[: end + 1]))


def _refuse_foreign_rows(path: Path, faces: Faces, kept: np.ndarray, labels: np.ndarray) -> None:
    rows = np.flatnonzero(kept)
    agree = (labels == faces.labels)[rows]
    start = first_foreign_row(agree)
    if start is None:
        return
    raise UserError(
        f"{path}: from about {faces.ids[rows[start]]} on, its rows do not correspond to the images",
        [
            f"before it, {agree[:start].mean():.0%} of the labels are FER2013's"
            if start
            else "from the first row on",
            f"from it on, {agree[start:].mean():.0%}, as by chance",
        ],
        "its rows must be those of fer2013.csv, in their order, with none added or removed: take "
        "both files unchanged",
    )


def _find(folder: Path) -> Path:
    places = (folder / FILE, *bounded.find(folder, f"*/{FILE}"))
    found = [path for path in places if bounded.is_there(path)]
    if not found:
        looked = [str(folder / FILE), f"{folder / 'FERPlus' / FILE}, or in any other folder there"]
        raise UserError(
            f"config.data.labels=ferplus, and {FILE} is missing",
            [f"looked for {place}" for place in looked],
            "download it from Microsoft's FERPlus repository (docs/data.md), or set "
            "config.data.labels=fer2013",
        )
    return found[0]


def _read_votes(path: Path, faces: Faces) -> np.ndarray:
    """Votes int64 [N, 10] of the faces, in the order of COLUMNS.

    Row i of the file is row i of fer2013.csv, as in Microsoft's generate_training_data.py. The
    column `Image name` is not used: its numbers fall behind the row numbers (row 60 is
    fer0000059.png), and it is empty where no face was seen.
    """
    fix = "use the file of Microsoft's FERPlus repository unchanged"
    try:
        table = delimited.read(path, ("Usage", *COLUMNS))
    except BadTable as e:
        raise UserError(f"{path} is not a table of votes", e.problems, fix) from e
    rows = list(zip(*table.columns.values(), strict=True))
    votes, problems = np.zeros((len(faces.ids), len(COLUMNS)), np.int64), []
    for i, id_ in enumerate(faces.ids):
        usage, _, number = id_.partition("_")
        if int(number) >= len(rows):
            problems.append(f"{id_}: the file has only {len(rows):,} rows")
            continue
        found, *counts = rows[int(number)]
        wrong = [] if found == usage else [f"Usage is {found!r}, that row of FER2013 has {usage!r}"]
        strange = [
            f"{column} is {count!r}"
            for column, count in zip(COLUMNS, counts, strict=True)
            if not re.fullmatch("[0-9]{1,3}", count)
        ]
        if strange:
            wrong.append(f"{', '.join(strange)}: expected numbers of votes")
        else:
            votes[i] = [int(count) for count in counts]
        problems += [f"row {number} (line {table.lines[int(number)]}): {text}" for text in wrong]
    if problems:
        fix = "its rows must be those of fer2013.csv, in their order: take both files unchanged"
        raise UserError(f"{path} does not fit the images", problems, fix)
    used = 1 + max((int(id_.partition("_")[2]) for id_ in faces.ids), default=-1)
    if len(rows) > used:
        say(f"ferplus: {len(rows) - used:,} rows after those of the images are left out")
    return votes


def _report(
    rule: str, votes: np.ndarray, kept: np.ndarray, winner: np.ndarray, labels: np.ndarray
) -> None:
    empty = votes.sum(1) == 0
    first = (winner < len(CLASSES)) & ~kept & ~empty
    dropped = [
        f"{((winner == len(CLASSES) + i) & ~empty).sum():,} {name}"
        for i, name in enumerate(("unknown", "not a face"))
    ]
    dropped += [f"{first.sum():,} without a majority over half"] if first.any() else []
    ties = ((votes == votes.max(1, keepdims=True)).sum(1) > 1) & kept
    decided = (
        "; single votes are removed first"
        if rule == "ferplus_majority"
        else f"; {ties.sum():,} ties, decided by FER2013's label where it is among them, else by "
        "the smallest id"
    )
    say(
        f"{rule}: {kept.sum():,} of {len(kept):,} images kept; dropped: "
        f"{', '.join(dropped)}, {empty.sum():,} without a vote{decided}"
    )
    agree = (winner == labels)[kept].mean() if kept.any() else 0.0
    say(f"{rule}: {agree:.1%} of its labels are FER2013's")
