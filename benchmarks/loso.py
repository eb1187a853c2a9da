"""Leave-one-subject-out training of notebook-size HTNet: all folds as one fexpr program against a fold-after-fold PyTorch loop.

    pip install -r requirements.txt -r benchmarks/requirements.txt
    python benchmarks/loso.py                      # 16 folds x 4 epochs, three passes of each side in turn
    python benchmarks/loso.py --folds 52 --epochs 10 --device gpu
    python benchmarks/loso.py --scaling            # fexpr's cost per fold as folds are added, drawn into loso_scaling.png

Both sides train the same rows with the same network, batch size, Adam and number of epochs, and predict the test subject's rows after
every epoch. Each runs in a process of its own; passes alternate. The first pass is cold (fexpr's holds its compilation, its on-disk cache
is off), the median of the others is warm. The maps are those of the MEGC2019 releases under $FEXPR_DATA_DIR, else random ones of the same
shape and number: the time does not depend on the pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
MODEL = {"patch_size": 7, "dim": 64, "heads": 4, "num_hierarchies": 2, "block_repeats": 2}
CLASSES, RATE = 3, 1e-4
COUNTS = (1, 2, 4, 8, 16, 32, 52)


def data() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Maps uint8 [N,28,28,3], classes int32 [N], and the rows of every subject."""
    if os.environ.get("FEXPR_DATA_DIR"):
        from configs import base
        from fexpr.data import LOADERS

        config = base.get_config().data
        config.name = "megc2019"
        found = LOADERS[config.name](config)
        images, labels, groups = found.images, found.labels, found.groups
    else:
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (278, 28, 28, 3)).astype(np.uint8), rng.integers(0, CLASSES, 278).astype(np.int32)
        groups = np.sort(rng.integers(0, 52, 278))
    return images, labels, [np.flatnonzero(groups == g) for g in np.unique(groups)]


def fexpr_pass(arguments: argparse.Namespace):
    """A function that trains all folds once."""
    import jax

    from fexpr import models
    from fexpr.train import trials
    from fexpr.train.augment import Augment
    from fexpr.train.step import Recipe

    if arguments.device == "cpu":
        trials.use_every_core()
    images, labels, subjects = data()
    recipe = Recipe(models.build("htnet", num_classes=CLASSES, **MODEL), Augment("flow"), loss="cross_entropy", targets="class",
                    batch_size=arguments.batch, epochs=arguments.epochs, optimizer="adam")
    rows = np.arange(len(images))
    specs = [trials.TrialSpec(np.setdiff1d(rows, test), rows[:0], test, fold=i, learning_rate=RATE)
             for i, test in enumerate(subjects[: arguments.folds])]
    engine = trials.Engine(recipe, images, labels, CLASSES, specs, trials.make_mesh(len(specs), arguments.batch))

    def run() -> None:
        for chunk in range(engine.plan.chunks):
            engine.load(chunk)
            state = engine.init()
            for _ in range(arguments.epochs):
                state, _ = engine.epoch(state)
            jax.block_until_ready(state)

    return run, f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}"


def torch_pass(arguments: argparse.Namespace):
    """A function that trains all folds once, one after the other."""
    import torch

    from benchmarks.torch_htnet import train_fold

    images, labels, subjects = data()
    rows = np.arange(len(images))
    device = "cuda" if arguments.device == "gpu" else "cpu"

    def run() -> None:
        for i, test in enumerate(subjects[: arguments.folds]):
            train_fold(images, labels, np.setdiff1d(rows, test), test, arguments.epochs, arguments.batch, CLASSES, RATE, i, device, MODEL)

    return run, f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}"


def work(arguments: argparse.Namespace) -> None:
    """One side, in its own process: a timed pass for every line on stdin."""
    run = None
    for _ in sys.stdin:
        began = time.perf_counter()
        if run is None:
            run, about = {"fexpr": fexpr_pass, "torch": torch_pass}[arguments.side](arguments)
            began = time.perf_counter()
        run()
        seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mb": peak, "about": about}), flush=True)


class Side:
    """A worker process and the passes that it has made."""

    def __init__(self, name: str, arguments: argparse.Namespace, folds: int):
        command = [sys.executable, __file__, f"--side={name}", f"--folds={folds}", f"--epochs={arguments.epochs}",
                   f"--batch={arguments.batch}", f"--device={arguments.device}"]
        self.name, self.passes = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def go(self) -> float:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        while not (line := self.process.stdout.readline()).startswith('{"seconds"'):  # the data room may say what it reads
            if not line:
                sys.exit(f"the {self.name} side ended without an answer")
        self.passes.append(json.loads(line))
        return self.passes[-1]["seconds"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    @property
    def warm(self) -> float:
        return statistics.median(p["seconds"] for p in self.passes[1:])


def compare(arguments: argparse.Namespace) -> None:
    ours, peer = Side("fexpr", arguments, arguments.folds), Side("torch", arguments, arguments.folds)
    for _ in range(arguments.repeats + 1):
        ours.go()
        peer.go()
    ours.close()
    peer.close()
    units = arguments.folds * arguments.epochs
    print(f"{platform.machine()}, {os.cpu_count()} cores; {arguments.folds} folds x {arguments.epochs} epochs, batch {arguments.batch}, "
          f"float32; median of {arguments.repeats} warm passes (all: see below)")
    print(f"{'':8}{'cold s':>9}{'warm s':>9}{'folds x epochs / s':>20}{'peak MB':>9}   with")
    for side in (ours, peer):
        print(f"{side.name:8}{side.passes[0]['seconds']:9.2f}{side.warm:9.2f}{units / side.warm:20.1f}{side.passes[-1]['peak_mb']:9.0f}   "
              f"{side.passes[0]['about']}")
    print(f"ratio warm {peer.warm / ours.warm:.2f}, cold {peer.passes[0]['seconds'] / ours.passes[0]['seconds']:.2f} (torch / fexpr)")
    for side in (ours, peer):
        print(f"{side.name} passes: " + " ".join(f"{p['seconds']:.2f}" for p in side.passes))


def scaling(arguments: argparse.Namespace) -> None:
    from matplotlib.figure import Figure

    costs = []
    for count in COUNTS:
        side = Side("fexpr", arguments, count)
        for _ in range(arguments.repeats + 1):
            side.go()
        side.close()
        costs.append(side.warm / count / arguments.epochs)
        print(f"{count:4} folds: {1000 * costs[-1]:8.1f} ms a fold and epoch, cold pass {side.passes[0]['seconds']:.1f} s")
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(COUNTS, [1000 * c for c in costs], "o-")
    axes.set(xscale="log", xlabel="folds in one program", ylabel="ms a fold and epoch", ylim=(0, None), xticks=COUNTS, xticklabels=COUNTS)
    figure.savefig("loso_scaling.png", dpi=120)
    print("drawn into loso_scaling.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=16, help="subjects tested, at most as many as there are")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3, help="warm passes of each side")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--scaling", action="store_true", help="fexpr alone, for 1 to 52 folds")
    parser.add_argument("--side", choices=("fexpr", "torch"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        work(given)
    else:
        scaling(given) if given.scaling else compare(given)
