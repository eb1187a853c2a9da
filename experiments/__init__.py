"""What a person runs: plain functions (config, workdir) -> None that compose the rooms data, models, train and evaluate."""

from experiments.compare_classifiers import compare_classifiers
from experiments.cross_validate import cross_validate
from experiments.filter_frames import filter_frames
from experiments.fit import fit
from experiments.iterate_filtering import iterate_filtering
from experiments.laboratories.circles import circles
from experiments.laboratories.moved_digits import digits
from experiments.svm import svm

STUDIES = {"filter_frames": filter_frames, "iterate_filtering": iterate_filtering}  # stages in a folder, each a run directory
LABORATORIES = {"lab_circles": circles, "lab_digits": digits}  # bring their own data
EXPERIMENTS = {"fit": fit, "cross_validate": cross_validate, "svm": svm, "compare_classifiers": compare_classifiers,
               **STUDIES, **LABORATORIES}
OF_TRIALS = ("fit", "cross_validate")  # whose runs are trials of one program: what --sweep and --dry_run are for
