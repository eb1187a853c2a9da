"""The model of cost: its arithmetic on made-up work, and what it says of real engines against their programs."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from fexpr.data import records
from fexpr.runs import forecast
from fexpr.runs.cost_model import LINKS, Machine, Work, predict, table
from fexpr.runs.step_timing import Measured, measured
from fexpr.train.streaming import StreamedEngine
from fexpr.train.trials import Engine, make_mesh
from tests.train import toy
from tests.train.test_streaming import Norm

TRIALS = Work(trials=240, epochs=30, steps=8, parts=1, batch=32, spread=False, streamed=0, part=0, reduced=0, state=10**6, resident=10**6,
              needed=61 * 10**6, fit=1000, interval=20.0)
BATCH = dataclasses.replace(TRIALS, trials=1, batch=128, steps=200, spread=True, reduced=40 * 10**6)
GPU = Measured(devices=1, load=240, fixed=2e-3, per_unit=1e-4, evaluation=2.0, compile=30.0, dispatch=1e-3, fetch=1e9)
ROWS = GPU._replace(load=128, per_unit=1e-4)


def on(devices, per_host=0, **changes):
    return Machine(devices, per_host, **changes)


@pytest.mark.parametrize("devices", [1, 2, 4, 8, 10, 24, 240])
def test_trials_that_divide_are_never_slower_on_more_devices(devices):
    one, many = (predict(TRIALS, GPU, on(n)) for n in (1, devices))
    assert many.total <= one.total
    assert many.seconds["idle devices"] == pytest.approx(0)
    assert many.seconds["compute"] == pytest.approx(one.seconds["compute"] / devices)
    assert many.moved["all-reduce"] == 0  # nothing between trials
    assert predict(TRIALS, GPU, on(1000)).total >= predict(TRIALS, GPU, on(240)).total - 1e-9  # nothing is left to divide


def test_at_home_it_is_what_was_measured():
    cost = predict(dataclasses.replace(TRIALS, interval=1e9), GPU, on(1))
    step = GPU.fixed + GPU.per_unit * GPU.load
    assert cost.step == pytest.approx(step)
    assert cost.epoch == pytest.approx((8 + 2) * step + GPU.dispatch)
    assert cost.total == pytest.approx(30 * cost.epoch + 30)
    assert cost.memory == TRIALS.needed
    assert predict(dataclasses.replace(TRIALS, interval=0.0), GPU, on(1)).moved["checkpoints"] == 240 * 10**6  # every epoch


def test_padding_and_chunks():
    five = dataclasses.replace(TRIALS, trials=5)
    cost = predict(five, GPU, on(4))
    assert cost.seconds["idle devices"] == pytest.approx(0.6 * cost.seconds["compute"])  # eight places for five
    assert predict(five, GPU, on(8)).used == 5
    few = dataclasses.replace(TRIALS, fit=50)
    assert [predict(few, GPU, on(n)).chunks for n in (1, 2, 4, 5)] == [5, 3, 2, 1]
    assert predict(few, GPU, on(1)).memory == pytest.approx(10**6 + 50 * 0.25 * 10**6)


def test_a_batch_over_devices():
    two, ten = (predict(BATCH, ROWS, on(n)) for n in (2, 10))
    assert (ten.used, two.used) == (8, 2)  # 128 rows do not divide by ten
    assert ten.seconds["idle devices"] == pytest.approx(0.25 * ten.seconds["compute"])
    assert two.moved["all-reduce"] == 200 * 2 * 40e6  # each of two sends all of it, once
    assert two.seconds["all-reduce"] == pytest.approx(30 * 200 * (40e6 / LINKS["nvlink"] + 2e-5))
    links = [predict(BATCH, ROWS, machine) for machine in (on(64, 8, between=LINKS["ethernet"]), on(64, 8), on(64))]
    assert sorted(links, key=lambda cost: -cost.seconds["all-reduce"]) == links
    assert links[0].limit == "all-reduce"


def test_what_was_measured_on_several_devices_is_not_counted_twice():
    machine = on(2, inside=1e9)
    alone = predict(BATCH, ROWS, on(1))
    shared = predict(BATCH, ROWS, machine)
    again = predict(BATCH, ROWS._replace(devices=2, load=64, fixed=ROWS.fixed + shared.seconds["all-reduce"] / 6000), machine)
    assert again.total == pytest.approx(shared.total)
    assert predict(BATCH, ROWS, on(1)) == alone


def test_cores_are_shared():
    two, four = (predict(TRIALS, GPU, on(n, cores=2)) for n in (2, 4))
    assert four.epoch >= two.epoch
    assert four.seconds["cores"] > 0
    measured_on_four = GPU._replace(devices=4, load=60, per_unit=2 * GPU.per_unit, fixed=2 * GPU.fixed)  # by two cores
    assert predict(TRIALS, measured_on_four, on(2, cores=2)).total == pytest.approx(two.total)


def test_images_from_the_disk():
    work = dataclasses.replace(BATCH, streamed=10**10, part=10**8)
    bound = predict(work, ROWS._replace(read=1e8), on(1))
    assert bound.limit == "input"
    assert bound.epoch == pytest.approx(100 + ROWS.dispatch)
    assert predict(work, ROWS._replace(read=1e8), on(2, 1)).epoch == pytest.approx(50 + ROWS.dispatch)  # each host reads half
    assert predict(work, ROWS._replace(read=1e12), on(1)).limit == "compute"


def test_one_device_is_the_measure():
    rows = table(TRIALS, GPU, [on(n) for n in (1, 2, 10)])
    assert rows[0][2] == pytest.approx(1)
    assert 1 > rows[1][2] > rows[2][2]


def test_bytes_are_those_of_the_compiled_program():
    """What an optimiser step sums over two devices stands in the program of the epoch, inside its loop; so does the memory."""
    mesh = make_mesh(1, 8, jax.devices()[:2])
    engine = Engine(toy.recipe(model=Norm("data")), *toy.task(), toy.CLASSES, [toy.spec()], mesh)
    work = forecast.work_of(engine, 6, 20.0)
    sums = re.findall(r"= \(?((?:[a-z0-9]+\[[0-9,]*\](?:\{[0-9,]*\})?(?:, )?)+)\)? all-reduce", engine.program.as_text())
    shapes = [shape for text in sums for shape in re.findall(r"f32\[([0-9,]*)\]", text)]
    summed = 4 * sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)
    assert 0 <= summed - work.reduced <= 64  # and some counts, a few numbers
    assert predict(work, ROWS._replace(devices=2, load=4), Machine(2)).memory == engine.plan.bytes_needed


def test_bytes_are_those_that_are_read(tmp_path):
    images, labels = toy.task()
    records.write(tmp_path / "images", [([f"{i}" for i in range(len(images))], images)])
    kept, seen = records.read(tmp_path / "images")[1], []

    class Watched:
        dtype, shape = kept.dtype, kept.shape

        def __getitem__(self, rows):
            seen.append(np.asarray(rows).size)
            return kept[rows]

    engine = StreamedEngine(toy.recipe(), Watched(), labels, toy.CLASSES, [toy.spec(train=37)], make_mesh(1, 8, jax.devices()[:1]),
                            part_bytes=2 * 8 * 6 * 6 * 3)
    work, constants = forecast.work_of(engine, 6, 20.0), measured(engine)
    assert (constants.devices, constants.load) == (1, 8)
    assert min(constants.fixed + constants.per_unit, constants.evaluation, constants.compile, constants.fetch, constants.read) > 0
    seen.clear()
    engine.epoch(engine.init())
    assert sum(seen) * 6 * 6 * 3 == work.streamed == predict(work, constants, Machine(1)).moved["images"]


def test_in_words():
    time, moved = forecast.in_words(TRIALS, predict(TRIALS, GPU, on(1)))
    assert time == "time       about 37.8 s: 30 epochs of 261 ms (8 steps of 26 ms), 30.0 s compiling"
    assert moved == "moved      an epoch and host: 5.6 KiB of scalars fetched"
    _, moved = forecast.in_words(BATCH, predict(BATCH, ROWS, on(2)))
    assert moved.startswith("moved      an epoch and host: 14.9 GiB summed over the devices")
    shown = forecast.as_table(TRIALS, GPU, [on(1), on(1000)])
    assert shown.row_count == 2
