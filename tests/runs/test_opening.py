"""A run directory is only continued, or reported, by commands of its own config and data."""

import pytest

from configs import base
from fexpr.errors import UserError
from fexpr.runs import opening, sweep
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


def test_the_checkpoints_of_a_sweep_s_program_are_of_its_configs(tmp_path):
    specs = points(tmp_path)
    folder = sweep.program_dir(tmp_path, specs)
    opening.open_program(folder, specs, "samm@1")
    (folder / run.CHECKPOINTS).mkdir()
    opening.open_program(folder, specs, "samm@1")
    with pytest.raises(UserError, match=r"train\.epochs: the run has"):
        opening.open_program(folder, points(tmp_path, **{"train.epochs": 7}), "samm@1")
    (folder / opening.PROGRAM).write_text("[]")
    with pytest.raises(UserError, match=r"points\.json"):
        opening.open_program(folder, specs, "samm@1")
    (folder / opening.PROGRAM).unlink()  # as older versions leave it
    opening.open_program(folder, specs, "samm@1")
    assert not (folder / opening.PROGRAM).exists()
