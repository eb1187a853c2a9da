"""Published statistics of action units by emotion: `GMM_mean.csv` and
`GMM_covM_<Emotion>.csv`, separated by ';'.

The public files (Guided-EMO-SpatialTransformer) describe AffectNet's images: OpenFace's 17
intensities, seven emotions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fexpr.data.preparation import prepare
from fexpr.data.releases.ravdess_aus import INTENSITIES
from fexpr.data.releases.ravdess_names import EMOTIONS
from fexpr.errors import UserError
from fexpr.storage import delimited
from fexpr.storage.delimited import BadTable

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float

MEANS, COVARIANCE = "GMM_mean.csv", "GMM_covM_{}.csv"
OF_RAVDESS = {
    "neutral": "Neutral",
    "calm": "Neutral",
    "happy": "Happy",
    "sad": "Sad",
    "angry": "Anger",
    "fearful": "Fear",
    "disgust": "Disgust",
    "surprised": "Surprise",
}  # calm is merged with neutral


def read(folder: Path | str) -> tuple[Float[np.ndarray, "8 17"], Float[np.ndarray, "8 17 17"]]:
    """The mean [8, 17] and covariance [8, 17, 17] of INTENSITIES for each RAVDESS emotion, float64.

    Raises:
      UserError: files, columns or emotions that are missing; cells that are not numbers; a
          covariance that is not positive definite.
    """
    folder, problems, covariances = Path(folder), [], {}
    means = _table(folder / MEANS, ("emotion", *INTENSITIES), problems)
    for name in dict.fromkeys(OF_RAVDESS.values()):
        found = _table(folder / COVARIANCE.format(name), INTENSITIES, problems)
        if found is not None:
            matrix = found[list(INTENSITIES)].to_numpy(np.float64)
            if (
                matrix.shape != (17, 17)
                or not np.allclose(matrix, matrix.T, atol=1e-6)
                or np.linalg.eigvalsh(matrix).min() <= 0
            ):
                problems.append(
                    f"{COVARIANCE.format(name)}: no covariance matrix of {len(INTENSITIES)} "
                    "action units"
                )
            covariances[name] = matrix
        if means is not None and (means["emotion"] == name).sum() != 1:
            problems.append(f"{MEANS}: no single row of {name}")
    if problems or means is None:
        raise UserError(
            f"the Gaussians in {folder} cannot be used",
            [*problems, f"{folder} {prepare.contents(folder)}"],
            f"expected {MEANS} and {COVARIANCE.format('<Emotion>')}, separated by ';'",
        )
    rows = means.set_index("emotion")
    of = [OF_RAVDESS[name] for name in EMOTIONS]
    return rows.loc[of, list(INTENSITIES)].to_numpy(np.float64), np.stack(
        [covariances[name] for name in of]
    )


def _table(path: Path, columns: tuple[str, ...], problems: list[str]) -> pd.DataFrame | None:
    try:
        found = delimited.read(path, columns, separators=";,\t")
    except BadTable as e:
        problems += [f"{path.name}: {text}" for text in e.problems]
        return None
    table = pd.DataFrame(found.columns)
    units = [name for name in columns if name in INTENSITIES]
    table[units] = table[units].apply(pd.to_numeric, errors="coerce")
    numbers = [name for name in units if not np.isfinite(table[name]).all()]
    problems += [f"{path.name}: {name} is not all numbers" for name in numbers]
    return None if numbers else table
