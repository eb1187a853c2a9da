"""What a person runs: plain functions (config, workdir) -> None, one file a study."""

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from experiments.compare_classifiers import compare_classifiers
from experiments.cross_validate import cross_validate
from experiments.filter_frames import filter_frames
from experiments.fit import fit
from experiments.iterate_filtering import iterate_filtering
from experiments.laboratories.circles import lab_circles
from experiments.laboratories.moved_digits import lab_digits
from experiments.machine import machine
from experiments.svm import svm

# by name; runs/spec.py says what each reads
EXPERIMENTS: dict[str, Callable[[ConfigDict, Path], None]] = {
    experiment.__name__: experiment
    for experiment in (
        fit,
        cross_validate,
        svm,
        machine,
        compare_classifiers,
        filter_frames,
        iterate_filtering,
        lab_circles,
        lab_digits,
    )
}
