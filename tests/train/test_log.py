"""The figures of a run during training: metrics.jsonl, TensorBoard's files, Weights & Biases."""

import json
import struct
import sys
import types

import pytest

from fexpr.errors import UserError
from fexpr.storage import run
from fexpr.train.log import History, Writers


def rows(folder):
    return [(row["epoch"], row.get("chunk")) for row in run.read_history(folder)]


def test_a_resumed_history_keeps_the_rows_that_are_asked_for(tmp_path):
    history = History(tmp_path, lambda row: True)
    for epoch in (1, 2, 3):
        history.add({"epoch": epoch})
    history.close()
    again = History(tmp_path, lambda row: row["epoch"] <= 2)
    assert again.path == history.path == tmp_path / run.HISTORY
    again.add({"epoch": 3, "train_loss": 0.5})
    assert rows(tmp_path) == [(1, None), (2, None), (3, None)]
    assert run.read_history(tmp_path)[-1] == {"epoch": 3, "train_loss": 0.5}


def test_histories_of_chunks_are_merged_by_opening_that_of_all(tmp_path):
    for chunk in (0, 1):
        part = History(tmp_path, lambda row, chunk=chunk: row.get("chunk") == chunk, chunk)
        part.add({"epoch": 1, "chunk": chunk})
        assert part.path != tmp_path / run.HISTORY
        assert len(json.loads(part.path.read_text())) == 2
    assert len(run.history_files(tmp_path)) == 2
    whole = History(tmp_path, lambda row: True)
    assert run.history_files(tmp_path) == [whole.path]
    assert rows(tmp_path) == [(1, 0), (1, 1)]


def test_a_history_that_cannot_be_written_names_its_file(tmp_path):
    history = History(tmp_path, lambda row: True)
    history.path.unlink()
    history.path.mkdir()
    with pytest.raises(UserError) as e:
        history.add({"epoch": 1})
    assert str(history.path) in e.value.text()


def events(folder):
    """(step, tag, value) of every scalar in TensorBoard's files."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted(folder.iterdir()):
        content, at = file.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack("<Q", content[at : at + 8])
            event = Event.FromString(content[at + 12 : at + 12 + size])
            at += 16 + size
            for value in event.summary.value:
                yield event.step, value.tag, pytest.approx(value.simple_value)


def test_tensorboard_gets_every_number_but_the_epoch(tmp_path):
    writers = Writers(tmp_path, True, "", {})
    writers.add({"epoch": 3, "train_loss": 0.5, "val_loss": None})
    writers.add({"epoch": 4, "train_loss": 0.25, "val_loss": 1.0})
    found = list(events(tmp_path / "tensorboard"))  # on disk before it is closed
    assert found == [(3, "train_loss", 0.5), (4, "train_loss", 0.25), (4, "val_loss", 1.0)]
    writers.close()


def test_tensorboard_draws_a_curve_for_each_chunk(tmp_path):
    writers = Writers(tmp_path, True, "", {})
    writers.add({"epoch": 1, "train_loss": 0.5})
    writers.add({"epoch": 1, "train_loss": 0.25, "chunk": 2})
    found = [tag for _, tag, _ in events(tmp_path / "tensorboard")]
    assert found == ["train_loss", "chunk_2/train_loss", "chunk_2/chunk"]
    writers.close()


def test_a_folder_of_events_that_cannot_be_made(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(UserError) as e:
        Writers(tmp_path, True, "", {})
    assert str(tmp_path / "tensorboard") in e.value.text()


def test_weights_and_biases_get_the_same(tmp_path, monkeypatch):
    calls = []
    one = types.SimpleNamespace(
        log=lambda scalars, step: calls.append((step, scalars)), finish=lambda: calls.append("end")
    )
    package = types.ModuleType("wandb")
    package.init = lambda **options: calls.append(options) or one
    monkeypatch.setitem(sys.modules, "wandb", package)
    writers = Writers(tmp_path / "a_run", False, "offline", {"seed": 1})
    writers.add({"epoch": 3, "train_loss": 0.5, "val_loss": None})
    writers.close()
    assert calls == [
        {
            "project": "fexpr",
            "name": "a_run",
            "id": "a_run",
            "resume": "allow",
            "mode": "offline",
            "dir": str(tmp_path / "a_run"),
            "config": {"seed": 1},
        },
        (3, {"train_loss": 0.5}),
        "end",
    ]
    assert not (tmp_path / "a_run" / "tensorboard").exists()


def test_weights_and_biases_that_are_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError) as e:
        Writers(tmp_path, False, "online", {})
    assert "log.wandb='online'" in e.value.title
    Writers(tmp_path, False, "", {}).close()
