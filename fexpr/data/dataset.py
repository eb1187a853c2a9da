"""The one form in which the data package passes data on: uint8 images (or feature vectors), labels,
groups, ids, and where they came from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from fexpr.data.records import Images, Records

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, Num, Shaped

SYNTHETIC = "synthetic"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """N rows of one task.

    Attributes:
      images: uint8 [N, H, W, C], an array, or `Records` on the disk; of kind `features` float32 [N,
        1, 1, F], a vector as the channels of one pixel.
      labels: int32 [N] (class ids) or float32 [N, K] (action-unit intensity in [0, 1]; 0 = absent).
      groups: str [N], the subject or actor; no split may put one group on two sides.
      ids: str [N], unique (clip or frame).
      class_names: K names.
      source: `<release>@<fingerprint>`, or `synthetic`.
      split: str [N], the release's own split, or None where it has none.
      extras: named per-row arrays (landmarks, saliency, video, dataset ...).
      kind: what an image is: `flow` (channels u, v, optical strain of each map in turn; what level
        is no motion depends on the scaling), `face` (the first channel is the face, a second a map
        of where to look), `clip` (the channels of F faces, one after the other; those of a frame
        that is missing are 0; `extras["frame"]` int32 [N, F] has their numbers, below 0 where
        there is none), or `features`.
    """

    images: Images
    labels: Int32[np.ndarray, " N"] | Float32[np.ndarray, "N K"]
    groups: Shaped[np.ndarray, " N"]
    ids: Shaped[np.ndarray, " N"]
    class_names: tuple[str, ...]
    source: str
    split: Shaped[np.ndarray, " N"] | None = None
    extras: dict[str, Shaped[np.ndarray, "N ..."]] = dataclasses.field(default_factory=dict)
    kind: str = "face"

    def __post_init__(self):
        n = len(self.images)
        if self.kind == "features":
            vectors = (
                isinstance(self.images, np.ndarray)
                and self.images.dtype == np.float32
                and self.images.ndim == 4
                and self.images.shape[1:3] == (1, 1)
            )
            if not vectors or not np.isfinite(self.images[:]).all():
                raise ValueError(
                    f"features must be finite float32 [N,1,1,F], got {self.images.dtype} "
                    f"{self.images.shape}"
                )
        elif self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"images must be uint8 [N,H,W,C], got {self.images.dtype} {self.images.shape}"
            )
        if self.kind == "clip" and self.images.shape[-1] % self.extras["frame"].shape[1]:
            raise ValueError(
                f"{self.images.shape[-1]} channels are not those of "
                f"{self.extras['frame'].shape[1]} frames"
            )
        for name, rows in {
            "labels": self.labels,
            "groups": self.groups,
            "ids": self.ids,
            "split": self.split,
            **self.extras,
        }.items():
            if rows is not None and len(rows) != n:
                raise ValueError(f"{name} has {len(rows)} rows, images have {n}")
        if self.labels.ndim == 1:
            if self.labels.dtype != np.int32 or (
                n and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names)
            ):
                raise ValueError(
                    "labels [N] must be int32 class ids below the number of class names"
                )
        elif self.labels.dtype != np.float32 or self.labels.shape[1] != len(self.class_names):
            raise ValueError(
                f"labels [N,K] must be float32 with K = {len(self.class_names)}, got "
                f"{self.labels.dtype} {self.labels.shape}"
            )
        if len(set(self.ids.tolist())) != n:
            raise ValueError("ids must be unique")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def synthetic(self) -> bool:
        """Whether a program drew the data, as no release was found."""
        return self.source == SYNTHETIC

    @property
    def multilabel(self) -> bool:
        """Whether a row may be of several classes (action units)."""
        return self.labels.ndim == 2

    def picture(self, row: int | np.integer) -> Num[np.ndarray, "H W C"]:
        """The image as people see it, uint8 [H, W, 1 or 3]: of a face with a map beside it the face
        alone, for a clip, its middle frame's, of several flow maps the first. Features are float32
        [1, 1, F].
        """
        image = self.images[row]
        if self.kind == "clip":
            real = self.extras["frame"][row] >= 0
            middle = real.sum() // 2 * (image.shape[-1] // len(real))
            return image[..., middle, None]
        if self.kind == "flow":
            return image[..., :3]
        return image[..., :1] if image.shape[-1] == 2 else image

    @property
    def streamed(self) -> bool:
        """Whether the images stay on the disk and are read when they are needed."""
        return isinstance(self.images, Records)

    @property
    def group_name(self) -> str:
        """What a group is called. If identities are unknown, every image is a group of its own."""
        if (self.groups == self.ids).all():
            return "image"
        return "actor" if np.char.startswith(self.groups, "actor").all() else "subject"


class Pictures(Mapping[str, np.ndarray]):
    """A mapping from a row's id to its picture, which is read on access."""

    def __init__(self, dataset: Dataset, names: Iterable[str], rows: Iterable[int | np.integer]):
        self._dataset, self._rows = dataset, dict(zip(names, rows, strict=True))

    def __getitem__(self, name: str) -> Num[np.ndarray, "H W C"]:
        return self._dataset.picture(self._rows[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
