"""Handwritten digits and moved digits, for the laboratory on translation. MNIST and MNIST-C's
`translate` (Mu & Gilmer 2019) if they have been downloaded, else scikit-learn's 8x8 digits, scaled
to 28x28 and moved by up to 3 pixels.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import socket
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import getproxies

import cv2
import numpy as np
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.data.splits.protocols import make_folds
from fexpr.errors import UserError
from fexpr.storage import run
from fexpr.terminal import say

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Shaped, UInt8

SIDE, SHIFT = 28, 3  # pixels: of an image, largest shift of the headline
MNIST_VALIDATION = 5000  # of its training images


@dataclasses.dataclass(frozen=True)
class Digits:
    """Digits to train on, and moved digits: `moved` and `moved_labels` replace the images and
    labels of all rows of `dataset`; only test rows are used.
    """

    dataset: Dataset
    folds: list[Fold]
    moved: np.ndarray
    moved_labels: np.ndarray
    movement: str


def load(config: ConfigDict) -> Digits:
    """Loads the digits that config.data.source selects: 'auto' takes MNIST once it has been
    downloaded, else scikit-learn's digits; 'release' downloads MNIST if necessary (11 MB, and
    MNIST-C's 240 MB).

    Raises:
      UserError: 'release', and MNIST is missing and cannot be downloaded.
    """
    path = run.cache_dir() / "prepared" / "mnist_translate.npz"
    if config.data.source == "release" and not path.exists():
        run.write_arrays(path, download_mnist(run.cache_dir() / "downloads"))
    if path.exists():
        return mnist_digits(run.read_arrays(path))
    say(
        "MNIST is not on this machine: scikit-learn's digits instead, which are fewer, "
        "coarser and fill the whole image "
        "(--config.data.source=release downloads MNIST)",
        style="yellow",
    )
    return scikit_digits(config)


def scikit_digits(config: ConfigDict) -> Digits:
    """Loads scikit-learn's 1,797 handwritten digits, 8x8 and 17 grey levels, scaled bilinearly;
    folds by config.split.
    """
    pixels, classes = map(np.asarray, load_digits(return_X_y=True))
    grey = [
        cv2.resize(image * (255 / 16), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        for image in pixels.reshape(-1, 8, 8)
    ]
    images, ids = (
        np.rint(grey).astype(np.uint8)[..., None],
        np.array([f"digit {i}" for i in range(len(grey))]),
    )
    dataset = Dataset(
        images,
        classes.astype(np.int32),
        ids,
        ids,
        tuple("0123456789"),
        f"scikit-learn digits scaled to {SIDE}x{SIDE}",
    )
    return Digits(
        dataset,
        make_folds(config.split, dataset),
        moved(images, 0, SHIFT, config.seed + 1),
        dataset.labels,
        f"moved by up to {SHIFT} pixels",
    )


def mnist_digits(sets: dict[str, Shaped[np.ndarray, "_ ..."]]) -> Digits:
    """The arrays of `download_mnist` as one fold: MNIST's own split, whose last training images
    validate.
    """

    def load_parts(*parts: str) -> tuple[np.ndarray, np.ndarray]:
        return (
            np.concatenate([sets[f"{part}_images"] for part in parts]),
            np.concatenate([sets[f"{part}_labels"] for part in parts]),
        )

    images, labels = load_parts("train", "test")
    ids, n = np.array([f"digit {i}" for i in range(len(labels))]), len(sets["train_labels"])
    dataset = Dataset(images, labels, ids, ids, tuple("0123456789"), "MNIST")
    fold = Fold(
        "mnist",
        np.arange(n - MNIST_VALIDATION),
        np.arange(n - MNIST_VALIDATION, n),
        np.arange(n, len(labels)),
        ids,
    )
    return Digits(dataset, [fold], *load_parts("train", "moved"), "on mnist_corrupted/translate")


def download_mnist(folder: Path) -> dict[str, Shaped[np.ndarray, "_ ..."]]:
    """Downloads MNIST and MNIST-C: `train`, `test` and `moved` (MNIST-C's translated test images),
    each `_images` uint8 [n,28,28,1] and `_labels` int32 [n].

    TFDS knows the addresses and checksums, and downloads; to unpack the files and to encode the
    images it would need TensorFlow.

    Raises:
      UserError: no network, or a download with a wrong checksum.
    """
    import tensorflow_datasets as tfds  # takes seconds to import; nothing else here needs it
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.image_classification import mnist, mnist_corrupted

    names = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    urls = {name: f"{mnist.MNIST.URL}{name}.gz" for name in names} | {
        "mnist_c": mnist_corrupted._DOWNLOAD_URL
    }
    known = (mnist.MNIST.url_infos or {}) | (mnist_corrupted.MNISTCorrupted.url_infos or {})
    try:
        if not getproxies():
            # TFDS would try for minutes
            socket.create_connection((urlparse(mnist.MNIST.URL).hostname, 443), timeout=10).close()
        manager = tfds.download.DownloadManager(
            download_dir=folder, url_infos=known, force_checksums_validation=True
        )
        files: Any = manager.download(urls)  # a structure like that of `urls`
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as e:
        raise UserError(
            f"MNIST cannot be downloaded: {str(e).splitlines()[0]}",
            fix="check the network, or take scikit-learn's digits: --config.data.source=auto",
        ) from e
    train, train_labels, test, test_labels = (
        np.frombuffer(gzip.decompress(files[name].read_bytes()), np.uint8) for name in names
    )
    with zipfile.ZipFile(files["mnist_c"]) as archive:
        moved, moved_labels = (
            np.load(io.BytesIO(archive.read(f"mnist_c/translate/test_{column}.npy")))
            for column in ("images", "labels")
        )
    # after the headers of the IDX format
    found = {
        "train": (train[16:], train_labels[8:]),
        "test": (test[16:], test_labels[8:]),
        "moved": (moved, moved_labels),
    }
    return {
        f"{part}_{column}": array
        for part, (images, labels) in found.items()
        for column, array in (
            ("images", images.reshape(-1, SIDE, SIDE, 1)),
            ("labels", labels.astype(np.int32)),
        )
    }


def moved(
    images: UInt8[np.ndarray, "N H W C"], least: int, most: int, seed: int
) -> UInt8[np.ndarray, "N H W C"]:
    """Images [N,H,W,C], each moved by whole pixels (dy, dx), uniform over least <= max(|dy|, |dx|)
    <= most; zeros enter at the border.
    """
    every = [
        (y, x)
        for y in range(-most, most + 1)
        for x in range(-most, most + 1)
        if max(abs(y), abs(x)) >= least
    ]
    shifts = np.array(every)[np.random.default_rng(seed).integers(len(every), size=len(images))]
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    return np.stack(
        [
            p[most - y : most - y + image.shape[0], most - x : most - x + image.shape[1]]
            for p, image, (y, x) in zip(padded, images, shifts, strict=True)
        ]
    )
