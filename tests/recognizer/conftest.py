"""Finished runs: of faces (one split), of action units in bfloat16 (one split), of classes of flow
(three folds).
"""

from functools import partial

import pytest

from configs import aucnn_samm, mlp_fer2013, ststnet_megc2019
from experiments.cross_validate import cross_validate
from experiments.fit import fit
from fexpr.data.releases import fer2013
from tests.recognizer.runs import toy, trained


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    fields = {
        "data.synthetic_clips": 150,
        "train.epochs": 2,
        "train.tta": "flip",
        "train.normalize": "pixel",
        "model.hidden": (8,),
    }
    return trained(mlp_fer2013, fit, tmp_path_factory.mktemp("faces"), fer2013.load, **fields)


@pytest.fixture(scope="session")
def units(tmp_path_factory):
    fields = {"data.image_size": 12, "train.epochs": 1, "train.precision": "bfloat16"}
    return trained(
        aucnn_samm, fit, tmp_path_factory.mktemp("units"), partial(toy, multilabel=True), **fields
    )


@pytest.fixture(scope="session")
def folds(tmp_path_factory):
    fields = {
        "data.image_size": 12,
        "train.epochs": 2,
        "split.seeds": 1,
        "split.protocol": "group_k_fold",
        "split.folds": 3,
        "train.normalize": "median",
        "train.tta": "flip",
    }
    return trained(
        ststnet_megc2019,
        cross_validate,
        tmp_path_factory.mktemp("folds"),
        partial(toy, multilabel=False),
        **fields,
    )
