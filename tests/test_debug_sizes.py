"""Every config's debug form, and each member that it names, has folds that can be trained."""

import importlib

import numpy as np
import pytest

from experiments import compare_classifiers, leaderboard
from fexpr.data.splits.validation_groups import validation_turn
from fexpr.runs import load_data
from fexpr.runs.spec import LABORATORIES
from tests.test_configs import NAMES


def trained(config, workdir):
    """The configs whose folds the experiment trains."""
    if config.experiment in LABORATORIES:  # bring their own data
        return []
    if config.experiment == "leaderboard":
        return [m.config for m in leaderboard.read_members(config, workdir) if m.config is not None]
    if config.experiment == "compare_classifiers":
        return [member for _, member, _ in compare_classifiers.read_members(config)]
    return [config]


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_every_fold_of_the_debug_form_trains(name, tmp_path, shared_cache, monkeypatch):
    monkeypatch.setenv("FEXPR_CACHE_DIR", str(shared_cache))  # many read the same drawn releases
    config = importlib.import_module(f"configs.{name}").get_config("debug")
    for each in trained(config, tmp_path):
        dataset, folds = load_data.load(each)
        parts, seed = each.split.inner, each.split.seed
        for i, fold in enumerate(folds):
            for turn in range(max(parts, 1)):
                part = validation_turn(fold, dataset.groups, parts, turn, [seed, i])
                assert len(part.val) > 0
                assert len(np.unique(dataset.labels[part.train], axis=0)) > 1
