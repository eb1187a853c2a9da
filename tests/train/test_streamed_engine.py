"""Images that stay on the disk: the same training as with all of them on the devices, whatever is
cut where.
"""

import flax.linen as nn
import jax
import numpy as np
import pytest

from fexpr.data import records
from fexpr.errors import UserError
from fexpr.train.augment import Augment
from fexpr.train.mesh import make_mesh
from fexpr.train.streamed_engine import StreamedEngine
from fexpr.train.trials import Engine
from tests.train import toy


class Norm(nn.Module):
    """A network whose batch statistics and dropout would show a row in another place, or one too
    many.
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, train=False, mask=None):
        x = nn.Dense(16)(images.reshape(len(images), -1))
        x = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(
            x, mask=None if mask is None else mask[:, None]
        )
        return nn.Dense(toy.CLASSES)(nn.Dropout(0.2, deterministic=not train)(nn.relu(x)))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The images of the toy task, on the disk."""
    folder, (images, _) = tmp_path_factory.mktemp("kept") / "images", toy.task()
    records.write(
        folder,
        [
            ([f"{i}" for i in range(a, a + 30)][: len(images) - a], images[a : a + 30])
            for a in range(0, len(images), 30)
        ],
    )
    return records.read(folder)[1]


def engine(images, specs=None, devices=1, steps=2, model=None, **changes):
    """One that streams by `steps` steps per part, or, of an array, one that holds it on the
    devices.
    """
    mesh = make_mesh(1, 8, jax.devices()[:devices])
    recipe = toy.recipe(
        model=model or toy.TinyNet(),
        augment=Augment(kind="flow", flip=0.5, shift=1, noise=2.0),
        **changes,
    )
    arguments = (recipe, images, toy.task()[1], toy.CLASSES, specs or [toy.spec(train=37)], mesh)
    made = (
        Engine(*arguments, chunk=1)
        if isinstance(images, np.ndarray)
        else StreamedEngine(*arguments, part_bytes=steps * 8 * 6 * 6 * 3)
    )
    toy.share_programs(made)
    made.load(0)
    return made


def trained(e, epochs=3):
    state, rows = e.init(), []
    for _ in range(epochs):
        state, scalars = e.epoch(state)
        rows.append(e.to_host(scalars))
    return e.to_host(state), {k: np.stack([r[k] for r in rows]) for k in rows[0]}


def assert_same(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance or {"rtol": 2e-5, "atol": 2e-6})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"mixup": 0.4, "ema": 0.9, "tta": "flip"}, marks=pytest.mark.long),
        {"patience": 1, "schedule": "plateau", "plateau_patience": 1, "eval_batch": 5},
        pytest.param({"model": Norm(), "freeze": "^Dense_0/"}, marks=pytest.mark.long),
    ],
)
def test_as_with_all_images_on_the_device(kept, changes):
    resident, streamed = engine(toy.task()[0], **changes), engine(kept, **changes)
    assert (resident.resumable, streamed.dispatches_per_epoch) == (5, 3)  # five steps, two a part
    for a, b in zip(trained(resident), trained(streamed), strict=True):
        assert_same(a, b)
    np.testing.assert_array_equal(resident.trials.mean, streamed.trials.mean)


@pytest.mark.long
def test_on_two_devices(kept):
    # Adam would turn the rounding of a gradient that is nearly zero into a step of full length
    options = {"devices": 2, "model": Norm("data"), "optimizer": "sgd"}
    resident, streamed = (trained(engine(images, **options)) for images in (toy.task()[0], kept))
    for a, b in zip(resident, streamed, strict=True):
        assert_same(a, b, rtol=1e-4, atol=1e-5)


def test_where_an_epoch_is_cut_does_not_matter(kept):
    engines = [engine(kept, steps=steps) for steps in (2, 100)]
    assert [e.dispatches_per_epoch for e in engines] == [3, 1]
    one, *others = [trained(e)[0] for e in engines]
    for other in others:
        assert_same(one, other)


def test_goes_on_from_the_middle_of_an_epoch(kept):
    whole = engine(kept)
    state, _ = whole.epoch(whole.init())
    state, nothing = whole.advance(state, 0, 1)
    assert nothing is None
    saved = whole.to_host(state)
    state, _ = whole.advance(state, 1, 2)
    expected = whole.to_host(whole.advance(state, 2, 3))

    other = engine(kept)
    state, _ = other.advance(other.to_devices(saved), 1, 2)
    assert_same(expected, other.to_host(other.advance(state, 2, 3)), rtol=0, atol=0)


@pytest.mark.long
def test_trial_after_trial(kept):
    specs = [toy.spec(fold=i, seed=i, learning_rate=1e-2) for i in range(2)]
    e = engine(kept, specs)
    assert (e.plan.chunks, e.plan.size) == (2, 1)
    alone = [trained(engine(kept, [s]))[0] for s in specs]
    for chunk in range(2):
        e.load(chunk)
        assert_same(trained(e)[0], alone[chunk], rtol=0, atol=0)


def test_only_what_is_needed_is_read(kept):
    class Watched:
        dtype, shape = kept.dtype, kept.shape

        def __init__(self):
            self.seen = []

        def __len__(self):
            return len(kept)

        def __getitem__(self, rows):
            self.seen.append(np.asarray(rows))
            return kept[rows]

    images = Watched()
    e = engine(images)
    (statistics,) = images.seen
    assert sorted(statistics.tolist()) == list(range(37))
    images.seen.clear()
    e.epoch(e.init())
    assert max(len(rows) for rows in images.seen) <= 16
    assert set(np.concatenate(images.seen).tolist()) == {*range(37), *range(60, 88)}


def test_a_file_that_is_damaged_under_way(kept):
    class Damaged:
        dtype, shape, broken = kept.dtype, kept.shape, False

        def __len__(self):
            return len(kept)

        def __getitem__(self, rows):
            if self.broken:
                raise UserError("images cannot be read from disk")
            return kept[rows]

    images = Damaged()
    e = engine(images)
    state, _ = e.epoch(e.init())
    images.broken = True
    with pytest.raises(UserError, match=r"images .*from disk"):
        e.epoch(state)
