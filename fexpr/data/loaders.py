"""The data sets that a config may name, and the functions that load them."""

from __future__ import annotations

import difflib

from ml_collections import ConfigDict

from fexpr import extensions
from fexpr.data.dataset import Dataset
from fexpr.data.preparation import prepare
from fexpr.data.releases import affectnet, casme2, fer2013, image_folder, megc2019, ravdess, ravdess_aus, samm
from fexpr.errors import UserError

LOADERS = {
    "samm": samm.load, "casme2": casme2.load, "megc2019": megc2019.load, "fer2013": fer2013.load, "ravdess": ravdess.load,
    "affectnet": affectnet.load, "ravdess_aus": ravdess_aus.load, "folder": image_folder.load,
}
# with a synthetic release, which data.source=auto takes where no root is given and none is found
STAND_INS = {"samm", "casme2", "megc2019", "fer2013", "ravdess", "affectnet", "ravdess_aus"}
SYNTHETIC = STAND_INS | {"folder"}  # with a synthetic release, if data.source asks for it


def load(config: ConfigDict) -> Dataset:
    """The data set of `config.data`, by the entry of LOADERS that it names.

    Raises:
      UserError: no such data set; whatever the user can repair in it; a loader that returns
        something else than a Dataset.
    """
    if config.name not in LOADERS:
        near = difflib.get_close_matches(config.name, LOADERS, n=1)
        raise UserError(f"there is no data set {config.name!r}",
                        [f"config.data.name: expected one of {', '.join(LOADERS)}"],
                        fix=f"did you mean {near[0]!r}?" if near else
                        "a data set of your own is registered by a module that config.extensions names")
    dataset = extensions.resolve(LOADERS[config.name])(config)
    if not isinstance(dataset, Dataset):
        raise UserError(f"the loader of {config.name} returns {type(dataset).__name__}",
                        fix="return a fexpr.data.dataset.Dataset")
    return dataset


def resolve_source(config: ConfigDict) -> str:
    """'release' or 'synthetic': what `config.source` is for this data set on this machine.

    Only what has a synthetic release (`SYNTHETIC`) is ever synthetic; of any other data set the
    loader alone decides what it reads.

    Raises:
      UserError: as of `prepare.resolve_source`; a synthetic release was asked for, and there is none.
    """
    if config.name in STAND_INS:
        return prepare.resolve_source(config)
    if config.source == "synthetic" and config.name not in SYNTHETIC:
        raise UserError(f"data.source='synthetic', and {config.name} has no synthetic release",
                        ["the variant :debug of a config sets data.source='synthetic'"],
                        fix="set data.source='auto' or 'release', in the config file after get_config")
    return "synthetic" if config.source == "synthetic" else "release"
