"""RAVDESS as action units averaged over each clip (OpenFace, 17 intensities and 18 presences):
feature vectors, no images.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fexpr.config import allowed
from fexpr.data.data_config import DataConfig
from fexpr.data.dataset import SYNTHETIC, Dataset
from fexpr.data.preparation import prepare
from fexpr.data.preparation.prepare import BadInput
from fexpr.data.releases.ravdess_names import EMOTIONS, ClipName, parse
from fexpr.data.releases.skipped_clips import parse_skipped
from fexpr.data.synthetic import ravdess_clips
from fexpr.errors import UserError
from fexpr.storage import delimited
from fexpr.storage.delimited import BadTable
from fexpr.terminal import say

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Shaped

TABLE = "average_action_units.csv"
INTENSITIES = tuple(
    f"AU{n:02d}_r" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
)
PRESENCES = tuple(
    f"AU{n:02d}_c" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45)
)
FEATURES = {"both": INTENSITIES + PRESENCES, "intensities": INTENSITIES, "presences": PRESENCES}
MOST = 5.0  # of an OpenFace intensity


def load(config: ConfigDict) -> Dataset:
    """Reads `ravdess/average_action_units.csv`: `;`-separated, a row per clip, the column `name`
    and one for each action unit.

    Args:
      config: `config.data`; its root, source, features, per_actor, skip_clips and synthetic_* are
          read.

    Returns:
      images float32 [N, 1, 1, F] (kind 'features'); labels int32 [N] and groups (actors) from the
      names; ids are the clips' names.

    Raises:
      UserError: the table is missing, or is faulty: all problems at once.
    """
    if config.features not in FEATURES:
        raise UserError(
            f"config.data.features is {config.features!r}",
            fix=f"set it to one of {', '.join(FEATURES)}",
        )
    is_synthetic = prepare.resolve_source(config) == "synthetic"
    folder = (
        ravdess_clips.release(config) if is_synthetic else prepare.data_root(config)[0] / "ravdess"
    )
    table, clips = read(folder / TABLE, parse_skipped(config.skip_clips))
    actors = np.array([c.group for c in clips])
    features = per_actor(
        table[list(FEATURES[config.features])].to_numpy(np.float64), actors, config.per_actor
    ).astype(np.float32)
    settings = {
        "features": config.features,
        "per_actor": config.per_actor,
        "skipped": config.skip_clips,
    }
    fingerprint = prepare.fingerprint(folder, [folder / TABLE], settings)
    return Dataset(
        features[:, None, None, :],
        np.array([c.label for c in clips], np.int32),
        actors,
        np.array([str(c) for c in clips]),
        EMOTIONS,
        SYNTHETIC if is_synthetic else f"ravdess@{fingerprint[:12]}",
        kind="features",
    )


def per_actor(
    features: Float[np.ndarray, "N F"], actors: Shaped[np.ndarray, " N"], how: str
) -> Float[np.ndarray, "N F"]:
    """Features [N, F] minus the mean of their actor's clips ('center'), and divided by their
    deviation plus 0.05 ('standardize').

    This uses all clips of an actor, also the tested one, but no label: for use where several clips
    of a person are available. 'standardize_others' takes mean and deviation of the actor's other
    clips only: what is known about a person before the clip.

    Raises:
      UserError: unknown `how`; an actor of one clip, who has no other.
    """
    known = allowed(DataConfig, "per_actor")
    if how not in known:
        raise UserError(
            f"config.data.per_actor is {how!r}", fix=f"set it to one of {', '.join(known)}"
        )
    done = features.copy()
    for actor in np.unique(actors) if how != "none" else ():
        own = features[actors == actor]
        mean, std = own.mean(0), own.std(0)
        if how == "standardize_others":
            n = len(own)
            if n < 2:
                raise UserError(
                    f"config.data.per_actor={how}: {actor} has one clip, and no others",
                    fix="choose another data.per_actor, or leave the clip out",
                )
            # sums over the actor's other clips
            mean = (own.sum(0) - own) / (n - 1)
            square = (np.square(own).sum(0) - np.square(own)) / (n - 1)
            std = np.sqrt(np.maximum(square - mean**2, 0))
        done[actors == actor] = (own - mean) / (1.0 if how == "center" else std + 0.05)
    return done


def read(path: Path, skipped: set[str]) -> tuple[pd.DataFrame, list[ClipName]]:
    """The rows that are used, sorted by name, and the parts of their names.

    Raises:
      UserError: not such a table; names that are invalid or repeated; numbers that are missing or
          out of range; all of them.
    """
    wanted = INTENSITIES + PRESENCES
    fix = f"the columns are {INTENSITIES[0]} … {PRESENCES[-1]} and name, separated by ';'"
    try:
        found = delimited.read(path, (*wanted, "name"), separators=";,\t")
    except BadTable as e:
        raise UserError(
            f"{path} is not a table of averaged action units",
            [*e.problems, f"{path.parent} {prepare.contents(path.parent)}"],
            fix,
        ) from e
    table = pd.DataFrame(found.columns)
    numbers = table[list(wanted)].apply(pd.to_numeric, errors="coerce")
    most = np.array([MOST] * len(INTENSITIES) + [1.0] * len(PRESENCES))
    faulty = ~((numbers >= 0) & (numbers <= most)).to_numpy()
    clips, problems, seen, others = [], [], {}, Counter()
    for i, name in enumerate(table["name"]):
        clips.append(None)
        if name in skipped:
            seen.setdefault(name, i)
            continue
        bad = [
            f"{wanted[k]} is {table[wanted[k]][i]!r}, expected 0 to {most[k]:g}"
            for k in np.flatnonzero(faulty[i])
        ]
        try:
            clip = parse(name)
            if clip.used:
                clips[-1] = clip
            else:
                others[clip.kind] += 1
        except BadInput as e:
            bad.append(str(e))
        if seen.setdefault(name, i) != i:
            bad.append(f"this clip is already in line {found.lines[seen[name]]}")
        problems += [f"line {found.lines[i]}, {name or 'unnamed'}: {text}" for text in bad]
    if others:
        kinds = ", ".join(f"{n:,} of {kind}" for kind, n in others.most_common())
        say(f"ravdess_aus: only clips of 01-01 (audio-video, speech) are read; left out: {kinds}")
    unknown = sorted(skipped - set(seen))
    problems += [f"config.data.skip_clips names {name}, which is missing" for name in unknown]
    if problems:
        raise UserError(
            f"{path} cannot be used",
            problems,
            "correct these, or list clips to leave out in config.data.skip_clips",
        )
    order = sorted((i for i, clip in enumerate(clips) if clip), key=lambda i: str(clips[i]))
    if not order:
        raise UserError(f"{path} has no rows of 01-01 (audio-video, speech)", fix=fix)
    return numbers.iloc[order].reset_index(drop=True), [clips[i] for i in order]
