"""A run directory in, a self-contained page out."""

import io
import json
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from rich.console import Console

from fexpr.evaluate import clip_rules, evaluate
from fexpr.evaluate.report import examples, findings
from fexpr.evaluate.report.findings import verdict
from fexpr.evaluate.report.run_report import memory, write_page
from fexpr.evaluate.report.terminal_report import print_headline
from fexpr.evaluate.scored_rows import model_rows
from fexpr.storage import run
from tests.evaluate.random_predictions import FER_CLASSES, multiclass, multilabel, pictures

CONFIG = {
    "format": 1,
    "config": {
        "experiment": "fit",
        "seed": 42,
        "model": {"name": "htnet", "dim": 64, "heads": 4},
        "train": {"epochs": 50, "batch_size": 16, "loss": "bce", "selection": "best_val"},
    },
    "versions": {"fexpr": "0.1.0", "jax": "0.10.2", "numpy": np.__version__},
    "devices": {"kind": "cpu", "count": 1},
    "data": {
        "name": "samm",
        "source": "samm@0123abcd",
        "rows": 133,
        "groups": 28,
        "group_name": "subject",
        "parts": {
            "train": {"rows": 80, "groups": 17},
            "val": {"rows": 26, "groups": 5},
            "test": {"rows": 27, "groups": 6},
        },
    },
    "model": {"name": "htnet", "parameters": 582433},
    "command": "python launch.py --config=configs/htnet_samm.py",
    "wall_seconds": 74.2,
    "resources": {
        "trials": 3,
        "size": 4,
        "chunks": 1,
        "bytes_needed": 8 * 2**20,
        "compile_seconds": 9.7,
        "host_bytes": 3 * 2**29,
    },
}


def make_run(folder, predictions, selection, source="samm@0123abcd", config=CONFIG):
    metrics = evaluate(predictions, selection, source, resamples=200)
    run.write_json(folder / run.CONFIG, config)
    run.write_json(folder / run.METRICS, metrics)
    run.write_arrays(folder / run.PREDICTIONS, predictions)
    epochs = np.arange(1, 51)
    rows = [
        {
            "epoch": int(e),
            "train_loss": 0.3 + 0.4 * np.exp(-e / 12),
            "val_loss": 0.42 + 0.3 * np.exp(-e / 9) + e / 900,
            "val_macro_f1": 0.25 * (1 - np.exp(-e / 10)),
            "seconds": 0.2,
        }
        for e in epochs
    ]
    run.write_text(folder / run.HISTORY, "".join(json.dumps(r) + "\n" for r in rows))
    return metrics


def flow_maps(ids, seed=0):
    """Smooth moving blobs, min-max scaled like the published maps."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:28, :28]
    maps = {}
    for i in np.unique(ids).tolist():
        cx, cy, dx, dy = rng.uniform(6, 22), rng.uniform(6, 22), *rng.normal(size=2)
        blob = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 30)
        flow = np.stack([dx * blob, dy * blob, blob * (1 - blob)], -1) + 0.03 * rng.normal(
            size=(28, 28, 3)
        )
        low, high = flow.min((0, 1)), flow.max((0, 1))
        maps[i] = ((flow - low) / (high - low) * 255).astype(np.uint8)
    return maps


def write_report(folder, *drawn):
    """The page of what lies in a run directory."""
    config, metrics = (run.read_json(folder / name) for name in (run.CONFIG, run.METRICS))
    return write_page(folder, config, metrics, run.read_arrays(folder / run.PREDICTIONS), *drawn)


def title_of(png):
    """The Title text of a PNG file."""
    data, at = png.read_bytes(), 8
    while at < len(data):
        (size,), name = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + size]
        if name == b"tEXt" and body.startswith(b"Title\0"):
            return body[6:].decode("latin-1")
        if name == b"iTXt" and body.startswith(b"Title\0"):
            text = body.split(b"\0", 5)[-1]
            return (zlib.decompress(text) if body[6] else text).decode()
        at += 12 + size
    raise AssertionError(f"{png} has no title")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    predictions = multilabel()
    metrics = make_run(folder, predictions, "best_val")
    path = write_report(folder, flow_maps(predictions["ids"]), predictions["labels"])
    return folder, metrics, path.read_text(encoding="utf-8")


def test_page_is_self_contained_and_complete(report):
    folder, metrics, page = report
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    figures = sorted(p.name for p in (folder / "figures").iterdir())
    assert figures == [
        "clips.png",
        "confusion.png",
        "f1_by_class.png",
        "learning_curves.png",
        "prevalence.png",
    ]
    assert page.count("data:image/png;base64,") == 5
    for expected in (
        verdict(metrics).split(";")[0],
        f"{metrics['test']['macro_f1']['value']:.3f}",
        "samm@0123abcd",
        "582,433",
        "1 × cpu",
        "1 min 14 s",
        "compiled in 9.7 s; 3 trials at a time; 8 MiB a device by the compiler’s account; 1.5 "
        "GiB of the process",
        "133 rows, 28 subjects",
        "27 rows, 6 subjects",
        "htnet on samm: 12 action units",
        "chosen on test rows — not a result",
        "always present",
        "training prevalence",
        "python launch.py --config=configs/htnet_samm.py",
        "jax 0.10.2",
        "train.batch_size = 16",
        "@page",
    ):
        assert expected in page
    for row in metrics["per_class"]:
        assert f"<td>{row['name']}</td>" in page
    assert f"<li>{metrics['undefined'][0]['name']}: no positive among" in page
    assert page.count("SYNTHETIC") == 0
    assert not list(folder.glob(".*"))


def test_synthetic_data_says_so_everywhere(tmp_path):
    predictions = multilabel()
    metrics = make_run(tmp_path, predictions, "last", source="synthetic")
    page = write_report(tmp_path, flow_maps(predictions["ids"]), predictions["labels"]).read_text(
        encoding="utf-8"
    )
    assert '<div class="banner">SYNTHETIC DATA' in page
    assert "<title>SYNTHETIC" in page
    assert page.count("<figcaption>SYNTHETIC DATA.") == 5
    for png in (tmp_path / "figures").iterdir():
        assert title_of(png).startswith("SYNTHETIC DATA")
        drawn = cv2.imread(str(png))
        assert (drawn[:2] == 255).all()  # the banner is whole: white above it
        assert (drawn[:60] == (0, 0, 192)).all(axis=-1).any()
    assert "SYNTHETIC DATA" in printed(metrics)


@pytest.mark.long
def test_one_of_k_report_with_a_bare_config(tmp_path):
    predictions = multiclass()
    make_run(tmp_path, predictions, "last", source="megc2019@0", config={"format": 1})
    (tmp_path / run.HISTORY).unlink()
    page = write_report(
        tmp_path, flow_maps(predictions["ids"]), predictions["labels"], "face"
    ).read_text(encoding="utf-8")
    assert "most frequent class" in page
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {
        "selected_epochs",
        "f1_by_class",
        "confusion",
        "reliability",
        "risk_coverage",
        "prevalence",
        "mistakes",
        "worst_by_class",
    }
    assert page.count("data:image/png;base64,") == 8
    assert title_of(tmp_path / "figures" / "confusion.png") == "Confusion matrix"
    assert "8 folds × 1 seed<" in page
    assert "over seeds" not in page


def test_cross_validation_report(tmp_path, undrawn):
    predictions = multiclass(
        seeds=(0, 1, 2), selections=("last", "best_val", "oracle"), failed=(9,)
    )
    metrics = make_run(
        tmp_path,
        predictions,
        "best_val",
        source="megc2019@0",
        config={"format": 1, "data": {"group_name": "subject"}},
    )
    page = write_report(tmp_path, flow_maps(predictions["ids"]), predictions["labels"]).read_text(
        encoding="utf-8"
    )
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {
        # a failed trial has no confidence
        "learning_curves",
        "selected_epochs",
        "f1_by_class",
        "confusion",
        "prevalence",
        "clips",
    }
    text = re.sub(r"<[^>]*>", " ", page)
    for expected in (
        "8 folds × 3 seeds",
        "Results by data set",
        "Spread over seeds",
        "Every test subject",
        "oracle — chosen on test rows",
        "1 of 24 trials turned NaN: s1 (seed 1).",
        findings.oracle_gap(metrics),
        "the mean of 3 seeds",
        "the same ones for every seed",
        "all 8 folds of a seed are one pool",
    ):
        assert expected in text
    for name in ("full", "a", "b"):
        for m in metrics["per_dataset"][name].values():
            assert f"{m['uf1']['value']:.3f}" in page
    assert page.count('<div class="lost">') == 1
    assert len(re.findall(r"<small>of 12</small>", page)) == 8
    lines = printed(metrics).splitlines()
    assert (
        sum(
            line.split()[0] in ("full", "a", "b") and "best val" in line
            for line in lines
            if line.strip()
        )
        == 3
    )
    assert any(
        re.match(r"over 3 seeds: UF1 0\.\d{3} ± 0\.\d{3} \(0\.\d{3}, 0\.\d{3}, 0\.\d{3}\)", line)
        for line in lines
    )
    assert any(line.startswith("1 of 24 trials turned NaN: s1 (seed 1).") for line in lines)


@pytest.mark.long
def test_report_on_clips_of_frames(tmp_path):
    frames = multiclass(selections=("last", "best_val"))
    frames |= {"video": frames["ids"], "ids": np.char.add(frames["ids"], "/0")}
    clips = {
        "rule": "vote",
        "rules": clip_rules.compare(frames, "best_val", 20),
        "frames": clip_rules.of_frames(frames, "best_val", 20),
    }
    found = clip_rules.decide(frames, "vote")
    config = {"format": 1, "data": {"rows": 960, "groups": 8, "group_name": "actor"}}
    metrics = {"clips": clips} | make_run(tmp_path, found, "best_val", config=config)
    run.write_json(tmp_path / run.METRICS, metrics)
    images = {i: np.zeros((8, 8, 1), np.uint8) for i in np.unique(found["ids"]).tolist()}
    text = " ".join(
        re.sub(
            r"<[^>]*>",
            " ",
            write_report(tmp_path, images, found["labels"], "face").read_text(encoding="utf-8"),
        ).split()
    )
    for expected in (
        "960 frames, 8 actors",
        "test 96 clips, 8 actors",
        "best validation of each trial",
        "vote: mode of the frames' decisions",
        "Test clips that were misclassified",
        "Shown: a clip’s middle frame.",
        "Accuracy on an actor’s test rows",
        "Best val sees validation actors only",
    ):
        assert expected in text.replace("&#39;", "'")
    assert "subject" not in text
    assert "roc_auc" not in text


def test_temperatures_in_words():
    def words(*temperatures):
        return findings.parameters({"parameters": {"temperature": list(temperatures)}})

    assert words(1.2345) == "T = 1.23"
    assert words(0.5, None, 1.0, 10_000.0) == "T = 1.00, 0.50 to 10,000 over trials"


@pytest.mark.long
def test_report_on_pictures(tmp_path):
    predictions = pictures()
    config = CONFIG | {
        "data": {
            "name": "fer2013",
            "source": "fer2013@0",
            "rows": 2700,
            "groups": 2700,
            "group_name": "image",
        }
    }
    metrics = make_run(tmp_path, predictions, "best_val", source="fer2013@0", config=config)
    rng = np.random.default_rng(0)
    faces = {
        i: rng.integers(0, 255, (48, 48, 1), np.uint8)
        for i in np.unique(predictions["ids"]).tolist()
    }
    page = write_report(tmp_path, faces, predictions["labels"], "face").read_text(encoding="utf-8")
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {
        "learning_curves",
        "f1_by_class",
        "confusion",
        "reliability",
        "risk_coverage",
        "prevalence",
        "mistakes",
        "worst_by_class",
    }
    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    for expected in (
        "2,700 images",
        "of the 400 test images",
        "Accuracy on PrivateTest and PublicTest is",
        "test rows are of PrivateTest, PublicTest",
        "Calibration on PrivateTest and PublicTest",
        "(Training)",
        findings.calibration(metrics),
        "Kaggle 2013: 0.",
        "which is another part: this is not its rank",
        "Results by part of the release",
        "all of them",
        "Results on all test rows",
        "always predicts the most frequent training class reaches "
        f"{metrics['baselines']['majority']['accuracy']['value']:.3f}. Macro F1 is",
        "the model&#39;s own",
        "vector scaling",
        "isotonic regression",
        "AURC",
    ):
        assert expected in text
    assert "subject" not in text
    assert "Every test" not in text
    assert text.index("all rows") < text.index("means over 7 classes")
    terminal = printed(metrics)
    table = terminal.partition("test: best val")[2]
    assert table.index("accuracy ") < table.index("macro F1 ") < table.index("UAR ")
    assert "temperature" in terminal
    assert "UF1" not in terminal + text
    assert "full" not in terminal


def test_grids_show_the_most_confident_mistakes_and_the_worst_of_each_class():
    predictions = pictures()
    answer = model_rows(predictions | {"trial_seed": np.zeros(1, int)}, "last", "test", None)
    rows = (predictions["selection"] == "last") & (predictions["split"] == "test")
    ids, labels = predictions["ids"][rows], predictions["labels"][rows]
    images = {i: np.zeros((1, 1, 1), np.uint8) for i in ids.tolist()}
    said, p = answer.decisions.argmax(axis=1), answer.scores
    wrong = sorted(np.flatnonzero(said != labels), key=lambda r: -p[r].max())
    grid = examples.mistakes(answer, ids, list(FER_CLASSES), images)
    captions = [picture.caption for _, line in grid for picture in line]
    assert len(captions) == min(24, len(wrong))
    for r, caption in zip(wrong, captions, strict=False):
        true, named = FER_CLASSES[labels[r]], FER_CLASSES[said[r]]
        assert caption == f"true {true} {p[r, labels[r]]:.2f}\npred. {named} {p[r, said[r]]:.2f}"
    worst = dict(examples.worst_by_class(answer, ids, list(FER_CLASSES), images))
    assert list(worst) == list(FER_CLASSES)
    for k, name in enumerate(FER_CLASSES):
        lowest = np.sort(p[labels == k, k])[:8]
        assert [picture.caption.split("\n")[0] for picture in worst[name]] == [
            f"true {name} {v:.2f}" for v in lowest
        ]


def test_terminal_tables_are_never_cut(tmp_path):
    metrics = evaluate(
        multiclass(seeds=(0, 1), selections=("last", "oracle")), "last", "megc2019@0", resamples=20
    )
    narrow, wide = (io.StringIO() for _ in range(2))
    print_headline(metrics, Console(file=narrow, width=40, soft_wrap=True))
    print_headline(metrics, Console(file=wide, width=200, soft_wrap=True))
    assert narrow.getvalue() == wide.getvalue()
    assert "…" not in narrow.getvalue()


def test_names_from_data_are_escaped(tmp_path, undrawn):
    predictions = multilabel(selections=("last",))
    predictions["class_names"] = np.array(["<b>x</b>", *predictions["class_names"][1:]])
    make_run(tmp_path, predictions, "last")
    assert "<b>x</b>" not in write_report(tmp_path).read_text(encoding="utf-8")


def printed(metrics):
    out = io.StringIO()
    print_headline(metrics, Console(file=out, width=160))
    return out.getvalue()


def test_terminal_table_has_baselines_selections_and_words(report):
    _, metrics, _ = report
    text = printed(metrics)
    macro = next(line for line in text.splitlines() if line.startswith("macro F1"))
    e = metrics["test"]["macro_f1"]
    assert f"{e['value']:.3f} ({e['low']:.3f}–{e['high']:.3f})" in macro
    assert f"{metrics['baselines']['always_positive']['macro_f1']['value']:.3f}" in macro
    assert f"{metrics['selections']['oracle']['macro_f1']['value']:.3f}" in macro
    assert "chosen on test rows — not a result" in text
    assert metrics["undefined"][0]["name"] in text


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.2, "the model beats it"),
        (-0.2, -0.01, "worse than it"),
        (-0.1, 0.2, "do not show"),
        (None, None, "unknown whether"),
    ],
)
def test_verdict_follows_the_interval_of_the_difference(report, low, high, words):
    _, metrics, _ = report
    difference = {"metric": "macro_f1", "value": 0.05, "low": low, "high": high}
    assert words in verdict(metrics | {"difference_to_always_positive": difference})


def test_memory_in_readable_form():
    assert [memory(n * 2**20) for n in (312, 1024, 4.2 * 1024)] == ["312 MiB", "1.0 GiB", "4.2 GiB"]
