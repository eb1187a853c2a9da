"""The people in the training of a run, including all runs that it started from, who must not be
tested by a run that starts from it.

A person is '<release>/<subject>', whichever data set the rows were read through: a run on megc2019
sees people of samm, casme2 and smic. If identities are unknown, the image stands for the person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError
from fexpr.storage import run
from fexpr.storage.seen_people import Seen, hashed

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Shaped

# releases that are known to have no people in common
RELEASES = ("samm", "casme2", "smic", "ravdess", "fer2013", "affectnet")
SAME = {"ravdess_aus": "ravdess"}  # data sets that are made from another release
NUMBERED = re.compile(r"(?:subject|sub|actor|s)?[ _-]*0*(\d+)")  # 006, sub06, s6, actor_06
DRAWN = "synthetic "  # prefix of the name of a synthetic release
FIX = (
    "start from a run with the same split (protocol, seeds), or from one on other data; if you "
    "know that nobody is in both, declare it by --config.init.people=others, which the report "
    "repeats"
)


def people_of(name: str, dataset: Dataset) -> Shaped[np.ndarray, " N"]:
    """The person of each row as '<release>/<subject>', str [N]. `name`: the data set's in the
    config.
    """
    images = dataset.group_name == "image"
    drawn = DRAWN if dataset.synthetic else ""
    of_part = name not in RELEASES and "dataset" in dataset.extras
    parts = dataset.extras["dataset"].tolist() if of_part else [SAME.get(name, name)] * len(dataset)
    found = []
    for group, part in zip(dataset.groups.tolist(), parts, strict=True):
        person = group if images else canonical(group.removeprefix(f"{part}/"))
        found.append(f"{drawn}{part}/{person}")
    return np.array(found)


def canonical(subject: str) -> str:
    """One spelling of a subject's name: its number, if it has one, else lower case."""
    number = NUMBERED.fullmatch(subject.casefold())
    return number[1] if number else subject.casefold()


def write(
    workdir: Path,
    name: str,
    dataset: Dataset,
    folds: Sequence[Fold],
    trial_fold: Sequence[int],
    before: Seen | None = None,
) -> None:
    """Writes people.npz: `people` str [P], `seen` bool [F, P] by fold, `trial_fold` int32 [T],
    `unknown` str [U].
    """
    rows = people_of(name, dataset)
    before = before or Seen(np.array([], str))
    names = np.unique(np.concatenate([rows, before.people]))
    seen = np.zeros((len(folds), len(names)), bool)
    for mine, fold in zip(seen, folds, strict=True):
        mine |= np.isin(names, rows[np.concatenate([fold.train, fold.val])])
        mine |= np.isin(names, before.people)
    kept = seen.any(axis=0)
    arrays = {
        "people": names[kept],
        "seen": seen[:, kept],
        "trial_fold": np.array(trial_fold, np.int32),
        "unknown": np.array(before.unknown, str),
    }
    run.write_arrays(workdir / run.PEOPLE, arrays, compressed=True)


def refuse_tested(
    source: str,
    seen: Seen | None,
    others: bool,
    name: str,
    dataset: Dataset,
    folds: Sequence[Fold],
) -> None:
    """Raises a UserError if a run would test people in the training of the run or weights that it
    starts from.

    Args:
      source: what the run starts from. seen: None if the source does not record them. others: the
          user declares that nobody is in both, if that cannot be checked.

    Raises:
      UserError: people are in both; or it cannot be checked, and `others` is not set.
    """
    rows = people_of(name, dataset)
    tested = np.unique(rows[np.concatenate([fold.test for fold in folds])])
    if seen is None:
        if not others:
            raise UserError(
                f"it cannot be checked whether people who are tested here were in the training or "
                f"validation rows of {source}",
                [
                    "it was written by a version of fexpr that did not record them, and its data "
                    "are not here"
                ],
                fix=FIX,
            )
        return
    both = find_seen(seen, tested)
    if both:
        raise UserError(
            f"{len(both)} of {len(tested)} test {dataset.group_name}s here were in the "
            f"training or validation rows of {source}, or of runs that it started from",
            [
                f"for instance {', '.join(both[:5])}",
                "a test on people in the first network's training says nothing about new faces",
            ],
            fix=FIX.partition(";")[0],
        )
    unclear = sorted(
        {
            f"{theirs}: its people may be those of {ours}"
            for theirs in _releases(seen.people)
            for ours in _releases(tested)
            if not _comparable(theirs, ours)
        }
    )
    if unclear and not others:
        raise UserError(
            f"it cannot be checked whether people who are tested here were in the training or "
            f"validation rows of {source}",
            unclear,
            fix=FIX,
        )


def find_seen(seen: Seen, people: Shaped[np.ndarray, " P"]) -> list[str]:
    """The people among `people` (str [N], as in `people_of`) who have been seen."""
    known = {*seen.people.tolist()}
    return [p for p in np.unique(people).tolist() if {p, hashed(p)} & known]


def _releases(people: np.ndarray) -> list[str]:
    return sorted({person.partition("/")[0] for person in people.tolist()})


def _comparable(a: str, b: str) -> bool:
    """Whether two names are enough to decide if two people are the same: names from one release,
    from two that are known to have no people in common, or one of a synthetic release.
    """
    drawn = a.startswith(DRAWN), b.startswith(DRAWN)
    known = all(name.removeprefix(DRAWN) in RELEASES for name in (a, b))
    return a == b or drawn[0] != drawn[1] or known
