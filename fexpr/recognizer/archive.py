"""Opens a run directory: a folder, or a .zip or .tar of one, on this machine or at any address that
fsspec opens.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fexpr.errors import UserError
from fexpr.storage import addresses, bounded, mirror, packed, run
from fexpr.storage.cache import expand_home

KINDS = "a folder, a .zip, or a .tar (.gz, .bz2, .xz)"


@contextlib.contextmanager
def opened(place: Path | str) -> Iterator[Path]:
    """Yields the run directory as a local folder; fetched or unpacked files are removed afterwards.

    Args:
      place: a folder, or an archive that contains one run directory, at its root or below; a path,
        or an address as fsspec knows them ('gs://bucket/run.zip', 'https://…/run.tar.gz', 'hf://…';
        some need a package of fsspec's: the message names it).

    Raises:
      UserError: it cannot be fetched or unpacked, or the archive contains no run directory, or
          several.
    """
    with tempfile.TemporaryDirectory(prefix="fexpr-run-") as temporary:
        path = (
            mirror.fetch(place, Path(temporary) / "fetched")
            if addresses.is_address(place)
            else expand_home(place)
        )
        yield (
            _unpacked(path, Path(temporary) / "unpacked", str(place))
            if bounded.is_file(path)
            else path
        )


def _unpacked(archive: Path, target: Path, place: str) -> Path:
    try:
        if not packed.unpack(archive, target):
            raise UserError(
                f"{place} is neither a run directory nor an archive", fix=f"give {KINDS}"
            )
    except OSError as e:
        raise UserError(
            f"{place} cannot be unpacked",
            [str(e)],
            fix="is the archive complete? copy or download it again",
        ) from e
    found = sorted(path.parent for path in target.rglob(run.CONFIG) if "__MACOSX" not in path.parts)
    if len(found) != 1:
        names = [str(folder.relative_to(target)) for folder in found]
        raise UserError(
            f"{place} holds {len(found) or 'no'} run director{'ies' if found else 'y'}",
            names,
            fix="unpack it and choose one"
            if found
            else f"pack a folder that contains {run.CONFIG}",
        )
    return found[0]
