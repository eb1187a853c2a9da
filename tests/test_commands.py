"""The documents' `python -m …` commands, word for word, each run beside the finished runs and files
that it names.
"""

import glob
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from configs import aus_mlp_ravdess, cnn_simple_fer2013, htnet_samm, ststnet_megc2019
from experiments import au_profiles, explain, fuse
from experiments.cross_validate import cross_validate
from experiments.fit import fit
from fexpr import export, weights
from fexpr.data import __main__ as data_main
from fexpr.data.loaders import LOADERS
from fexpr.data.synthetic import ravdess_clips
from fexpr.data.synthetic.samm_clips import write_samm
from fexpr.evaluate import __main__ as evaluate_main
from fexpr.recognizer import __main__ as recognizer_main
from fexpr.recognizer import video
from fexpr.runs import list_runs
from fexpr.storage import run
from tests.data import ravdess_gaussians
from tests.recognizer.runs import Camera, trained
from tests.recognizer.test_video import film
from tests.test_docs import commands

MAINS = {
    "fexpr.evaluate": evaluate_main.main,
    "fexpr.data": data_main.main,
    "fexpr.recognizer": recognizer_main.main,
    "fexpr.export": export.main,
    "fexpr.weights": weights.main,
    "experiments.explain": explain.main,
    "experiments.fuse": fuse.main,
    "experiments.status": list_runs.main,
    "experiments.au_profiles": au_profiles.main,
}
FOLDS = {"split.protocol": "group_k_fold", "split.folds": 2, "split.seeds": 1, "train.epochs": 1}
RUNS = {
    "cnn_simple_fer2013": (
        cnn_simple_fer2013,
        fit,
        {"data.synthetic_clips": 150, "train.epochs": 1},
    ),
    "htnet_samm": (htnet_samm, fit, {"train.epochs": 1}),
    "ststnet_megc2019": (ststnet_megc2019, cross_validate, FOLDS),
    # any run on the same rows: another HTNet only costs time
    "htnet_megc2019": (ststnet_megc2019, cross_validate, FOLDS | {"seed": 1}),
    "aus_mlp_ravdess": (aus_mlp_ravdess, cross_validate, {"train.epochs": 1}),
}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with the runs, pictures, films, weights, predictions and statistics that the
    documents' commands name; SAMM and RAVDESS.
    """
    portrait = np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[:300, 80:380])
    for name, (module, experiment, fields) in RUNS.items():
        made, _, _ = trained(
            module,
            experiment,
            tmp_path / "made",
            LOADERS[module.get_config("debug").data.name],
            **fields,
        )
        (tmp_path / "runs").mkdir(exist_ok=True)
        made.rename(tmp_path / "runs" / name)
    # any run: they are only packed or compared
    for name in ("resnet_small_fer2013", "full", "no_smoothing"):
        (tmp_path / "runs" / name).symlink_to("cnn_simple_fer2013")
    for name in ("megc2019", "ststnet"):
        (tmp_path / "runs" / name).symlink_to("ststnet_megc2019")
    (tmp_path / "runs" / "ststnet_aux").symlink_to("htnet_megc2019")
    monkeypatch.chdir(tmp_path)
    shutil.make_archive("runs/cnn_simple_fer2013", "zip", "runs", "cnn_simple_fer2013")
    found = run.read_arrays(tmp_path / "runs" / "ststnet_megc2019" / run.PREDICTIONS)
    rows = (found["selection"] == "last") & (found["split"] == "test")
    names = [str(name) for name in found["class_names"]]
    theirs = pd.DataFrame(
        softmax(found["logits"][rows], axis=1), columns=[f"p_{name}" for name in names]
    )
    theirs.insert(0, "label", [names[label] for label in found["labels"][rows]])
    theirs.insert(0, "id", found["ids"][rows])
    theirs.insert(0, "group", found["groups"][rows])
    theirs.to_csv("theirs.csv", index=False)
    for name in ("predictions.npz", "new_faces.npz"):
        shutil.copy("runs/cnn_simple_fer2013/predictions.npz", name)
    assert weights.main(["export", "runs/cnn_simple_fer2013", "w.safetensors"]) == 0
    # the name is the reader's; what a file is, its first bytes say
    (tmp_path / "w.safetensors").rename("weights.h5")
    for name in (
        "anna.png",
        "photo.jpg",
        "photos/ben.png",
        "test/happy/0.jpg",
        "onset.png",
        "apex.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        moved = np.roll(portrait, name == "apex.png", axis=1)
        cv2.imwrite(name, moved[..., ::-1])
    for i, name in enumerate(
        f"{person}/{emotion}/{n}.jpg"
        for person in "abc"
        for emotion in ("happy", "sad")
        for n in range(3)
    ):
        (tmp_path / "own_photos" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "own_photos" / name), np.roll(portrait, i, axis=1)[..., ::-1])
    film(tmp_path / "talk.avi", [portrait] * 6).rename("talk.mp4")
    film(tmp_path / "long.avi", [portrait] * 40).rename("long.mp4")
    moved = [np.roll(portrait, (i % 3, i % 5), (0, 1)) for i in range(60)]
    film(tmp_path / "shifted.avi", moved).rename("shifted.mp4")
    files = cv2.VideoCapture
    monkeypatch.setattr(
        video.cv2,
        "VideoCapture",
        lambda source: Camera(portrait) if isinstance(source, int) else files(source),
    )
    write_samm(tmp_path / "releases" / "samm", subjects=12, clips=60)
    ravdess_clips.write(tmp_path / "releases" / "ravdess", actors=2, clips=16, frames=5, draw=False)
    ravdess_gaussians.write(tmp_path / "au_gaussians_affectnet")
    monkeypatch.setenv("FEXPR_DATA_DIR", str(tmp_path / "releases"))
    return tmp_path


@pytest.mark.long
@pytest.mark.usefixtures("desk")
def test_every_command_runs(monkeypatch):
    typed = [
        words
        for (words,) in (p.values for p in commands())
        if words[0] == "-m" and not words[1].startswith(("benchmarks.", "fexpr.app"))
    ]
    assert {words[1] for words in typed} == set(MAINS)
    for words in typed:
        if any(name in words for name in ("runs/my_faces", "my_faces", "runs/scratch")):
            continue  # made by the recipes' own test; made by hand
        arguments = [
            path
            for word in words[2:]
            for path in (sorted(glob.glob(word)) if "*" in word else [word])
        ]
        # photos/ contains no persons
        arguments = ["path=own_photos" if word == "path=photos" else word for word in arguments]
        if words[1] == "fexpr.evaluate":
            arguments += ["--resamples", "20"]
        assert MAINS[words[1]](arguments) == 0, " ".join(words)
