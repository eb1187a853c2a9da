"""What a person runs: plain functions (config, workdir) -> None that compose the rooms data, models, train and evaluate."""

from experiments.cross_validate import cross_validate
from experiments.fit import fit

EXPERIMENTS = {"fit": fit, "cross_validate": cross_validate}
