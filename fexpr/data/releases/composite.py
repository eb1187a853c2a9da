"""Data sets made of several releases of clips: which of them are read, and their combined rows."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fexpr.data.dataset import SYNTHETIC, Dataset
from fexpr.data.preparation import prepare
from fexpr.data.releases import flow_clips
from fexpr.data.releases.clip_maps import flow_maps
from fexpr.data.releases.clip_release import Database, Release
from fexpr.data.releases.samm import SAMM, synthetic_release
from fexpr.data.releases.skipped_clips import parse_skipped
from fexpr.data.releases.workbook_sheets import spreadsheets
from fexpr.errors import UserError
from fexpr.storage import bounded
from fexpr.terminal import say

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float32, Int32, UInt8

# (release, folder, clips that the user leaves out) -> the release's clips
Survey = Callable[[Database, Path, set[str]], Release]
Select = Callable[[pd.DataFrame, Path], pd.DataFrame]  # as in flow_clips.survey
SYNTHETIC_LAYOUT = SAMM  # the layout of every synthetic release, whichever it stands for


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of all releases, one after the other.

    `table`: those of the releases' tables, with `dataset`. `images` uint8 [N, S, S, 3 x maps].
    `landmarks` float32 [N, 5, 2], NaN where unknown. `files`: of each row, below its release's
    folder. `source`: as in Dataset.
    """

    table: pd.DataFrame
    images: UInt8[np.ndarray, "N S S C"]
    landmarks: Float32[np.ndarray, "N 5 2"]
    files: list[str]
    source: str

    def dataset(
        self,
        labels: Int32[np.ndarray, " N"] | Float32[np.ndarray, "N K"],
        class_names: tuple[str, ...],
    ) -> Dataset:
        """Groups 'casme2/sub01', ids 'casme2/sub01_EP02_01f'; extras `dataset`, `file` and, where
        any are known, `landmarks`.
        """
        table, known = self.table, np.isfinite(self.landmarks).any()
        return Dataset(
            self.images,
            labels,
            (table["dataset"] + "/" + table["subject"]).to_numpy(str),
            (table["dataset"] + "/" + table["id"]).to_numpy(str),
            class_names,
            source=self.source,
            kind="flow",
            extras={
                "dataset": table["dataset"].to_numpy(str),
                "file": np.array(self.files),
                **({"landmarks": self.landmarks} if known else {}),
            },
        )


def surveys(
    config: ConfigDict,
    databases: Mapping[str, Database],
    survey: Survey,
    standard: tuple[str, ...] = (),
) -> dict[str, Release]:
    """The releases under the data root that `config.subsets` names, by name.

    Args:
      config: `config.data`; `root`, `subsets`, `skip_clips` are read.
      databases: all that may be named. standard: those of them that 'auto' takes if they are found;
          () = all.

    Raises:
      UserError: names that are unknown, missing or repeated; no release is found; clips to leave
          out that belong to no release; whatever `survey` raises.
    """
    root, _ = prepare.data_root(config)
    auto = config.subsets == "auto"
    wanted = (
        standard or tuple(databases)
        if auto
        else tuple(name.strip() for name in config.subsets.split(","))
    )
    problems = [
        f"{name!r} is not one of {', '.join(databases)}" for name in wanted if name not in databases
    ]
    if not auto:
        problems += [
            f"{root / name} is missing"
            for name in wanted
            if name in databases and not bounded.is_folder(root / name)
        ]
    if problems or len(set(wanted)) < len(wanted):
        raise UserError(
            f"config.data.subsets is {config.subsets!r}",
            problems,
            f"set it to auto, or to those of {','.join(databases)} whose folders exist, each once",
        )
    skipped = {name: set() for name in databases}
    for text in parse_skipped(config.skip_clips):
        name, _, clip = text.partition("/")
        if name not in wanted or not clip:
            raise UserError(
                f"config.data.skip_clips names {text!r}",
                fix="write clips of a composite with their release, for example "
                "casme2/sub01_EP02_01f",
            )
        skipped[name].add(clip)
    found = {
        name: survey(database, root / name, skipped[name])
        for name, database in databases.items()
        if name in wanted and bounded.is_folder(root / name)
    }
    if not found:
        raise UserError(
            f"{root} contains none of the releases of {config.name}",
            [f"looked for {', '.join(wanted)}"],
            "put one there (docs/data.md)",
        )
    return found


def with_workbooks(config: ConfigDict, databases: Mapping[str, Database]) -> dict[str, Database]:
    """The releases that `surveys` may read: with subsets='auto', those without a workbook are left
    out, and this is printed.
    """
    if config.subsets != "auto":
        return dict(databases)
    root, _ = prepare.data_root(config)
    found = {}
    for name, database in databases.items():
        if bounded.is_folder(root / name) and not spreadsheets(root / name):
            say(f"{database.title}: no workbook gives its action units; left out", style="yellow")
        else:
            found[name] = database
    return found


def synthetic(config: ConfigDict, select: Select | None) -> dict[str, Release]:
    """Two synthetic releases (in SYNTHETIC_LAYOUT) of different subjects, which stand for SAMM and
    CASME II; half the clips each.
    """
    subjects, count = config.synthetic_subjects, config.synthetic_clips
    shares = {
        "samm": (subjects // 2, count // 2),
        "casme2": (subjects - subjects // 2, count - count // 2),
    }
    return {
        name: flow_clips.survey(
            SYNTHETIC_LAYOUT,
            synthetic_release(*share, config.synthetic_seed + i),
            config,
            set(),
            select,
        )
        for i, (name, share) in enumerate(shares.items())
    }


def read(releases: Mapping[str, Release], size: int, is_synthetic: bool) -> Rows:
    """The rows; flow maps are made once for each release and kept in the cache. Errors as in
    `clip_maps.flow_maps`.
    """
    parts = {name: flow_maps(name, release, size) for name, release in releases.items()}
    columns = {
        key: np.concatenate([columns[key] for columns, _ in parts.values()])
        for key in ("image", "landmarks")
    }
    combined = "".join(fingerprint for _, fingerprint in parts.values())
    fingerprint = hashlib.sha256(combined.encode()).hexdigest()
    return Rows(
        pd.concat(
            [release.table.assign(dataset=name) for name, release in releases.items()],
            ignore_index=True,
        ),
        columns["image"],
        columns["landmarks"],
        [name for release in releases.values() for name in release.file_names()],
        SYNTHETIC if is_synthetic else f"{'+'.join(parts)}@{fingerprint[:12]}",
    )


def compare_counts(
    name: str,
    found: Mapping[str, int],
    expected: Mapping[str, int],
    subjects: tuple[int, int] | None,
    challenge: str,
) -> None:
    """Prints where a release's clips differ from those of a challenge.

    Args:
      found, expected: clips of each class. subjects: found and expected.
    """
    counts = Counter(found)
    if any(counts[c] != n for c, n in expected.items()):
        text = ", ".join(
            f"{counts[c]} {c} ({challenge}: {n})" for c, n in expected.items() if counts[c] != n
        )
        say(f"{name} differs from the challenge: {text}", style="yellow")
    if subjects and subjects[0] != subjects[1]:
        say(
            f"{name} has {subjects[0]} subjects, the challenge {subjects[1]}: does one person have "
            "two names, or are folders missing?",
            style="yellow",
        )
