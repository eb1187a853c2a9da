"""The laboratories: what they leave, and their published counterparts where that takes seconds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from configs import lab_circles, lab_digits
from experiments.laboratories import circles, lab_report, moved_digits
from fexpr import models
from fexpr.data.releases import digits
from fexpr.runs import results, train_run
from fexpr.storage import run


def complete(workdir, figure):
    """The page of a finished laboratory, whose files are all there."""
    page = (workdir / run.REPORT).read_text()
    assert "http" not in page.replace("http://www.w3.org", "")  # self-contained
    assert page.startswith("<!doctype html>")
    for part in (
        '<table class="narrow">',
        '<img src="data:image/png;base64,',
        "<h2>Command</h2>",
        "</html>",
    ):
        assert page.count(part) == 1
    assert (workdir / run.FIGURES / figure).stat().st_size > 5000
    assert (
        run.read_json(workdir / run.CONFIG)["data"]["source"]
        == run.read_json(workdir / run.METRICS)["source"]
    )
    return page


@pytest.mark.long
def test_circles_a_line_guesses_and_a_hidden_layer_does_not(tmp_path, capsys):
    config = lab_circles.get_config("debug")
    config.train.epochs = 300
    for _ in range(2):  # a finished run is no obstacle
        circles.lab_circles(config, tmp_path)
    networks = run.read_json(tmp_path / run.METRICS)["networks"]
    line, hidden = networks["logistic regression"], networks["hidden layer of 32"]
    assert (line["parameters"], hidden["parameters"]) == (6, 162)
    assert line["accuracy"]["mean"] == pytest.approx(line["published"], abs=0.05)
    assert hidden["accuracy"]["mean"] == pytest.approx(hidden["published"], abs=0.03)
    assert len(hidden["accuracy"]["folds"]) == 5
    assert hidden["accuracy"]["std"] == pytest.approx(np.std(hidden["accuracy"]["folds"], ddof=1))
    page = complete(tmp_path, circles.FIGURE)
    out = capsys.readouterr().out
    for text in (f"{hidden['accuracy']['mean']:.3f}", "0.82", "0.46"):
        assert text in page
        assert text in out


def test_circles_logistic_regression_is_scikit_learns():
    """Folds trained side by side, each as it would be alone."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 2)).astype(np.float32)
    labels = (points[:, 0] + points[:, 1] + rng.normal(size=60) > 0).astype(np.int32)
    config = lab_circles.get_config("debug")
    config.train.epochs, config.optimizer.learning_rate = 3000, 0.05
    folds = np.stack([np.arange(40), np.arange(20, 60)])
    model = models.build("logistic", num_classes=2)
    logits = circles.predict(model, circles.fit(model, points, labels, folds, config), points)
    for rows, said in zip(folds, logits, strict=True):
        peer = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(points[rows], labels[rows])
        np.testing.assert_allclose(
            said[:, 1] - said[:, 0], peer.decision_function(points), rtol=1e-2, atol=1e-2
        )


def test_the_networks_have_their_published_sizes():
    image = jnp.zeros((1, 28, 28, 1))
    sizes = [
        models.count_parameters(
            jax.eval_shape(
                models.build(num_classes=10, **arguments).init, jax.random.key(0), image
            )["params"]
        )
        for arguments in moved_digits.NETWORKS.values()
    ]
    assert sizes == [186_664, 183_690]


@pytest.fixture
def few(monkeypatch):
    """Ninety digits, two shifts, and no convolutions, which take a minute in the tests' programs,
    compiled without optimisation.
    """
    small = load_digits()
    monkeypatch.setitem(moved_digits.NETWORKS, "convolutional", {"name": "logistic"})
    monkeypatch.setattr(
        digits,
        "load_digits",
        lambda return_X_y: (small.data[:90], small.target[:90]),
    )
    monkeypatch.setattr(moved_digits, "SHIFTS", range(0, 5, 4))


@pytest.fixture
def config():
    config = lab_digits.get_config("debug")
    config.split.folds, config.evaluate.resamples = 2, 10
    return config


@pytest.mark.long
def test_digits_leaves_its_files_and_says_which_data(few, config, tmp_path, capsys, monkeypatch):
    workdir, config.train.epochs = tmp_path / "run", 3
    monkeypatch.setattr(
        results, "write_page", lambda folder, *_: (folder / run.REPORT).write_text("of one network")
    )
    moved_digits.lab_digits(config, workdir)
    page, metrics = complete(workdir, moved_digits.FIGURE), run.read_json(workdir / run.METRICS)
    assert "scikit-learn digits scaled to 28x28" in page
    out = capsys.readouterr().out
    assert "MNIST is not on this machine: scikit-learn's digits instead" in out
    assert "moved by up to 3 pixels" in out
    assert metrics["networks"]["dense"]["parameters"] == 186_664
    for name, of in metrics["networks"].items():
        assert of["by_shift"].keys() == {"0", "4"}
        assert of["accuracy"] == of["by_shift"]["0"]
        # what the network's own run directory says of the same rows
        own = run.read_json(workdir / name / run.METRICS)
        # folds differ by a row
        assert own["selections"]["last"]["accuracy"]["value"] == pytest.approx(
            of["accuracy"]["mean"], abs=0.01
        )
        assert (workdir / name / run.REPORT).exists()
    assert (
        metrics["networks"]["dense"]["accuracy"]["mean"]
        > metrics["networks"]["dense"]["by_shift"]["4"]["mean"]
    )

    monkeypatch.setattr(train_run, "Loop", lambda *_: pytest.fail("trained again"))
    moved_digits.lab_digits(config, workdir)
    assert run.read_json(workdir / run.METRICS) == metrics


def test_spread_in_words():
    assert lab_report.in_words(lab_report.spread([0.8, 0.9])) == "0.850 ± 0.071"
    assert lab_report.in_words(lab_report.spread([0.8])) == "0.800"
