"""Several configs on the same rows, one table: the classifier families of Angel 2021 (Table 8.2)
beside what is measured here.

Each member is an experiment with a run directory of its own under the comparison's; finished ones
are not run again.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from ml_collections import ConfigDict

from configs import base
from experiments.cross_validate import cross_validate
from experiments.fit import fit
from experiments.svm import svm
from fexpr.errors import UserError
from fexpr.evaluate.report.comparison import print_comparison, write_comparison
from fexpr.runs import opening
from fexpr.storage import contents, mirror, run
from fexpr.terminal import say

# experiments that a member may be
MEMBERS = {"fit": fit, "cross_validate": cross_validate, "svm": svm}
# what the members take from the comparison's config
SHARED = ("seed", "data", "split", "evaluate", "log")


def compare_classifiers(config: ConfigDict, workdir: Path) -> None:
    """Runs every member of `config.members` and writes comparison.json, comparison.html and a
    figure to `workdir`.

    Raises:
      UserError: no members; a member that is not a config; a published figure that cannot be read;
          whatever a member's experiment raises.
    """
    members = read_members(config)
    rows = []
    for i, (name, member, published) in enumerate(members, 1):
        say(f"\nmember     {i} of {len(members)}: {name}")
        opening.start_log(workdir / name)
        MEMBERS[member.experiment](member, workdir / name)
        rows.append(_row(name, workdir / name, published))
    page = write_comparison(workdir, rows)
    say()
    print_comparison(rows)
    say(f"\nreport     {mirror.display_path(page)}")


def read_members(config: ConfigDict) -> list[tuple[str, ConfigDict, dict | None]]:
    """Name, config and published figure of each. A member keeps its model, training and
    augmentation.
    """
    members, problems = [], []
    for text in config.members:
        file, _, figure = text.partition("=")
        name, _, variant = file.strip().partition(":")
        accuracy, _, tested_on = figure.partition(" ")
        try:
            member = importlib.import_module(f"configs.{name}").get_config(variant)
            if member.experiment not in MEMBERS:
                raise ValueError(
                    f"experiment={member.experiment!r} is none of {', '.join(MEMBERS)}"
                )
            published = {"accuracy": float(accuracy), "on": tested_on} if figure else None
        except (ImportError, AttributeError, ValueError) as e:
            problems.append(f"{text!r}: {e}")
            continue
        for section in SHARED:
            member[section] = config[section]
        try:
            base.validate(member)
        except UserError as e:
            problems += [f"{text!r}: {problem}" for problem in e.problems]
        members.append((name, member, published))
    if problems or not members:
        raise UserError(
            "config.members cannot be used",
            problems or ["there are none"],
            fix="each is the name of a config file, or 'mlp_fer2013=0.39 PrivateTest' with the "
            "published accuracy",
        )
    return members


def _row(name: str, folder: Path, published: dict | None) -> dict:
    content, metrics = (
        contents.read_config(folder / run.CONFIG),
        contents.read_metrics(folder / run.METRICS),
    )
    after = metrics["calibration"].get("temperature", {})
    parts = {
        part: by[metrics["selection"]]["accuracy"]
        for part, by in metrics["per_dataset"].items()
        if part != "full"
    }
    if not parts:  # a single test part, so its figure is that of all test rows
        parts = dict.fromkeys(content["data"].get("test_parts", ()), metrics["test"]["accuracy"])
    return {
        "name": name.removesuffix("_fer2013"),
        "run_dir": folder,
        "published": published,
        "source": metrics["source"],
        "test": {m: metrics["test"][m] for m in ("accuracy", "macro_f1", "ece")},
        "ece_after": after.get("ece"),
        "parts": parts,
        "kaggle": metrics["kaggle"],
        "parameters": content["model"]["parameters"],
        "seconds": content["wall_seconds"],
    }
