"""Action units as labels: a release's FACS codes become a matrix of intensities over a
vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from fexpr import facs
from fexpr.data.dataset import SYNTHETIC, Dataset
from fexpr.data.releases import workbook
from fexpr.data.releases.clip_maps import flow_maps
from fexpr.data.releases.clip_release import Database, Release
from fexpr.errors import UserError
from fexpr.terminal import say


def dataset(
    database: Database, release: Release, config: ConfigDict, is_synthetic: bool
) -> Dataset:
    """One row per clip, labelled with the action units of its FACS code.

    Args:
      config: `config.data`; the policy, the vocabulary and the image size are read.
      is_synthetic: whether the release is synthetic.

    Returns:
      images uint8 [N, S, S, 3 x maps] (u, v, optical strain of each map), labels float32 [N, K]
      (intensity), groups (subject), ids (clip), class names 'AU04'; extras `code` and `emotion`
      (text), and, where they are known, `landmarks` float32 [N, 5, 2], (x, y) in pixels of the
      224x224 aligned face, NaN for the clips without.

    Raises:
      UserError: codes that cannot be read, all of them; a vocabulary that does not exist; see
          `clips.flow_maps`.
    """
    policy = facs.Policy(config.alternatives, config.references, config.uncertain)
    places = workbook.places(release.table, release.inputs[0])
    intensities = [
        facs.intensities(code, policy)
        for code in facs.parse_all(release.table["code"].tolist(), places)
    ]
    numbers = _vocabulary(intensities, config.vocabulary, config.min_positives)
    columns, fingerprint = flow_maps(database.name, release, config.image_size)
    extras = {name: columns[name] for name in ("code", "emotion")}
    if np.isfinite(columns["landmarks"]).any():
        extras["landmarks"] = columns["landmarks"]
    return Dataset(
        columns["image"],
        facs.label_matrix(intensities, numbers),
        columns["group"],
        columns["id"],
        facs.names(numbers),
        source=SYNTHETIC if is_synthetic else f"{database.name}@{fingerprint[:12]}",
        extras=extras,
        kind="flow",
    )


def _vocabulary(
    intensities: Sequence[dict[int, float]], wanted: str, least: int
) -> tuple[int, ...]:
    """The action units to detect: those with at least `least` positive clips, the notebook's
    25, or a list as '4,7,12'.
    """
    counts = Counter(number for row in intensities for number in row)
    if wanted == "data":
        numbers = facs.vocabulary(intensities, least)
        rare = ", ".join(
            f"{facs.names([number])[0]} ({counts[number]})"
            for number in sorted(counts)
            if number not in numbers
        )
        if not numbers:
            title = f"no action unit is present in {least} clips or more"
            raise UserError(title, [f"clips: {rare or 'none'}"], "lower config.data.min_positives")
        if rare:
            say(f"left out, present in fewer than {least} clips: {rare}")
        return numbers
    if wanted == "notebook25":
        return facs.NOTEBOOK_25
    numbers = tuple(
        int(number) if number.strip().isdecimal() else -1 for number in wanted.split(",")
    )
    if len(set(numbers)) < len(numbers) or not set(numbers) <= set(facs.FACS) - {0}:
        raise UserError(
            f"config.data.vocabulary is {wanted!r}",
            fix="set it to data, notebook25, or a list of distinct FACS numbers, for example "
            "4,7,12",
        )
    return numbers
