"""A run whose images stay on the disk, from end to end: the same as one that holds them, also when
stopped inside an epoch.
"""

import os
import signal

import numpy as np
import pytest

from configs import base, mlp_fer2013
from experiments.fit import fit
from fexpr.errors import Preempted, UserError
from fexpr.runs import loop, results
from fexpr.storage import run
from fexpr.train import streamed_engine


def fitted(folder, streamed):
    config = mlp_fer2013.get_config("debug")
    config.data.streamed, config.data.synthetic_clips, config.train.epochs = streamed, 300, 2
    config.data.name = "affectnet"
    # Adam divides by tiny second moments, which turns differences of rounding into steps
    config.optimizer.name, config.optimizer.learning_rate = "sgd", 0.01
    config.evaluate.resamples, config.log.tensorboard, config.log.checkpoint_seconds = (
        10,
        False,
        1e9,
    )
    fit(config, folder)
    return run.read_arrays(folder / run.PREDICTIONS)


@pytest.mark.long
def test_as_with_all_images_in_memory(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(streamed_engine, "PART_BYTES", 48 * 48 * 64)  # one step, or two
    # it takes longer than training
    monkeypatch.setattr(results, "write_page", lambda *_: "no page")
    monkeypatch.setattr(loop, "STRETCH", 0.0)  # one part at a time
    resident = fitted(tmp_path / "resident", False)
    streamed = fitted(tmp_path / "streamed", True)
    np.testing.assert_array_equal(resident["ids"], streamed["ids"])
    np.testing.assert_allclose(resident["logits"], streamed["logits"], rtol=0, atol=1e-5)

    part, calls = streamed_engine.StreamedEngine._part, []

    def stopped(engine, state, i):
        calls.append(i)
        if len(calls) == engine.dispatches_per_epoch + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return part(engine, state, i)

    monkeypatch.setattr(streamed_engine.StreamedEngine, "_part", stopped)
    with pytest.raises(Preempted, match=r"SIGTERM after \d+% of epoch 2"):
        fitted(tmp_path / "stopped", True)
    assert calls[-1] == 0  # the first part of the second epoch
    capsys.readouterr()
    gone_on = fitted(tmp_path / "stopped", True)
    assert "of the next" in capsys.readouterr().out
    np.testing.assert_array_equal(gone_on["logits"], streamed["logits"])
    first, second = run.read_history(tmp_path / "stopped")
    assert {"step_seconds", "input_wait"} <= first.keys()
    assert "step_seconds" not in second  # this process did not see it begin


@pytest.mark.parametrize(
    ("name", "frames", "words"),
    [
        ("fer2013", 0, r"data\.streamed=True: expected False.*'fer2013'"),
        ("ravdess", 8, r"data\.clip_frames=8: expected 0 .*data\.streamed"),
    ],
)
def test_what_does_not_stream_is_refused(name, frames, words):
    config = mlp_fer2013.get_config("debug")
    config.data.update({"name": name, "streamed": True, "clip_frames": frames})
    with pytest.raises(UserError, match=words):
        base.validate(config)
