"""The specification of a run: a config and the run directory; and the names of the experiments."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ml_collections import ConfigDict

# experiments whose runs are trials of one program, for --sweep and --dry_run
OF_TRIALS = ("fit", "cross_validate")
STUDIES = ("filter_frames", "iterate_filtering")  # stages in a folder, each a run directory
LABORATORIES = ("lab_circles", "lab_digits")  # bring their own data
COMMON = (
    "experiment",
    "seed",
    "extensions",
    "data.*",
    "split.*",
    "evaluate.*",
    "log.*",
    "train.loss",
    "train.monitor",
    "train.batch_size",
)  # fields that every config of a release sets
TRAINING = (*COMMON, "init.*", "train.*", "optimizer.*", "augment.*")
# the fields that an experiment reads, beside config.model
EXPERIMENTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(OF_TRIALS, (*TRAINING, "sweep")),
    "svm": (*COMMON, "train.selection", "train.class_weights*"),
    "machine": (
        *COMMON,
        "train.selection",
        "train.class_weights*",
        "train.normalize",
        "train.tta",
        "augment.flip",
    ),
    "compare_classifiers": (*COMMON, "members"),
    "leaderboard": (*COMMON, "members", "fused", "entries", "tables"),
    **dict.fromkeys(STUDIES, (*TRAINING, "filter.*")),
    "lab_circles": (*COMMON, "train.epochs", "optimizer.name", "optimizer.learning_rate"),
    "lab_digits": TRAINING,
}
VALUES = (
    "seed",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "train.label_smoothing",
    "train.class_weights",
    # fields that are arrays in the program: trials that differ in them share a program
    "train.class_weights_max",
)


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """A config and its run directory."""

    config: ConfigDict
    workdir: Path

    @property
    def finished(self) -> bool:
        """Whether its predictions are written."""
        from fexpr.storage import run  # imports NumPy, which the names above do not need

        return (self.workdir / run.PREDICTIONS).exists()
