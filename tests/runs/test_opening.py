"""A run directory is only continued, or reported, by commands of its own config and data."""

import pytest

from configs import base
from fexpr.errors import UserError
from fexpr.runs import opening
from fexpr.runs.spec import RunSpec
from fexpr.storage import run


def points(workdir, **fields):
    config = base.get_config()
    config.update_from_flattened_dict(fields)
    return [RunSpec(config, workdir / name) for name in ("seed=0", "seed=1")]


def write(spec, source):
    content = opening._settings(spec, source)
    run.write_json(spec.workdir / run.CONFIG, content)


def test_finished_points_of_a_sweep_are_of_its_config_and_data(tmp_path):
    for spec in points(tmp_path):
        write(spec, "samm@1")
    opening.refuse_other_runs(points(tmp_path), "samm@1")
    opening.refuse_other_runs(points(tmp_path, **{"log.tensorboard": False}), "samm@1")
    with pytest.raises(UserError, match=r"train\.epochs: the run has .*, this command 7"):
        opening.refuse_other_runs(points(tmp_path, **{"train.epochs": 7}), "samm@1")
    with pytest.raises(UserError, match="made from samm@1, this command finds samm@2"):
        opening.refuse_other_runs(points(tmp_path), "samm@2")


def test_who_owns_a_checkpoint_depends_on_the_settings_that_are_compared(tmp_path):
    owner = opening.owner_of(points(tmp_path), "samm@1")
    same = {"log.tensorboard": False, "data.root": "/moved", "evaluate.resamples": 10}
    assert opening.owner_of(points(tmp_path, **same), "samm@1") == owner
    others = [
        opening.owner_of(points(tmp_path), "samm@2"),
        opening.owner_of(points(tmp_path)[:1], "samm@1"),
        opening.owner_of(points(tmp_path, seed=1), "samm@1"),
    ]
    assert len({owner, *others}) == 4
