"""One subject-exclusive split: prepare the data, train, evaluate, report. The main job."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from fexpr.runs import describe, results
from fexpr.runs.spec import RunSpec
from fexpr.runs.train_run import train
from fexpr.train import distributed


def fit(config: ConfigDict, workdir: Path) -> None:
    """Writes a finished run directory to `workdir`; an unfinished run is resumed, a finished one
    only reported again.

    Raises:
      UserError: a fault of the data, config or run directory that the user can fix.
    """
    dataset, folds = describe.prepare(config)
    train([RunSpec(config, workdir)], dataset, folds, workdir)
    distributed.run_on_main_process(lambda: results.report(config, dataset, workdir))
