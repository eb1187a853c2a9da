"""people.npz of a run: the people in its training, by fold. Written and compared by
runs/people.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fexpr.storage import run

# in people.npz: kind of type, and dimensions
ARRAYS = {"people": ("U", 1), "seen": ("b", 2), "trial_fold": ("i", 1), "unknown": ("U", 1)}


@dataclasses.dataclass(frozen=True)
class Seen:
    """The people in the training and validation rows of a run, and of the runs that it started
    from.

    Attributes:
      people: str [P]: '<release>/<subject>', or, in an exported file, `hashed`. unknown: weights
          from which the chain also started and whose people are unknown (files of weights).
    """

    people: np.ndarray
    unknown: tuple[str, ...] = ()


def read(folder: Path, trials: Sequence[int]) -> Seen | None:
    """The people in the training of any of these trials of a finished run; None for runs of older
    versions.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / run.PEOPLE
    if not path.is_file():
        return None
    found = run.read_arrays(path)
    right = all(
        name in found and (found[name].dtype.kind, found[name].ndim) == wanted
        for name, wanted in ARRAYS.items()
    )
    right = right and found["seen"].shape[1] == len(found["people"])
    right = right and max(trials) < len(found["trial_fold"])
    folds = found["trial_fold"][list(trials)] if right else None
    if folds is None or not 0 <= folds.min() <= folds.max() < len(found["seen"]):
        raise run.damaged(path, f"expected {', '.join(ARRAYS)} as docs/design.md describes them")
    return Seen(found["people"][found["seen"][folds].any(axis=0)], tuple(found["unknown"].tolist()))


def pass_on(folder: Path, target: Path) -> None:
    """Writes the file of a run, if it has one, into a folder that will be published, without any
    names.
    """
    if (folder / run.PEOPLE).is_file():
        found = run.read_arrays(folder / run.PEOPLE)
        names = [p if "/#" in p else hashed(p) for p in found["people"].tolist()]
        arrays = found | {"people": np.array(names, str)}
        run.write_arrays(target / run.PEOPLE, arrays, compressed=True)


def hashed(person: str) -> str:
    """A hash of a person's name for published files: it can be compared, but not read."""
    release = person.partition("/")[0]
    return f"{release}/#{hashlib.sha256(person.encode()).hexdigest()[:12]}"


def to_metadata(seen: Seen) -> str:
    """The text for the metadata of a file of weights, without any names."""
    people = [p if "/#" in p else hashed(p) for p in seen.people.tolist()]
    return json.dumps({"people": sorted(people), "unknown": seen.unknown})


def from_metadata(text: str) -> Seen | None:
    """Reads what `to_metadata` wrote; None for anything else."""
    try:
        found = json.loads(text)
        lists = found["people"], found["unknown"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(v, list) and all(isinstance(p, str) for p in v) for v in lists):
        return None
    return Seen(np.array(sorted(lists[0]), str), tuple(lists[1]))
