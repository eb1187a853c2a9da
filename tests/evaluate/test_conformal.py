"""Sets against MAPIE's, and against their promise."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedShuffleSplit

from fexpr.evaluate import conformal
from fexpr.probabilities import never_empty, sets

PEERS = Path(__file__).parents[1] / "fixtures" / "calibration_peers.npz"


@pytest.fixture(scope="module")
def peers():
    with np.load(PEERS) as f:
        return {name: f[name] for name in f.files}


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_equals_mapie(peers, method):
    """MAPIE draws the same uniform numbers for calibration and new rows, from one seed each."""
    n, p, labels = int(peers["rows"]), peers["p"], peers["labels"]
    u = [np.random.RandomState(3).uniform(size=m) for m in (n, len(p) - n)]
    score, presence = conformal.SCORES[method], labels[:, None] == np.arange(p.shape[1])
    scores = conformal.true_scores(score(p[:n], u[0]), presence[:n])
    for i, coverage in enumerate(peers["coverages"]):
        limit = conformal.threshold(scores, np.arange(n).astype(str), coverage)
        assert limit == pytest.approx(peers[f"{method}_limits"][i], abs=1e-12)
        found = sets(score(p[n:], u[1]), limit)
        np.testing.assert_array_equal(found, peers[f"{method}_sets"][:, :, i])


def test_raps_equals_mapie(peers):
    """MAPIE chooses penalty and free places on rows held back; the scores are the same. It breaks
    ties at the last class by another formula, where the set reaches beyond the free places."""
    n, p, labels = int(peers["rows"]), peers["p"], peers["labels"]
    kept, _ = next(
        StratifiedShuffleSplit(1, test_size=0.1, random_state=3).split(p[:n], labels[:n])
    )
    u = [np.random.RandomState(3).uniform(size=m) for m in (len(kept), len(p) - n)]
    presence = labels[:, None] == np.arange(p.shape[1])
    for i, coverage in enumerate(peers["coverages"]):
        penalty, free = (float(np.ravel(peers[f"raps_{k}"])[i]) for k in ("penalty", "free"))
        scores = conformal.true_scores(conformal.raps(p[kept], u[0], penalty, free), presence[kept])
        limit = conformal.threshold(scores, kept.astype(str), coverage)
        assert limit == pytest.approx(peers["raps_limits"][i], abs=1e-12)
        found = sets(conformal.raps(p[n:], u[1], penalty, free), limit)
        short = peers["raps_sets"][:, :, i].sum(axis=1) < free
        assert short.mean() > 0.2
        np.testing.assert_array_equal(found[short], peers["raps_sets"][short, :, i])


@pytest.mark.parametrize("method", sorted(conformal.SCORES))
@pytest.mark.parametrize("rows", [25, 200])
def test_the_promise_is_kept_by_a_model_that_is_wrong(method, rows):
    rng = np.random.default_rng(0)
    held, asked = [], 0.8
    for _ in range(300):
        labels = rng.integers(0, 4, rows + 50)
        z = 3 * rng.normal(size=(rows + 50, 4)) + np.eye(4)[labels]  # far too sure
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        presence = labels[:, None] == np.arange(4)
        scores = conformal.SCORES[method](p, rng.random(len(p)))
        limit = conformal.threshold(
            conformal.true_scores(scores, presence)[:rows], np.arange(rows).astype(str), asked
        )
        held.append(sets(scores[rows:], limit)[presence[rows:]].mean())
    # between 1 - alpha and 1 - alpha + 1 / (n + 1) (Vovk et al. 2005)
    error = 3 * np.std(held) / np.sqrt(len(held))
    assert asked - error <= np.mean(held) <= asked + 1 / (rows + 1) + error


def test_units_are_all_in_the_set():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        presence = rng.random((90, 5)) < 0.3
        p = np.clip(rng.random((90, 5)) * 0.6 + 0.3 * presence, 0, 1)
        scores = conformal.lac(p)
        truth = conformal.true_scores(scores, presence)
        limit = conformal.threshold(truth[:40], np.arange(40).astype(str), 0.9)
        held.append((sets(scores[40:], limit) | ~presence[40:]).all(axis=1).mean())
    assert 0.9 - 0.01 <= np.mean(held) <= 0.9 + 1 / 41 + 0.01


def test_threshold():
    scores, ids = np.arange(10) / 10, np.array([f"r{i}" for i in range(10)])
    assert conformal.threshold(scores, ids, 0.9) == 0.9  # the 10th of 10: ceil(11 x 0.9) = 10
    assert conformal.threshold(scores, ids, 0.8) == 0.8
    assert conformal.threshold(scores, ids, 0.95) == np.inf  # would be the 11th
    # a row that ten trials validated counts once
    many = np.concatenate([scores, np.full(90, 0.95)])
    assert conformal.threshold(many, np.concatenate([ids, np.full(90, "r9")]), 0.8) == 0.8
    full = sets(np.ones((2, 3)), np.inf)
    assert full.all()
    empty = never_empty(np.zeros((1, 3), bool), np.array([[0.2, 0.5, 0.3]]))
    assert empty.tolist() == [[False, True, False]]
