"""The fields of `config.split`, and the protocols that it may name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from fexpr.config import Entry, Problem, field, find_unread

ALL_READ = ("protocol", "seeds", "val_fraction", "inner", "train_share", "seed")  # protocols
PROTOCOLS = {  # functions (config.split, Dataset) -> folds
    "holdout": Entry("fexpr.data.splits.protocols:draw_holdout", ("test_fraction",)),
    "loso": Entry("fexpr.data.splits.protocols:leave_each_group_out", ()),
    "group_k_fold": Entry("fexpr.data.splits.protocols:deal_groups", ("folds",)),
    "stratified_group_k_fold": Entry("fexpr.data.splits.protocols:deal_stratified", ("folds",)),
    "repeated_holdout": Entry(
        "fexpr.data.splits.protocols:draw_repeatedly", ("repeats", "test_fraction")
    ),
    "leave_one_dataset_out": Entry("fexpr.data.splits.protocols:leave_each_dataset_out", ()),
    "ravdess": Entry("fexpr.data.splits.protocols:take_published", ()),
    "official": Entry("fexpr.data.splits.protocols:take_official", ("val", "test")),
    "file": Entry("fexpr.data.splits.protocols:read_file", ("file",)),
}


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """who trains, who validates, who tests."""

    protocol: str = field(
        "holdout", f"'ravdess': the five published folds of actors; one of {', '.join(PROTOCOLS)}"
    )
    folds: int = field(5, "parts of the k-fold protocols", ge=2)
    repeats: int = field(10, "draws of 'repeated_holdout'", ge=2)
    file: str = field("", "'file': a CSV with the columns that docs/data.md shows")
    seeds: int = field(1, "repeats of every fold with another seed: seed, seed + 1, …", ge=1)
    test_fraction: float = field(0.2, "share of the subjects", gt=0, lt=1)
    val_fraction: float = field(
        0.2, "share of the remaining subjects, on which epoch and thresholds are chosen", gt=0, lt=1
    )
    inner: int = field(
        0,
        "parts of a fold's training subjects that validate in turn, one for each seed; 0 = the "
        "same for all seeds",
        ge=0,
    )
    val: Literal["training", "PublicTest", "none"] = field(
        "training",
        "'official': val_fraction of its training rows, stratified; 'none': final training",
    )
    test: Literal["auto", "PublicTest", "PrivateTest", "both"] = field(
        "auto", "'official': test parts; 'auto': those of the release that do not validate"
    )
    train_share: float = field(
        1.0,
        "share of each class's training rows to use, to see how results depend on their number",
        gt=0,
        le=1,
    )
    seed: int = field(42, "scikit-learn's GroupShuffleSplit(random_state)", ge=0)

    @property
    def final(self) -> bool:
        """Whether nothing validates."""
        return self.protocol == "official" and self.val == "none"

    def problems(self) -> Iterator[Problem]:
        entry = PROTOCOLS.get(self.protocol)
        if isinstance(entry, Entry) and entry.reads is not None:
            yield from find_unread(
                self, (*ALL_READ, *entry.reads), f"split.protocol={self.protocol!r}"
            )
