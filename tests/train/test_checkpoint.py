"""Checkpoints: every array is verified when it is read; a damaged one falls back to the one before;
a chunk's steps are not deleted while they are written.
"""

import os
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.storage import mirror, run
from fexpr.train import checkpoint, save_errors, unfinished
from fexpr.train import state as trial_state
from fexpr.train.checksums import checksums, find_damage

State = namedtuple("State", "step variables opt_state")
TRIALS = range(4)


def state(step=0):
    rng = np.random.default_rng(step)
    weights = rng.normal(size=(4, 40, 30)).astype(np.float32)
    moments = ({"kernel": np.square(weights)}, (), np.full(4, step, np.int32))
    return State(np.full(4, step, np.int32), {"params": {"kernel": weights}}, moments)


def saved(folder, *steps, trials=TRIALS, owner=""):
    kept = checkpoint.Checkpoints(folder, trials, owner=owner)
    for step in steps:
        kept.save(step, state(step))
    kept.wait()
    kept.close()
    return run.resume_folder(folder, trials)


def invert(folder, seed=0):
    """One byte of the largest file: that of the arrays."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    at = np.random.default_rng(seed).integers(len(content) // 4, 3 * len(content) // 4)
    content[at] ^= 0xFF
    path.write_bytes(content)


def assert_equal(found, expected):
    assert find_damage(found, checksums(expected)) == []
    assert type(found) is type(expected)


def test_a_state_comes_back_in_its_own_structure(tmp_path):
    saved(tmp_path, 3)
    assert_equal(checkpoint.Checkpoints(tmp_path, TRIALS).restore(3, state()), state(3))


def test_what_is_kept_of_a_trained_chunk_replaces_its_steps(tmp_path):
    kept = checkpoint.Checkpoints(tmp_path, TRIALS)
    kept.save(3, state(3))
    kept.save_done(state(9))
    assert_equal(kept.restore_done(state()), state(9))
    kept.close()
    folder = run.resume_folder(tmp_path, TRIALS)
    assert [path.name for path in folder.iterdir() if path.name.isdigit()] == []
    (found,) = unfinished.find_saved(tmp_path)
    assert (found.trials, found.position, found.done) == (TRIALS, 0, True)
    assert unfinished.find_done(tmp_path) == {0: TRIALS}
    saved(tmp_path, 2, trials=range(4, 6))
    assert unfinished.saved_trials(tmp_path) == [TRIALS, range(4, 6)]
    assert unfinished.find_done(tmp_path) == {0: TRIALS}


def test_a_part_of_the_trials_comes_out_of_the_folder_of_all(tmp_path):
    saved(tmp_path, 3)
    mine = checkpoint.Checkpoints(tmp_path, range(1, 3), saved=TRIALS)
    like = State(*(_rows(part, slice(0, 2)) for part in state()))
    assert_equal(mine.restore(3, like), State(*(_rows(part, slice(1, 3)) for part in state(3))))


def _rows(tree, rows):
    if isinstance(tree, dict):
        return {k: _rows(v, rows) for k, v in tree.items()}
    return tuple(_rows(v, rows) for v in tree) if isinstance(tree, tuple) else tree[rows]


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path, capsys, seed):
    folder = saved(tmp_path, 3, 5)
    invert(folder / "5", seed)
    (found,) = unfinished.find_saved(tmp_path)
    assert (found.trials, found.position, found.done) == (TRIALS, 3, False)
    printed = capsys.readouterr().out
    assert f"{folder / '5'} is damaged" in printed
    assert "another checkpoint is intact" in printed
    assert not (folder / "5").exists()  # or the same step could not be saved again
    kept = checkpoint.Checkpoints(tmp_path, TRIALS)
    assert_equal(kept.restore(3, state()), state(3))
    kept.save(5, state(5))
    kept.close()
    assert unfinished.find_saved(tmp_path)[0].position == 5


def test_a_damaged_older_checkpoint_is_no_obstacle(tmp_path, capsys):
    folder = saved(tmp_path, 3, 5)
    (folder / "3" / mirror.WHOLE).write_text("[]")
    assert unfinished.find_saved(tmp_path)[0].position == 5
    assert f"{folder / '3'} is damaged" in capsys.readouterr().out
    kept = checkpoint.Checkpoints(tmp_path, TRIALS)
    assert_equal(kept.restore(5, state()), state(5))
    kept.save(7, state(7))
    kept.close()


@pytest.mark.parametrize("name", ["trials_5-2", "trials_0-0x", "trials_00-01", "trials_9" * 9])
def test_a_folder_of_trials_that_no_run_has_written(tmp_path, name):
    folder = saved(tmp_path, 3)
    folder.rename(folder.with_name(name))
    for ask in (unfinished.find_saved, unfinished.find_done, unfinished.saved_trials):
        with pytest.raises(UserError, match="no run has written") as error:
            ask(tmp_path)
        assert error.value.problems == (name,)
    folder.with_name(name).rename(folder)
    folder.with_name("trials_4-5").touch()
    with pytest.raises(UserError, match="a folder was expected"):
        unfinished.find_saved(tmp_path)


def test_without_a_whole_one_nothing_is_deleted(tmp_path):
    folder = saved(tmp_path, 3, 5)
    invert(folder / "3")
    invert(folder / "5")
    with pytest.raises(UserError, match=r"no checkpoint in ") as error:
        unfinished.find_saved(tmp_path)
    assert f"delete {folder}" in error.value.text()
    assert {p.name for p in folder.iterdir()} == {"3", "5"}


@pytest.mark.parametrize("name", ["_METADATA", "manifest.ocdbt", mirror.WHOLE])
def test_files_that_are_cut_off_or_missing(tmp_path, name):
    for damage in (lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-9])):
        checkpoint.save_variables(tmp_path, "last", state().variables)
        damage(tmp_path / run.CHECKPOINTS / "last" / name)
        with pytest.raises(UserError, match="last is damaged"):
            checkpoint.load_variables(tmp_path, "last")


@pytest.mark.parametrize("name", ["_METADATA", "manifest.ocdbt", mirror.WHOLE])
def test_pipes_and_devices_in_place_of_files_are_not_read(tmp_path, name):
    for replace in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        checkpoint.save_variables(tmp_path, "last", state().variables)
        path = tmp_path / run.CHECKPOINTS / "last" / name
        path.unlink()
        replace(path)
        with pytest.raises(UserError, match="last is damaged") as error:
            checkpoint.load_variables(tmp_path, "last")
        assert f"{path} is a pipe or a device" in error.value.text()


def test_variables_whose_bytes_changed_are_refused(tmp_path):
    checkpoint.save_variables(tmp_path, "last", state().variables)
    assert_equal(checkpoint.load_variables(tmp_path, "last"), state().variables)
    invert(tmp_path / run.CHECKPOINTS / "last")
    with pytest.raises(UserError, match="last is damaged"):
        checkpoint.load_variables(tmp_path, "last")


def test_a_checkpoint_of_an_older_version_has_no_checksums(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "CHECKSUMS", "something else")
    checkpoint.save_variables(tmp_path, "last", state().variables)
    monkeypatch.undo()
    assert_equal(checkpoint.load_variables(tmp_path, "last"), state().variables)


def test_a_state_saved_under_the_older_names_of_its_fields_restores(tmp_path):
    older = {"rate": "lr_scale", "waited": "epochs_since_plateau"}
    older |= {"stale": "epochs_without_improvement", "sums": "epoch_totals"}
    assert set(older.values()) < set(trial_state.State._fields)
    before = {name: np.full(4, i, np.float32) for i, name in enumerate((*older, "step"))}
    kept = checkpoint.Checkpoints(tmp_path, TRIALS)
    kept.save(5, before)
    kept.close()
    expected = {older.get(name, name): array for name, array in before.items()}
    like = {name: np.zeros(4, np.float32) for name in expected}
    assert_equal(checkpoint.Checkpoints(tmp_path, TRIALS).restore(5, like), expected)


def test_another_model_is_not_called_damage(tmp_path):
    saved(tmp_path, 3)
    other = state()._replace(variables={"params": {"bias": np.zeros((4, 2), np.float32)}})
    kept = checkpoint.Checkpoints(tmp_path, TRIALS)
    for find in (kept.restore, kept.check):
        with pytest.raises(UserError, match="does not fit") as error:
            find(3, other)
        assert "variables/params/bias: expected (4, 2) float32, found none" in error.value.text()


def test_shapes_are_compared_without_reading_the_arrays(tmp_path):
    folder = saved(tmp_path, 3)
    invert(folder / "3")  # in the arrays, which are not read
    kept = checkpoint.Checkpoints(tmp_path, TRIALS)
    kept.check(3, state())
    two = State(*(_rows(part, slice(0, 2)) for part in state()))
    checkpoint.Checkpoints(tmp_path, range(1, 3), saved=TRIALS).check(3, two)
    with pytest.raises(UserError, match=r"step: expected \(2,\) int32, found \(4,\) int32"):
        kept.check(3, two)
    kept.save_done(state(9))
    kept.close()
    kept.check(None, state())


@pytest.mark.parametrize("done", [False, True])
def test_what_another_run_saved_is_refused(tmp_path, done):
    folder = saved(tmp_path, 3, owner="mine")
    if done:
        kept = checkpoint.Checkpoints(tmp_path, TRIALS, owner="mine")
        kept.save_done(state(9))
        kept.close()
    finds = (unfinished.find_saved, unfinished.find_done) if done else (unfinished.find_saved,)
    for find in finds:
        assert find(tmp_path, "mine")
        with pytest.raises(UserError, match="does not belong to this run") as error:
            find(tmp_path, "yours")
        assert error.value.problems == ("it was saved by a run of another config or other data",)
        assert f"delete {folder}: only its trials are then trained again" in error.value.fix
    folder.rename(folder.with_name("trials_4-7"))
    for find in finds:
        with pytest.raises(UserError, match="it was saved for the trials 0 to 3"):
            find(tmp_path, "mine")


def test_a_renamed_step_is_refused(tmp_path):
    folder = saved(tmp_path, 3)
    (folder / "3").rename(folder / "99999999999999999999")
    with pytest.raises(UserError, match="it was saved at the position 3"):
        unfinished.find_saved(tmp_path)


def test_an_older_version_recorded_no_owner(tmp_path, monkeypatch):
    for key in ("OWNER", "OF_THESE", "POSITION"):
        monkeypatch.setattr(checkpoint, key, f"not {key}")
    saved(tmp_path, 3, owner="yours")
    monkeypatch.undo()
    assert [found.position for found in unfinished.find_saved(tmp_path, "mine")] == [3]


def test_a_chunk_that_ends_while_its_last_step_is_saved(tmp_path):
    """The saves run in the background: none may be deleted before it is whole."""
    for i in range(8):
        kept = checkpoint.Checkpoints(tmp_path / str(i), TRIALS)
        kept.save(1, state(1))
        kept.save(2, state(2))
        kept.save_done(state(3))
        kept.close()
        folder = run.resume_folder(tmp_path / str(i), TRIALS)
        assert [p.name for p in folder.iterdir()] == [checkpoint.DONE]
        (found,) = unfinished.find_saved(tmp_path / str(i))
        assert found.done
        assert unfinished.find_done(tmp_path / str(i)) == {0: TRIALS}


def test_a_full_disk_is_one_message(tmp_path, monkeypatch):
    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: write failed: No space left on device")

    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "save", full)
    kept = checkpoint.Checkpoints(tmp_path, TRIALS)
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        kept.save(1, state())
    kept.close()


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("Timed out after 1440.2 seconds."),
        ValueError("[process_index=0] Timed out waiting for array_metadatas"),
        RuntimeError("DEADLINE_EXCEEDED: Barrier timed out"),
    ],
)
def test_a_save_that_a_suspended_machine_did_not_finish(tmp_path, monkeypatch, error):
    def wait(*_):
        raise error

    kept = checkpoint.Checkpoints(tmp_path, TRIALS)
    kept.save(1, state())
    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "wait_until_finished", wait)
    with pytest.raises(UserError, match=r"not saved within the time limit") as e:
        kept.wait()
    assert str(error) in e.value.problems
    assert "suspended" in e.value.fix
    assert "the same command resumes" in e.value.fix
    assert "permission" not in e.value.text()
    monkeypatch.undo()
    kept.close()
    assert [saved.position for saved in unfinished.find_saved(tmp_path)] == [1]


def test_what_does_not_fit_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(save_errors.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    for write in (
        lambda: checkpoint.save_variables(tmp_path, "last", state().variables),
        lambda: checkpoint.Checkpoints(tmp_path, TRIALS).save(1, state()),
    ):
        with pytest.raises(UserError, match=r"needs 0\.0 MiB.* 0\.0 MiB .*free"):
            write()
    assert not list(tmp_path.rglob("*.orbax*"))
