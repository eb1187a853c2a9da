"""The data set that a config names: whether it is read or synthetic, and its rows."""

from __future__ import annotations

import difflib
import re

import numpy as np
from ml_collections import ConfigDict

from fexpr.config import resolve
from fexpr.data.dataset import Dataset
from fexpr.data.loaders import LOADERS, SYNTHETIC
from fexpr.data.preparation import prepare
from fexpr.errors import UserError


def load(config: ConfigDict) -> Dataset:
    """The data set that `config.data` describes, loaded by the entry of LOADERS that it names.

    Raises:
      UserError: no such data set; whatever the user can repair in it; a loader that returns
        something else than a Dataset.
    """
    if config.name not in LOADERS:
        near = difflib.get_close_matches(config.name, LOADERS, n=1)
        raise UserError(
            f"there is no data set {config.name!r}",
            [f"config.data.name: expected one of {', '.join(LOADERS)}"],
            fix=f"did you mean {near[0]!r}?"
            if near
            else "a data set of your own must be registered by a module in config.extensions",
        )
    dataset = resolve(LOADERS[config.name])(config)
    if not isinstance(dataset, Dataset):
        raise UserError(
            f"the loader of {config.name} returns {type(dataset).__name__}",
            fix="return a fexpr.data.dataset.Dataset",
        )
    if dataset.group_name != "image":
        _refuse_two_spellings(config.name, dataset.groups)
    return dataset


def _refuse_two_spellings(name: str, groups: np.ndarray) -> None:
    """Raises a UserError if a person may have two names, and so could be in training and test rows
    of the same fold.
    """
    names: dict[str, list[str]] = {}
    for group in np.unique(groups).tolist():
        plain = re.sub(r"(?<![0-9])0+(?=[0-9])", "", re.sub(r"[ _-]", "", group.casefold()))
        names.setdefault(plain, []).append(group)
    twice = [", ".join(map(repr, same)) for same in names.values() if len(same) > 1]
    if twice:
        raise UserError(
            f"{name} has subjects whose names differ only in case, zeros or blanks",
            twice,
            "give each person one name, and make different persons' names differ in more than that",
        )


def resolve_source(config: ConfigDict) -> str:
    """Resolves `config.source` for this data set on this machine: 'release' or 'synthetic'.

    Only data sets in `SYNTHETIC` can be synthetic; for any other, the loader alone decides what it
    reads.

    Raises:
      UserError: as in `prepare.resolve_source`; a synthetic release was asked for, and there is
        none.
    """
    if config.name in SYNTHETIC and getattr(LOADERS[config.name], "stands_in", False):
        return prepare.resolve_source(config)
    if config.source == "synthetic" and config.name not in SYNTHETIC:
        raise UserError(
            f"data.source='synthetic', and {config.name} has no synthetic release",
            ["the variant :debug of a config sets data.source='synthetic'"],
            "set data.source='auto' or 'release', in the config file after get_config",
        )
    return "synthetic" if config.source == "synthetic" else "release"
