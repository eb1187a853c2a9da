"""The description of a release of micro-expression clips, and its files on the disk."""

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
    """The properties of a release.

    Attributes:
      name: that of its folder below the data root. title: its usual name.
      frames: folders of frames, the preferred first, and whether each shows only the aligned face.
      id: pattern of a clip's id within the release, from its row's `subject`, `clip` and `onset`;
          also used in `landmarks.csv`. subject: makes the subject's canonical name from its number
          ('6' -> '006'). book: the format of its workbook.
      no_apex: ids of clips for which the published workbook gives no apex after the onset; they are
          left out, with a message.
      places: where a clip's frames are below the folder of frames, as patterns of pathlib's glob;
          the first one that finds onset and apex is used. These patterns, and `id`, may only use
          columns of the workbook's key, whose cells are checked as file names.
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
        """The ids of the clips of these rows."""
        return [self.id.format_map(row) for row in table.to_dict("records")]

    def map_names(self, table: pd.DataFrame) -> list[str]:
        """The names of the published maps of these rows, without suffix and 'sub'."""
        name = self.id if "{onset}" in self.id else "{subject}_{clip}"
        return [name.format_map(row).removeprefix("sub") for row in table.to_dict("records")]


@dataclasses.dataclass(frozen=True)
class Release:
    """The files of a release on the disk, checked without decoding an image.

    Attributes:
      folder: the release.
      table: the rows that are used, sorted by `id`; also `subject`, `clip`, `emotion`, and `code`
          where there is a workbook.
      files: id -> the onset frame, and the second frame of each map; or the maps.
      align: 'landmarks', 'detect', 'none'; 'flow' if the maps already exist.
      landmarks: id -> float32 [5, 2]; in the onset's pixels, or for flow maps in the 224x224
          face's.
      inputs: every file that the prepared rows depend on.
      maps: their names, as `files` has them.
      scale: that of maps made from frames, as in `flow.encode`.
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
        """The file that represents each clip, relative to the folder: its first map, or the second
        frame of that map.
        """
        which = 0 if self.align == "flow" else 1
        paths = [paths[which] for paths in self.files.values()]
        return [path.relative_to(self.folder).as_posix() for path in paths]
