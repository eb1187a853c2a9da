"""A synthetic AffectNet of drawn faces."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np

from fexpr.data.preparation import prepare
from fexpr.data.releases.affectnet_rows import NAME
from fexpr.data.synthetic import fer_faces
from fexpr.storage.run import atomic_path, cache_dir


def synthetic_release(count: int, seed: int) -> Path:
    """The folder of a synthetic AffectNet of `count` drawn faces (nine in ten Training; none shows
    contempt), drawn on first use.
    """
    code = hashlib.sha256(
        Path(fer_faces.__file__).read_bytes() + Path(__file__).read_bytes()
    ).hexdigest()
    folder = cache_dir() / "synthetic" / f"{NAME}-{count}-{seed}-{code[:8]}" / NAME
    with prepare.exclusive_lock(folder.parent):
        if not folder.exists():
            prepare.remove(folder.parent.glob(f".{NAME}.*"))
            write_synthetic(folder, count, seed)
    return folder


def write_synthetic(folder: Path, count: int, seed: int = 0) -> None:
    """Draws FER2013's seven expressions (fer_faces.py) in AffectNet's folder layout, with valences
    to match.
    """
    # of FER2013's angry, disgust, fear, happy, sad, surprise, neutral
    ids = np.array([6, 5, 4, 1, 2, 3, 0])
    typical = np.array([0.0, 0.7, -0.6, 0.1, -0.5, -0.6, -0.5])  # by AffectNet's id
    labels, _ = fer_faces.plan(count, seed)
    faces, rng = fer_faces.draw(labels, seed), np.random.default_rng([seed, 2])
    order = rng.permutation(count)
    with atomic_path(Path(folder)) as partial:
        for name in ("train_set", "val_set"):
            for kind in ("images", "annotations"):
                (partial / name / kind).mkdir(parents=True)
        for n, i in enumerate(order):
            where, expression = (
                partial / ("train_set" if n < 0.9 * count else "val_set"),
                int(ids[labels[i]]),
            )
            _, data = cv2.imencode(".jpg", faces[i], [cv2.IMWRITE_JPEG_QUALITY, 95])
            (where / "images" / f"{n}.jpg").write_bytes(data.tobytes())
            valence = float(np.clip(typical[expression] + rng.normal(0, 0.1), -1, 1))
            np.save(where / "annotations" / f"{n}_exp.npy", np.array(str(expression)))
            np.save(where / "annotations" / f"{n}_val.npy", np.array(f"{valence:.3f}"))
        (partial / "README.txt").write_text(
            fer_faces.README.format(count=count, seed=seed), encoding="utf-8"
        )
