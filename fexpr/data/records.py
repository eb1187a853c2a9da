"""Images that stay on the disk: one ArrayRecord record each, so that any image can be read at any
time, by any number of hosts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from array_record.python import (
    array_record_data_source,
    array_record_module,  # pyright: ignore[reportAttributeAccessIssue]  # compiled, without stubs
)

from fexpr.errors import UserError
from fexpr.storage import run

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Int, UInt8

IMAGES, ABOUT = "images.array_record", "about.json"


class Records:
    """Images uint8 [N, H, W, C] in a file. Indexing reads images, as from an array of the same
    shape; `take` does not read.

    Reading is safe from several threads. Attributes as in the array: shape, dtype, ndim.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(
        self,
        source: array_record_data_source.ArrayRecordDataSource,
        shape: tuple[int, int, int],
        rows: Int[np.ndarray, " N"],
    ):
        self._source, self._rows = source, rows
        self.shape = (len(rows), *shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(
        self, rows: int | np.integer | slice | np.ndarray | Sequence[int]
    ) -> UInt8[np.ndarray, "*R H W C"]:
        """Reads images: uint8 [H, W, C] of one row; [n, H, W, C] of several, given by a slice,
        numbers or a mask.

        Raises:
          UserError: the file has been damaged.
        """
        wanted = np.atleast_1d(self._rows[rows]).tolist()
        try:
            found = self._source.__getitems__(wanted) if wanted else []
            images = np.frombuffer(b"".join(found), np.uint8).reshape(len(wanted), *self.shape[1:])
        except Exception as e:  # ArrayRecord and NumPy each raise their own errors
            raise UserError(
                f"images cannot be read from disk: {str(e).partition(chr(10))[0]}",
                fix="remove that prepared set from the cache; it is then prepared again",
            ) from e
        return images if isinstance(rows, slice) or np.ndim(rows) else images[0]

    def take(self, rows: Int[np.ndarray, " R"] | Bool[np.ndarray, " N"]) -> Records:
        """The records of these rows (numbers or a mask), in this order; nothing is read."""
        return Records(self._source, self.shape[1:], self._rows[rows])


Images = np.ndarray | Records


def chosen(images: Images, rows: Int[np.ndarray, " R"] | Bool[np.ndarray, " N"]) -> Images:
    """The images of these rows (numbers or a mask); images on the disk are not read."""
    return images.take(rows) if isinstance(images, Records) else images[rows]


def write(
    folder: Path, stacks: Iterable[tuple[Sequence[str], UInt8[np.ndarray, "_ H W C"]]]
) -> None:
    """Saves ids and images uint8 [n, H, W, C], stack by stack, in `folder`, which appears as a
    whole or not at all.

    Raises:
      UserError: the folder cannot be written to, or the disk is full.
      ValueError: nothing to write, or a stack whose images are of another shape.
    """
    ids: list[str] = []
    shape: tuple[int, ...] | None = None
    with run.atomic_path(folder) as partial:
        partial.mkdir()
        writer = array_record_module.ArrayRecordWriter(
            str(partial / IMAGES), "group_size:1,uncompressed"
        )
        try:
            for names, images in stacks:
                shape = shape or images.shape[1:]
                if (
                    images.dtype != np.uint8
                    or images.shape[1:] != shape
                    or len(images) != len(names)
                ):
                    raise ValueError(
                        f"{len(names)} ids with {images.dtype} {images.shape} after uint8 "
                        f"images of shape {shape}"
                    )
                ids += names
                for image in images:
                    writer.write(image.tobytes())
        finally:
            writer.close()
        if not ids or shape is None:
            raise ValueError("no images to keep")
        (partial / ABOUT).write_text(
            json.dumps({"shape": list(shape), "ids": ids}), encoding="utf-8"
        )


def read(folder: Path) -> tuple[list[str], Records]:
    """Ids and images of a folder that `write` made; the images are not read yet.

    Raises:
      UserError: it has been damaged.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        source = array_record_data_source.ArrayRecordDataSource(str(folder / IMAGES))
        shape = tuple(about["shape"])
        if len(source) != len(about["ids"]):
            raise ValueError(f"{len(source)} images for {len(about['ids'])} ids")
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as e:
        raise UserError(
            f"the prepared set {folder} is damaged: {e}",
            fix="remove that folder; it is then prepared again",
        ) from e
    return about["ids"], Records(source, shape, np.arange(len(source)))
