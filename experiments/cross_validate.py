"""Every fold x repeated seed of a protocol as the trials of one program: leave-one-subject-out and
its relatives.
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from fexpr.errors import UserError
from fexpr.runs import describe, results
from fexpr.runs.spec import RunSpec
from fexpr.runs.train_run import train
from fexpr.train import distributed


def cross_validate(config: ConfigDict, workdir: Path) -> None:
    """Writes a finished run directory to `workdir`, with metrics pooled over the folds; resumes and
    reports again like `fit`.

    Raises:
      UserError: a fault of the data, config or run directory that the user can fix.
    """
    dataset, folds = describe.prepare(config)
    if len(folds) < 2:
        raise UserError(
            f"split.protocol={config.split.protocol!r} makes one fold",
            fix="choose another protocol, or experiment='fit'",
        )
    train([RunSpec(config, workdir)], dataset, folds, workdir)
    distributed.run_on_main_process(lambda: results.report(config, dataset, workdir))
