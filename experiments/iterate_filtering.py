"""Filter, train, filter by the new model, train again: a schedule of filters, each judged by the
stage before it.
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from experiments import filter_stages, filtering
from experiments.study_report import write_study
from experiments.study_rows import FilterRow, describe_filter, describe_stage
from fexpr.runs import describe
from fexpr.storage import mirror
from fexpr.terminal import say


def iterate_filtering(config: ConfigDict, workdir: Path) -> None:
    """Like `filter_frames`, but each stage filters by the model of the stage before it.
    `config.filter.stages` is the schedule, for example percentile=70, percentile=50.

    `config.filter.weights`: 'restart' initialises every stage afresh (from config.init, if it is
    set: TL3 in Díez Benito's thesis), 'carry' starts it from the weights of the previous stage,
    fold by fold (the thesis's TLF). Two stages with different filters are the thesis's mixed
    scheme.

    Raises:
      UserError: a fault of the data, config or run directories that the user can fix.
    """
    dataset, folds = describe.prepare(config)
    filter_stages.check(config, dataset, folds)
    given = filtering.gaussians(config, dataset)
    before = filter_stages.ALL
    judged = filter_stages.stage(config, before, workdir, dataset, folds)
    rows = [describe_stage(config, before, workdir, dataset, folds, folds, judged)]
    outsider = filter_stages.judge(config, dataset, len(folds))
    judged = first = judged if outsider is None else outsider
    keeps: list[FilterRow] = []
    for number, name in enumerate(config.filter.stages, 1):
        masks = [
            filtering.masks(name, dataset, fold, judged[i], given) for i, fold in enumerate(folds)
        ]
        less = [
            filtering.filtered(name, fold, mask, dataset)
            for fold, (mask, _) in zip(folds, masks, strict=True)
        ]
        initial_variables = (
            filter_stages.weights(workdir / before.replace("=", "_"), len(folds))
            if config.filter.weights == "carry"
            else None
        )
        label = f"{number}_{name}"  # a filter may come twice
        keeps.append(describe_filter(label, dataset, folds, masks))
        judged = filter_stages.stage(config, label, workdir, dataset, less, initial_variables)
        rows.append(describe_stage(config, label, workdir, dataset, folds, less, judged))
        before = label
    page = write_study(config, workdir, dataset, folds, rows, first, keeps)
    say(f"\nreport     {mirror.display_path(page)}")
