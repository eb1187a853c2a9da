"""One split: prepare the data, train, evaluate, report. The main job."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from experiments import run_dir, training
from fexpr import models, run
from fexpr.data import LOADERS
from fexpr.data.dataset import Dataset
from fexpr.data.splits import group_holdout
from fexpr.terminal import say
from fexpr.train import trials


def fit(config: ConfigDict, workdir: Path) -> None:
    """Leaves a finished run directory at `workdir`; resumes one that is not, and reports one that is again.

    Raises:
      UserError: whatever the user can mend, in data, config or run directory.
    """
    began = time.monotonic()
    dataset = LOADERS[config.data.name](config.data)
    fold = group_holdout(dataset.groups, config.split.test_fraction, config.split.val_fraction, config.split.seed)
    finished = (workdir / run.PREDICTIONS).exists()
    engine = training.make_engine(config, dataset, [(fold, config.seed)])
    parts = {name: _part(dataset, getattr(fold, name)) for name in ("train", "val", "test")}
    info = run_dir.open_run(
        config, workdir,
        data={"name": config.data.name, "source": dataset.source, "rows": len(dataset), "groups": len(set(dataset.groups)),
              "group_name": "subject", "classes": list(dataset.class_names), "parts": parts},
        model={"name": config.model.name, "parameters": models.count_parameters(engine.abstract().variables["params"])},
        devices=trials.devices(),
    )
    _announce(config, dataset, info)
    if not finished:
        training.train(config, dataset, engine, workdir)
        chosen = run.read_arrays(workdir / run.PREDICTIONS)["epoch"][0]
        info["selected_epochs"] = dict(zip(training.SELECTIONS, chosen.tolist(), strict=True))
        info["wall_seconds"] = round(info.get("wall_seconds", 0.0) + time.monotonic() - began, 1)
        run.write_json(workdir / run.CONFIG, info)
    training.report(config, dataset, workdir)


def _part(dataset: Dataset, rows: np.ndarray) -> dict[str, int]:
    return {"rows": len(rows), "groups": len(np.unique(dataset.groups[rows]))}


def _announce(config: ConfigDict, dataset: Dataset, info: dict) -> None:
    parts = "   ".join(f"{name} {p['rows']} clips of {p['groups']} subjects" for name, p in info["data"]["parts"].items())
    if dataset.multilabel:
        labels = "  ".join(f"{name} {n}" for name, n in zip(dataset.class_names, (dataset.labels > 0).sum(0), strict=True))
    else:
        labels = "  ".join(f"{name} {n}" for name, n in zip(dataset.class_names, np.bincount(dataset.labels), strict=True))
    say(f"data       {dataset.source}: {len(dataset)} clips, {info['data']['groups']} subjects, {len(dataset.class_names)} classes")
    say(f"classes    {labels}")
    say(f"split      {parts}")
    say(f"model      {info['model']['name']}, {info['model']['parameters']:,} parameters   loss {config.train.loss}")
    say(f"devices    {info['devices']['count']} x {info['devices']['kind']}")
