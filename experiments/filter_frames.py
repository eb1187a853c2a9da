"""Does training on fewer frames help? Trains on all frames first, then once on the frames that each
filter keeps by the posteriors of that first model.
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from experiments import filter_stages, filtering
from experiments.study_report import write_study
from experiments.study_rows import FilterRow, StageRow, describe_filter, describe_stage
from fexpr.errors import UserError
from fexpr.runs import describe
from fexpr.storage import mirror
from fexpr.terminal import say


def filter_frames(config: ConfigDict, workdir: Path) -> None:
    """Writes a run directory for each stage under `workdir`, study.json and study.html; finished
    stages are not trained again. A filter that keeps no frame of some emotion is reported and left
    out.

    The filters are `config.filter.stages`; every fold's model of the stage `all` judges the frames
    that its own fold trains on, or
    `config.filter.judge` does, a network that has never seen these actors.

    Raises:
      UserError: a fault of the data, config or run directories that the user can fix.
    """
    dataset, folds = describe.prepare(config)
    filter_stages.check(config, dataset, folds)
    given = filtering.gaussians(config, dataset)
    judged = filter_stages.stage(config, filter_stages.ALL, workdir, dataset, folds)
    rows: list[StageRow] = [
        describe_stage(config, filter_stages.ALL, workdir, dataset, folds, folds, judged)
    ]
    outsider = filter_stages.judge(config, dataset, len(folds))
    judged = judged if outsider is None else outsider
    left_out, keeps = {}, list[FilterRow]()
    for name in config.filter.stages:
        masks = [
            filtering.masks(name, dataset, fold, judged[i], given) for i, fold in enumerate(folds)
        ]
        keeps.append(describe_filter(name, dataset, folds, masks))
        try:
            less = [
                filtering.filtered(name, fold, mask, dataset)
                for fold, (mask, _) in zip(folds, masks, strict=True)
            ]
        except UserError as e:  # the other stages do not depend on it
            say(f"\nstage      {name}: not trained: {e.title}", style="yellow")
            left_out[name] = e.title
            continue
        own = filter_stages.stage(config, name, workdir, dataset, less)
        rows.append(describe_stage(config, name, workdir, dataset, folds, less, own))
    page = write_study(config, workdir, dataset, folds, rows, judged, keeps, left_out)
    say(f"\nreport     {mirror.display_path(page)}")
