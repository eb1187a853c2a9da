"""An epoch computed bit by bit: the same as in one go, wherever it is cut, also by a signal or a
restored state.
"""

import os
import signal

import jax
import numpy as np
import pytest

from configs import mlp_fer2013
from experiments.fit import fit
from fexpr.errors import Preempted
from fexpr.runs import loop, results
from fexpr.storage import run
from fexpr.train.trials import Engine
from tests.train import toy

SPECS = [toy.spec(fold=i, seed=i) for i in range(3)]


def assert_identical(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [
        {"eval_batch": 5},
        {"trial_axis": "map", "ema": 0.9, "tta": "flip"},
        {"devices": 2, "eval_batch": 9, "mixup": 0.4},
    ],
)
def test_where_an_epoch_is_cut_does_not_matter(changes):
    engine = toy.engine(SPECS, **changes)
    steps, parts = engine.resumable, engine.dispatches_per_epoch
    assert (steps, parts > steps) == (5, True)
    whole, rows = engine.epoch(engine.epoch(engine.init())[0])
    whole, rows = engine.to_host((whole, rows))
    for cuts in ([1], [steps], [2, steps - 1, steps], list(range(1, parts))):
        state, _ = engine.epoch(engine.init())
        for first, last in zip([0, *cuts], [*cuts, parts], strict=True):
            state, scalars = engine.advance(state, first, last)
            assert (scalars is None) == (last < parts)
        assert_identical(engine.to_host((state, scalars)), (whole, rows))


@pytest.mark.long
def test_one_trial_over_devices_goes_on_with_evaluation_on_others():
    """What was said so far is no part of the state: a state saved after the last step is evaluated
    anew.
    """
    two, four = (toy.engine(SPECS[:1], devices=devices, eval_batch=3) for devices in (2, 4))
    assert two.resumable == four.resumable
    state, _ = two.advance(two.init(), 0, two.resumable)
    saved = two.to_host(state)
    after = [
        e.to_host(e.advance(e.to_devices(saved), e.resumable, e.dispatches_per_epoch)[0])
        for e in (two, four)
    ]
    np.testing.assert_allclose(after[0].last.logits, after[1].last.logits, rtol=1e-5, atol=1e-6)
    assert after[0].epoch == 1


def fitted(folder):
    config = mlp_fer2013.get_config("debug")
    config.model = {"name": "logistic"}
    (
        config.data.synthetic_clips,
        config.train.epochs,
        config.train.batch_size,
        config.evaluate.resamples,
    ) = 150, 3, 32, 10
    config.train.eval_batch = 4  # several passes, on any number of devices
    config.log.tensorboard, config.log.checkpoint_seconds = False, 1e9
    fit(config, folder)
    return run.read_arrays(folder / run.PREDICTIONS)


@pytest.mark.long
def test_a_signal_inside_an_epoch(tmp_path, monkeypatch, capsys):
    # it takes longer than training
    monkeypatch.setattr(results, "write_page", lambda *_: "no page")
    whole = fitted(tmp_path / "whole")
    monkeypatch.setattr(loop, "STRETCH", 0.0)  # one part at a time
    advance = Engine.advance
    for at, progress in (
        ("step", r"[1-9]\d?% of epoch 2"),
        ("evaluation", r"[1-9]\d?% of epoch 2"),
        ("end", "epoch 1"),
    ):
        epochs = []

        def stopped(engine, state, first, last, at=at, epochs=epochs):
            state, scalars = advance(engine, state, first, last)
            if scalars:
                epochs.append(1)
            here = {
                "step": 1,
                "evaluation": engine.resumable + 1,
                "end": engine.dispatches_per_epoch,
            }[at]
            if len(epochs) == 1 and last == here:
                os.kill(os.getpid(), signal.SIGTERM)
            return state, scalars

        with monkeypatch.context() as patch:
            patch.setattr(Engine, "advance", stopped)
            with pytest.raises(Preempted, match=f"SIGTERM after {progress}"):
                fitted(tmp_path / at)
        capsys.readouterr()
        gone_on = fitted(tmp_path / at)
        assert "resumed    from epoch 1 of 3" in capsys.readouterr().out
        for name in whole:
            np.testing.assert_array_equal(gone_on[name], whole[name], err_msg=name)
