"""Many trials of one network trained at once in PyTorch: torch.func's vmap over stacked parameters.

What fexpr's `trials.Engine` does, as a PyTorch user can write it. Index tables are padded with
row 0, padded rows weigh nothing, and a step in which a trial has no row leaves it as it was. All
parameters of a trial are one row of a matrix [T, P]: its views are what `functional_call` is given,
and Adam, written by hand, is a few operations on whole matrices (fewer than `torch._foreach_*`
would need: those cannot leave single trials out of a step). Convolutions are shifts and one
product, as fexpr's are under vmap: with kernels of their own for every trial they would otherwise
be convolutions of as many groups as there are trials.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
ALIGNED = 4  # floats, 16 bytes: fast products want their operands to begin at multiples of it


class ProductConv(nn.Conv2d):
    """`nn.Conv2d` of stride 1, its padding as given, in the form of shifts and one product."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, I, H, W] -> [B, O, H', W']."""
        (up, left), (kh, kw) = self.padding, self.kernel_size
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, left, left, up, up))
        height, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
        shifts = [x[:, i : i + height, j : j + width] for i in range(kh) for j in range(kw)]
        kernel = self.weight.permute(2, 3, 1, 0).flatten(0, 2)
        y = torch.cat(shifts, -1).flatten(0, 2) @ kernel + self.bias
        return y.unflatten(0, (-1, height, width)).permute(0, 3, 1, 2)


def use_products(model: nn.Module) -> nn.Module:
    """Turns every convolution of the model into a `ProductConv` with the same parameters."""
    for module in model.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = ProductConv
    return model


class Stack:
    """Trains all trials at once. `init()`, then `epoch()` as often as wanted; `logits()` reads.

    Args:
      make: builds one model, (images [B, 28, 28, 3], real [B]) -> (logits [B, K], new buffers).
      images: uint8 [N, 28, 28, 3]. labels: int [N]. train, test: row numbers of every trial.
      seeds: of the initial weights, one a trial. batch: rows per step. classes: K.
      rate: Adam's learning rate.
      products: convolutions as products; False: as convolutions of T groups.
      compiled: whether torch.compile compiles a step and a prediction.
      graphed: whether they are recorded as CUDA graphs and replayed.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module],
        images: np.ndarray,
        labels: np.ndarray,
        train: Sequence[np.ndarray],
        test: Sequence[np.ndarray],
        seeds: Sequence[int],
        batch: int,
        classes: int,
        rate: float,
        device: str,
        products: bool = True,
        compiled: bool = False,
        graphed: bool = False,
    ):
        self.make, self.seeds, self.rate, self.device = make, seeds, rate, device
        self.images = torch.as_tensor(images, device=device)
        self.labels = torch.as_tensor(labels, device=device).long()
        self.steps = -(-max(map(len, train)) // batch)
        self.train, self.real = self._pad(train, self.steps * batch)
        self.test, _ = self._pad(test, max(map(len, test)))
        self.sizes = [len(rows) for rows in test]
        self.mean, self.std = self._statistics()
        shell = make().to("meta")
        self.learner = use_products(shell) if products else shell
        self.judge = copy.deepcopy(self.learner).eval()
        self.layout = _lay_out(dict(shell.named_parameters()))
        self._allocate(batch, classes)
        self._step, self._predict = self.step, self.predict
        if compiled:
            self._step, self._predict = (
                torch.compile(f, fullgraph=True, dynamic=False) for f in (self.step, self.predict)
            )
        if graphed:
            self._step, self._predict = (record(f) for f in (self._step, self._predict))

    def _pad(self, rows: Sequence[np.ndarray], n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Row numbers int64 [T, n], padded with row 0, and bool [T, n]: which are real."""
        table = np.stack([np.concatenate([r, np.zeros(n - len(r), r.dtype)]) for r in rows])
        real = np.arange(n) < np.array([len(r) for r in rows])[:, None]
        return tuple(torch.as_tensor(x, device=self.device) for x in (table.astype(np.int64), real))

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of each trial's own training rows by channel: [T, 1, 1, 1, 3]."""
        trials, n = len(self.train), len(self.images)
        share = torch.zeros(trials, n, dtype=torch.float64, device=self.device)
        share.scatter_add_(1, self.train, self.real.double())
        share /= share.sum(1, keepdim=True)
        pixels = self.images.double()
        mean, square = (share @ p.mean((1, 2)) for p in (pixels, pixels.square()))
        std = (square - mean.square()).clamp(min=0).sqrt()
        return tuple(s.float()[:, None, None, None] for s in (mean, std))

    def _allocate(self, batch: int, classes: int) -> None:
        trials, width = len(self.train), sum(size for _, size in self.layout.values())
        width += -width % ALIGNED
        zeros = lambda *shape: torch.zeros(*shape, device=self.device)
        self.flat, self.moment_1, self.moment_2 = (zeros(trials, width) for _ in range(3))
        self.count = zeros(trials, 1)
        self.buffers = {k: zeros(trials, *b.shape) for k, b in self.learner.named_buffers()}
        self.rows = torch.zeros(trials, batch, dtype=torch.int64, device=self.device)
        self.taken = torch.zeros(trials, batch, dtype=torch.bool, device=self.device)
        self.test_logits = zeros(*self.test.shape, classes)

    def init(self, states: Sequence[dict] | None = None) -> None:
        """Fresh parameters, PyTorch's own or those of `states` (one state dict a trial)."""
        models = []
        with torch.device(self.device):
            for i, seed in enumerate(self.seeds):
                torch.manual_seed(seed)
                models.append(self.make())
                if states:
                    models[-1].load_state_dict(states[i])
        parameters, buffers = stack_module_state(models)
        with torch.no_grad():
            for name, view in self.views(self.flat).items():
                view.copy_(parameters[name])
            for name, value in self.buffers.items():
                value.copy_(buffers[name])
        for zero in (self.moment_1, self.moment_2, self.count):
            zero.zero_()

    def views(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """The stacked parameters that a matrix [T, P] holds, by name: [T, ...] each."""
        sizes = [size for _, size in self.layout.values()]
        pieces = flat.split([*sizes, flat.shape[1] - sum(sizes)], 1)
        return {
            name: piece.unflatten(1, shape)
            for (name, (shape, _)), piece in zip(self.layout.items(), pieces, strict=False)
        }

    def epoch(self, order: torch.Tensor | None = None) -> None:
        """Trains every trial once over its rows, then predicts its test rows; waits for nothing.

        order: int64 [T, n], places in the padded tables, padding last; None: random.
        """
        if order is None:
            draw = torch.rand(self.real.shape, device=self.device)
            order = draw.masked_fill_(~self.real, torch.inf).argsort(1)
        steps = (len(order), self.steps, -1)
        rows, real = (table.gather(1, order).view(steps) for table in (self.train, self.real))
        for i in range(self.steps):
            self.rows.copy_(rows[:, i])
            self.taken.copy_(real[:, i])
            self._step()
        self._predict()

    def step(self) -> None:
        """One step of Adam of all trials, on `rows` [T, B], of which `taken` are real."""
        images, labels = self._images(self.rows), self.labels[self.rows]
        gradient = vmap(grad(self._loss, has_aux=True), randomness="different")
        found, buffers = gradient(self.views(self.flat), self.buffers, images, labels, self.taken)
        parts = [found[name].flatten(1) for name in self.layout]
        padding = self.flat.shape[1] - sum(size for _, size in self.layout.values())
        g = torch.cat([*parts, parts[0].new_zeros(len(self.flat), padding)], 1)
        due = self.taken.any(1, keepdim=True)
        update(self.flat, g, self.moment_1, self.moment_2, self.count, due, self.rate)
        for name, value in buffers.items():
            self.buffers[name].copy_(value)

    def predict(self) -> None:
        """Writes the logits of all test rows to `test_logits` [T, m, K]."""

        def logits(parameters, buffers, images):
            return functional_call(self.judge, (parameters, buffers), (images, None))[0]

        with torch.no_grad():
            images = self._images(self.test)
            self.test_logits.copy_(vmap(logits)(self.views(self.flat), self.buffers, images))

    def logits(self) -> list[np.ndarray]:
        """What each trial said of its test rows [m, K]; waits for the device."""
        return [
            logits[:size]
            for logits, size in zip(self.test_logits.cpu().numpy(), self.sizes, strict=True)
        ]

    def _images(self, rows: torch.Tensor) -> torch.Tensor:
        return (self.images[rows].float() - self.mean) / self.std

    def _loss(
        self,
        parameters: dict,
        buffers: dict,
        images: torch.Tensor,
        labels: torch.Tensor,
        real: torch.Tensor,
    ) -> tuple[torch.Tensor, dict]:
        """Cross entropy of one trial's real rows, and its new buffers."""
        logits, new = functional_call(self.learner, (parameters, buffers), (images, real))
        rows = -logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]
        return (rows * real).sum() / real.sum().clamp(min=1), new


def update(
    flat: torch.Tensor,
    g: torch.Tensor,
    moment_1: torch.Tensor,
    moment_2: torch.Tensor,
    count: torch.Tensor,
    due: torch.Tensor,
    rate: float,
) -> None:
    """Adam in place on [T, P], of the trials that are `due` (bool [T, 1]) alone; count [T, 1]."""
    due = due.to(flat.dtype)
    count.add_(due)
    done = count.clamp(min=1)
    moment_1.lerp_(g, (1 - BETA_1) * due)
    moment_2.lerp_(g.square(), (1 - BETA_2) * due)
    root = (1 - torch.pow(BETA_2, done)).sqrt()
    size = rate * due * root / (1 - torch.pow(BETA_1, done))
    flat.addcdiv_(moment_1 * -size, moment_2.sqrt().add_(EPSILON * root))


def record(work: Callable[[], Any]) -> Callable[[], None]:
    """A CUDA graph of `work`, whose tensors stay where they are; returns what replays it."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):  # compiles, chooses kernels and fills the allocator before the recording
            work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def _lay_out(parameters: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Size, int]]:
    """Shape and size of each parameter, those last that would bring the next out of alignment."""
    last = sorted(parameters.items(), key=lambda item: item[1].numel() % ALIGNED != 0)
    return {name: (p.shape, p.numel()) for name, p in last}
