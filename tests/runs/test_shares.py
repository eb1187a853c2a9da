"""A program trained in shares, as Ray's tasks and SLURM's jobs do, and put together by the whole
command.
"""

import os
import shutil
import signal

import jax
import numpy as np
import pytest

from configs import mlp_fer2013
from experiments.cross_validate import cross_validate
from fexpr.data.loaders import LOADERS
from fexpr.errors import Preempted, UserError
from fexpr.runs import opening, results, sweep
from fexpr.storage import run
from fexpr.train import checkpoint, unfinished
from fexpr.train.log import History
from fexpr.train.trials import Engine
from tests.recognizer.runs import toy


@pytest.fixture
def config(monkeypatch):
    """Of a cross-validation with twelve trials that takes no time, but for its page, which is not
    drawn.
    """
    made = mlp_fer2013.get_config("debug")
    made.update_from_flattened_dict(
        {
            "log.tensorboard": False,
            "evaluate.resamples": 10,
            "train.epochs": 3,
            "train.batch_size": 8,
            "split.folds": 3,
            "split.seeds": 4,
        }
    )
    made.experiment, made.split.protocol, made.data.name = "cross_validate", "group_k_fold", "toy"
    made.model = {"name": "logistic"}
    monkeypatch.setattr(results, "write_page", lambda folder, *_: folder / run.REPORT)
    monkeypatch.setitem(LOADERS, "toy", lambda c: toy(c, multilabel=False))
    return made


@pytest.mark.long
def test_shares_are_put_together(config, tmp_path, monkeypatch):
    cross_validate(config, tmp_path / "whole")
    shared = tmp_path / "shared"
    for chunk in ("1/2", "0/2", "0/2"):  # in any order, and again
        sweep.train_program(config, shared, [], 0, chunk)
    assert not (shared / run.PREDICTIONS).exists()
    chunks = unfinished.find_done(shared).values()
    assert (len(chunks), sum(map(len, chunks))) == (2, 12)
    with monkeypatch.context() as patch:
        # nothing is trained again
        patch.setattr(Engine, "compile", lambda _: pytest.fail("compiled"))
        cross_validate(config, shared)
    assert (shared / run.PREDICTIONS).read_bytes() == (
        tmp_path / "whole" / run.PREDICTIONS
    ).read_bytes()
    assert len(run.read_history(shared)) == 6  # three epochs of two chunks, in one file
    assert not list(shared.glob("*chunk*"))
    assert run.read_json(shared / run.CONFIG)["wall_seconds"] >= 0
    assert not (shared / run.CHECKPOINTS / checkpoint.RESUME).exists()


@pytest.mark.long
def test_a_missing_share_is_trained_by_the_whole_command(config, tmp_path):
    cross_validate(config, tmp_path / "whole")
    sweep.train_program(config, tmp_path / "shared", [], 0, "0/2")
    cross_validate(config, tmp_path / "shared")
    here, whole = (
        run.read_arrays(tmp_path / name / run.PREDICTIONS) for name in ("shared", "whole")
    )
    for name, expected in whole.items():
        np.testing.assert_array_equal(here[name], expected, err_msg=name)


@pytest.mark.long
def test_a_program_of_a_sweep_in_shares(config, tmp_path):
    for chunk in ("0/2", "1/2"):
        sweep.train_program(config, tmp_path, ["seed=0,1"], 0, chunk)
    sweep.sweep(config, tmp_path, ["seed=0,1"])
    assert [(tmp_path / f"seed={seed}" / run.PREDICTIONS).exists() for seed in (0, 1)] == [
        True,
        True,
    ]
    assert not list((tmp_path / "programs").glob("*"))


@pytest.mark.long
def test_checkpoints_of_another_run_change_nothing(config, tmp_path, monkeypatch):
    """Neither those of another config, nor those of another model from an older version, which did
    not record whose they are.
    """
    add, config.split.seeds = History.add, 1
    trials = run.resume_folder(tmp_path, range(3))

    def stopped(history, row):
        add(history, row)
        if row["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    def content():
        files = (path for path in tmp_path.rglob("*") if path.is_file() and path.name != run.LOG)
        return {path: path.read_bytes() for path in files}

    def assert_refused(message):
        before = content()
        with pytest.raises(UserError, match=message):
            cross_validate(config, tmp_path)
        assert content() == before

    with monkeypatch.context() as patch:
        patch.setattr(History, "add", stopped)
        patch.setattr(opening, "owner_of", lambda *_: "another")
        with pytest.raises(Preempted):
            cross_validate(config, tmp_path)
    assert_refused("does not belong to this run")

    shutil.rmtree(trials)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "OWNER", "not recorded")
        kept = checkpoint.Checkpoints(tmp_path, range(3))
        kept.save(1, {"step": np.ones(3, np.int32)})
        kept.close()
    assert_refused("does not fit this model")


@pytest.mark.parametrize(
    ("program", "chunk", "message"),
    [
        (1, "", "--program=1: .*0 to 0"),
        (0, "2/2", "--chunk=2/2: .*I/N"),
        (0, "x", "--chunk=x: .*I/N"),
    ],
)
def test_shares_that_there_are_not(config, tmp_path, program, chunk, message):
    with pytest.raises(UserError, match=message):
        sweep.train_program(config, tmp_path, [], program, chunk)


@pytest.mark.long
@pytest.mark.parametrize("devices", [3, 4])
def test_a_chunked_run_goes_on_on_other_devices(config, tmp_path, monkeypatch, capsys, devices):
    """Chunks of four trials on two devices are six on three: the first is done, the second half."""
    config.train.chunk = 4
    every = jax.devices()
    add = History.add

    def stopped(history, row):
        add(history, row)
        if (row.get("chunk"), row["epoch"]) == (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(jax, "devices", lambda *_: every[:2])
        cross_validate(config, tmp_path / "whole")
        patch.setattr(History, "add", stopped)
        with pytest.raises(Preempted):
            cross_validate(config, tmp_path / "run")
    capsys.readouterr()
    monkeypatch.setattr(jax, "devices", lambda *_: every[:devices])
    cross_validate(config, tmp_path / "run")
    assert "resumed    from epoch 2 of 3, 1 of 3 chunks done" in capsys.readouterr().out
    here, whole = (run.read_arrays(tmp_path / n / run.PREDICTIONS) for n in ("run", "whole"))
    for name, expected in whole.items():
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(here[name], expected, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(here[name], expected, err_msg=name)
    rows = [(row.get("chunk", 0), row["epoch"]) for row in run.read_history(tmp_path / "run")]
    assert rows == [(chunk, epoch) for chunk in range(3) for epoch in (1, 2, 3)]
