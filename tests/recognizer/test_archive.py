"""A run is the same run wherever it lies; what is no run, or several, is said to be."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from fexpr import Recognizer
from fexpr.errors import UserError
from fexpr.recognizer import archive
from fexpr.storage import packed, run
from tests.recognizer.runs import FIXTURES, stored


@pytest.mark.parametrize("version", run.READABLE)
def test_stored_runs_of_every_format_are_restored(version, tmp_path):
    """They were trained on four devices."""
    place = FIXTURES / f"run_format_{version}.zip"
    with archive.opened(place) as folder:
        found, images = run.read_arrays(folder / run.PREDICTIONS), np.load(folder / "images.npy")
        assert run.read_json(folder / run.CONFIG)["devices"]["count"] == 4
    place_of = {f"clip {i}": i for i in range(len(images))}
    for t in range(3):
        restored = Recognizer.restore(place, trial=t)
        mine = (found["selection"] == restored.selection) & (found["trial"] == t)
        rows = [place_of[id_] for id_ in found["ids"][mine]]
        np.testing.assert_allclose(restored.logits(images[rows]), found["logits"][mine], atol=2e-6)
    assert not folder.exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("stored"))


@pytest.mark.parametrize("kind", ["zip", "gztar", "tar"])
def test_archives_and_addresses(folder, tmp_path, kind):
    expected = Recognizer.restore(folder, trial=1).metrics
    # with the run directory at its root
    packed = shutil.make_archive(str(tmp_path / "packed"), kind, folder)
    assert Recognizer.restore(packed, trial=1).metrics == expected
    memory = fsspec.filesystem("memory")
    memory.put(packed, f"/{kind}/run")  # the name says nothing: what matters is what it holds
    assert Recognizer.restore(f"memory://{kind}/run", trial=1).metrics == expected


def test_a_folder_that_is_elsewhere(folder):
    fsspec.filesystem("memory").put(str(folder), "/elsewhere", recursive=True)
    restored = Recognizer.restore("memory://elsewhere", trial=0)
    np.testing.assert_array_equal(
        restored.network.mean, Recognizer.restore(folder, trial=0).network.mean
    )


def pack(path, names):
    with zipfile.ZipFile(path, "w") as f:
        for name in names:
            f.writestr(name, "{}")


def evil(path):
    with tarfile.open(path, "w") as f:
        member = tarfile.TarInfo("../outside")
        member.size = 2
        f.addfile(member, io.BytesIO(b"{}"))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p: p.write_text("hello"), "b is .*no.* archive"),
        (lambda p: pack(p, ["notes.txt"]), "no run directory\n"),
        (
            lambda p: pack(p, ["a/config.json", "b/config.json", "__MACOSX/a/config.json"]),
            "2 run directories\n  - a\n  - b\n",
        ),
        (
            lambda p: pack(p, ["a/config.json"]),
            "no finished run\n.*predictions.npz",
        ),
        (
            lambda p: p.write_bytes((FIXTURES / "run_format_1.zip").read_bytes()[:20_000]),
            "archive",
        ),
        (evil, "cannot be unpacked"),
    ],
)
def test_what_is_no_run(tmp_path, write, words):
    place = tmp_path / "a" / "b"
    place.parent.mkdir()
    write(place)
    with pytest.raises(UserError, match=words):
        Recognizer.restore(place)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b"]


def test_the_checksum_of_a_compressed_tar_is_compared(folder, tmp_path):
    """Which tarfile does not, as it stops at the last member."""
    whole = Path(shutil.make_archive(str(tmp_path / "run"), "gztar", folder)).read_bytes()
    place = tmp_path / "changed.tar.gz"
    for content in (whole[:-1], whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]):
        place.write_bytes(content)
        with pytest.raises(UserError, match="cannot be unpacked"):
            Recognizer.restore(place)


def test_an_archive_of_too_many_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as f:
        for i in range(packed.MOST_MEMBERS + 1):
            f.writestr(f"{i}", "")
    with pytest.raises(UserError, match="more than 10,000 files"):
        Recognizer.restore(tmp_path / "many.zip")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("memory://nowhere/run.zip", "memory://nowhere/run.zip\n.*not found"),
        ("nosuch://bucket/run.zip", "Protocol not known: nosuch"),
    ],
)
def test_addresses_that_do_not_open(address, words):
    with pytest.raises(UserError, match=words):
        Recognizer.restore(address)


def test_an_ensemble_is_the_mean_of_its_members(folder):
    images = np.load(folder / "images.npy")
    whole, parts = (
        Recognizer.restore(folder),
        [Recognizer.restore(folder, trial=t) for t in range(3)],
    )
    assert whole.members == (0, 1, 2)
    each = np.stack([part.probabilities(images, calibrated=True) for part in parts])
    assert np.ptp(each, axis=0).max() > 0.01
    np.testing.assert_allclose(
        whole.probabilities(images, calibrated=True), each.mean(axis=0), rtol=1e-6
    )
    table = whole.predict(images)
    assert table.attrs["calibrated"]
    np.testing.assert_allclose(table[list(whole.class_names)], each.mean(axis=0), rtol=1e-6)
    decided = each.mean(axis=0).argmax(axis=1)
    assert table["decision"].tolist() == [whole.class_names[k] for k in decided]
    np.testing.assert_allclose(
        table["spread"], each.std(axis=0)[np.arange(len(images)), decided], rtol=1e-5
    )
    with pytest.raises(UserError, match="ensemble of 3 networks"):
        whole.logits(images)


def test_failed_trials_take_no_part(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    metrics = run.read_json(tmp_path / "run" / run.METRICS)
    metrics["trials"]["failed"].append({"trial": 1})
    run.write_json(tmp_path / "run" / run.METRICS, metrics)
    assert Recognizer.restore(tmp_path / "run").members == (0, 2)
    with pytest.raises(UserError, match=r"trial 1 of .* failed"):
        Recognizer.restore(tmp_path / "run", trial=1)
