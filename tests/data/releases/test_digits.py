"""Digits and moved digits: scikit-learn's, MNIST's own file formats, and a network that is missing."""

import gzip
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tensorflow_datasets.core.download import DownloadManager

from configs import lab_digits
from fexpr.data.releases import digits
from fexpr.errors import UserError


@pytest.fixture
def config():
    config = lab_digits.get_config("debug")
    config.split.folds = 2
    return config


def test_moved_digits():
    images = np.zeros((500, 9, 9, 1), np.uint8)
    images[:, 4, 4] = 7
    for least, most in ((0, 0), (2, 2), (0, 3)):
        found = digits.moved(images, least, most, seed=1)
        assert (found == digits.moved(images, least, most, seed=1)).all()
        assert found.shape == images.shape
        y, x = np.argwhere(found[..., 0] == 7)[:, 1:].T - 4
        distance = np.maximum(abs(y), abs(x))
        assert set(distance.tolist()) == set(range(least, most + 1))
        assert (
            len(set(zip(y.tolist(), x.tolist(), strict=True)))
            == (2 * most + 1) ** 2 - max(2 * least - 1, 0) ** 2
        )
    edge = np.full((4, 3, 3, 1), 9, np.uint8)
    assert digits.moved(edge, 3, 3, seed=0).sum() == 0  # all of it has left


def test_digits_folds_and_scaling(config, monkeypatch):
    small = load_digits()
    monkeypatch.setattr(
        digits,
        "load_digits",
        lambda return_X_y: (small.data[:90], small.target[:90]),
    )
    data = digits.scikit_digits(config)
    assert data.dataset.images.shape == (90, 28, 28, 1)
    assert data.dataset.images.max() == 255
    assert sorted(np.concatenate([fold.test for fold in data.folds]).tolist()) == list(range(90))
    small = load_digits().images[:90] * (255 / 16)
    np.testing.assert_allclose(data.dataset.images.mean((1, 2, 3)), small.mean((1, 2)), atol=12)
    assert (data.moved != data.dataset.images).any()


@pytest.fixture
def mnist_files(tmp_path, monkeypatch):
    """A tiny MNIST and MNIST-C in their own file formats, in place of the network."""
    rng, sets = np.random.default_rng(0), {}
    for part, name, n in (("train", "train", 30), ("test", "t10k", 12)):
        images, labels = (
            rng.integers(0, 256, (n, 28, 28, 1), dtype=np.uint8),
            rng.integers(0, 10, n).astype(np.uint8),
        )
        sets[part] = images, labels
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(bytes(16) + images.tobytes())
        )
        (tmp_path / f"{name}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(bytes(8) + labels.tobytes())
        )
    with zipfile.ZipFile(tmp_path / "mnist_c.zip", "w") as archive:
        # in an order of its own
        for column, values in (
            ("images", 255 - sets["test"][0][::-1]),
            ("labels", sets["test"][1][::-1]),
        ):
            with archive.open(f"mnist_c/translate/test_{column}.npy", "w") as file:
                np.save(file, values)

    def download(self, urls):
        assert all(url in self._url_infos for url in urls.values())  # TFDS knows their checksums
        return {key: tmp_path / url.rsplit("/", 1)[1] for key, url in urls.items()}

    monkeypatch.setattr(DownloadManager, "download", download)
    monkeypatch.setattr(
        digits.socket, "create_connection", lambda *_, **__: SimpleNamespace(close=lambda: None)
    )
    monkeypatch.setattr(digits, "MNIST_VALIDATION", 6)
    return sets


def test_mnist_is_downloaded_once_when_asked_for(mnist_files, config, monkeypatch):
    assert "scikit-learn" in digits.load(config).dataset.source
    config.data.source = "release"
    data = digits.load(config)
    (fold,) = data.folds
    assert (data.dataset.source, data.movement) == ("MNIST", "on mnist_corrupted/translate")
    assert [len(fold.train), len(fold.val), len(fold.test)] == [24, 6, 12]
    for part, rows in (("train", np.r_[fold.train, fold.val]), ("test", fold.test)):
        np.testing.assert_array_equal(data.dataset.images[rows], mnist_files[part][0])
        np.testing.assert_array_equal(data.dataset.labels[rows], mnist_files[part][1])
    np.testing.assert_array_equal(data.moved[fold.test], 255 - mnist_files["test"][0][::-1])
    np.testing.assert_array_equal(data.moved_labels[fold.test], mnist_files["test"][1][::-1])
    monkeypatch.setattr(digits, "download_mnist", lambda _: pytest.fail("downloaded again"))
    for config.data.source in ("release", "auto"):
        assert digits.load(config).dataset.source == "MNIST"


def test_mnist_without_a_network_is_one_message(config, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route to host")

    config.data.source = "release"
    monkeypatch.setattr(digits.socket, "create_connection", refuse)
    monkeypatch.setattr(digits, "getproxies", dict)
    with pytest.raises(UserError, match=r"(?s)MNIST.*: no route to host.*data.source=auto"):
        digits.load(config)
