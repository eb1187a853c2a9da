"""A row a clip: which frames, in which channels, and what stands where a clip is short."""

import dataclasses

import numpy as np
import pytest

from fexpr.data.dataset import Dataset
from fexpr.data.preparation.clip_frames import as_clips

SIZES = {"b": 10, "a": 3, "c": 4}


def frames(channels=2):
    """Three clips; a pixel says which frame of which clip it is of. Rows stand in no order."""
    video = np.array([name for name, size in SIZES.items() for _ in range(size)])
    # as files count: 1, 3, 5 …
    number = np.concatenate([np.arange(size) * 2 + 1 for size in SIZES.values()]).astype(np.int32)
    grey = 10 * number + np.array(["abc".index(name) for name in video])
    images = np.broadcast_to(grey[:, None, None, None], (len(video), 2, 2, channels)).astype(
        np.uint8
    )
    images[..., -1] += 5
    order = np.random.default_rng(0).permutation(len(video))
    extras = {
        "video": video,
        "frame": number,
        "shown": number.astype(np.float32) / 20,
        "action_units": np.zeros((len(video), 17)),
    }
    dataset = Dataset(
        images,
        np.array(["abc".index(name) for name in video], np.int32),
        np.char.add("actor0", video),
        np.array([f"{v}/{n}" for v, n in zip(video, number, strict=True)]),
        ("x", "y", "z"),
        "synthetic",
        extras=extras,
    )
    rows = {name: getattr(dataset, name)[order] for name in ("images", "labels", "groups", "ids")}
    return dataclasses.replace(
        dataset, extras={name: value[order] for name, value in extras.items()}, **rows
    )


def test_frames_are_sampled_evenly_and_short_clips_are_filled_up_with_nothing():
    made = as_clips(frames(), 4)
    assert (made.kind, made.images.shape, made.images.dtype) == ("clip", (3, 2, 2, 8), np.uint8)
    assert made.ids.tolist() == ["a", "b", "c"]
    assert made.labels.tolist() == [0, 1, 2]
    assert made.groups.tolist() == ["actor0a", "actor0b", "actor0c"]
    # the middles of quarters of ten frames are 1.25, 3.75, 6.25, 8.75: frames 1, 3, 6, 8 of 0 to 9
    assert made.extras["frame"].tolist() == [[1, 3, 5, -1], [3, 7, 13, 17], [1, 3, 5, 7]]
    assert made.images[0, 0, 0].tolist() == [10, 15, 30, 35, 50, 55, 0, 0]
    assert made.images[1, 1, 1].tolist() == [31, 36, 71, 76, 131, 136, 171, 176]
    np.testing.assert_allclose(made.extras["shown"][0], [0.05, 0.15, 0.25, np.nan], atol=1e-6)
    assert set(made.extras) == {"frame", "shown"}  # a row is no frame: nothing must take it for one
    assert [made.picture(i)[0, 0, 0] for i in range(3)] == [30, 131, 52]


def test_without_maps_a_frame_is_one_channel():
    made = as_clips(frames(1), 16)
    assert made.images.shape == (3, 2, 2, 16)
    assert (made.extras["frame"] >= 0).sum(axis=1).tolist() == [3, 10, 4]


def test_a_clip_has_one_label():
    dataset = frames()
    labels = dataset.labels.copy()
    labels[(dataset.extras["video"] == "c").argmax()] = 0
    with pytest.raises(ValueError, match=r" c .*several labels"):
        as_clips(dataclasses.replace(dataset, labels=labels), 4)
