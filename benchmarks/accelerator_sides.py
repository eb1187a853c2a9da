"""A side of the part `loso` of benchmarks/accelerator.py, in a process of its own (see
benchmarks/sides.py).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import loso_task, sides

BATCH, RATE = 32, 1e-4
# how many of 52 folds and 5 seeds a side trains in a pass, and for how many epochs: time is
# compared a trial and epoch
SIZES = {
    "fexpr": (52, 5, 50),
    "torch vmapped, CUDA graph": (52, 5, 5),
    "torch vmapped": (52, 5, 2),
    "torch loop": (2, 1, 5),
}
TINY = (2, 1, 1)


def make(network: str, side: str, size: tuple[int, int, int], device: str):
    """The pass of a side, and what it runs with."""
    folds, seeds, epochs = size
    images, labels, subjects = loso_task.data()
    given = (network, images, labels, subjects[:folds], tuple(range(seeds)))
    if side == "fexpr":
        import jax

        from benchmarks.fexpr_loso import fexpr_side

        axis = "auto" if device == "cpu" else "vmap"
        return fexpr_side(
            *given, epochs=epochs, batch=BATCH, rate=RATE, trial_axis=axis
        ), f"jax {jax.__version__}"
    import torch

    from benchmarks import torch_loso

    about = f"torch {torch.__version__}"
    if side == "torch loop":
        return torch_loso.loop_side(*given, epochs, BATCH, RATE, device), about
    graphed = side.endswith("graph") and device == "cuda"
    return torch_loso.vmapped_side(
        *given, BATCH, RATE, device, epochs=epochs, graphed=graphed
    ), about


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=("ststnet", "htnet"), required=True)
    parser.add_argument("--side", choices=tuple(SIZES), required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--tiny", action="store_true")
    a = parser.parse_args()
    sides.work(lambda: make(a.network, a.side, TINY if a.tiny else SIZES[a.side], a.device))
