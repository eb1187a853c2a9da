"""The inputs and the state of the training of ONE trial: tuples of arrays, whose
shapes are those of one trial.

`Recipe` is compiled into a program; `Data` and `Trial` are its arguments; `State` is passed on from
step to step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import PyTree

from fexpr.arrays import AnyArray
from fexpr.config import read
from fexpr.train.augment import Augment
from fexpr.train.train_config import AugmentConfig, OptimizerConfig, TrainConfig

NEVER = -1


@runtime_checkable
class Model(Protocol):
    """The model that a recipe trains: a linen module, or a wrapper of one (a second task's outputs,
    layers that are not trained, the last part of a network alone).
    """

    def init(self, *arguments: Any, **named: Any) -> Any:
        """(key, images float32 [B, H, W, C], train=…) -> the variables, `params` among them."""
        ...

    def apply(self, variables: PyTree, *arguments: Any, **named: Any) -> Any:
        """(variables, images, train=…, mask=…) -> logits [B, K]; with `mutable`, these and the
        collections that changed.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that is compiled into the program: two trials of one program share it.

    The fields of a config that are arrays of a trial (learning rate, weight decay, label smoothing,
    class weights) are in these sections too, but are not read from them.

    Attributes:
      augment: with the fields of config.augment.
      targets: 'presence' (label > 0), 'intensity' (the label), 'class' (ids), or 'soft'
          (Data.soft).
      batch_size: rows of a step over all devices; train.batch_size, or what its 0 means here.
      data_devices: that share a batch; trials.py sets it.
      in_turn: whether a device takes one trial after the other, so that each has its own number of
          steps; trials.py sets it.
    """

    model: Model
    augment: Augment
    train: TrainConfig
    optimizer: OptimizerConfig
    targets: str
    batch_size: int
    data_devices: int = 1
    in_turn: bool = False

    @property
    def crop(self) -> int:
        """Side in pixels of the square of an image that is the model's input; 0 = the whole
        image.
        """
        return self.augment.crop

    @property
    def loss_number(self) -> float:
        """A further argument of action-unit losses: the exponent of the focal loss, or 0."""
        return self.train.focal_gamma if self.train.loss == "focal" else 0.0


def make_recipe(
    config: Mapping[str, Any],
    model: Model,
    kind: str,
    multilabel: bool,
    batch_size: int | None = None,
) -> Recipe:
    """The recipe of a config: the only place where config fields become part of the compiled
    program.

    Args:
      config: `train`, `optimizer`, `augment`, of a ConfigDict or of a stored config.json; fields
        that it lacks have their defaults.
      kind: of the data (Augment). multilabel: whether a row may be of several classes.
      batch_size: instead of train.batch_size, where that is 0.
    """
    train, optimizer, augment = (
        read(section, config.get(name, {}))
        for name, section in (
            ("train", TrainConfig),
            ("optimizer", OptimizerConfig),
            ("augment", AugmentConfig),
        )
    )
    targets = train.targets if multilabel or train.targets == "soft" else "class"
    return Recipe(
        model,
        Augment(**dataclasses.asdict(augment), kind=kind, centred=train.normalize == "median"),
        train,
        optimizer,
        targets,
        batch_size or train.batch_size,
    )


class Data(NamedTuple):
    """On every device once, never copied for a trial: images uint8 [N,H,W,C] or float32 [N,1,1,F],
    labels float32 [N,K] or int32 [N].

    Images that are streamed are not here ([0,H,W,C]) but come with their batches (streaming.py).

    `soft` float32 [N,K]: shares of the annotators' votes, where the recipe's targets are 'soft'.
    `auxiliary` float32 [N,A]: labels of the recipe's second task, 0 or 1, NaN where unknown.
    `start`: variables from which every trial starts, all or some of the model's; only used by
    `init`.
    """

    images: AnyArray
    labels: AnyArray
    soft: AnyArray | None = None
    start: PyTree = None
    auxiliary: AnyArray | None = None


class Trial(NamedTuple):
    """One fold x seed x hyper-parameter point. Row tables are padded with row 0; the mask says
    which entries count.
    """

    # uint32 [2], made of the trial's seed and fold: the whole source of its random numbers
    key: AnyArray
    train_rows: AnyArray  # int32 [n]
    train_mask: AnyArray  # bool [n]
    eval_rows: AnyArray  # int32 [m], validation and test rows
    val_mask: AnyArray  # bool [m]
    test_mask: AnyArray  # bool [m]
    class_weights: AnyArray  # float32 [K], from the training rows
    mean: AnyArray  # float32 [C] or [H,W,C], in 0..255, from the training rows
    std: AnyArray  # the same shape
    learning_rate: AnyArray
    weight_decay: AnyArray
    label_smoothing: AnyArray


class Batch(NamedTuple):
    """Rows of one optimiser step, or of several along a leading axis. If the mesh axis `data` has
    several devices, all see the same rows and masks; `images` are a device's own share.
    """

    rows: jax.Array  # int32 [B], into the data
    mask: jax.Array  # bool [B]
    # of all steps of the epoch, without a leading axis: it is computed, and in a loop that repeats
    # what twenty rounds of Threefry made, LLVM 22 visits every path through them and never ends
    key: jax.Array
    number: jax.Array  # int32, of the step in its epoch
    images: jax.Array | None = None  # uint8 [B / devices, H, W, C] where they are not in Data

    def at(self, i: int | jax.Array) -> Batch:
        """Number i of the leading axis."""
        found = jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), self._replace(key=None)
        )
        return found._replace(key=self.key)


class SelectedEpoch(NamedTuple):
    """The best epoch so far by one kind of selection, and the logits of that epoch. Epochs count
    from 1.
    """

    epoch: jax.Array  # int32
    score: jax.Array  # float32, the monitor: higher is better
    logits: jax.Array  # float32 [m, K], for eval_rows


class State(NamedTuple):
    """Everything that changes during training, and so everything in a checkpoint."""

    variables: PyTree  # params and, for models with batch norm, batch_stats
    average: PyTree  # their running mean, () without one
    opt_state: PyTree
    lr_scale: jax.Array  # float32, the share of the learning rate that plateaus have left
    # int32, since the best validation score or the last plateau, whichever is later
    epochs_since_plateau: jax.Array
    step: jax.Array  # int32, optimiser steps taken
    epoch: jax.Array  # int32, epochs finished
    active: jax.Array  # bool; False once stopped early or failed
    epochs_without_improvement: jax.Array  # int32, since the best validation score
    failed_step: jax.Array  # int32, the first step whose loss or gradient was not finite; -1 = none
    # float32 [3] of this epoch so far: row losses, rows, largest entry of a gradient
    epoch_totals: jax.Array
    best_variables: PyTree  # of the best_val epoch
    last: SelectedEpoch
    best_val: SelectedEpoch
    oracle: SelectedEpoch


def eval_variables(state: State) -> PyTree:
    """The variables used for prediction: the running mean, if there is one."""
    return state.average or state.variables
