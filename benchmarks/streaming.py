"""Images read from the disk as they are needed, against all of them on the device: the same epoch
by the same network.

    python benchmarks/streaming.py                       # 28,709 images of 48x48, the small CNN
    python benchmarks/streaming.py --network=mlp --rows=100000

Both sides take the same optimiser steps and predict an eighth as many rows. Passes alternate, each
side in a process of its own; the first is cold. The file lies in the system's cache by then: on a
slow disk the first epoch says what later ones would be without memory to spare.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import quick, sides  # noqa: E402

BATCH, CLASSES, STACK = 128, 7, 1024
NETWORKS = {"cnn": "fer_cnn_simple", "mlp": "mlp"}


def data(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images uint8 [N,48,48,1] and classes int32 [N]; an eighth of them is predicted."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (rows, 48, 48, 1), np.uint8), rng.integers(0, CLASSES, rows).astype(
        np.int32
    )


def make_pass(arguments: argparse.Namespace):
    """A function that trains one epoch further, and what it runs with."""
    import jax

    from fexpr import models
    from fexpr.data import records
    from fexpr.train import trials
    from fexpr.train.mesh import make_mesh
    from fexpr.train.state import make_recipe
    from fexpr.train.streamed_engine import StreamedEngine
    from fexpr.train.trial_tables import TrialSpec

    images, labels = data(arguments.rows + arguments.rows // 8)
    make = trials.Engine
    if arguments.side == "streamed":
        ids, make = [str(i) for i in range(len(images))], StreamedEngine
        folder = Path(arguments.folder) / "images"
        records.write(
            folder, ((ids[i : i + STACK], images[i : i + STACK]) for i in range(0, len(ids), STACK))
        )
        images = records.read(folder)[1]
    config = {
        "train": {"loss": "cross_entropy", "batch_size": BATCH, "epochs": 10**6},
        "optimizer": {"name": "adam"},
        "augment": {"flip": 0.5, "shift": 2},
    }
    recipe = make_recipe(
        config,
        models.build(NETWORKS[arguments.network], num_classes=CLASSES),
        "face",
        multilabel=False,
    )
    rows = np.arange(len(labels))
    spec = TrialSpec(rows[: arguments.rows], rows[:0], rows[arguments.rows :])
    engine = make(recipe, images, labels, CLASSES, [spec], make_mesh(1, BATCH))
    epoch = sides.epochs_of(engine)

    def run() -> None:
        epoch()
        if arguments.side == "streamed":
            print(
                f"waited {engine.input_wait_seconds:.2f} s for images, "
                f"{engine.dispatches_per_epoch} parts",
                file=sys.stderr,
            )

    return run, f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=tuple(NETWORKS), default="cnn")
    parser.add_argument("--rows", type=int, default=28_709, help="images to train on")
    parser.add_argument("--repeats", type=int, default=3, help="warm passes of each side")
    parser.add_argument("--side", choices=("streamed", "resident"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    quick.add_quick(parser, network="mlp", rows=512, repeats=1)
    given = parser.parse_args()
    if given.side:
        sides.work(lambda: make_pass(given))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            passed = [f"--network={given.network}", f"--rows={given.rows}", f"--folder={temporary}"]
            ours, peer = (
                sides.Side(name, [__file__, f"--side={name}", *passed])
                for name in ("streamed", "resident")
            )
            sides.compare(
                ours,
                peer,
                given.repeats,
                f"{NETWORKS[given.network]}, {given.rows:,} images per epoch, batch {BATCH}",
                given.rows,
                "images",
            )
