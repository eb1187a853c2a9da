"""Writes tests/fixtures/run_format_<n>.zip: a tiny finished run of the present format, kept so that
later versions must read it.

    python -m tests.recognizer.store

STSTNet on toy flow maps of 12x12, three folds, trained on four devices. The images of its rows lie
in it too, as images.npy.
"""

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import numpy as np

from configs import ststnet_megc2019
from experiments.cross_validate import cross_validate
from fexpr.storage import run
from tests.recognizer.runs import toy, trained

FIELDS = {
    "data.image_size": 12,
    "train.epochs": 2,
    "split.seeds": 1,
    "split.protocol": "group_k_fold",
    "split.folds": 3,
}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        folder, dataset, _ = trained(
            ststnet_megc2019,
            cross_validate,
            Path(temporary),
            partial(toy, multilabel=False),
            **FIELDS,
        )
        np.save(folder / "images.npy", dataset.images)
        command = {"command": "python -m tests.recognizer.store"}  # without this machine's paths
        run.write_json(folder / run.CONFIG, run.read_json(folder / run.CONFIG) | command)
        for note in folder.rglob("commit_success.txt"):  # of Orbax; names the folder
            note.write_text("Checkpoint commit was successful\n")
        (folder / run.LOG).unlink(missing_ok=True)
        target = Path(__file__).parents[1] / "fixtures" / f"run_format_{run.FORMAT_VERSION}"
        print(shutil.make_archive(str(target), "zip", temporary, folder.name))
