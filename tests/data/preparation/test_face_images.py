"""Stacks of images that are kept in blocks."""

import numpy as np
import pytest

from fexpr.data.preparation import face_images


@pytest.mark.parametrize("sizes", [(5,), (8, 1), (3, 3, 3), (1, 20, 2), (4, 4)])
def test_blocks_hold_every_image_once_and_in_order(sizes, monkeypatch):
    monkeypatch.setattr(face_images, "BLOCK", 4)
    count = sum(sizes)
    images = np.arange(count * 6, dtype=np.uint8).reshape(count, 2, 3, 1)
    ends = np.cumsum(sizes)
    stacks = [
        ([f"i{k}" for k in range(end - size, end)], images[end - size : end])
        for size, end in zip(sizes, ends, strict=True)
    ]
    blocks = list(face_images._rows(iter(stacks)))
    assert {block["images"].shape for block in blocks} == {(4, 2, 3, 1)}
    assert len(blocks) == -(-count // 4)
    ids = [block["ids"].split("\n") for block in blocks]
    assert [i for names in ids for i in names] == [f"i{k}" for k in range(count)]
    found = [block["images"][: len(names)] for block, names in zip(blocks, ids, strict=True)]
    np.testing.assert_array_equal(np.concatenate(found), images)
    assert not blocks[-1]["images"][len(ids[-1]) :].any()
