"""A trial is the same trial whether it runs alone, among others, padded, or on any number of
devices.
"""

import flax.linen as nn
import jax
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.train import devices
from fexpr.train.mesh import make_mesh
from tests.train import toy


def one_of(tree, t):
    return jax.tree.map(lambda x: x[t], tree)


def assert_same(a, b, atol=2e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol, rtol=0), a, b)


SPECS = [
    toy.spec(0, 40),
    toy.spec(1, 21, seed=3, learning_rate=3e-3),
    toy.spec(2, 40, weight_decay=0.1),
]


@pytest.fixture(scope="module")
def alone():
    """The final state of each of SPECS, trained alone on one device, and its history."""
    return [toy.run([spec]) for spec in SPECS]


@pytest.mark.parametrize(
    ("devices", "trial_axis", "chunk"),
    [
        (1, "vmap", 0),
        (2, "map", 0),
        (1, "vmap", 2),
        pytest.param(2, "vmap", 0, marks=pytest.mark.long),
        pytest.param(4, "vmap", 0, marks=pytest.mark.long),
    ],
)
def test_a_trial_among_others_padded_chunked_and_over_devices_is_the_trial_alone(
    alone, devices, trial_axis, chunk
):
    together, _ = toy.run(SPECS, devices=devices, trial_axis=trial_axis, chunk=chunk)
    for t, spec in enumerate(SPECS):
        # the tables of `together` are padded to 40 rows, and to a multiple of the devices
        m, single = len(spec.val) + len(spec.test), alone[t][0]
        assert_same(one_of(together.variables, t), one_of(single.variables, 0))
        assert_same(together.last.logits[t, :m], single.last.logits[0])
        assert int(together.step[t]) == int(single.step[0]) == 2 * -(-len(spec.train) // 8)


@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=pytest.mark.long)])
def test_one_trial_over_several_devices_is_data_parallel(alone, devices):
    spread, spread_rows = toy.run([SPECS[1]], devices=devices)
    single, single_rows = alone[1]
    assert_same(spread.variables, single.variables)
    assert_same(spread.last.logits, single.last.logits)
    np.testing.assert_allclose(spread_rows["train_loss"], single_rows["train_loss"], atol=1e-5)


def test_data_of_nearly_the_same_size_share_a_program():
    images, labels = toy.task()

    def program(count, train):
        data = images[:count], labels[:count]
        made = toy.engine([toy.spec(train=train)], data=data, compiled=False)
        return made.jitted_epoch.lower(made.data, *made.abstract_epoch()).as_text()

    assert program(90, 38) == program(96, 40) != program(88, 40)


@pytest.mark.parametrize("devices", [1, 2])
def test_nearly_as_many_folds_share_a_program_where_trials_go_in_turn(devices):
    def made(folds, **options):
        specs = [toy.spec(fold, 8) for fold in range(folds)]
        return toy.engine(specs, devices=devices, compiled=False, **options)

    def program(*given, **options):
        engine = made(*given, **options)
        return engine.jitted_epoch.lower(engine.data, *engine.abstract_epoch()).as_text()

    in_turn = {"trial_axis": "map"}
    assert program(33, **in_turn) == program(36, **in_turn) != program(37, **in_turn)
    # all at once, each would be computed; as many at a time as the user says are a user's choice
    assert made(33, trial_axis="vmap").size == -(-33 // devices) * devices
    assert made(36, trial_axis="map", chunk=17).size == -(-17 // devices) * devices


def test_trials_that_are_only_padding_are_not_computed():
    engine = toy.engine([toy.spec(fold, 8) for fold in range(17)], trial_axis="map")
    before = engine.init()
    steps, logits = before.step + 0, before.last.logits + 0
    after, _ = engine.epoch(before)
    assert (engine.size, engine.plan.size) == (18, 17)
    np.testing.assert_array_equal(after.step - steps, [1] * 17 + [0])
    changed = (after.last.logits != logits).any((1, 2))
    np.testing.assert_array_equal(changed, [True] * 17 + [False])
    assert len(engine.to_host(after).step) == 17


def test_rows_that_no_trial_uses_change_nothing(alone):
    images, labels = toy.task()
    without, _ = toy.run(SPECS[:1], data=(images[:88], labels[:88]))
    assert_same(without.variables, alone[0][0].variables)
    assert_same(without.last.logits, alone[0][0].last.logits)


def test_states_of_trials_in_turn_are_held_once():
    """The program that takes one trial after the other writes each state over the one before."""
    engine = toy.engine([toy.spec(fold, 8) for fold in range(64)], trial_axis="map")
    states = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(engine.init()))
    memory = engine.program.memory_analysis()
    assert memory.argument_size_in_bytes > states
    assert memory.temp_size_in_bytes < states / 2


def test_the_same_program_twice_is_bit_identical():
    first, second = toy.run(SPECS), toy.run(SPECS)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_random_numbers_depend_on_fold_and_seed():
    base = toy.spec(0)

    def kernel(spec):
        return np.asarray(
            toy.engine([spec], compiled=False).init().variables["params"]["Dense_0"]["kernel"]
        )

    assert np.array_equal(kernel(base), kernel(toy.spec(0, 30)))
    assert not np.array_equal(kernel(base), kernel(toy.spec(0, seed=1)))
    assert not np.array_equal(kernel(base), kernel(toy.spec(1)))


def test_labels_of_test_rows_do_not_reach_training_or_honest_selection():
    images, labels = toy.task()
    spec = toy.spec(0)
    altered = labels.copy()
    altered[spec.test] = 1 - altered[spec.test]
    a, _ = toy.run([spec], 4, data=(images, labels))
    b, _ = toy.run([spec], 4, data=(images, altered))
    for field in ("variables", "best_variables", "last", "best_val"):
        jax.tree.map(np.testing.assert_array_equal, getattr(a, field), getattr(b, field))
    # the oracle does look: that is why it is called so
    assert not np.array_equal(a.oracle.score, b.oracle.score)


def test_statistics_and_weights_come_from_training_rows_alone():
    images, labels = toy.task()
    spec = toy.spec(0, weight_strength=1.0)
    altered_images, altered_labels = images.copy(), labels.copy()
    held_out = np.concatenate([spec.val, spec.test])
    altered_images[held_out], altered_labels[held_out] = (
        255 - images[held_out],
        1 - labels[held_out],
    )
    a, _ = toy.run([spec], data=(images, labels))
    b, _ = toy.run([spec], data=(altered_images, altered_labels))
    jax.tree.map(np.testing.assert_array_equal, a.variables, b.variables)


def test_a_trial_that_turns_nan_is_reported_and_harms_no_other():
    bad = toy.spec(1, learning_rate=float("nan"))
    state, rows = toy.run([SPECS[0], bad, SPECS[2]], 3)
    single, _ = toy.run([SPECS[0]], 3)
    # the update of step 0 is NaN; its loss was still finite, so step 1 is the first that is not
    assert state.failed_step.tolist() == [-1, 1, -1]
    assert rows["active"][-1].tolist() == [True, False, True]
    assert_same(one_of(state.variables, 0), one_of(single.variables, 0))


@pytest.mark.parametrize("trial_axis", ["vmap", "map"])
def test_early_stopping_freezes_a_trial_and_keeps_its_best(trial_axis):
    still = toy.spec(0, learning_rate=1e-12)  # never better after its first epoch
    options = {"patience": 2, "trial_axis": trial_axis}
    state, rows = toy.run([still, toy.spec(1, learning_rate=1e-2)], 5, **options)
    stopped = int(state.epoch[0])
    assert stopped < 5 == state.epoch[1]
    assert rows["ran"][:, 0].sum() == stopped
    assert state.epochs_without_improvement[0] == 2
    earlier, _ = toy.run([still, toy.spec(1, learning_rate=1e-2)], stopped, **options)
    jax.tree.map(np.testing.assert_array_equal, one_of(state, 0), one_of(earlier, 0))


def test_trials_in_turn_compute_no_step_that_changes_nothing():
    """Neither those of a trial that has stopped, nor more than a trial has batches."""
    computed = []

    class Counted(toy.TinyNet):
        @nn.compact
        def __call__(self, images, train=False, mask=None):
            jax.debug.callback(lambda: computed.append("step" if train else "pass"))
            return super().__call__(images, train, mask)

    specs = [
        toy.spec(0, 40, learning_rate=1e-12),
        toy.spec(1, 21, learning_rate=1e-2),
    ]
    options = {"patience": 1, "trial_axis": "map", "model": Counted()}
    state, rows = toy.run(specs, 4, **options)
    jax.effects_barrier()
    ran = rows["ran"].sum(0)
    assert ran.tolist() == [2, 4]
    assert computed.count("step") == 2 * 5 + 4 * 3 == state.step.sum()


def test_it_learns_and_selects_the_best_validation_epoch():
    state, rows = toy.run([toy.spec(0, learning_rate=1e-2)], 6)
    assert rows["train_loss"][-1, 0] < 0.8 * rows["train_loss"][0, 0]
    assert state.best_val.epoch[0] == 1 + int(np.argmax(rows["val_score"][:, 0]))
    assert state.best_val.score[0] == rows["val_score"][:, 0].max()
    assert state.last.epoch[0] == 6


@pytest.mark.long
def test_state_goes_to_the_host_and_back_to_other_devices():
    two, four = toy.engine(SPECS, devices=2), toy.engine(SPECS, devices=4)
    state, _ = two.epoch(two.init())
    moved = four.to_devices(two.to_host(state))
    after_two, after_four = two.to_host(two.epoch(state)[0]), four.to_host(four.epoch(moved)[0])
    assert_same(after_two.variables, after_four.variables)
    shapes = jax.tree.map(lambda s: (s.shape, s.dtype), two.abstract())
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), after_two)


def test_trials_that_do_not_fit_are_chunked(monkeypatch):
    whole = toy.engine(SPECS).plan
    assert (whole.size, whole.chunks) == (3, 1)
    monkeypatch.setattr(devices, "memory_limit", lambda: int(whole.bytes_needed * 0.8))
    parts = toy.engine(SPECS).plan
    assert (parts.size, parts.chunks) == (2, 2)
    assert parts.bytes_needed < whole.bytes_needed


def test_a_batch_that_does_not_divide_over_the_devices_is_refused():
    with pytest.raises(UserError, match=r"batch_size=10 .* 4 devices"):
        make_mesh(1, 10, jax.devices()[:4])
