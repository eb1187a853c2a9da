"""How far runs are, by their files alone."""

import json
import os

import pytest

from fexpr.errors import UserError
from fexpr.runs.list_runs import find, main, status
from fexpr.storage import run

NOW = 1_700_000_000.0


def write(folder, epochs=10, done=0, finished=False, age=5.0, chunk=0, **more):
    run.write_json(folder / run.CONFIG, {"config": {"train": {"epochs": epochs}}})
    rows = [
        {"epoch": e, "train_loss": 1 / e, "val_loss": 2 / e, "seconds": 30.0}
        | ({"chunk": chunk} if chunk else {})
        | more
        for e in range(1, done + 1)
    ]
    if rows:
        run.write_text(folder / run.HISTORY, "".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        run.write_text(folder / run.PREDICTIONS, "")
        run.write_json(
            folder / run.METRICS,
            {
                "headline": {"metrics": ["uf1"]},
                "test": {"uf1": {"value": 0.5, "low": 0.4, "high": 0.6}},
            },
        )
    for path in folder.iterdir():
        os.utime(path, (NOW - age, NOW - age))
    return folder


@pytest.mark.parametrize(
    ("made", "state", "epoch", "left"),
    [
        ({}, "starting", 0, None),
        ({"done": 4}, "training", 4, 180.0),
        ({"done": 4, "age": 140}, "training", 4, 180.0),  # less than five epochs of half a minute
        ({"done": 4, "age": 160}, "silent", 4, None),
        ({"age": 130}, "silent", 0, None),
        ({"done": 4, "chunk": 2}, "training", 4, 180.0),
        ({"done": 10, "finished": True, "age": 9999}, "finished", 10, None),
    ],
)
def test_states(tmp_path, made, state, epoch, left):
    found = status(write(tmp_path / "run", **made), NOW)
    assert (found.state, found.epoch, found.left) == (state, epoch, left)
    assert (found.result is not None) == (state == "finished")


def test_chunks_side_by_side(tmp_path):
    """Of Ray tasks: each writes its own rows; the slowest says what is left."""
    folder = write(tmp_path, done=10, seconds=2.0)
    for chunk, epochs in ((1, 3), (2, 7)):
        rows = [
            {"epoch": e, "train_loss": 1.0, "val_loss": 1.0, "seconds": 2.0, "chunk": chunk}
            for e in range(1, epochs + 1)
        ]
        run.write_text(
            run.history_file(folder, chunk), "".join(json.dumps(row) + "\n" for row in rows)
        )
        os.utime(run.history_file(folder, chunk), (NOW - chunk, NOW - chunk))
    found = status(folder, NOW)
    assert (found.epoch, found.epochs, found.age, found.left) == (20, 30, 1.0, 14.0)


def test_a_sweep_at_a_glance(tmp_path, capsys):
    write(tmp_path / "sweep" / "a", done=10, finished=True)
    write(
        tmp_path / "sweep" / "b",
        done=2,
        step_seconds=0.0843,
        input_wait=6.0,
        host_bytes=821 * 2**20,
    )
    write(tmp_path / "svm", finished=True)
    run.write_json(tmp_path / "svm" / run.CONFIG, {"config": {}})
    assert [folder.name for folder in find(tmp_path)] == ["svm", "a", "b"]
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for text in (
        "sweep/a",
        "finished",
        "10 of 10",
        "uf1 0.500 (0.400–0.600)",
        "2 finished  1 silent",
    ):
        assert text in out
    row = next(line for line in out.splitlines() if line.startswith("sweep/b"))
    assert "84.3 ms   20%  821 MiB" in row
    assert main([str(tmp_path / "none")]) == 2
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no runs"):
        find(empty)
