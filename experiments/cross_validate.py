"""Every fold x repeated seed of a protocol as the trials of one program: leave-one-subject-out and its relatives."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from fexpr.errors import UserError
from fexpr.runs import pipeline


def cross_validate(config: ConfigDict, workdir: Path) -> None:
    """Leaves a finished run directory at `workdir`, its metrics pooled over the folds; resumes and re-reports like `fit`.

    Raises:
      UserError: whatever the user can mend, in data, config or run directory.
    """
    dataset, folds = pipeline.prepare(config)
    if len(folds) < 2:
        raise UserError(f"split.protocol={config.split.protocol!r} makes one fold", fix="choose another protocol, or experiment='fit'")
    pipeline.run_point(config, workdir, dataset, folds)
