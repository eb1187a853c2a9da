"""Finished runs in debug size, shared by the tests of this folder."""

import os
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fexpr.data.dataset import Dataset
from fexpr.data.loaders import LOADERS
from fexpr.runs import results
from fexpr.storage import run

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Camera:
    """Two frames, then Ctrl-C: instead of cv2.VideoCapture."""

    def __init__(self, frame):
        self.frame, self.left = frame, 3

    def isOpened(self):
        return True

    def get(self, _):
        return 0.0

    def read(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return True, self.frame

    def release(self):
        pass


def toy(config, multilabel):
    """24 flow-like maps 12x12x3 of six subjects, two classes or two action units, brighter where
    the second one is there.
    """
    rng = np.random.default_rng(0)
    presence = np.arange(24) % 2
    images = np.clip(
        90 + 60 * presence[:, None, None, None] + rng.normal(0, 30, (24, 12, 12, 3)), 0, 255
    ).astype(np.uint8)
    labels = (
        np.stack([1 - presence, presence], 1).astype(np.float32)
        if multilabel
        else presence.astype(np.int32)
    )
    ids = np.array([f"clip {i}" for i in range(24)])
    return Dataset(
        images,
        labels,
        np.array([f"s{i // 4}" for i in range(24)]),
        ids,
        ("one", "other"),
        "toy@1",
        kind="flow",
    )


def trained(module, experiment, folder, loader, **fields):
    """The run directory, its data and its predictions, of a config in debug size; without the page,
    which takes longer than training.
    """
    config = module.get_config("debug")
    config.update_from_flattened_dict({"log.tensorboard": False, "evaluate.resamples": 10} | fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEXPR_CACHE_DIR", str(folder / "cache"))
        patch.setattr(results, "write_page", lambda *_: "no page")
        patch.setitem(LOADERS, config.data.name, loader)
        experiment(config, folder / "run")
        dataset = LOADERS[config.data.name](config.data)
    return folder / "run", dataset, run.read_arrays(folder / "run" / run.PREDICTIONS)


def rows_of(dataset, found, selection, trial=0):
    """Images and logits of the rows of predictions.npz."""
    mine = (found["selection"] == selection) & (found["trial"] == trial)
    place = {id_: i for i, id_ in enumerate(dataset.ids)}
    return dataset.images[[place[id_] for id_ in found["ids"][mine]]], found["logits"][mine]


def stored(folder):
    """The stored run of the present format, unpacked."""
    with zipfile.ZipFile(FIXTURES / f"run_format_{run.FORMAT_VERSION}.zip") as f:
        f.extractall(folder)
    return folder / "run"
