"""The fields of `config.init`, `config.filter` and `config.log`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from fexpr.config import Problem, field
from fexpr.train.train_config import REGEX


@dataclasses.dataclass(frozen=True)
class InitConfig:
    """weights from which a new run starts."""

    from_run: str = field(
        "",
        "run directory of the same model; a last layer of another width starts from random weights",
    )
    trial: int = field(
        0,
        "of init.from_run: fold x seed, numbered as in its predictions.npz",
        ge=0,
        read_if=("only with init.from_run", lambda s: bool(s.from_run)),
    )
    from_file: str = field(
        "",
        "or a file of weights (Keras, PyTorch, safetensors): a path, or a "
        "name in the folder weights/ of the data root",
    )
    anew: str = field(
        "",
        "regex of parameters (as 'top/hidden_0/kernel') that are not taken from there",
        form=REGEX,
        read_if=(
            "only with init.from_run or init.from_file",
            lambda s: bool(s.from_run or s.from_file),
        ),
    )
    people: Literal["compare", "others"] = field(
        "compare",
        "nobody who is tested here may be in a training or validation row of the first run; "
        "'others': you declare that nobody is, if fexpr cannot check it",
        read_if=(
            "only with init.from_run or init.from_file",
            lambda s: bool(s.from_run or s.from_file),
        ),
    )
    features: bool = field(
        False,
        "the trunk is frozen and computes features of every image once, without augmentation; only "
        "the last part is trained, on these features",
    )

    def problems(self) -> Iterator[Problem]:
        if self.from_run and self.from_file:
            yield Problem("from_run", self.from_run, "'' where init.from_file is set")


@dataclasses.dataclass(frozen=True)
class FilterConfig:
    """which frames of clips to train on (filter_frames, iterate_filtering)."""

    stages: tuple[str, ...] = field(
        (),
        "NAME=VALUE of experiments.filtering.FILTERS: 'percentile=35', "
        "'threshold=0.7', 'gaussian=50', 'au45=0.75', …",
    )
    embeddings: bool = field(
        False,
        "keep every stage's features of every frame (Deep-Emotion: 810 "
        "and 50) in its embeddings.npz",
    )
    judge: str = field(
        "",
        "a run on other data, with AffectNet's classes or the same, whose posteriors filter first; "
        "'': each fold's own model",
    )
    gaussians: str = field(
        "",
        "for the gaussian filters: a folder of statistics (docs/data.md), or '': those of the "
        "fold's training frames",
    )
    weights: Literal["restart", "carry"] = field(
        "restart",
        "a stage of iterate_filtering starts from random weights, or from those of the previous "
        "stage ('carry')",
    )


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """what is written besides the results."""

    checkpoint_seconds: float = field(
        20.0,
        "seconds between two checkpoints, times the seconds for which one delays training, if more "
        "than 1; 0 = every epoch",
        ge=0,
    )
    profile: bool = field(
        False,
        "trace two seconds of training (or an epoch that is shorter) with "
        "jax.profiler, into profile/ (TensorBoard, XProf)",
    )
    variables: bool = field(True, "keep the weights of every trial, at the last and the best epoch")
    tensorboard: bool = field(True, "write TensorBoard's event files")
    wandb: Literal["", "online", "offline"] = field("", "write to Weights & Biases")
