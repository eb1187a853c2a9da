"""A tiny FER2013 with planted copies, from the file to the report: kept, or left out of
training.
"""

import csv
import importlib

import numpy as np
import pytest

from configs import svm_linear_fer2013
from fexpr.data.splits import duplicates
from fexpr.data.synthetic import fer_faces
from fexpr.evaluate import evaluate
from fexpr.runs import describe, load_data, results
from fexpr.storage import run

experiment = importlib.import_module(
    "experiments.svm"
)  # `experiments.svm` itself is the function of that name
COUNT = 240


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A CSV in which test images are those of training rows: 5 exactly, 4 with noise, 3 mirrored;
    and 6 training rows twice."""
    root = tmp_path_factory.mktemp("root")
    fer_faces.write_synthetic(root / "fer2013", "csv", COUNT)
    with open(root / "fer2013" / "fer2013.csv", newline="") as f:
        header, *lines = csv.reader(f)
    usage = np.array([line[2] for line in lines])
    train, test = np.flatnonzero(usage == "Training"), np.flatnonzero(usage == "PublicTest")
    rng = np.random.default_rng(0)
    noisy = lambda face: np.clip(face + rng.integers(-6, 7, face.shape), 0, 255)
    changes = [lambda face: face] * 5 + [noisy] * 4 + [lambda face: face[:, ::-1]] * 3
    for i, change in enumerate(changes):
        face = np.array(lines[train[i]][1].split(), int).reshape(48, 48)
        lines[test[i]][1] = " ".join(map(str, change(face).ravel()))
    for i in range(6):
        lines[train[-1 - i]][1] = lines[train[20 + i]][1]
    with open(root / "fer2013" / "fer2013.csv", "w", newline="") as f:
        csv.writer(f).writerows([header, *lines])
    return root


def config_of(root, **data):
    config = svm_linear_fer2013.get_config("debug")
    config.unlock()
    config.data.update({"source": "auto", "root": str(root), **data})
    config.split.test, config.evaluate.resamples = "PublicTest", 20
    return config


def fit(root, workdir, capsys, **data):
    config = config_of(root, **data)
    experiment.svm(config, workdir)
    out = " ".join(capsys.readouterr().out.split())
    return (
        config,
        out,
        run.read_json(workdir / run.CONFIG)["data"]["copies"],
        run.read_json(workdir / run.METRICS)["copies"],
    )


@pytest.mark.long
def test_copies_are_kept_counted_and_reported_with_and_without(release, tmp_path, capsys):
    config, out, facts, measured = fit(release, tmp_path, capsys)
    assert facts["test"] == {"exact": 5, "near": 4, "mirrored": 3}
    assert facts["left_out"] == {}
    assert measured["rows"] == {"all": 24, **facts["test"]}
    assert (
        measured["without_exact"].keys()
        == measured["without_near"].keys()
        >= {"accuracy", "macro_f1", "uf1"}
    )
    assert "12 of 24 test images also occur in training or validation rows" in out
    assert "(5 exact, 4 near, 3 mirrored); all are kept" in out
    assert "without the 5 that have an exact copy in training or validation rows" in out
    page = (tmp_path / run.REPORT).read_text()
    assert "Copies among the test rows" in page
    assert "without near and mirrored copies either" in page
    found = run.read_arrays(
        tmp_path / run.PREDICTIONS
    )  # which hold all that the figures are made of
    assert evaluate(found, "last", "fer2013@1", resamples=20)["copies"] == measured
    assert (found["copy"] == "exact")[found["split"] == "test"].sum() == 5 * len(
        set(found["selection"].tolist())
    )
    kinds = found["copy"][(found["split"] == "val") & (found["selection"] == "last")]
    in_training = {kind: int((kinds == kind).sum()) for kind in ("exact", "near", "mirrored")}
    assert in_training == facts["val"]
    dataset, _ = load_data.load(config)
    assert results.report(config, dataset, tmp_path, quiet=True)["copies"] == measured


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("drop_exact", {"exact": 0, "near": 4, "mirrored": 3}),
        pytest.param("drop_near", {"exact": 0, "near": 0, "mirrored": 0}, marks=pytest.mark.long),
    ],
)
def test_copies_are_left_out_of_training(release, tmp_path, capsys, undrawn, rule, left):
    _, out, facts, measured = fit(release, tmp_path, capsys, duplicates=rule)
    dropped = sum(by_kind["exact"] for by_kind in facts["left_out"].values())
    assert dropped >= 5
    assert facts["test"] == left
    assert facts["val"]["exact"] == 0
    assert measured["rows"] == {"all": 24, **left}
    assert f"were left out (data.duplicates={rule})" in out
    assert ("without_exact" in measured) == bool(sum(left.values()))
    kept = config_of(release)
    before, after = (
        load_data.load(config)[1][0] for config in (kept, config_of(release, duplicates=rule))
    )
    assert before.test.tolist() == after.test.tolist()
    assert set(after.train) < set(before.train)
    total = sum(sum(by_kind.values()) for by_kind in after.left_out.values())
    assert len(before.train) + len(before.val) - len(after.train) - len(after.val) == total


@pytest.mark.long
def test_ferplus_too(release, tmp_path, capsys):
    _, _, facts, measured = fit(
        release, tmp_path, capsys, labels="ferplus", leave_out="contempt", duplicates="drop_exact"
    )
    assert facts["test"]["exact"] == 0
    assert facts["test"]["near"] > 0
    assert measured["rows"]["near"] == facts["test"]["near"]


def test_every_fold_of_a_cross_validation(release):
    config = config_of(release, duplicates="drop_exact")
    config.split.protocol, config.split.folds = "stratified_group_k_fold", 3
    dataset, folds = load_data.load(config)
    copies = duplicates.copies_of(dataset)
    for fold in folds:
        assert not (copies.kinds(fold.train, fold.test) == "exact").any()
        assert not (copies.kinds(fold.train, fold.val) == "exact").any()
        assert not (copies.kinds(fold.val, fold.test) == "exact").any()
    facts = describe.describe_copies(config, dataset, folds)
    assert facts["left_out"] == [fold.left_out for fold in folds]
    words = describe.copies_in_words(facts, dataset, folds)
    assert words.endswith("rows per fold are left out (data.duplicates=drop_exact)")
