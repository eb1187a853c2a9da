"""The fields of `config.train`, `config.optimizer` and `config.augment`. Imports no library,
so that a config is checked without JAX."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from fexpr import facs
from fexpr.config import Entry, Problem, allowed, field, find_unread

LOSSES = {  # (logits, targets, class weights, the loss's own number) -> a loss for each row
    "bce": Entry("fexpr.train.losses:binary_cross_entropy"),
    "focal": Entry("fexpr.train.losses:focal"),
    "cross_entropy": Entry("fexpr.train.losses:cross_entropy"),
}
MONITORS = {  # (logits, labels, mask, losses of the rows) -> a score, higher is better
    "loss": Entry("fexpr.train.monitors:negative_loss"),
    "roc_auc": Entry("fexpr.train.monitors:roc_auc"),
    "accuracy": Entry("fexpr.train.monitors:accuracy"),
    "uf1": Entry("fexpr.train.monitors:uf1"),
    "refinement": Entry("fexpr.train.monitors:refinement"),
}
AUXILIARY = {"none": 0, "action_units": len(facs.CD6ME)}  # outputs of a second task
ONE_CLASS, OF_ACTION_UNITS, OF_CLASSES = "cross_entropy", ("roc_auc",), ("accuracy", "uf1")


class Rate(NamedTuple):
    """Parameters whose path matches the regex learn at `factor` times the common rate, from the
    share `start` of all steps on."""

    pattern: str
    factor: float
    start: float = 0.0


def parse_rates(text: str) -> tuple[Rate, ...]:
    """Parses 'conv5_=0.1,conv4_=0.05@0.5' into learning rates of named layers (`Rate`).

    Raises:
      ValueError: not of this form.
    """
    found = []
    for part in filter(None, text.split(",")):
        pattern, _, numbers = part.rpartition("=")
        factor, _, start = numbers.partition("@")
        found.append(Rate(pattern.strip(), float(factor), float(start or 0)))
        if not pattern or found[-1].factor < 0 or not 0 <= found[-1].start < 1:
            raise ValueError(part)
    return tuple(found)


def compile_regex(text: str) -> re.Pattern:
    """Raises a ValueError if the text is not a regular expression."""
    try:
        return re.compile(text)
    except re.error as e:
        raise ValueError(str(e)) from e


NOT_LBFGS = ("unless optimizer.name='lbfgs'", lambda section: section.name != "lbfgs")
PLATEAU = ("only with optimizer.schedule='plateau'", lambda section: section.schedule == "plateau")
REGEX = ("a regular expression", compile_regex)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """the training of a trial, and which epoch is its result."""

    epochs: int = field(50, "passes over the training rows", ge=1, debug=3)
    batch_size: int = field(16, "rows of an optimiser step, over all devices; 0 = all rows", ge=0)
    loss: str = field(
        "bce",
        "'bce' and 'focal' are for action units, 'cross_entropy' for one class per row",
        one_of=LOSSES,
    )
    targets: Literal["presence", "intensity", "soft"] = field(
        "presence",
        "for action units: 0 or 1, or the intensity (A-E as 0.2 to 1.0); for FERPlus: shares of "
        "the votes",
    )
    focal_gamma: float = field(
        2.0,
        "exponent of the focal loss",
        ge=0,
        read_if=("only with train.loss='focal'", lambda s: s.loss == "focal"),
    )
    label_smoothing: float = field(
        0.0,
        "share of a label that is spread over all classes",
        ge=0,
        lt=1,
        read_if=("only with train.loss='cross_entropy'", lambda s: s.loss == ONE_CLASS),
    )
    class_weights: float = field(
        0.0,
        "0 = none, 1 = inverse frequency in the training rows, between = that power of it",
        ge=0,
    )
    class_weights_max: float = field(
        20.0,
        "largest weight of a class",
        ge=1,
        read_if=("only with train.class_weights", lambda s: s.class_weights > 0),
    )
    auxiliary: str = field(
        "none",
        "a second task, learned from the same features: which of "
        f"{len(facs.CD6ME)} action units are present, where a workbook gives them",
        one_of=AUXILIARY,
    )
    auxiliary_weight: float = field(
        1.0,
        "of its loss beside the classes' own",
        gt=0,
        read_if=("only with train.auxiliary", lambda s: s.auxiliary != "none"),
    )
    monitor: str = field(
        "loss",
        "chooses the epoch: 'roc_auc' is for action units, 'accuracy' and 'uf1' for one class per "
        "row; "
        "'refinement' is the log loss after a temperature fitted to the same validation rows",
        one_of=MONITORS,
    )
    patience: int = field(0, "epochs without a better monitor before stopping; 0 = never", ge=0)
    selection: Literal["best_val", "last"] = field(
        "best_val", "epoch whose predictions are the result"
    )
    normalize: Literal["standardize", "pixel", "median", "unit", "symmetric", "none"] = field(
        "standardize",
        "by mean and deviation of the training rows, those of each pixel ('pixel'), each channel "
        "of an image by its own median and the training rows' unit ('median': the level of no "
        "motion of a flow map), to 0..1 ('unit'), to -1..1 ('symmetric')",
    )
    precision: Literal["float32", "bfloat16"] = field(
        "float32", "of activations; parameters and sums are always float32"
    )
    eval_batch: int = field(
        256,
        "rows of a forward pass of evaluation and of init.features, over all devices of a trial; "
        "affects memory, not results",
        ge=1,
    )
    ema: float = field(
        0.0, "decay of a running mean of the weights, which then predicts; 0 = none", ge=0, lt=1
    )
    tta: Literal["none", "flip", "flip_crop"] = field(
        "none",
        "views whose predictions are averaged: 2, or 10 (of a mirrored flow map: u is negated)",
    )
    early_size: int = field(
        0, "side that training images are resized to in the first epochs, pixels; 0 = never", ge=0
    )
    early_share: float = field(
        0.5,
        "of the epochs, in which images are of train.early_size",
        ge=0,
        le=1,
        read_if=("only with train.early_size", lambda s: s.early_size > 0),
    )
    chunk: int = field(0, "trials at a time; 0 = as many as fit into memory", ge=0)
    trial_axis: Literal["auto", "vmap", "map"] = field(
        "auto",
        "trials of one device: all at once ('vmap'), one by one ('map'); 'auto': 'map' on a CPU",
    )

    @property
    def multilabel(self) -> bool:
        """Whether a row may be of several classes (action units)."""
        return self.loss != ONE_CLASS

    def problems(self) -> Iterator[Problem]:
        kind = f"train.loss={self.loss!r}"
        others = {
            "targets": ("soft",) if self.multilabel else ("intensity",),
            "monitor": OF_CLASSES if self.multilabel else OF_ACTION_UNITS,
        }
        for name, wrong in others.items():
            if (value := getattr(self, name)) in wrong:
                right = [repr(v) for v in allowed(TrainConfig, name) if v not in wrong]
                yield Problem(name, value, f"one of {', '.join(right)} with {kind}")
        if self.multilabel and self.tta != "none":
            yield Problem("tta", self.tta, f"'none' with {kind}")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """the optimiser, and its learning rate over the epochs."""

    name: Literal["adam", "adamw", "sgd", "lbfgs"] = field(
        "adamw",
        "'sgd' has Nesterov momentum 0.9; 'lbfgs' needs train.batch_size=0, an epoch is "
        "an iteration",
    )
    learning_rate: float = field(1e-3, "at its peak", gt=0, read_if=NOT_LBFGS)
    weight_decay: float = field(0.0, "of kernels only", ge=0)
    schedule: Literal["constant", "cosine", "linear", "plateau"] = field(
        "constant", "of the learning rate after the warm-up", read_if=NOT_LBFGS
    )
    plateau_patience: int = field(
        5,
        "epochs without a better monitor before the rate is multiplied by plateau_factor",
        ge=1,
        read_if=PLATEAU,
    )
    plateau_factor: float = field(
        0.5, "what the rate is multiplied by", ge=0, lt=1, read_if=PLATEAU
    )
    tolerance: float = field(
        0.0, "stop once no entry of the gradient is larger than this; 0 = never", ge=0
    )
    warmup: float = field(
        0.0, "share of all steps with a rising rate", ge=0, lt=1, read_if=NOT_LBFGS
    )
    clip_norm: float = field(
        0.0, "largest global norm of the gradient; 0 = no clipping", ge=0, read_if=NOT_LBFGS
    )
    freeze: str = field(
        "",
        "regex of parameters that are not trained ('conv[1-4]_'); batch norms "
        "named by it keep their statistics",
        form=REGEX,
    )
    rates: str = field(
        "",
        "shares of the learning rate, first match: 'conv5_=0.1,conv4_=0.05@0.5' "
        "(@: 0 before that share of all steps)",
        form=("'' or 'REGEX=SHARE,REGEX=SHARE@START'", parse_rates),
        read_if=NOT_LBFGS,
    )


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """random changes of the training images in every epoch."""

    flip: float = field(
        0.0, "probability of a mirror image (of a flow map: u is negated)", ge=0, le=1
    )
    alternate: bool = field(False, "mirror each image in every other epoch, in place of flip")
    shift: int = field(0, "largest shift each way, pixels; the border is repeated", ge=0)
    shift_p: float = field(
        1.0,
        "probability of a shift",
        ge=0,
        le=1,
        read_if=("only with augment.shift", lambda s: s.shift > 0),
    )
    crop: int = field(
        0,
        "side of a square cut out at a random place, pixels; for prediction, in the middle (and, "
        "by tta, the corners); 0 = all",
        ge=0,
    )
    vertical_flip: float = field(0.0, "probability of an image upside down", ge=0, le=1)
    rotation: float = field(0.0, "largest angle each way, degrees; faces only", ge=0)
    rotation_p: float = field(
        1.0,
        "probability of a rotation",
        ge=0,
        le=1,
        read_if=("only with augment.rotation", lambda s: s.rotation > 0),
    )
    zoom: float = field(
        0.0, "share: height and width are scaled by 1 - zoom to 1 + zoom", ge=0, lt=1
    )
    brightness: float = field(0.0, "largest change each way, share of 255", ge=0, lt=1)
    contrast: float = field(
        0.0, "share: contrast is scaled by 1 - contrast to 1 + contrast", ge=0, lt=1
    )
    light_p: float = field(
        1.0,
        "probability that brightness and contrast change",
        ge=0,
        le=1,
        read_if=(
            "only with augment.brightness or augment.contrast",
            lambda s: s.brightness > 0 or s.contrast > 0,
        ),
    )
    erase: float = field(0.0, "probability that a random rectangle is blanked out", ge=0, le=1)
    cutout: int = field(0, "side of the square that is blanked out, pixels", ge=0)
    mixup: float = field(
        0.0,
        "alpha of the Beta distribution of shares when two images are mixed; 0 = no mixing",
        ge=0,
    )
    mixup_p: float = field(
        1.0,
        "probability that a sample is mixed",
        ge=0,
        le=1,
        read_if=("only with augment.mixup", lambda s: s.mixup > 0),
    )
    mixup_until: float = field(
        1.0,
        "share of the epochs, after which nothing is mixed",
        ge=0,
        le=1,
        read_if=("only with augment.mixup", lambda s: s.mixup > 0),
    )
    noise: float = field(0.0, "standard deviation, grey levels of 0..255", ge=0)

    @property
    def pictures(self) -> AugmentConfig:
        """The fields that change single images: all but mixup."""
        return dataclasses.replace(self, mixup=0.0, mixup_p=1.0, mixup_until=1.0)

    def problems(self) -> Iterator[Problem]:
        if self.flip and self.alternate:
            yield Problem(
                "flip",
                self.flip,
                "0 with augment.alternate: images are mirrored at random or in turn",
            )


def check_kind(config: AugmentConfig, kind: str) -> Iterator[Problem]:
    """Problems of these fields for images of this kind ('face', 'flow', 'clip', 'features')."""
    if kind == "flow" and config.rotation:
        yield Problem(
            "rotation",
            config.rotation,
            "0, as optical-flow maps cannot be rotated: it "
            "mixes u and v, each of which was min-max scaled by itself; flip, "
            "vertical_flip, shift and zoom keep them apart",
        )
    if kind == "features":
        yield from find_unread(
            config, ("mixup*", "kind", "centred"), "a release of feature vectors"
        )
