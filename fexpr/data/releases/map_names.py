"""The flow maps of a clip that are stacked as channels: the names in `config.data.maps`, and the
files from which they are read or made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from fexpr.errors import UserError
from fexpr.storage import bounded

MAPS = "flow"  # the folder of published maps, and the name of the map from onset to apex
NAME = re.compile(rf"{MAPS}(_\w+)?")
MOMENT = re.compile(rf"{MAPS}_(100|[1-9]\d?)")


def parse_maps(text: str) -> tuple[str, ...]:
    """Parses 'flow,flow_causal_0' into names.

    Raises:
      ValueError: a name that is not 'flow' or 'flow_…', a repeated name, or no name.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not NAME.fullmatch(name) or names.count(name) > 1:
            raise ValueError(name)
    return names


def asked_for(config: ConfigDict) -> tuple[tuple[str, ...], str]:
    """The parsed `maps` and the `map_scale` of `config.data`; configs of older runs lack both."""
    return parse_maps(config.get("maps", MAPS)), config.get("map_scale", "minmax")


def moments(names: Iterable[str]) -> tuple[int | None, ...]:
    """The second frame of each map that is made from frames: None is the apex, 40
    the frame 40 % of the way from onset to offset ('flow_40').

    Raises:
      UserError: names that give no such frame; all of them are listed.
    """
    names = tuple(names)
    strange = [name for name in names if name != MAPS and not MOMENT.fullmatch(name)]
    if strange:
        raise UserError(
            "config.data.maps names maps that cannot be made from frames",
            strange,
            "'flow' is onset to apex, 'flow_40' onset to the frame 40 % of the way to the offset "
            "(1 to 100); maps of other names are read from folders beside flow/ "
            "(config.data.layout=flow)",
        )
    return tuple(None if name == MAPS else int(name.rpartition("_")[2]) for name in names)


def frame_at(frames: Mapping[int, Path], onset: int, offset: int, percent: int) -> Path:
    """The file of the frame nearest to that share of the way from onset to offset, except the onset
    itself.
    """
    wanted = onset + (offset - onset) * percent / 100
    later = [number for number in frames if number > onset]
    return frames[min(later, key=lambda number: (abs(number - wanted), number))]


def stack_files(
    folder: Path,
    maps: tuple[str, ...],
    files: Mapping[str, str],
    places: Mapping[str, str],
    source: Path,
) -> dict[str, tuple[Path, ...]]:
    """A dict from id to one file for each of `maps`, which are folders below `folder`.

    Args:
      files: id -> file name. places: id -> what names the clip in a message. source: the file that
        lists the clips.

    Raises:
      UserError: missing maps; those of all clips are listed.
    """
    stacks = {clip: tuple(folder / name / file for name in maps) for clip, file in files.items()}
    missing = [
        f"{places[clip]}: {path}"
        for clip, paths in stacks.items()
        for path in paths
        if not bounded.is_file(path)
    ]
    if missing:
        raise UserError(
            f"{source} lists clips without one of the maps {', '.join(maps)}",
            missing,
            "copy the missing maps, leave the clips out with config.data.skip_clips, or shorten "
            "config.data.maps",
        )
    return stacks
