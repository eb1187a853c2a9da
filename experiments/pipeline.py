"""What every experiment does: load and split the data, open the run directory, say what is going on, train, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from experiments import program, results, rows, run_dir, transfer
from experiments.loop import Point
from fexpr import models, run
from fexpr.data import duplicates
from fexpr.data.dataset import Dataset
from fexpr.data.splits import Fold
from fexpr.terminal import BANNER, event, say
from fexpr.train import devices, hosts, resources, trials


def prepare(config: ConfigDict) -> tuple[Dataset, list[Fold]]:
    """The data of this config, and its folds, on the terminal too."""
    dataset, folds = rows.load(config)
    if dataset.synthetic:
        say("SYNTHETIC DATA: drawn by this program, no release was read; the numbers below say nothing about people", style=BANNER)
    count = (dataset.labels > 0).sum(0) if dataset.multilabel else np.bincount(dataset.labels, minlength=len(dataset.class_names))
    say(f"data       {dataset.source}: {_size(dataset, slice(None))}, {len(dataset.class_names)} classes")
    say("classes    " + "  ".join(f"{name} {n}" for name, n in zip(dataset.class_names, count, strict=True)))
    if len(folds) == 1:
        sides = {"train": folds[0].train, "val": folds[0].val, "test": folds[0].test}
        say("split      " + "   ".join(f"{name} {_size(dataset, rows)}" for name, rows in sides.items()) + _test_parts(dataset, folds[0]))
    else:
        sizes = " ".join(f"{side} {np.mean([len(getattr(f, side)) for f in folds]):.0f}" for side in ("train", "val", "test"))
        say(f"split      {config.split.protocol}: {len(folds)} folds of {dataset.group_name}s that never cross; "
            f"{_unit(dataset)} a fold: {sizes}")
    if found := describe_copies(config, dataset, folds):
        say(f"copies     {copies_in_words(found, dataset, folds)}")
    return dataset, folds


def run_point(config: ConfigDict, workdir: Path, dataset: Dataset, folds: Sequence[Fold]) -> None:
    """One run directory from beginning to end, or from wherever it stands to its end."""
    began = time.monotonic()
    point = Point(config, workdir)
    finished = hosts.told(point.finished)
    start = None if finished else transfer.begin(config, dataset, folds)
    engine = program.make_engine([point], dataset, folds, start)
    facts = describe(config, dataset, folds, engine, start)
    info = hosts.on_writer(lambda: run_dir.open_run(config, workdir, **facts))
    say(f"model      {in_words(facts['model'])}   loss {config.train.loss}")
    if len(engine.specs) > 1:
        say(f"trials     {number_of(len(folds), 'fold')} x {number_of(config.split.seeds, 'seed')} = {len(engine.specs)}, one program")
    processes = facts["devices"]["processes"]
    say(f"devices    {facts['devices']['count']} x {facts['devices']['kind']}" + f" in {processes} processes" * (processes > 1))
    if not finished:
        program.train([point], dataset, folds, engine, workdir, start)
        hosts.on_writer(lambda: finish(point, info, time.monotonic() - began, engine))
    hosts.on_writer(lambda: results.report(config, dataset, workdir))


def finish(point: Point, info: dict, seconds: float, engine: trials.Engine | None) -> None:
    """Adds to config.json what is known only after training: how long it took, and what of the machine, if it was this one's `engine`."""
    used = {"wall_seconds": round(seconds, 1)} | ({"resources": resources.of_program(engine)} if engine else {})
    run.write_json(point.workdir / run.CONFIG, info | used)
    event("finished", run=str(point.workdir), **used)


def describe(config: ConfigDict, dataset: Dataset, folds: Sequence[Fold], engine: trials.Engine,
             start: transfer.Start | None = None) -> dict:
    """What config.json says of data, model and devices, and of what the run begins with."""
    trained, parameters = program.trained_parameters(config, engine), models.count_parameters(engine.abstract_params())
    if start and start.trunk:
        parameters += models.count_parameters(start.trunk["params"])
    model = {"name": config.model.name, "parameters": parameters} | ({"trained": trained} if trained != parameters else {})
    return {"data": describe_data(config, dataset, folds), "model": model, "devices": devices.facts(),
            "init": start.facts if start else None}


def in_words(model: dict) -> str:
    """Name and size, for the terminal."""
    trained = f", {model['trained']:,} of them trained" if "trained" in model else ""
    return f"{model['name']}, {model['parameters']:,} parameters{trained}"


def describe_data(config: ConfigDict, dataset: Dataset, folds: Sequence[Fold]) -> dict:
    """What config.json says of the data and its split."""
    data = {"name": config.data.name, "source": dataset.source, "rows": len(dataset), "groups": len(np.unique(dataset.groups)),
            "group_name": dataset.group_name, "classes": list(dataset.class_names),
            "kind": dataset.kind, "image": list(dataset.images.shape[1:])}
    if len(folds) == 1:
        data["parts"] = _parts(dataset, folds[0])
        if dataset.split is not None:
            data["test_parts"] = np.unique(dataset.split[folds[0].test]).tolist()
    else:
        data["folds"] = len(folds)
    return data | ({"copies": found} if (found := describe_copies(config, dataset, folds)) else {})


def describe_copies(config: ConfigDict, dataset: Dataset, folds: Sequence[Fold]) -> dict:
    """What config.json says of the copies in the split: duplicates.describe, of several folds what
    each leaves out, {} where nothing is known."""
    rule = config.data.get("duplicates", "keep")
    if len(folds) > 1:
        left_out = [fold.left_out for fold in folds]
        return {"rule": rule, "left_out": left_out} if rule != "keep" else {}
    if dataset.multilabel or (rule == "keep" and not duplicates.are_sought(dataset)):
        return {}
    return duplicates.describe(duplicates.copies_of(dataset), folds[0], rule, dataset.labels)


def copies_in_words(found: dict, dataset: Dataset, folds: Sequence[Fold]) -> str:
    """What `describe_copies` found, for the terminal."""
    sides = {"train": "training", "val": "validation"}
    if len(folds) > 1:
        means = (np.mean([sum(left[side].values()) for left in found["left_out"]]) for side in sides)
        text = " and ".join(f"{n:,.0f} {name}" for n, name in zip(means, sides.values(), strict=True))
        return f"{text} rows a fold are left out (data.duplicates={found['rule']})"
    counts = lambda by_kind: ", ".join(f"{n:,} {kind}" for kind, n in by_kind.items())
    copied, tested = sum(found["test"].values()), len(folds[0].test)
    text = (f"{copied:,} of {tested:,} test {_unit(dataset)} also occur in training or validation "
            f"rows ({counts(found['test'])})")
    if not (left := found["left_out"]):
        return f"{text}; all are kept (data.duplicates)"
    parts = (f"{sum(left[side].values()):,} {sides[side]} rows ({counts(left[side])})" for side in sides)
    return f"{text} after {' and '.join(parts)} were left out (data.duplicates={found['rule']})"


def _size(dataset: Dataset, rows: np.ndarray | slice) -> str:
    groups = dataset.groups[rows]
    if dataset.group_name == "image":
        return f"{len(groups):,} {_unit(dataset)}"
    return f"{len(groups):,} {_unit(dataset)} of {len(np.unique(groups))} {dataset.group_name}s"


def _unit(dataset: Dataset) -> str:
    return "frames" if "video" in dataset.extras else "images" if dataset.group_name == "image" else "clips"


def number_of(number: int, what: str) -> str:
    """'1 fold', '3 folds'."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def _test_parts(dataset: Dataset, fold: Fold) -> str:
    """Which of the release's own parts the test rows are, where it has such."""
    return "" if dataset.split is None else f" ({' and '.join(np.unique(dataset.split[fold.test]))})"


def _parts(dataset: Dataset, fold: Fold) -> dict[str, dict[str, int]]:
    rows = {"train": fold.train, "val": fold.val, "test": fold.test}
    return {name: {"rows": len(r), "groups": len(np.unique(dataset.groups[r]))} for name, r in rows.items()}
