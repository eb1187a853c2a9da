"""A model card (Mitchell et al. 2019, arXiv 1810.03993) in Markdown, written from the content of a
run directory.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

from fexpr.evaluate import declared
from fexpr.evaluate.report import belief, calibration_words, findings, headline
from fexpr.evaluate.report.headline import in_words
from fexpr.storage import contents

_ON_REQUEST = (
    "handed out on request under a licence agreement of its own, for research; it may not be "
    "passed on"
)
LICENCES = {  # of the data, by `config.data.name`
    "samm": f"SAMM (Manchester Metropolitan University): {_ON_REQUEST}.",
    "casme2": f"CASME II (Institute of Psychology, Chinese Academy of Sciences): {_ON_REQUEST}.",
    **{
        name: f"{title}: {_ON_REQUEST}."
        for name, title in {
            "casme": "CASME (Institute of Psychology, Chinese Academy of Sciences)",
            "casme3a": "CAS(ME)^3 (Institute of Psychology, Chinese Academy of Sciences)",
            "mmew": "MMEW (Ben et al. 2021)",
            "4dme": "4DME (Li et al. 2022)",
        }.items()
    },
    "megc2018": f"SAMM and CASME II, as many as were on the disk: each {_ON_REQUEST}.",
    "cd6me": f"CASME, CASME II, CAS(ME)^3, SAMM, 4DME and MMEW, as many as were on the disk: each "
    f"{_ON_REQUEST}.",
    "megc2019": f"SAMM, CASME II and SMIC, as many as were on the disk: each {_ON_REQUEST}.",
    "ravdess": "RAVDESS (Livingstone and Russo 2018): Creative Commons "
    "Attribution-NonCommercial-ShareAlike 4.0.",
    "ravdess_aus": "RAVDESS (Livingstone and Russo 2018): Creative Commons "
    "Attribution-NonCommercial-ShareAlike 4.0.",
    "fer2013": "FER2013 (ICML 2013 challenge, Kaggle): pictures found by web search; their owners "
    "are unknown, and fexpr knows of no licence for the pictures themselves.",
}
UNKNOWN = "fexpr does not know the licence of these data: ask those who made them."
PURPOSE = """\
Research on facial expressions, and comparison with other recognisers on the same protocol. A
person's expression is not their emotion: what the classes name was posed, induced or judged by
annotators of the release, and says little about what a person feels.

Not for decisions about people (hiring, policing, insurance, diagnosis, exams). The European Union's
AI Act forbids emotion recognition at work and in schools, but for medical or safety reasons
(Regulation 2024/1689, article 5)."""


@contents.as_user_error("no model card can be written")
def model_card(
    content: dict,
    metrics: dict,
    restored: Sequence[str],
    files: Sequence[tuple[str, str]],
    usage: str,
) -> str:
    """The card as Markdown.

    Args:
      content, metrics: config.json and metrics.json.
      restored: what was exported, a line each (trials, epoch, decision rule).
      files: (name, description) of the files beside the card.
      usage: how to use them.
    """
    command = content.get("command", "not recorded").replace("`", "'")
    content, metrics = _escaped(content), _escaped(metrics)
    data, model, config = content["data"], content["model"], content["config"]
    version = _versions(content).get("fexpr", "(unrecorded)")
    parts = [
        f"# {model['name']} on {data['name']}",
        "**SYNTHETIC DATA: trained and tested on data drawn by a program; no figure here says "
        "anything about people.**"
        if data["source"] == "synthetic"
        else "",
        f"{one_line(content, metrics)}; written by fexpr {version}.",
        _bullets(_escaped(list(restored))),
        _table(("file", "content"), files),
        usage,
        "## Intended use, and what it is not for",
        PURPOSE,
        "## Data",
        _bullets(
            [
                f"{data['source']}: {_size(data, data['group_name'])}; kind of image: "
                f"{data['kind']}, " + "x".join(map(str, data["image"])),
                f"Classes: {', '.join(data['classes'])}",
                f"Licence of the data: {licence(data)}",
            ]
        ),
        "## Protocol",
        _bullets(_protocol(config, data, metrics)),
        "## Results on the test rows",
        _results(metrics),
        findings.verdict(metrics),
        findings.seeds_in_words(metrics),
        findings.failures(metrics),
        _classes(metrics),
        "## Calibration",
        _calibration(metrics),
        "## Limits",
        _bullets(_limits(data, metrics)),
        "## How it was made",
        f"```\n{command}\n```",
        _made_with(content),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _versions(content: dict) -> dict[str, str]:
    """The versions in config.json; {} if there are none."""
    return content.get("versions") or {}


def _made_with(content: dict) -> str:
    """Versions and devices, if config.json has them."""
    devices = content.get("devices") or {}
    packages = ", ".join(f"{name} {version}" for name, version in _versions(content).items())
    count, kind = devices.get("count"), devices.get("kind")
    parts = [packages, f"{count} x {kind}" if kind else ""]
    sentence = "; ".join(part for part in parts if part)
    return f"{sentence}." if sentence else ""


def one_line(content: dict, metrics: dict) -> str:
    """One line on input, output and number of parameters."""
    data, model = content["data"], content["model"]
    count = model.get("parameters")
    size = f"{count:,} parameters" if isinstance(count, int) else "parameters not counted"
    return f"{_input(data)} in, {_output(metrics, data)} out. {model['name']}, {size}"


def licence(data: dict) -> str:
    """The licence of the data that config.json names."""
    if data["source"] == "synthetic":
        return "None: the data were drawn by a program."
    return LICENCES.get(data["name"], UNKNOWN)


def _escaped(value: Any) -> Any:
    """The same content with all texts escaped for Markdown, which passes on HTML and links: names
    of classes, data and models may come from anybody.
    """
    if isinstance(value, dict):
        return {key: _escaped(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(inner) for inner in value]
    if isinstance(value, str) and re.search(r"[<>&|\[\]`\n]", value):
        return re.sub(r"([|\[\]`])", r"\\\1", html.escape(" ".join(value.split()), quote=False))
    return value


def _input(data: dict) -> str:
    height, width, channels = data["image"]
    if data["kind"] == "features":
        return f"A vector of {channels} features"
    if data["kind"] == "flow":
        return (
            f"A map of {width}x{height} of the motion between two frames (u, v, optical strain, "
            "each scaled to 0..255)"
        )
    if data["kind"] == "clip":
        return (
            f"The frames of a clip, {width}x{height} of one face each, 0..255, one after the "
            f"other in {channels} channels"
        )
    colours = {1: "grey", 3: "RGB"}.get(channels, f"{channels}-channel")
    return f"A {colours} picture of {width}x{height} of a face, 0..255"


def _output(metrics: dict, data: dict) -> str:
    k = len(data["classes"])
    return (
        f"a probability for each of {k} action units"
        if metrics["task"] == "multilabel"
        else f"probabilities of {k} classes"
    )


def _protocol(config: dict, data: dict, metrics: dict) -> list[str]:
    split, groups = config["split"], f"{data['group_name']}s"
    lines = [
        f"{split['protocol']}: "
        + (f"{data['folds']} folds" if "folds" in data else "one split")
        + ("" if groups == "images" else f", in which {groups} never cross")
        + f"; {len(metrics['seeds'])} seed(s), "
        f"{metrics['trials']['count']} training run(s)"
    ]
    lines += [
        "; ".join(
            f"{name}: {_size(part, data['group_name'])}"
            for name, part in data.get("parts", {}).items()
        )
    ]
    lines += [
        f"Epoch: {headline.SELECTIONS_IN_WORDS[metrics['selection']]}, chosen without the "
        "test rows; temperatures and thresholds "
        "were fitted on validation rows alone"
    ]
    if "clips" in metrics:
        lines.append(
            "Frames were predicted; clips were decided and counted by the rule "
            f"'{metrics['clips']['rule']}'"
        )
    return [line for line in lines if line]


def _results(metrics: dict) -> str:
    shown = [
        column for column in headline.columns(metrics) if column[0] in ("result", "baseline", "val")
    ]
    rows = []
    for _, names in headline.metrics_in_order(metrics):
        for key in (key for key in names if headline.is_shown(key, metrics)):
            cells = (in_words(m[key], declared.decimals(key)) for _, _, m in shown)
            rows.append((headline.name_of(key, names[key], metrics), *cells))
    note = (
        f"With 95 % bootstrap intervals over {metrics['group_name']}s; macro figures average "
        f"{headline.classes_in_words(metrics)}."
    )
    return f"{note}\n\n" + _table(("", *(words for _, words, _ in shown)), rows)


def _classes(metrics: dict) -> str:
    rows = [
        (
            c["name"],
            str(c["positives"]),
            *(in_words(c[key]) for key in ("precision", "recall", "f1")),
        )
        for c in metrics["per_class"]
    ]
    return _table(("class", "test rows", "precision", "recall", "F1"), rows)


def _calibration(metrics: dict) -> str:
    if metrics["task"] == "multilabel":
        return (
            f"ECE over all action units {in_words(metrics['test']['ece'])}. "
            f"{findings.calibration(metrics)} Thresholds: {metrics['thresholds']['rule']}."
        )
    # runs of older versions have no smooth error
    known = {"nll": "NLL ↓", "smooth_ece": "smooth error ↓", "ece": "ECE ↓"}
    shown = {key: words for key, words in known.items() if key in metrics["calibration"]["none"]}
    rows = [
        (words, *(in_words(metrics["calibration"][name][key]) for key in shown))
        for name, words in calibration_words.shown_maps(metrics).items()
    ]
    table = _table(("calibrated by", *shown.values()), rows)
    lines = (belief.line(metrics), findings.calibration(metrics))
    return "\n\n".join([table, *filter(None, lines)])


def _limits(data: dict, metrics: dict) -> list[str]:
    tested = _size({part: metrics[part]["test"] for part in ("rows", "groups")}, data["group_name"])
    lines = [
        f"Tested only on {tested} of {data['name']}: other cameras, light, ages and cultures "
        "were not measured, nor "
        "how errors differ between groups of people.",
        "Probabilities are calibrated, if at all, for pictures like the validation rows.",
    ]
    if data["kind"] == "flow":
        lines.append(
            "It reads the motion between a given onset and apex; it mistakes head motion for "
            "expression."
        )
    if data["group_name"] == "image":
        lines.append(
            "The people in the pictures are unknown: a person may be on both sides of the split, "
            "which makes intervals too narrow."
        )
    if metrics["trials"]["count"] > 1:
        lines.append(
            "The results are those of cross-validation, of one network for each fold. All of "
            "them together, as an ensemble, have "
            "no test result: each network has seen the test rows of others."
        )
    return lines


def _size(part: dict, group_name: str) -> str:
    if group_name == "image":
        return f"{part['rows']:,} images"
    return f"{part['rows']:,} rows of {part['groups']:,} {group_name}s"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()) for cell in row) + " |" for row in cells
    )
