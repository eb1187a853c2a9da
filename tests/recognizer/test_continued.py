"""Training goes on from the restored network, not from a new one."""

import dataclasses

import jax
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.recognizer import Recognizer
from fexpr.recognizer.ensemble import described
from fexpr.storage.seen_people import Seen


def rows_of(found, side):
    return found["ids"][
        (found["split"] == side) & (found["selection"] == "last") & (found["trial"] == 0)
    ]


@pytest.fixture(scope="module")
def going_on(faces):
    folder, dataset, found = faces
    place = {id_: i for i, id_ in enumerate(dataset.ids)}
    val, test = ([place[i] for i in rows_of(found, side)] for side in ("val", "test"))
    train = np.setdiff1d(np.arange(len(dataset)), [*val, *test])
    return Recognizer.restore(folder), dataset.images, dataset.labels, train, np.array(val)


@pytest.mark.long
def test_it_goes_on_from_the_restored_network(going_on):
    """At a rate of 1e-6 Adam moves no parameter by more than that a step. Four devices share the
    batch.
    """
    restored, *rows = going_on
    restored = dataclasses.replace(restored, seen=Seen(np.array(["release/person"])))
    assert jax.device_count() == 4
    further, history = restored.continue_training(*rows, epochs=2, learning_rate=1e-6)
    before, after = restored.network.variables["params"], further.network.variables["params"]
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, after))
    assert min(moved) > 1e-7
    assert max(moved) < 1e-5
    assert history.index.tolist() == [1, 2]
    assert np.isfinite(history.to_numpy()).all()
    np.testing.assert_array_equal(further.network.mean, restored.network.mean)
    assert further.maps is further.limits is None
    assert not further.predict(rows[0][:3]).attrs["calibrated"]
    assert ", then further on other rows" in repr(further)
    assert "the run's map was fitted to the network before it was trained further" in repr(further)
    assert "belong to the network before" in described(further)[-1]
    with pytest.raises(UserError, match="before it was trained further"):
        further.probabilities(rows[0][:3], calibrated=True)
    assert "further" not in repr(restored) + "".join(described(restored))
    assert "the rows of continue_training" in further.seen.unknown


@pytest.mark.long
@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_labels_are_any_integers(going_on, kind):
    restored, images, labels, *rows = going_on
    _, expected = restored.continue_training(images, labels, *rows, epochs=1)
    _, history = restored.continue_training(images, labels.astype(kind), *rows, epochs=1)
    np.testing.assert_array_equal(history.to_numpy(), expected.to_numpy())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {0: lambda x: x.astype(np.float32)},
            r"images: expected uint8 \[N, 48, 48, 1\], found float32 \[\d+, 48, 48, 1\]",
        ),
        ({1: lambda x: x + 1}, "labels: .*1 to 7.* 7 classes"),
        (
            {1: lambda x: np.eye(7, dtype=np.float32)[x]},
            r"labels: expected integers \[\d+\], found float32 \[\d+, 7\]",
        ),
        (
            {2: lambda x: x + 10_000, 3: lambda x: x[:0]},
            "train: expected .*\n.*val: expected",
        ),
        ({2: lambda x: np.append(x, 0), 3: lambda x: np.append(x, 0)}, "train and val .*rows"),
    ],
)
def test_rows_that_do_not_fit(going_on, change, words):
    restored, *rows = going_on
    with pytest.raises(UserError, match=words):
        restored.continue_training(*(change.get(i, lambda x: x)(row) for i, row in enumerate(rows)))
