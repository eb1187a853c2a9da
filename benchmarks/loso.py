"""Leave-one-subject-out training of notebook-size HTNet, or STSTNet: all folds as one fexpr program
against a fold-after-fold PyTorch loop.

    pip install -r requirements.txt -r benchmarks/requirements.txt
    # 16 folds x 4 epochs, three passes of each side in turn
    python benchmarks/loso.py
    # the loop that published code has, instead of a tuned one
    python benchmarks/loso.py --peer=plain
    python benchmarks/loso.py --network=ststnet
    python benchmarks/loso.py --folds 52 --epochs 10 --device gpu
    # fexpr's cost per fold as folds are added, drawn into loso_scaling.png
    python benchmarks/loso.py --scaling

Both sides train the same rows with the same network, batch size, Adam and number of epochs, and
predict the test subject's rows after every epoch. The peer `tuned` (benchmarks/torch_loop.py) is
what we could make of PyTorch, `plain` (benchmarks/torch_htnet_plain.py, HTNet alone) a
straightforward loop over folds as the field's published code has it. Each runs in a process of its
own; passes alternate. The first pass is cold (fexpr's holds its compilation, its on-disk cache is
off), the median of the others is warm. The maps are those of the MEGC2019 releases under
$FEXPR_DATA_DIR, else random ones of the same shape and number: the time does not depend on the
pixels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import quick, sides  # noqa: E402
from benchmarks.loso_task import CLASSES, MODEL, RATE, data  # noqa: E402

COUNTS = (1, 2, 4, 8, 16, 32, 52)
SHARED = ("network", "epochs", "batch", "device", "peer")  # arguments of both sides


def fexpr_pass(arguments: argparse.Namespace):
    """A function that trains all folds once."""
    import jax

    from benchmarks import fexpr_loso
    from fexpr.train import devices

    if arguments.device == "cpu":
        devices.use_every_core()
    images, labels, subjects = data()
    run = fexpr_loso.fexpr_side(
        arguments.network,
        images,
        labels,
        subjects[: arguments.folds],
        [0],
        arguments.epochs,
        arguments.batch,
        RATE,
    )
    return run, f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}"


def torch_pass(arguments: argparse.Namespace):
    """A function that trains all folds once, one after the other."""
    import torch

    from benchmarks import torch_htnet_plain, torch_loso

    images, labels, subjects = data()
    folds, rows = subjects[: arguments.folds], np.arange(len(images))
    device = "cuda" if arguments.device == "gpu" else "cpu"
    epochs, batch = arguments.epochs, arguments.batch

    def tuned() -> None:
        torch_loso.train_loop(
            arguments.network, images, labels, folds, [0], epochs, batch, RATE, device
        )

    def plain() -> None:
        for i, test in enumerate(folds):
            train = np.setdiff1d(rows, test)
            torch_htnet_plain.train_fold(
                images, labels, train, test, epochs, batch, CLASSES, RATE, i, device, MODEL
            )

    run = {"tuned": tuned, "plain": plain}[arguments.peer]
    return (
        run,
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}, {arguments.peer}",
    )


def side_command(name: str, arguments: argparse.Namespace, folds: int) -> list[str]:
    same = [f"--{key}={getattr(arguments, key)}" for key in SHARED]
    return [__file__, f"--side={name}", f"--folds={folds}", *same]


def compare(arguments: argparse.Namespace) -> None:
    what = f"{arguments.folds} folds x {arguments.epochs} epochs, batch {arguments.batch}, float32"
    command = {name: side_command(name, arguments, arguments.folds) for name in ("fexpr", "torch")}
    ours = sides.Side("fexpr", command["fexpr"])
    peer = sides.peer_side("torch", "torch", command["torch"])
    sides.compare(
        ours, peer, arguments.repeats, what, arguments.folds * arguments.epochs, "folds x epochs"
    )


def scaling(arguments: argparse.Namespace) -> None:
    from matplotlib.figure import Figure

    costs = []
    for count in COUNTS:
        worker = sides.Side("fexpr", side_command("fexpr", arguments, count))
        for _ in range(arguments.repeats + 1):
            worker.go()
        worker.close()
        costs.append(worker.warm / count / arguments.epochs)
        print(
            f"{count:4} folds: {1000 * costs[-1]:8.1f} ms a fold and epoch, cold pass "
            f"{worker.passes[0]['seconds']:.1f} s"
        )
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(COUNTS, [1000 * c for c in costs], "o-")
    axes.set(
        xscale="log",
        xlabel="folds in one program",
        ylabel="ms a fold and epoch",
        ylim=(0, None),
        xticks=COUNTS,
        xticklabels=COUNTS,
    )
    figure.savefig("loso_scaling.png", dpi=120)
    print("drawn into loso_scaling.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folds", type=int, default=16, help="subjects tested, at most as many as there are"
    )
    parser.add_argument("--network", choices=("htnet", "ststnet"), default="htnet")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3, help="warm passes of each side")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument(
        "--peer", choices=("tuned", "plain"), default="tuned", help="which PyTorch loop"
    )
    parser.add_argument("--scaling", action="store_true", help="fexpr alone, for 1 to 52 folds")
    parser.add_argument("--side", choices=("fexpr", "torch"), help=argparse.SUPPRESS)
    quick.add_quick(parser, folds=2, epochs=1, repeats=1)
    given = parser.parse_args()
    if given.network == "ststnet" and given.peer == "plain":
        parser.error("--peer=plain is a loop for HTNet: give --peer=tuned")
    if given.side:
        sides.work(lambda: {"fexpr": fexpr_pass, "torch": torch_pass}[given.side](given))
    else:
        scaling(given) if given.scaling else compare(given)
