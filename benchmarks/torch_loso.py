"""Leave-one-subject-out training of STSTNet and HTNet in PyTorch: fold after fold, or all at once.

`train_loop` is a tuned loop over folds and seeds (benchmarks/torch_loop.py); `train_vmapped` trains
them all at once with torch.func (benchmarks/torch_stack.py), as fexpr does. Both predict the test
rows of every trial after every epoch. A trial is one fold with one seed; folds count faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.loso_task import CLASSES, MODEL
from benchmarks.torch_htnet import HTNet, MaskedHTNet
from benchmarks.torch_loop import allow_tf32, train_fold
from benchmarks.torch_stack import Stack
from benchmarks.torch_ststnet import MaskedSTSTNet, STSTNet


class Given(NamedTuple):
    """What trials begin with and in which order they see their rows, where it is not random."""

    states: list[dict[str, torch.Tensor]]  # of every trial the initial parameters and buffers
    orders: list[list[np.ndarray]]  # of every trial and epoch a permutation of its training rows


def make_network(network: str, masked: bool, dropout: float = 0.5) -> nn.Module:
    """STSTNet, or HTNet of the notebook's size (without dropout); `masked`: in vmap's form."""
    if network == "ststnet":
        return (MaskedSTSTNet if masked else STSTNet)(CLASSES, dropout)
    return (MaskedHTNet if masked else HTNet)(CLASSES, **MODEL)


def train_loop(
    network: str,
    images: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[np.ndarray],
    seeds: Sequence[int],
    epochs: int,
    batch: int,
    rate: float,
    device: str,
    dropout: float = 0.5,
    given: Given | None = None,
) -> list[np.ndarray]:
    """Trains one trial after the other; the device is waited for once, at the end.

    Args:
      network: 'ststnet' or 'htnet'.
      images: uint8 [N, 28, 28, 3]. labels: int [N].
      folds: the test rows of every fold; all others train.
      batch: rows per step. rate: Adam's learning rate. device: 'cpu' or 'cuda'.
      dropout: of STSTNet. given: initial values and orders; None: random ones.

    Returns:
      The last epoch's logits of the test rows [m, K], trial by trial.
    """
    if device == "cuda":
        allow_tf32()
    x = torch.as_tensor(images, device=device).float()
    y = torch.as_tensor(labels, device=device).long()
    train, test = (
        [torch.as_tensor(r, device=device) for r in rows]
        for rows in _split(len(images), folds, len(seeds))
    )
    logits_by_trial = []
    for i, seed in enumerate(_seeds(seeds, len(folds))):
        torch.manual_seed(seed)
        with torch.device(device):
            model = make_network(network, False, dropout)
        orders = None
        if given:
            model.load_state_dict(given.states[i], strict=False)  # batches are not counted there
            orders = [torch.as_tensor(order, device=device) for order in given.orders[i]]
        logits_by_trial.append(
            train_fold(model, x, y, train[i], test[i], epochs, batch, rate, orders)
        )
    return [logits.cpu().numpy() for logits in logits_by_trial]


def make_stack(
    network: str,
    images: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[np.ndarray],
    seeds: Sequence[int],
    batch: int,
    rate: float,
    device: str,
    dropout: float = 0.5,
    products: bool = True,
    compiled: bool = False,
    graphed: bool = False,
) -> Stack:
    """All trials in one stack, nothing trained yet. For the arguments see `train_vmapped`."""
    if device == "cuda":
        allow_tf32()
    train, test = _split(len(images), folds, len(seeds))
    return Stack(
        lambda: make_network(network, True, dropout),
        images,
        labels,
        train,
        test,
        _seeds(seeds, len(folds)),
        batch,
        CLASSES,
        rate,
        device,
        products,
        compiled,
        graphed,
    )


def train_vmapped(
    network: str,
    images: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[np.ndarray],
    seeds: Sequence[int],
    epochs: int,
    batch: int,
    rate: float,
    device: str,
    dropout: float = 0.5,
    products: bool = True,
    compiled: bool = False,
    graphed: bool = False,
    given: Given | None = None,
) -> list[np.ndarray]:
    """Trains all trials at once; the device is waited for once, at the end.

    Args: as in `train_loop`, and
      products: convolutions as products of shifts; False: as convolutions of T groups.
      compiled: torch.compile of a step and of a prediction.
      graphed: CUDA graphs of both (on 'cuda' alone).

    Returns:
      The last epoch's logits of the test rows [m, K], trial by trial.
    """
    stack = make_stack(
        network,
        images,
        labels,
        folds,
        seeds,
        batch,
        rate,
        device,
        dropout,
        products,
        compiled,
        graphed,
    )
    return _train(stack, epochs, given)


def loop_side(*arguments, **named) -> Callable[[], list[np.ndarray]]:
    """A function that trains all trials once with `train_loop(*arguments, **named)`."""
    return lambda: train_loop(*arguments, **named)


def vmapped_side(*arguments, epochs: int, **named) -> Callable[[], list[np.ndarray]]:
    """A function that trains all trials of `make_stack(*arguments, **named)` once.

    What is compiled and recorded is kept for the next call. With `graphed` both happens here,
    else in the first call.
    """
    stack = make_stack(*arguments, **named)
    return lambda: _train(stack, epochs, None)


def _train(stack: Stack, epochs: int, given: Given | None) -> list[np.ndarray]:
    stack.init(given and given.states)
    for epoch in range(epochs):
        order = None
        if given:  # what pads a table comes last
            n = stack.train.shape[1]
            order = np.stack(
                [np.concatenate([o[epoch], np.arange(len(o[epoch]), n)]) for o in given.orders]
            )
            order = torch.as_tensor(order, device=stack.device)
        stack.epoch(order)
    return stack.logits()


def _split(rows: int, folds: Sequence[np.ndarray], seeds: int) -> tuple[list[np.ndarray], ...]:
    """Training and test rows of every trial."""
    train = [np.setdiff1d(np.arange(rows), test) for test in folds]
    return train * seeds, list(folds) * seeds


def _seeds(seeds: Sequence[int], folds: int) -> list[int]:
    """One seed a trial, different for every fold."""
    return [seed * 10_000 + fold for seed in seeds for fold in range(folds)]
