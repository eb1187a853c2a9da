"""Describes a run, in words for the terminal and as entries of config.json: data, folds, model,
trials, devices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from fexpr import models
from fexpr.data.dataset import Dataset
from fexpr.data.splits import duplicates
from fexpr.data.splits.fold import Fold
from fexpr.runs import build, load_data
from fexpr.runs.initialize import Initialization
from fexpr.runs.spec import RunSpec
from fexpr.terminal import BANNER, say
from fexpr.train import devices, trials


def prepare(config: ConfigDict) -> tuple[Dataset, list[Fold]]:
    """Loads and prints the data of this config and its folds."""
    dataset, folds = load_data.load(config)
    if dataset.synthetic:
        say(
            "SYNTHETIC DATA: drawn by this program, no release was read; the numbers below say "
            "nothing about people",
            style=BANNER,
        )
    count = (
        (dataset.labels > 0).sum(0)
        if dataset.multilabel
        else np.bincount(dataset.labels, minlength=len(dataset.class_names))
    )
    say(
        f"data       {dataset.source}: {_size(dataset, slice(None))}, "
        f"{len(dataset.class_names)} classes"
    )
    say(
        "classes    "
        + "  ".join(f"{name} {n}" for name, n in zip(dataset.class_names, count, strict=True))
    )
    if len(folds) == 1:
        sides = {"train": folds[0].train, "val": folds[0].val, "test": folds[0].test}
        say(
            "split      "
            + "   ".join(f"{name} {_size(dataset, rows)}" for name, rows in sides.items())
            + _test_parts(dataset, folds[0])
        )
    else:
        sizes = " ".join(
            f"{side} {np.mean([len(getattr(f, side)) for f in folds]):.0f}"
            for side in ("train", "val", "test")
        )
        say(
            f"split      {config.split.protocol}: {len(folds)} folds of {dataset.group_name}s "
            "that never cross; "
            f"{_unit(dataset)} a fold: {sizes}"
        )
    if found := describe_copies(config, dataset, folds):
        say(f"copies     {copies_in_words(found, dataset, folds)}")
    return dataset, folds


def say_program(
    specs: Sequence[RunSpec],
    folds: Sequence[Fold],
    engine: trials.Engine,
    start: Initialization | None,
) -> None:
    """Prints model, trials and devices."""
    config, facts = specs[0].config, devices.facts(engine.mesh.size)
    say(f"model      {in_words(describe_model(config, engine, start))}   loss {config.train.loss}")
    if len(engine.specs) > 1:
        say(f"trials     {product(specs, folds)} = {len(engine.specs)}, one program")
    say(
        f"devices    {facts['count']} x {facts['kind']}"
        + f" in {facts['processes']} processes" * (facts["processes"] > 1)
    )


def product(specs: Sequence[RunSpec], folds: Sequence[Fold]) -> str:
    """The trials in words: '2 points x 5 folds x 1 seed'; for a single run without the points."""
    counts = ((len(specs), "point"), (len(folds), "fold"), (specs[0].config.split.seeds, "seed"))
    return " x ".join(number_of(n, what) for n, what in counts[len(specs) == 1 :])


def describe(
    config: ConfigDict,
    dataset: Dataset,
    folds: Sequence[Fold],
    engine: trials.Engine,
    start: Initialization | None,
) -> dict:
    """The entries of config.json on data, model, devices, and what the run starts from."""
    return {
        "data": describe_data(config, dataset, folds),
        "model": describe_model(config, engine, start),
        "devices": devices.facts(engine.mesh.size),
        "init": start.facts if start else None,
    }


def describe_model(config: ConfigDict, engine: trials.Engine, start: Initialization | None) -> dict:
    """The model's name and size, and which part is trained."""
    trained, parameters = (
        build.trained_parameters(config, engine),
        models.count_parameters(engine.abstract_params()),
    )
    if start and start.trunk:
        parameters += models.count_parameters(start.trunk["params"])
    return {"name": config.model.name, "parameters": parameters} | (
        {"trained": trained} if trained != parameters else {}
    )


def in_words(model: dict) -> str:
    """The model's name and size, in words."""
    trained = f", {model['trained']:,} of them trained" if "trained" in model else ""
    return f"{model['name']}, {model['parameters']:,} parameters{trained}"


def describe_data(config: ConfigDict, dataset: Dataset, folds: Sequence[Fold]) -> dict:
    """The entry of config.json on the data and its split."""
    data = {
        "name": config.data.name,
        "source": dataset.source,
        "rows": len(dataset),
        "groups": len(np.unique(dataset.groups)),
        "group_name": dataset.group_name,
        "classes": list(dataset.class_names),
        "kind": dataset.kind,
        "image": list(dataset.images.shape[1:]),
    }
    if len(folds) == 1:
        data["parts"] = _parts(dataset, folds[0])
        if dataset.split is not None:
            data["test_parts"] = np.unique(dataset.split[folds[0].test]).tolist()
    else:
        data["folds"] = len(folds)
    return data | ({"copies": found} if (found := describe_copies(config, dataset, folds)) else {})


def describe_copies(config: ConfigDict, dataset: Dataset, folds: Sequence[Fold]) -> dict:
    """The entry of config.json on copies in the split: duplicates.describe; with several folds,
    what each leaves out; {} if nothing is known.
    """
    rule = config.data.get("duplicates", "keep")
    if len(folds) > 1:
        left_out = [fold.left_out for fold in folds]
        return {"rule": rule, "left_out": left_out} if rule != "keep" else {}
    if dataset.multilabel or (rule == "keep" and not duplicates.are_sought(dataset)):
        return {}
    return duplicates.describe(duplicates.copies_of(dataset), folds[0], rule, dataset.labels)


def copies_in_words(found: dict, dataset: Dataset, folds: Sequence[Fold]) -> str:
    """The result of `describe_copies` in words."""
    sides = {"train": "training", "val": "validation"}
    if len(folds) > 1:
        means = (
            np.mean([sum(left[side].values()) for left in found["left_out"]]) for side in sides
        )
        text = " and ".join(
            f"{n:,.0f} {name}" for n, name in zip(means, sides.values(), strict=True)
        )
        return f"{text} rows per fold are left out (data.duplicates={found['rule']})"
    counts = lambda by_kind: ", ".join(f"{n:,} {kind}" for kind, n in by_kind.items())
    copied, tested = sum(found["test"].values()), len(folds[0].test)
    text = (
        f"{copied:,} of {tested:,} test {_unit(dataset)} also occur in training or validation "
        f"rows ({counts(found['test'])})"
    )
    if not (left := found["left_out"]):
        return f"{text}; all are kept (data.duplicates)"
    parts = (
        f"{sum(left[side].values()):,} {sides[side]} rows ({counts(left[side])})" for side in sides
    )
    return f"{text} after {' and '.join(parts)} were left out (data.duplicates={found['rule']})"


def _size(dataset: Dataset, rows: np.ndarray | slice) -> str:
    groups = dataset.groups[rows]
    if dataset.group_name == "image":
        return f"{len(groups):,} {_unit(dataset)}"
    return f"{len(groups):,} {_unit(dataset)} of {len(np.unique(groups))} {dataset.group_name}s"


def _unit(dataset: Dataset) -> str:
    return (
        "frames"
        if "video" in dataset.extras
        else "images"
        if dataset.kind == "face" or dataset.group_name == "image"
        else "clips"
    )


def number_of(number: int, what: str) -> str:
    """A number with its noun: '1 fold', '3 folds'."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def _test_parts(dataset: Dataset, fold: Fold) -> str:
    """The release's own parts to which the test rows belong, if it has such parts."""
    return (
        "" if dataset.split is None else f" ({' and '.join(np.unique(dataset.split[fold.test]))})"
    )


def _parts(dataset: Dataset, fold: Fold) -> dict[str, dict[str, int]]:
    rows = {"train": fold.train, "val": fold.val, "test": fold.test}
    return {
        name: {"rows": len(r), "groups": len(np.unique(dataset.groups[r]))}
        for name, r in rows.items()
    }
