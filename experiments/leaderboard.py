"""One table of all predictors of a protocol: networks and kernel machines trained here, finished
runs, their fusions, and predictions from elsewhere.

Members are run directories of their own below the leaderboard's; finished ones are not trained
again. How a member's epoch and hyper-parameters were chosen is a column that cannot be left out.
"""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from configs import base
from experiments.cross_validate import cross_validate
from experiments.fuse import fuse_runs
from experiments.machine import machine
from fexpr.errors import UserError
from fexpr.evaluate import contenders as board
from fexpr.evaluate.contenders import Contender
from fexpr.evaluate.predictions import checked
from fexpr.evaluate.report.leaderboard_tables import print_board, write_tables
from fexpr.runs import load_data, nested, opening
from fexpr.runs.spec import RunSpec
from fexpr.storage import contents, mirror, run
from fexpr.terminal import say

Experiment = Callable[[ConfigDict, Path], None]
EXPERIMENTS: dict[str, Experiment] = {"cross_validate": cross_validate, "machine": machine}
# what members take from the leaderboard's config: the rows, who tests whom, what is written
SHARED = (
    *(f"data.{name}" for name in ("root", "source", "subsets", "skip_clips")),
    *(f"data.synthetic_{name}" for name in ("subjects", "clips", "seed")),
    *(f"split.{name}" for name in ("protocol", "folds", "seed")),
    "evaluate",
    "log",
)
# what is shown of a table whose members choose by this, the first to compare by
METRICS = {"uf1": ("uf1", "uar"), "accuracy": ("accuracy", "uf1")}
CONSTANT = "constant"
FUSED_HOW = "members and weights by each fold's validation subjects"
CONSTANT_HOW = "nothing is chosen: the most frequent class of the training rows"


class Member(NamedTuple):
    """A member; `config` is None for a run directory that is only read."""

    name: str
    config: ConfigDict | None
    folder: Path


class Fusion(NamedTuple):
    name: str
    members: tuple[Member, ...]
    folder: Path


def leaderboard(config: ConfigDict, workdir: Path) -> None:
    """Trains or reads the members `config.members`, fuses those that `config.fused` names, reads
    `config.entries`, and writes leaderboard.md, .csv, .tex, .json and a figure to `workdir`, and to
    `config.tables` if that is set.

    Raises:
      UserError: members, fused names or entries that cannot be used, all of them; whatever a
        member's experiment raises; rows that differ between members.
    """
    members, entries = read_members(config, workdir), read_entries(config)
    fusions = read_fusions(config, workdir, members)
    for i, member in enumerate(members, 1):
        say(f"\nmember     {i} of {len(members)}: {member.name}")
        if member.config is not None:
            train_or_read(member.config, member.folder)
    for fusion in fusions:
        say(f"\nfusion     {fusion.name}: {', '.join(m.name for m in fusion.members)}")
        folders = {m.name: m.folder for m in fusion.members}
        resamples = config.evaluate.resamples
        fuse_runs(
            folders, fusion.folder, opening.typed_command(), choose="weights", resamples=resamples
        )
    found = make_board(config, members, fusions, entries)
    title = f"Leaderboard: {config.data.name}, {config.split.protocol}"
    # a person who repeats the study has another folder
    typed = [w for w in shlex.split(opening.typed_command()) if not w.startswith("--workdir")]
    written = write_tables(workdir, found, title, shlex.join(typed))
    if config.tables:
        target = Path(config.tables)
        for path in written[1:]:
            place = target / path.relative_to(workdir)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    say()
    print_board(found)
    say(f"\ntables     {mirror.display_path(written[1])}")


def train_or_read(config: ConfigDict, folder: Path) -> None:
    """Trains the member, unless its run is finished; a finished run must have this config and these
    data, and is not reported again.
    """
    if all((folder / name).exists() for name in (run.PREDICTIONS, run.METRICS, run.REPORT)):
        source = load_data.data(config.data).source
        opening.refuse_other_runs([RunSpec(config, folder)], source)
        say(f"finished   {mirror.display_path(folder)}")
        return
    opening.start_log(folder)
    EXPERIMENTS[config.experiment](config, folder)


def make_board(
    config: ConfigDict,
    members: list[Member],
    fusions: list[Fusion],
    entries: list[tuple[str, Path, str]],
) -> dict:
    """The content of leaderboard.json (`evaluate.contenders.leaderboard`), with `synthetic` in
    every row.
    """
    contenders, names, seconds = [], [], {}
    first = members[0].folder
    metrics, arrays = _read(first)
    constant = board.constant_of(arrays, metrics["selection"])
    synthetic, groups = metrics["source"] == "synthetic", metrics["group_name"]
    for member in members:
        content = contents.read_config(member.folder / run.CONFIG, contents.PREDICTED)
        metrics, arrays = _read(member.folder)
        selection, names = metrics["selection"], arrays["class_names"].tolist()
        with contents.as_user_error(f"{member.name} cannot be described"):
            seconds[member.name] = content.get("wall_seconds")
            words = how_in_words(content), reads_in_words(content)
            minutes = seconds[member.name] and seconds[member.name] / 60
        answers = board.answers_of(arrays, selection)
        contenders.append(Contender(member.name, answers, selection, *words, minutes))
    for fusion in fusions:
        metrics, arrays = _read(fusion.folder)
        selection = metrics["selection"]
        spent = [seconds[m.name] for m in fusion.members]
        minutes = sum(spent) / 60 if all(spent) else None
        answers = {selection: board.answers_of(arrays, selection)[selection]}
        reads = ", ".join(m.name for m in fusion.members)
        contenders.append(Contender(fusion.name, answers, selection, FUSED_HOW, reads, minutes))
    reference = contenders[0].answer
    for name, path, how in entries:
        contenders.append(Contender(name, board.read_entry(path, reference, names), "last", how))
    contenders.insert(0, Contender(CONSTANT, constant, "last", CONSTANT_HOW))
    shown = METRICS.get(config.train.monitor, METRICS["uf1"])
    found = board.leaderboard(contenders, names, shown, config.evaluate.resamples)
    rows = [row | {"synthetic": synthetic} for row in found["rows"]]
    return found | {"rows": rows, "group_name": groups}


def _read(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """metrics.json and predictions.npz of a run. Raises a UserError if they are damaged."""
    found = contents.read_predictions(folder / run.PREDICTIONS)
    metrics = contents.read_metrics(folder / run.METRICS)
    try:
        return metrics, checked(found, metrics["selection"])
    except ValueError as e:
        raise run.damaged(folder / run.PREDICTIONS, str(e)) from e


def how_in_words(content: dict) -> str:
    """How the epoch and hyper-parameters of a run were chosen, in words, from its config.json."""
    config = content["config"]
    split, train = config["split"], config["train"]
    if config["experiment"] == "machine":
        values = {k: v for k, v in config["model"].items() if k != "name"}
        return (
            f"{len(nested.grid(values))} settings by {split['inner']} inner parts of the training "
            "subjects; no epochs"
        )
    if train["selection"] == "last":
        return f"the last of {train['epochs']} epochs, fixed beforehand"
    held_out = (
        f"{split['inner']} inner parts in turn"
        if split.get("inner")
        else f"a share of {split['val_fraction']:g}"
    )
    return f"epoch by held-out training subjects ({held_out})"


def reads_in_words(content: dict) -> str:
    """What a run reads from each clip, in words, from its config.json."""
    data, train = content["config"]["data"], content["config"]["train"]
    if content["data"].get("kind") == "features":
        adapted = {
            "none": "strict: nothing is known of the tested person",
            "standardize_others": "adapted to the actor by the actor's other clips, unlabelled",
        }
        by_actor = adapted.get(data["per_actor"], "adapted to the actor by all clips, unlabelled")
        return f"{data['features']} features; {by_actor}"
    maps = data.get("maps", "flow").split(",")
    what = maps[0] if len(maps) == 1 else f"{len(maps)} maps ({', '.join(m.strip() for m in maps)})"
    regions = ", four regions" if data.get("regions") == "landmarks" else ""
    side = "x".join(str(n) for n in content["data"].get("image", ())[:2])
    return f"{what} {side}{regions}, {train['normalize']}".replace("  ", " ")


def read_members(config: ConfigDict, workdir: Path) -> list[Member]:
    """Reads the config's members: their configs or finished runs. Errors as in `leaderboard`."""
    members, problems = [], []
    for text in config.members:
        name, equals, source = (part.strip() for part in text.partition("="))
        try:
            if not (name and equals and source):
                raise ValueError("expected NAME=CONFIG, NAME=CONFIG:VARIANT or NAME=RUN")
            if (Path(source) / run.PREDICTIONS).is_file():
                members.append(Member(name, None, Path(source)))
                continue
            folder = workdir / re.sub(r"[^\w.]+", "_", source)
            members.append(Member(name, _member(config, source), folder))
        except (ImportError, AttributeError, ValueError) as e:
            problems.append(f"{text!r}: {e}")
        except UserError as e:
            problems += [f"{text!r}: {problem}" for problem in e.problems or [e.text()]]
    if problems or not members:
        raise UserError(
            "the leaderboard's members cannot be used",
            problems or ["there are none"],
            fix="set config.members, for example to 'SVM=machine_megc2019', "
            "'HTNet=runs/htnet_megc2019'",
        )
    return members


def read_fusions(config: ConfigDict, workdir: Path, members: list[Member]) -> list[Fusion]:
    """Reads which members the config's fusions combine. Errors as in `leaderboard`."""
    fusions, problems, by_name = [], [], {member.name: member for member in members}
    for i, text in enumerate(config.fused):
        name, _, rest = (part.strip() for part in text.partition("="))
        wanted = [part.strip() for part in rest.split(" & ") if part.strip()]
        problems += [f"{text!r}: {m!r} is no member" for m in wanted if m not in by_name]
        if not name or len(set(wanted)) < 2:
            problems.append(f"{text!r}: expected NAME=MEMBER & MEMBER, at least two")
        found = tuple(by_name[m] for m in wanted if m in by_name)
        fusions.append(Fusion(name, found, workdir / f"fusion_{i}"))
    if problems:
        raise UserError(
            "the leaderboard's fusions cannot be made",
            problems,
            fix=f"the members are {', '.join(by_name)}",
        )
    return fusions


def read_entries(config: ConfigDict) -> list[tuple[str, Path, str]]:
    """For each entry its name, its file and how its selection was done. Errors as in
    `leaderboard`.
    """
    entries, problems = [], []
    for text in config.entries:
        name, _, rest = text.partition("=")
        file, _, how = rest.partition(";")
        if not (name.strip() and file.strip() and how.strip()):
            problems.append(f"{text!r}: expected NAME=FILE.csv; how selection was done")
        entries.append((name.strip(), Path(file.strip()).expanduser(), how.strip()))
    if problems:
        raise UserError(
            "the leaderboard's entries cannot be used",
            problems,
            fix="state how epoch and settings were chosen, for example 'Theirs=theirs.csv; last "
            "epoch'",
        )
    return entries


def _member(config: ConfigDict, source: str) -> ConfigDict:
    """The config of a member, with the leaderboard's data and split.

    Raises:
      ImportError, AttributeError, ValueError: no such config, or none of trials of this release.
      UserError: it cannot be used.
    """
    module, _, variant = source.partition(":")
    member = importlib.import_module(f"configs.{module}").get_config(variant)
    if member.experiment not in EXPERIMENTS:
        raise ValueError(f"experiment={member.experiment!r} is none of {', '.join(EXPERIMENTS)}")
    if member.data.name != config.data.name:
        raise ValueError(f"data.name={member.data.name!r}, expected {config.data.name!r}")
    for field in SHARED:
        section, _, name = field.rpartition(".")
        if section:
            member[section][name] = config[section][name]
        else:
            member[name] = config[name]
    base.validate(member)
    return member
