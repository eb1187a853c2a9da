"""A release of micro-expression clips: what tells one from another, and what lies on the disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from fexpr.data.releases import workbook_format
from fexpr.data.releases.map_names import MAPS


@dataclasses.dataclass(frozen=True)
class Database:
    """What tells one release from another.

    Attributes:
      name: of its folder below the data root.
      title: as people call it.
      frames: folders of frames, the preferred first, and whether each shows the aligned face alone.
      id: what names a clip within the release, made from its row's `subject`, `clip` and `onset`;
          `landmarks.csv` names clips so too.
      subject: makes the subject's one name of its number ('6' -> '006').
      book: how its workbook is written.
      no_apex: ids of clips for which the published workbook gives no apex after the onset; they are
          left out, with a message.
      places: where a clip's frames lie below the folder of frames, patterns of pathlib's glob; the
          first that leads to its onset and apex. They, and `id`, name columns of the workbook's key
          alone, whose cells are names that lead to no other folder.
    """

    name: str
    title: str
    frames: tuple[tuple[str, bool], ...]
    id: str
    subject: Callable[[str], str]
    book: workbook_format.Format | None = None
    no_apex: tuple[str, ...] = ()
    places: tuple[str, ...] = ("{subject}/{clip}",)

    def ids(self, table: pd.DataFrame) -> list[str]:
        return [self.id.format_map(row) for row in table.to_dict("records")]

    def map_names(self, table: pd.DataFrame) -> list[str]:
        """What the published maps of these rows are called, without suffix and 'sub'."""
        name = self.id if "{onset}" in self.id else "{subject}_{clip}"
        return [name.format_map(row).removeprefix("sub") for row in table.to_dict("records")]


@dataclasses.dataclass(frozen=True)
class Release:
    """What lies on the disk, checked without decoding an image.

    Attributes:
      folder: the release.
      table: the rows that are used, sorted by `id`; also `subject`, `clip`, `emotion`, and `code`
          where there is a workbook.
      files: id -> the onset frame, and the frame that each map ends with; or the maps.
      align: 'landmarks', 'detect', 'none'; 'flow' where the maps are made already.
      landmarks: id -> float32 [5, 2]; in the onset's pixels, or for flow maps in the 224x224
          face's.
      inputs: every file that the prepared rows depend on.
      maps: their names, as `files` has them.
      scale: of maps that are made of frames, as in `flow.encode`.
    """

    folder: Path
    table: pd.DataFrame
    files: dict[str, tuple[Path, ...]]
    align: str
    landmarks: dict[str, np.ndarray]
    inputs: list[Path]
    maps: tuple[str, ...] = (MAPS,)
    scale: str = "minmax"

    def file_names(self) -> list[str]:
        """Of each clip the file that stands for it, below the folder: its first map, or the frame
        that this map ends with.
        """
        which = 0 if self.align == "flow" else 1
        paths = [paths[which] for paths in self.files.values()]
        return [path.relative_to(self.folder).as_posix() for path in paths]
