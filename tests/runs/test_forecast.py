"""What `--dry_run` says of time, of engines whose clock is made up and of real ones; and the bytes
that docs/scale.md names.
"""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.data import records
from fexpr.runs import forecast
from fexpr.train import optim
from fexpr.train.mesh import make_mesh
from fexpr.train.streamed_engine import StreamedEngine
from fexpr.train.trials import Engine, Plan
from tests.train import toy
from tests.train.test_streamed_engine import Norm


class Clocked:
    """An engine whose parts take what its clock says; the first time that a part runs, ten times as
    long.
    """

    def __init__(self, seconds, resumable, chunks=1, steps=None):
        self.seconds, self.resumable, self.dispatches_per_epoch = seconds, resumable, len(seconds)
        self.steps, self.now, self.seen = steps or resumable, 0.0, set()
        self.plan = Plan(8, 4, chunks, 0, 0, 7.0)
        self.mesh = make_mesh(8, 8)

    def compile(self):
        return self.plan

    def load(self, chunk):
        assert chunk == 0

    def init(self):
        self.now += 1.0
        return SimpleNamespace(step=jnp.int32(0))

    def advance(self, state, first, last):
        for i in range(first, last):
            self.now += self.seconds[i] * (1 if i in self.seen else 10)
        self.seen.add(first)
        self.seen |= set(range(first, self.resumable)) if first < self.resumable else set()
        return state, None


@pytest.fixture
def clocked(monkeypatch):
    def make(*args, **kwargs):
        engine = Clocked(*args, **kwargs)
        monkeypatch.setattr(forecast.time, "monotonic", lambda: engine.now)
        monkeypatch.setattr(forecast.jax, "block_until_ready", lambda x: x)
        return engine

    return make


def test_an_epoch_is_its_steps_and_its_passes(clocked):
    found = forecast.measure(clocked([0.1] * 8 + [0.3] * 2, 8), 30)
    assert found == pytest.approx((8.0, 0.1, 1.4, 8.0 + 30 * 1.4))


def test_chunks_are_counted_one_after_another(clocked):
    assert forecast.measure(clocked([0.1] * 8 + [0.3], 8, chunks=3), 2).total == pytest.approx(
        8 + 3 * 2 * 1.1
    )


def test_the_last_part_of_streamed_images_holds_the_evaluation(clocked):
    found = forecast.measure(clocked([0.4, 0.4, 0.4, 2.0], 4, steps=8), 10)
    assert found == pytest.approx((8.0, 0.2, 3.2, 40.0))
    assert forecast.measure(clocked([2.0], 1, steps=4), 10).epoch == pytest.approx(2.0)


def test_in_words(clocked):
    engine = clocked([0.026] * 8 + [0.05] * 2, 8)
    cpu = f"{jax.device_count()} x cpu"
    said = forecast.in_words(forecast.Forecast(30.0, 0.026, 0.261, 37.83), 30, engine)
    assert (
        said == f"time       about 37.8 s on {cpu}: 30.0 s compiling, then 30 epochs of 261 ms (8 "
        "steps of 26 ms, and evaluation)"
    )
    engine.plan = engine.plan._replace(chunks=3)
    assert "then 3 chunks of 1 epoch of 2.50 s" in forecast.in_words(
        forecast.Forecast(30.0, 0.026, 2.5, 37.5), 1, engine
    )


@pytest.mark.long
@pytest.mark.parametrize("streamed", [False, True])
def test_a_forecast_leaves_the_engine_as_it_was(tmp_path, streamed):
    images, labels = toy.task()
    arguments = (labels, toy.CLASSES, [toy.spec(train=37)], make_mesh(1, 8, jax.devices()[:1]))
    if streamed:
        records.write(tmp_path / "images", [([f"{i}" for i in range(len(images))], images)])
        images = records.read(tmp_path / "images")[1]
    make = (
        (lambda: StreamedEngine(toy.recipe(), images, *arguments, part_bytes=2 * 8 * 6 * 6 * 3))
        if streamed
        else (lambda: Engine(toy.recipe(), images, *arguments))
    )
    asked, other = make(), make()
    found = forecast.measure(asked, 6)
    assert min(found) > 0
    assert found.total == pytest.approx(found.compile + 6 * found.epoch)
    assert found.epoch > found.step
    states = []
    for engine in (asked, other):
        engine.compile()
        engine.load(0)
        states.append(engine.to_host(engine.epoch(engine.init())[0]))
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.long
def test_a_step_sums_the_gradients_and_twice_the_batch_statistics():
    """As docs/scale.md counts the bytes of a shared batch; those of the compiled program, inside
    its loop.
    """
    engine = Engine(
        toy.recipe(model=Norm("data")),
        *toy.task(),
        toy.CLASSES,
        [toy.spec()],
        make_mesh(1, 8, jax.devices()[:2]),
    )
    engine.compile()
    variables = engine.abstract(1).variables
    trained = optim.partition_params(variables["params"], engine.recipe.optimizer.freeze)[0]
    reduced = _bytes(trained) + 2 * _bytes({**variables, "params": ()})
    sums = re.findall(
        r"= \(?((?:[a-z0-9]+\[[0-9,]*\](?:\{[0-9,]*\})?(?:, )?)+)\)? all-reduce",
        engine.program.as_text(),
    )
    shapes = [shape for text in sums for shape in re.findall(r"f32\[([0-9,]*)\]", text)]
    summed = 4 * sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)
    assert 0 <= summed - reduced <= 64  # and some counts, a few numbers


def _bytes(tree):
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
