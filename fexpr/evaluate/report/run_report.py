"""report.html: one self-contained file, and the figures beside it. Built only from a run
directory.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate import declared
from fexpr.evaluate.clip_rules import RULES, SHOWN
from fexpr.evaluate.predictions import checked
from fexpr.evaluate.report import (
    belief,
    calibration_words,
    findings,
    headline,
    sections,
    selection_words,
)
from fexpr.evaluate.report.page import image, write_html
from fexpr.storage import run

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Num

PARTS_IN_WORDS = {"train": "training", "val": "validation"}


def write_page(
    run_dir: Path,
    config: dict,
    metrics: dict,
    predictions: dict[str, np.ndarray],
    images: Mapping[str, Num[np.ndarray, "H W C"]] | None = None,
    data_labels: Num[np.ndarray, " N"] | Num[np.ndarray, "N K"] | None = None,
    kind: str = "flow",
) -> Path:
    """Writes `figures/*.png` and `report.html`; learning curves come from the folder's
    metrics.jsonl, if it has one.

    `config` is the content of config.json. The report shows the following entries if they exist:
    `config`, `versions`, `devices` {kind, count}, `data` {name, source, rows, groups, group_name,
    parts: {part: {rows, groups}}}, `model` {name, parameters}, `command`, `wall_seconds`,
    `resources` {bytes_needed, size, chunks, compile_seconds, host_bytes, maybe device_bytes},
    `notes` [text].

    Args:
      run_dir: where to write. metrics: what `evaluate` returned for `predictions`, the arrays of
          predictions.npz.
      images: id -> uint8 [H, W, C] of at least the test rows, to draw correct and wrong clips;
          None: no such figure.
      data_labels: labels of all data rows, [N, K] or [N]; without it there is no figure of
          prevalence and co-occurrence.
      kind: what an image is, as in Dataset: 'flow', 'face' or 'features' (of which no example is
          drawn).

    Returns:
      The path of report.html.

    Raises:
      UserError: the directory cannot be written to.
    """
    predictions = checked(predictions, metrics["selection"])
    group = config.get("data", {}).get("group_name")
    metrics = metrics | {"group_name": group} if group else metrics
    from fexpr.evaluate.report import figures  # matplotlib

    drawn = figures.draw(run_dir, metrics, predictions, images, data_labels, kind)
    monitor = config.get("config", {}).get("train", {}).get("monitor")
    chosen_by = selection_words.chosen_by(metrics, predictions, monitor)
    return write_html(
        run_dir / run.REPORT,
        "report.html.j2",
        h=headline,
        f=findings,
        decimals=declared.decimals,
        b=belief,
        c=calibration_words,
        metrics=metrics,
        synthetic=metrics["source"] == "synthetic",
        title=title_of(config, metrics),
        subtitle=f"run {run_dir.resolve().name}",
        facts=facts_of(config, metrics, predictions),
        group=metrics["group_name"],
        monitor=monitor,
        chosen_by=chosen_by,
        groups={
            name: list(rows)
            for name, rows in itertools.groupby(
                metrics["per_group"], lambda row: row["dataset"] or ""
            )
        },
        figures=[
            (
                file.stem,
                image(file),
                f"{caption} {chosen_by}" if file.stem == "learning_curves" else caption,
            )
            for file, caption in drawn
        ],
        command=config.get("command", ""),
        sections=sections.filled(config, metrics, predictions),
        notes=config.get("notes", []),
        clip_rules=RULES,
        clip_metrics=SHOWN,
        settings=list(flat(config.get("config", {}))),
        versions=config.get("versions", {}),
    )


def flat(config: dict, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yields every field of a nested config, for example ('train.epochs', '50')."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{seconds:.1f} s"
    )


def title_of(config: dict, metrics: dict) -> str:
    if "title" in config:
        return config["title"]
    model = config.get("model", {}).get("name", "model")
    data = config.get("data", {}).get("name", metrics["source"].split("@")[0])
    classes = (
        f"{len(metrics['per_class'])} "
        f"{'action units' if metrics['task'] == 'multilabel' else 'classes'}"
    )
    data = f"synthetic {data} data" if metrics["source"] == "synthetic" else data
    return f"{model} on {data}: {classes}"


def facts_of(config: dict, metrics: dict, predictions: dict) -> list[tuple[str, str]]:
    """The facts of the run in words, as far as the run directory has them."""
    data, model, devices, trials = (
        *(config.get(key, {}) for key in ("data", "model", "devices")),
        metrics["trials"],
    )
    group = metrics["group_name"]

    def size(n: dict, unit: str = "frames" if "clips" in metrics else "rows") -> str:
        if n.get("groups") == n["rows"]:
            return f"{n['rows']:,} {group}s"
        return (
            f"{n['rows']:,} {unit}, {n['groups']:,} {group}s"
            if "groups" in n
            else f"{n['rows']:,} {unit}"
        )

    facts: list[tuple[str, str]] = [("source", metrics["source"])]
    facts += [("data", size(data))] if "rows" in data else []
    facts += [
        (PARTS_IN_WORDS.get(str(part), str(part)), size(n))
        for part, n in data.get("parts", {}).items()
    ]
    of = {"test": "test", "val": "validation"}
    facts += [
        (f"{of[split]} rows are of", ", ".join(names))
        for split, names in metrics["datasets"].items()
        if names
    ]
    if trials["count"] > 1:
        folds, seeds = trials["folds"], len(metrics["seeds"])
        facts.append(
            ("trials", f"{folds} fold{'s' * (folds > 1)} × {seeds} seed{'s' * (seeds > 1)}")
        )
    if "rows" not in data:
        facts += [
            (
                "validation" if split == "val" else split,
                size({"rows": n, "groups": metrics["groups"][split]}),
            )
            for split, n in metrics["rows"].items()
            if n
        ]
    if "clips" in metrics:
        facts.append(
            (
                "test",
                size(
                    {"rows": metrics["ids"]["test"], "groups": metrics["groups"]["test"]}, "clips"
                ),
            )
        )
    facts += [("model", model["name"])] if "name" in model else []
    if "parameters" in model:
        facts.append(("parameters", f"{model['parameters']:,}"))
    facts += _start(config.get("init") or {})
    chosen = headline.SELECTIONS_IN_WORDS[metrics["selection"]]
    if headline.trained_elsewhere(metrics):
        pass
    elif trials["count"] == 1 and "epoch" in predictions:
        epoch = predictions["epoch"][0][("last", "best_val").index(metrics["selection"])]
        facts.append(("selected epoch", f"{epoch} ({chosen.removesuffix(' epoch')})"))
    else:
        facts.append(("selected epoch", f"{chosen.removesuffix(' epoch')} of each trial"))
    if devices:
        facts.append(("devices", f"{devices.get('count', 1)} × {devices.get('kind', 'unknown')}"))
    if "wall_seconds" in config:
        facts.append(("wall time", duration(config["wall_seconds"])))
    if "resources" in config:
        facts.append(("resources", _used(config["resources"])))
    return facts


def _start(init: dict) -> list[tuple[str, str]]:
    """A sentence on what the run was initialized from, and on whose faces that had been trained, if
    known.
    """
    if "from_run" in init:
        text = f"{init['from_run']}, trial {init.get('trial')}, {init.get('selection')}"
    elif "from_file" in init:
        text = init["from_file"]
    else:
        return []
    known = init.get("people", {})
    if known.get("others"):
        text += (
            "; DECLARED BY THE USER, as fexpr cannot check it: none of the people in its training "
            "is tested here (init.people=others)"
        )
    elif known.get("seen") is not None:
        text += f"; it was trained on {known['seen']:,} people or images, none of them tested here"
    else:
        text += "; the people in its training are not recorded"
    return [("began with", text)]


def _used(r: dict) -> str:
    """The entry `resources` of config.json in words."""
    size = min(r["trials"], r["size"])  # without padding
    trials = f"{size} trial{'s' * (size > 1)} at a time" + (
        f" in {r['chunks']} chunks" if r["chunks"] > 1 else ""
    )
    peak = f", {memory(r['device_bytes'])} at its peak" if "device_bytes" in r else ""
    needed = f"{memory(r['bytes_needed'])} a device by the compiler’s account{peak}"
    return (
        f"compiled in {duration(r['compile_seconds'])}; {trials}; {needed}; "
        f"{memory(r['host_bytes'])} of the process"
    )


def memory(size: float) -> str:
    """Bytes in readable form: '312 MiB', '4.2 GiB'."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
