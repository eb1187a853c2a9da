"""Statistics of action units in the published layout, of no faces."""

import numpy as np

from fexpr.data.releases.au_gaussians import COVARIANCE, MEANS, OF_RAVDESS
from fexpr.data.releases.ravdess_aus import INTENSITIES

NAMES = tuple(dict.fromkeys(OF_RAVDESS.values()))


def write(folder, seed=0):
    """Draws them into `folder`; their means [7, 17] and covariances [7, 17, 17], in the order of
    NAMES.
    """
    rng, header = np.random.default_rng(seed), ";".join(INTENSITIES)
    means, roots = rng.uniform(0, 2, (len(NAMES), 17)), rng.normal(size=(len(NAMES), 17, 17))
    covariances = roots @ roots.transpose(0, 2, 1) + np.eye(17)
    folder.mkdir(exist_ok=True)
    rows = [";".join([*map(str, mean), name]) for mean, name in zip(means, NAMES, strict=True)]
    (folder / MEANS).write_text("\n".join([f"{header};emotion", *rows]) + "\n")
    for name, matrix in zip(NAMES, covariances, strict=True):
        (folder / COVARIANCE.format(name)).write_text(
            "\n".join([header, *(";".join(map(str, row)) for row in matrix)]) + "\n"
        )
    return means, covariances
