"""The end of an epoch against a plain loop: selection, patience, plateaus, tolerance, failures."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.train import conclude_epoch
from fexpr.train.state import SelectedEpoch, State
from tests.train import toy

K = toy.CLASSES


@pytest.fixture(scope="module")
def trial():
    """The data and the only trial of an engine that is not compiled."""
    made = toy.engine([toy.spec()], compiled=False)
    return made.data, jax.tree.map(lambda x: x[0], made.trials)


def first_state(m):
    none = SelectedEpoch(np.int32(0), np.float32(-np.inf), np.zeros((m, K), np.float32))
    weights = {"params": {"w": np.float32(0)}}
    return State(
        weights,
        (),
        (),
        np.float32(1),
        np.int32(0),
        np.int32(0),
        np.int32(0),
        np.bool_(True),
        np.int32(0),
        np.int32(-1),
        np.zeros(3, np.float32),
        weights,
        none,
        none,
        none,
    )


def concluded(trial, scores, totals=None, failed=None, **changes):
    """State and scalars after each epoch; `scores` are negative losses of validation and test rows,
    given by logits that are all the same.
    """
    data, tables = trial
    options = {"monitor": "loss", "epochs": 9, "patience": 0} | changes
    recipe = toy.recipe(**options)
    m = len(tables.eval_rows)
    state, found = first_state(m), []
    on_devices = lambda tree: jax.tree.map(jnp.asarray, tree)
    conclude = jax.jit(partial(conclude_epoch.conclude, recipe, on_devices(data)))
    labels = np.asarray(data.labels)[np.asarray(tables.eval_rows)] > 0
    for number, (val, test) in enumerate(scores):
        loss = -np.where(np.asarray(tables.val_mask), val, test)[:, None]
        # binary cross-entropy of a row is `loss` where every probability of the truth is exp(-loss)
        right = np.log(np.exp(-loss) / -np.expm1(-loss))
        logits = np.where(labels, right, -right).astype(np.float32)
        state = state._replace(
            variables={"params": {"w": np.float32(number + 1)}},
            epoch_totals=np.float32((totals or {}).get(number, (6.0, 3.0, 1.0))),
            failed_step=np.int32(5 if failed is not None and number >= failed else -1),
        )
        state, scalars = conclude(on_devices(tables), state, logits)
        state = jax.tree.map(np.asarray, state)
        found.append((state, jax.tree.map(np.asarray, scalars)))
    return found


def test_the_best_epochs_of_validation_and_test_rows_are_kept(trial):
    scores = [(-0.9, -0.5), (-0.5, -0.7), (-0.5, -0.3), (-0.8, -0.9)]
    for n, (state, scalars) in enumerate(concluded(trial, scores)):
        seen = scores[: n + 1]
        best = max(range(n + 1), key=lambda i: (seen[i][0], -i))
        oracle = max(range(n + 1), key=lambda i: (seen[i][1], -i))
        assert (state.epoch, state.last.epoch) == (n + 1, n + 1)
        assert (state.best_val.epoch, state.oracle.epoch) == (best + 1, oracle + 1)
        assert state.best_variables["params"]["w"] == best + 1
        assert state.best_val.score == pytest.approx(seen[best][0], abs=1e-5)
        assert state.oracle.score == pytest.approx(seen[oracle][1], abs=1e-5)
        assert state.last.score == pytest.approx(seen[-1][0], abs=1e-5)
        assert scalars["val_score"] == pytest.approx(seen[-1][0], abs=1e-5)
        assert scalars["val_loss"] == pytest.approx(-seen[-1][0], abs=1e-5)
        assert scalars["train_loss"] == 2.0
        assert (state.epochs_without_improvement, bool(state.active)) == (n - best, True)
        assert not state.epoch_totals.any()


def test_the_last_epoch_and_patience_stop(trial):
    scores = [(-0.5, -1), (-0.6, -1), (-0.4, -1), (-0.5, -1), (-0.4, -1), (-0.1, -1)]
    active = [bool(s.active) for s, _ in concluded(trial, scores, patience=2)]
    assert active == [True, True, True, True, False, False]
    *_, (state, scalars) = concluded(trial, scores, patience=2)
    assert (state.epoch, state.best_val.epoch) == (5, 3)  # the sixth changed nothing
    assert (bool(scalars["ran"]), bool(scalars["active"])) == (False, False)
    assert state.last.score == pytest.approx(-0.4, abs=1e-5)
    active = [bool(s.active) for s, _ in concluded(trial, scores, epochs=3)]
    assert active[:3] == [True, True, False]
    ran = [bool(scalars["ran"]) for _, scalars in concluded(trial, scores, epochs=3)]
    assert ran == [True, True, True, False, False, False]


def test_a_small_gradient_stops(trial):
    totals = {0: (1.0, 1.0, 0.3), 1: (1.0, 1.0, 0.2), 2: (1.0, 1.0, 0.0)}
    scores = [(-0.5, -1), (-0.4, -1), (-0.3, -1)]
    of = concluded(trial, scores, totals, tolerance=0.2)
    assert [bool(s.active) for s, _ in of] == [True, False, False]
    assert all(s.active for s, _ in concluded(trial, scores, totals, tolerance=0.0))


def test_plateaus_lower_the_rate(trial):
    scores = [(v, -1) for v in (-0.5, -0.6, -0.6, -0.6, -0.6, -0.3, -0.4, -0.4)]
    options = {"schedule": "plateau", "plateau_patience": 2, "plateau_factor": 0.5}
    found = [state for state, _ in concluded(trial, scores, **options)]
    assert [float(s.lr_scale) for s in found] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    assert [int(s.epochs_since_plateau) for s in found] == [0, 1, 0, 1, 0, 0, 1, 0]
    plain = concluded(trial, scores, **options | {"schedule": "constant"})
    assert all(state.lr_scale == 1 for state, _ in plain)


def test_a_failed_trial_keeps_what_it_had(trial):
    *_, before, (state, scalars) = concluded(trial, [(-0.5, -1), (-0.1, -0.1)], failed=1)
    assert (state.last.epoch, state.best_val.epoch, state.oracle.epoch) == (1, 1, 1)
    assert not state.active
    assert scalars["ran"]
    assert state.best_variables["params"]["w"] == before[0].best_variables["params"]["w"] == 1


def test_without_rows_nothing_is_divided_by_zero(trial):
    data, tables = trial
    tables = tables._replace(val_mask=np.zeros_like(np.asarray(tables.val_mask)))
    ((_, scalars),) = concluded((data, tables), [(-0.5, -1)], {0: (0.0, 0.0, 0.0)})
    assert scalars["train_loss"] == 0
    assert scalars["val_loss"] == 0


def test_choose_takes_whole_trees():
    tree = {"a": np.arange(3.0), "b": (np.ones(2),)}
    other = jax.tree.map(lambda x: x + 5, tree)
    for condition, expected in ((True, tree), (False, other)):
        found = conclude_epoch.choose(jnp.bool_(condition), tree, other)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
