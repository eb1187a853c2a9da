"""What a person runs: plain functions (config, workdir) -> None, one file per study."""

from fexpr.config import Entry

# name -> function, imported when it is run; runs/spec.py lists the fields that each reads
EXPERIMENTS: dict[str, Entry] = {
    "fit": Entry("experiments.fit:fit"),
    "cross_validate": Entry("experiments.cross_validate:cross_validate"),
    "svm": Entry("experiments.svm:svm"),
    "machine": Entry("experiments.machine:machine"),
    "compare_classifiers": Entry("experiments.compare_classifiers:compare_classifiers"),
    "leaderboard": Entry("experiments.leaderboard:leaderboard"),
    "filter_frames": Entry("experiments.filter_frames:filter_frames"),
    "iterate_filtering": Entry("experiments.iterate_filtering:iterate_filtering"),
    "lab_circles": Entry("experiments.laboratories.circles:lab_circles"),
    "lab_digits": Entry("experiments.laboratories.moved_digits:lab_digits"),
}
