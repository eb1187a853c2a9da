"""A run directory at an address: pushed as it grows, checkpoints whole or not at all, the truth for
whoever goes on with it.
"""

import contextlib
import os
import signal
import sys
import time

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from configs import mlp_fer2013
from experiments.fit import fit
from fexpr import Recognizer
from fexpr.data.loaders import LOADERS
from fexpr.errors import Preempted, UserError
from fexpr.runs import initialize, list_runs, load_data, results, sweep
from fexpr.storage import addresses, mirror, run
from fexpr.storage.cache import cache_dir
from fexpr.train import checkpoint, distributed, unfinished
from fexpr.train.log import History
from tests.recognizer.runs import toy

ADDRESS = "memory://bucket/runs/x"
STATE = {"w": np.arange(6, dtype=np.float32)}


@pytest.fixture(autouse=True)
def memory():
    """fsspec's files in memory, which all of a process share."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def there(address=ADDRESS):
    return sorted(addresses.Store(address).names())


def write(address, *names):
    for name in names:
        fsspec.filesystem("memory").pipe(
            f"{address.removeprefix('memory:/')}/{name}", name.encode()
        )


def test_a_path_is_itself(tmp_path):
    with mirror.opened(tmp_path / "x") as folder:
        assert folder == tmp_path / "x"
        run.write_text(folder / "a.txt", "a")
        for do in (mirror.push, mirror.push_soon, mirror.pull, mirror.forget_others):
            do(folder / "a.txt")
        assert mirror.later(folder, None) is None
        assert mirror.display_path(folder) == str(folder)
        mirror.remove(folder / "a.txt")
    assert not list(folder.iterdir())


def test_files_are_pushed_when_they_are_finished_and_the_rest_at_the_end():
    with mirror.opened(ADDRESS) as folder:
        assert folder.name == "x"
        assert mirror.display_path(folder / "a.json") == f"{ADDRESS}/a.json"
        run.write_json(folder / "a.json", {"at": folder / "b"})
        (folder / "log.jsonl").write_text("said")
        with pytest.raises(ZeroDivisionError), run.atomic_path(folder / "never") as partial:
            partial.write_text(str(1 / 0))
        assert there() == ["a.json"]
        (folder / ".hidden").write_text("")
        run.write_json(folder / "config.json", {})
    assert there() == ["a.json", "config.json", "log.jsonl"]
    assert not folder.parent.exists()
    with mirror.opened(ADDRESS) as folder:  # nothing that is here already is pushed again
        before = fsspec.filesystem("memory").modified("/bucket/runs/x/a.json")
        assert run.read_json(folder / "a.json") == {"at": f"{ADDRESS}/b"}
        mirror.remove(folder / "a.json")
        with pytest.raises(KeyError):
            fsspec.filesystem("memory").store["/bucket/runs/x/a.json"]
        run.write_json(folder / "a.json", {})
    assert fsspec.filesystem("memory").modified("/bucket/runs/x/a.json") > before


def test_what_is_open_twice_is_written_by_both():
    """As tasks of a sweep do, each in its folder; one sees what the other has brought when it
    asks.
    """
    with mirror.opened(ADDRESS) as whole, mirror.opened(f"{ADDRESS}/b") as part:
        run.write_text(whole / "a" / "config.json", "1")
        run.write_text(part / "config.json", "2")
        assert not (whole / "b").exists()
        mirror.pull(whole)
        assert (whole / "b" / "config.json").read_text() == "2"
    assert there() == ["a/config.json", "b/config.json"]


def test_an_interrupted_block_leaves_its_log():
    def interrupted():
        with mirror.opened(ADDRESS) as folder:
            (folder / "log.jsonl").write_text("said")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert there() == ["log.jsonl"]


def test_a_history_is_pushed_now_and_then(monkeypatch):
    pushed = []
    monkeypatch.setattr(
        addresses.Store,
        "put",
        lambda _, files: pushed.append([p.read_text() for p in files.values()]),
    )
    with mirror.opened(ADDRESS) as folder:
        (folder / "h").write_text("1")
        for _ in range(100):
            mirror.push_soon(folder / "h")
        while not pushed:
            time.sleep(0.001)
        (folder / "h").write_text("12")
    assert pushed == [["1"], ["12"]]


def saved(folder, *steps):
    checkpoints = checkpoint.Checkpoints(folder, range(1))
    for step in steps:
        checkpoints.save(step, STATE)
    checkpoints.wait()
    return checkpoints


def test_checkpoints_are_there_when_they_are_whole(monkeypatch):
    order, put = [], addresses.Store.put
    monkeypatch.setattr(
        addresses.Store, "put", lambda store, files: (order.append(list(files)), put(store, files))
    )
    with mirror.opened(ADDRESS) as folder:
        (folder / "metrics.jsonl").write_text("{}")
        checkpoints = checkpoint.Checkpoints(folder, range(1))
        checkpoints.save(1, STATE, [folder / "metrics.jsonl"])
        checkpoints.wait()
        assert order[0] == ["metrics.jsonl"]
        assert order[2:] == [[f"checkpoints/resume/trials_0-0/1/{mirror.WHOLE}"]]
        checkpoints.save(2, STATE)
        checkpoints.save(3, STATE)
        checkpoints.wait()
        checkpoints.close()
        write(ADDRESS, "config.json")
        kept = {name.split("/")[3] for name in there() if name.startswith("checkpoints")}
        assert kept == {"2", "3"}
        # half of one, of a process that was killed
        write(ADDRESS, "checkpoints/resume/trials_0-0/9/manifest.ocdbt")
    with mirror.opened(ADDRESS) as folder:
        checkpoints = checkpoint.Checkpoints(folder, range(1))
        (saved,) = unfinished.find_saved(folder)
        assert (saved.position, saved.done) == (3, False)
        np.testing.assert_array_equal(checkpoints.restore(3, STATE)["w"], STATE["w"])
        checkpoints.save(9, STATE)
        checkpoints.close()
        assert f"checkpoints/resume/trials_0-0/9/{mirror.WHOLE}" in there()
        mirror.remove(folder / "checkpoints" / "resume")
        assert not (folder / "checkpoints" / "resume").exists()
        checkpoint.save_variables(folder, "last", STATE)
        checkpoint.save_variables(folder, "last", STATE)
        here = sorted(
            p.relative_to(folder).as_posix()
            for p in (folder / "checkpoints").rglob("*")
            if p.is_file()
        )
        assert [name for name in there() if name.startswith("checkpoints")] == here
    with mirror.opened(ADDRESS) as folder:
        np.testing.assert_array_equal(checkpoint.load_variables(folder, "last")["w"], STATE["w"])


def test_what_goes_wrong_in_the_background_is_raised_by_the_next_save(monkeypatch):
    def training():
        with mirror.opened(ADDRESS) as folder:
            checkpoints = saved(folder, 1)
            monkeypatch.setattr(MemoryFileSystem, "put_file", broken(OSError("the disk is full")))
            checkpoints.save(2, STATE)
            with contextlib.closing(checkpoints):
                checkpoints.save(3, STATE)

    with pytest.raises(
        UserError,
        match=rf"cannot write {ADDRESS}\n  - the disk is full\n",
    ):
        training()
    assert {name.split("/")[3] for name in there()} == {"1"}
    assert not list((cache_dir() / "mirrors").iterdir())


def broken(error):
    def raises(*_, **__):
        raise error

    return raises


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            PermissionError("Access Denied"),
            "no permission: Access Denied\nWhat to do: .*credentials",
        ),
        (
            FileNotFoundError("The bucket does not exist"),
            "The bucket does not exist\nWhat to do: check the address",
        ),
        (
            ValueError("Unable to locate credentials"),
            "locate credentials\nWhat to do: .*credentials",
        ),
        (
            ConnectionError("Could not connect to http://localhost:1"),
            "Could not connect .*\nWhat to do: check the network",
        ),
    ],
)
def test_an_address_that_does_not_answer(monkeypatch, error, words):
    monkeypatch.setattr(MemoryFileSystem, "find", broken(error))
    with (
        pytest.raises(UserError, match=f"cannot open {ADDRESS}\n  - .*{words}"),
        mirror.opened(ADDRESS),
    ):
        pytest.fail("opened")


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with (
        pytest.raises(UserError, match=r"gs://bucket/x\n.*gcsfs.*\n.*pip install gcsfs"),
        mirror.opened("gs://bucket/x"),
    ):
        pytest.fail("opened")


def test_somebody_elses_folder_is_not_fetched(memory):
    write(ADDRESS, "films/a.mp4", "films/b.mp4")
    with (
        pytest.raises(UserError, match=f"{ADDRESS} is not empty"),
        mirror.opened(ADDRESS),
    ):
        pytest.fail("opened")
    memory.pipe("/bucket/runs/x/../../evil", b"")
    assert all(".." not in name for name in there())


def test_an_address_of_nothing():
    with pytest.raises(UserError, match="s3://"), mirror.opened("s3://"):
        pytest.fail("opened")


def test_errors_name_the_address():
    with mirror.opened(ADDRESS) as folder:
        run.write_text(folder / run.CONFIG, "{")
    with (
        pytest.raises(UserError, match=f"^{ADDRESS}/config.json is damaged"),
        mirror.opened(ADDRESS) as folder,
    ):
        run.read_json(folder / run.CONFIG)


def test_what_a_killed_process_left_is_cleaned_up():
    left, used = cache_dir() / "mirrors" / "left", cache_dir() / "mirrors" / "used"
    for folder in (left, used):
        folder.mkdir(parents=True)
        (folder / ".lock").touch()
        os.utime(folder / ".lock", (0, 0))
    with open(used / ".lock") as lock:
        assert addresses._lock(lock)
        with mirror.opened(ADDRESS):
            assert not left.exists()
            assert used.exists()


def test_status_of_an_address(capsys):
    with mirror.opened(ADDRESS) as folder:
        run.write_json(folder / "a" / run.CONFIG, {"config": {"train": {"epochs": 10}}})
        run.write_text(
            folder / "a" / run.HISTORY,
            '{"epoch": 3, "train_loss": 1.0, "val_loss": 2.0, "seconds": 1.0}\n',
        )
        run.write_json(folder / "b" / run.CONFIG, {"config": {"train": {"epochs": 10}}})
        run.write_text(folder / "b" / run.PREDICTIONS, "not to be read")
        (name,) = (k for k in fsspec.filesystem("memory").store if k.endswith("a/metrics.jsonl"))
        file = fsspec.filesystem("memory").store[name]
        file.modified = file.created = file.modified.replace(year=2020)
    before = there()
    assert list_runs.main([ADDRESS]) == 0
    out = capsys.readouterr().out
    assert "a  silent    3 of 10" in out
    assert "1 finished  1 silent" in out
    assert there() == before
    assert list_runs.main(["memory://bucket/none"]) == 2
    assert "cannot open memory://bucket/none" in capsys.readouterr().err


@pytest.fixture
def config(monkeypatch):
    """Of a run that takes no time, but for its page, which is not drawn."""
    made = mlp_fer2013.get_config("debug")
    made.update_from_flattened_dict(
        {
            "log.tensorboard": False,
            "evaluate.resamples": 10,
            "train.epochs": 6,
            "train.batch_size": 0,
            "log.checkpoint_seconds": 0.0,
        }
    )
    made.data.name, made.split.protocol = "toy", "holdout"
    made.model = {"name": "logistic"}
    monkeypatch.setattr(results, "write_page", lambda folder, *_: folder / run.REPORT)
    monkeypatch.setitem(LOADERS, "toy", lambda c: toy(c, multilabel=False))
    return made


@pytest.mark.long
def test_a_run_whose_upload_fails_and_that_is_told_to_stop_goes_on(
    config, memory, tmp_path, monkeypatch, capsys
):
    fit(config, tmp_path / "local")
    put = MemoryFileSystem.put_file

    def fails(files, local, remote, **options):
        if "resume/trials_0-0/8/" in remote:  # two positions an epoch: one step, and its end
            raise OSError("the line is dead")
        put(files, local, remote, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", fails)
        with (
            pytest.raises(UserError, match="the line is dead"),
            distributed.run_directory(ADDRESS) as folder,
        ):
            fit(config, folder)
    assert {name.split("/")[3] for name in there() if name.startswith("checkpoints")} == {"4", "6"}
    assert len(memory.cat_file("/bucket/runs/x/metrics.jsonl").splitlines()) >= 3
    write_line = History.add

    def told_to_stop(history, row):
        write_line(history, row)
        if row["epoch"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(History, "add", told_to_stop)
        with (
            pytest.raises(Preempted, match="after epoch 5"),
            distributed.run_directory(ADDRESS) as folder,
        ):
            fit(config, folder)
    with distributed.run_directory(ADDRESS) as folder:
        (folder / run.LOG).write_text("said")
        fit(config, folder)
    out = capsys.readouterr().out
    assert "resumed    from epoch 3 of 6" in out
    assert "resumed    from epoch 5 of 6" in out
    assert f"report     {ADDRESS}/report.html" in out
    assert {name for name in there() if "/" not in name} == {
        run.CONFIG,
        run.LOG,
        run.METRICS,
        run.HISTORY,
        run.PEOPLE,
        run.PREDICTIONS,
    }
    assert {name.split("/")[1] for name in there() if "/" in name} == {"last", "best_val"}
    with mirror.opened(ADDRESS) as folder:
        here, local = (
            run.read_arrays(place / run.PREDICTIONS) for place in (folder, tmp_path / "local")
        )
        assert [row["epoch"] for row in run.read_history(folder)] == list(range(1, 7))
    for name in local:
        np.testing.assert_array_equal(here[name], local[name], err_msg=name)
    assert Recognizer.restore(ADDRESS).content["data"]["name"] == "toy"
    config.init.from_run = ADDRESS
    assert (
        initialize.load_initialization(config, *load_data.load(config)).facts["from_run"] == ADDRESS
    )


@pytest.mark.long
def test_a_sweep(config):
    for _ in range(2):  # once more: it is found finished
        with distributed.run_directory(ADDRESS) as folder:
            sweep.sweep(config, folder, ["optimizer.learning_rate=0.01,0.02"])
    names = there()
    points = ("learning_rate=0.01", "learning_rate=0.02")
    for point in points:
        assert f"{point}/predictions.npz" in names
    assert not [name for name in names if name.startswith("programs")]
    with mirror.opened(ADDRESS) as folder:
        assert {p["run_dir"] for p in run.read_json(folder / "sweep.json")["points"]} == {
            f"{ADDRESS}/{point}" for point in points
        }
