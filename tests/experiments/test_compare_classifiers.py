"""The comparison of classifiers: members with what they share and what they keep, the table beside
published figures.
"""

import contextlib
import json

import pytest

from configs import base
from experiments.compare_classifiers import MEMBERS, compare_classifiers
from fexpr.errors import UserError
from fexpr.evaluate.report import comparison, drawing
from fexpr.storage import run


def m(value):
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


@pytest.fixture
def trained(monkeypatch):
    """Stands in for training: notes the configs, leaves what a run leaves."""
    seen = []

    def fit(config, workdir):
        seen.append(config)
        accuracy = 0.3 + 0.1 * len(seen)
        about = {
            "format": run.FORMAT_VERSION,
            "config": json.loads(config.to_json()),
            "data": {"test_parts": ["PublicTest"]},
            "model": {"parameters": 1000 * len(seen)},
            "wall_seconds": 75.0,
        }
        run.write_json(workdir / run.CONFIG, about)
        run.write_json(
            workdir / run.METRICS,
            {
                "source": "fer2013@1",
                "headline": {"metrics": ["accuracy"]},
                "task": "classes",
                "group_name": "image",
                "per_class": [],
                "trials": {"count": 1, "failed": []},
                "selection": "last",
                "rows": {"test": 80},
                "groups": {"test": 80},
                "test": {"accuracy": m(accuracy), "macro_f1": m(0.25), "ece": m(0.2)},
                "per_dataset": {},
                "kaggle": {
                    "PublicTest": {"rank": 7 if len(seen) > 1 else None, "decided_here": False}
                },
                "calibration": {"temperature": {"ece": m(0.02)}},
            },
        )

    monkeypatch.setitem(MEMBERS, "fit", fit)
    return seen


def config(*members):
    made = base.fer2013("debug")
    made.experiment, made.members = "compare_classifiers", members
    return made


def test_members_share_data_and_split_and_keep_their_model(trained, tmp_path):
    made = config("logistic_fer2013:debug=0.33 PrivateTest", "mlp_fer2013:debug")
    made.split.seeds, made.seed = 3, 5
    compare_classifiers(made, tmp_path)
    assert [(c.model.name, c.split.seeds, c.seed, c.data.synthetic_clips) for c in trained] == [
        ("logistic", 3, 5, 400),
        ("mlp", 3, 5, 400),
    ]
    assert [c.optimizer.name for c in trained] == ["lbfgs", "adam"]


def test_the_table_stands_beside_what_was_published(trained, tmp_path, capsys):
    compare_classifiers(
        config("logistic_fer2013:debug=0.33 PrivateTest", "mlp_fer2013:debug"), tmp_path
    )
    rows = run.read_json(tmp_path / comparison.COMPARISON_JSON)["rows"]
    assert [(r["name"], r["published"], r["parameters"]) for r in rows] == [
        ("logistic", {"accuracy": 0.33, "on": "PrivateTest"}, 1000),
        ("mlp", None, 2000),
    ]
    assert rows[0]["parts"] == {"PublicTest": m(0.4)}
    assert rows[0]["ece_after"] == m(0.02)
    printed = capsys.readouterr().out
    for text in (
        "0.330 PrivateTest",
        "PublicTest",
        "0.400 (0.390–0.410)",
        "1 min 15 s",
        "(> 10 on PublicTest)",
        "(7 on PublicTest)",
    ):
        assert text in printed
    page = (tmp_path / comparison.COMPARISON_HTML).read_text()
    assert 'href="mlp_fer2013/report.html"' in page
    assert "data:image/png" in page


def test_the_legend_names_published_figures_whichever_member_has_them(monkeypatch, tmp_path):
    drawn, canvas = [], drawing.canvas

    @contextlib.contextmanager
    def kept(*args):
        with canvas(*args) as figure:
            drawn.append(figure)
            yield figure

    monkeypatch.setattr(drawing, "canvas", kept)
    rows = [
        {"name": name, "published": published, "test": {"accuracy": m(0.4)}}
        for name, published in (("svm", None), ("mlp", {"accuracy": 0.39, "on": "PrivateTest"}))
    ]
    for given in (rows, rows[::-1], rows[:1]):
        comparison.draw(tmp_path / "figure.png", given, False)
    legends = [
        [text.get_text() for text in figure.axes[0].get_legend().get_texts()] for figure in drawn
    ]
    assert legends == [["measured here", "published"]] * 2 + [["measured here"]]


def test_members_that_cannot_be_are_listed_at_once(tmp_path):
    with pytest.raises(UserError) as e:
        compare_classifiers(config("no_such_config", "mlp_fer2013=high", "base"), tmp_path)
    for problem, text in zip(
        e.value.problems,
        ("no_such_config", "mlp_fer2013=high", "'base': model.name=''"),
        strict=True,
    ):
        assert text in problem
