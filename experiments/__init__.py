"""What a person runs: plain functions (config, workdir) -> None that compose the rooms data, models, train and evaluate."""

from experiments.compare_classifiers import compare_classifiers
from experiments.cross_validate import cross_validate
from experiments.fit import fit
from experiments.labs_circles import circles
from experiments.labs_digits import digits
from experiments.svm import svm

LABORATORIES = {"lab_circles": circles, "lab_digits": digits}  # bring their own data
EXPERIMENTS = {"fit": fit, "cross_validate": cross_validate, "svm": svm, "compare_classifiers": compare_classifiers, **LABORATORIES}
OF_TRIALS = ("fit", "cross_validate")  # whose runs are trials of one program: what --sweep and --dry_run are for
