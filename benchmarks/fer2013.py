"""One epoch of FER2013 with augmentation: fexpr against PyTorch, for the CNNs of a PyTorch notebook
(`pytorch`) and of Angel's thesis (`thesis`; docs/decisions.md names both), for Deep-Emotion behind
a saliency-guided transformer (`deep_emotion`, Luna-Jiménez et al. 2021; the map is each image's
second channel), and for the residual network of configs/resnet_small_fer2013.py (`resnet_small`).

    pip install -r requirements.txt -r benchmarks/requirements.txt
    # all networks; 20 batches, an eighth as many rows to predict
    python benchmarks/fer2013.py --steps=20
    # the whole epoch: 28,709 images to train, 3,589 to predict
    python benchmarks/fer2013.py --network=pytorch --device=gpu
    # five networks: trials of one program, one after the other in PyTorch
    python benchmarks/fer2013.py --network=deep_emotion --folds=5
    python benchmarks/fer2013.py --torch-data=tensor --torch-format=channels_last \\
        --precision=bfloat16

Both sides train the same network with Adam on batches of 128, each image flipped upside down (p =
0.25) and rotated by up to 22 degrees (p = 0.5), then predict an eighth as many rows. The first pass
is cold: fexpr's holds its compilation (no cache on disk). Passes alternate, each side in a process
of its own. The pixels are random, of FER2013's shape: the time does not depend on them.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import quick, sides  # noqa: E402

TRAIN, BATCH, CLASSES = 28_709, 128, 7


NETWORKS = {
    "pytorch": {"name": "fer_cnn_pytorch"},
    "thesis": {"name": "fer_cnn_thesis"},
    "deep_emotion": {"name": "deep_emotion", "variant": "saliency"},
    "resnet_small": {"name": "resnet_pooled"},
}


def data(steps: int, channels: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Images uint8 [N,48,48,C], classes int32 [N], and how many of them train: `steps` batches, or
    all where it is 0.
    """
    train = steps * BATCH or TRAIN
    rows = train + train // 8
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 256, (rows, 48, 48, channels), np.uint8),
        rng.integers(0, CLASSES, rows).astype(np.int32),
        train,
    )


def channels_of(network: str) -> int:
    return 2 if network == "deep_emotion" else 1


def fexpr_pass(arguments: argparse.Namespace):
    """A function that trains every fold one epoch further."""
    import jax

    from fexpr import models
    from fexpr.models.arithmetic import count_convolutions
    from fexpr.train import devices, trials
    from fexpr.train.mesh import make_mesh
    from fexpr.train.state import make_recipe
    from fexpr.train.trial_tables import TrialSpec

    if arguments.device == "cpu":
        devices.use_every_core()  # as launch.py does
    images, labels, train = data(arguments.steps, channels_of(arguments.network))
    network = NETWORKS[arguments.network]
    shared_by = None
    if arguments.folds == 1:
        work = count_convolutions(models.build_to_train(network, CLASSES, 1, ""), images.shape[1:])
        shared_by = devices.share_batch(BATCH, work)
    mesh = make_mesh(arguments.folds, BATCH, shared_by)
    model = models.build_to_train(network, CLASSES, mesh.shape["data"], "")
    config = {
        "train": {
            "loss": "cross_entropy",
            "batch_size": BATCH,
            "epochs": 10**6,
            "precision": arguments.precision,
        },
        "optimizer": {"name": "adam"},
        "augment": {"vertical_flip": 0.25, "rotation": 22.0, "rotation_p": 0.5},
    }
    recipe = make_recipe(config, model, "face", multilabel=False)
    rows = np.arange(len(images))
    specs = [
        TrialSpec(rows[:train], rows[:0], rows[train:], fold=i, learning_rate=3e-4)
        for i in range(arguments.folds)
    ]
    engine = trials.Engine(recipe, images, labels, CLASSES, specs, mesh)
    return sides.epochs_of(
        engine
    ), f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}"


def torch_pass(arguments: argparse.Namespace):
    """A function that trains every fold one epoch further."""
    import torch

    from benchmarks.torch_fer2013 import Training

    images, labels, train = data(arguments.steps, channels_of(arguments.network))
    device = "cuda" if arguments.device == "gpu" else "cpu"
    folds = [
        Training(
            arguments.network,
            images,
            labels,
            train,
            BATCH,
            device,
            arguments.torch_data,
            arguments.workers,
            arguments.precision,
            arguments.torch_format == "channels_last",
            arguments.torch_compile,
        )
        for _ in range(arguments.folds)
    ]

    def run() -> None:
        for fold in folds:
            fold.epoch()

    feeding = (
        f"DataLoader, {arguments.workers} workers"
        if arguments.torch_data == "loader"
        else "batches from a tensor"
    )
    how = f"{feeding}, {arguments.torch_format}{', compiled' * arguments.torch_compile}"
    return run, f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}, {how}"


def compare(arguments: argparse.Namespace, network: str) -> None:
    passed = [
        f"--{name.replace('_', '-')}={getattr(arguments, name)}"
        for name in (
            "steps",
            "folds",
            "precision",
            "device",
            "torch_data",
            "torch_format",
            "workers",
        )
    ]
    passed += ["--torch-compile"] * arguments.torch_compile
    passed.append(f"--network={network}")
    ours = sides.Side("fexpr", [__file__, "--side=fexpr", *passed])
    peer = sides.peer_side("torch", "torch", [__file__, "--side=torch", *passed])
    train = arguments.steps * BATCH or TRAIN
    name = NETWORKS[network]["name"]
    what = (
        f"{arguments.folds} x {name}, {train} images per epoch, batch {BATCH}, "
        f"{arguments.precision}"
    )
    sides.compare(ours, peer, arguments.repeats, what, train * arguments.folds, "images")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--network", choices=tuple(NETWORKS), help="one of them (default: all, one after the other)"
    )
    parser.add_argument("--steps", type=int, default=0, help="batches a pass; 0: a whole epoch")
    parser.add_argument("--folds", type=int, default=1, help="networks to train")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument(
        "--torch-data",
        choices=("loader", "tensor"),
        default="loader",
        help="how PyTorch is fed: see torch_fer2013.py",
    )
    parser.add_argument(
        "--torch-format",
        choices=("contiguous", "channels_last"),
        default="contiguous",
        help="PyTorch's memory format",
    )
    parser.add_argument(
        "--torch-compile", action="store_true", help="PyTorch's training step through torch.compile"
    )
    parser.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count()), help="of PyTorch's DataLoader"
    )
    parser.add_argument("--repeats", type=int, default=3, help="warm passes of each side")
    parser.add_argument("--side", choices=("fexpr", "torch"), help=argparse.SUPPRESS)
    quick.add_quick(parser, network="thesis", steps=1, workers=1, repeats=1)
    given = parser.parse_args()
    if given.side:
        sides.work(lambda: {"fexpr": fexpr_pass, "torch": torch_pass}[given.side](given))
    else:
        for name in [given.network] if given.network else NETWORKS:
            compare(given, name)
