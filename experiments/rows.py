"""The data of a config, and which of its rows do what."""

from __future__ import annotations

from ml_collections import ConfigDict

from fexpr.data import LOADERS
from fexpr.data.dataset import Dataset
from fexpr.data.splits import Fold, make_folds


def load(config: ConfigDict) -> tuple[Dataset, list[Fold]]:
    """The data set and its folds.

    Raises:
      UserError: whatever the user can mend, in release or config.
    """
    dataset = LOADERS[config.data.name](config.data)
    return dataset, make_folds(config.split, dataset)
