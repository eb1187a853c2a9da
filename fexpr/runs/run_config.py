"""The fields of `config.init`, `config.filter` and `config.log`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from fexpr.config import Problem, field
from fexpr.train.train_config import REGEX


@dataclasses.dataclass(frozen=True)
class InitConfig:
    """weights that a new run begins with."""

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
        "whoever is tested here must be in no training or validation row of the first run; "
        "'others': you know that nobody is, where fexpr cannot tell",
        read_if=(
            "only with init.from_run or init.from_file",
            lambda s: bool(s.from_run or s.from_file),
        ),
    )
    features: bool = field(
        False,
        "the trunk stays as it is, sees every image once, unaugmented; "
        "the last part is trained on its features",
    )

    def problems(self) -> Iterator[Problem]:
        if self.from_run and self.from_file:
            yield Problem("from_run", self.from_run, "'' where init.from_file is set")


@dataclasses.dataclass(frozen=True)
class FilterConfig:
    """which frames of clips to train on (filter_frames, iterate_filtering)."""

    stages: tuple = field(
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
        "a run on other data, of AffectNet's classes or the same, that judges "
        "first; '': each fold's own model",
    )
    gaussians: str = field(
        "",
        "of the gaussian filters: a folder of statistics (docs/data.md), or "
        "'': of the fold's training frames",
    )
    weights: Literal["restart", "carry"] = field(
        "restart",
        "a stage of iterate_filtering begins with random weights, or with those of the "
        "stage before it ('carry')",
    )


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """what is written beside the results."""

    checkpoint_seconds: float = field(
        20.0,
        "between two checkpoints, times the seconds that one holds training up, if more than "
        "1; 0 = every epoch",
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
