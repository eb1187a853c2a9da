"""The run directory and the cache: names, formats, atomic writes. What users script against
(docs/design.md).

A run directory holds `config.json`, `metrics.jsonl`, `predictions.npz`, `metrics.json`,
`report.html`, `figures/`,
`checkpoints/` and `log.jsonl`. Every file is written under a temporary name and renamed, so that a
kill at any instant leaves either the old file or the new one, never half of one. Of a run directory
at an address it is pushed there then (mirror.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fexpr.errors import UserError
from fexpr.storage import bounded, mirror, npz

# stands here too: what a run leaves elsewhere
from fexpr.storage.cache import cache_dir as cache_dir

LARGEST_TEXT = 2**28  # bytes of a JSON file
FORMAT_VERSION = 1
READABLE = (1,)  # formats that can be restored; tests/fixtures holds a run of each

CONFIG = mirror.CONFIG
HISTORY = "metrics.jsonl"
HISTORY_OF_CHUNK = "metrics.chunk_{}.jsonl"  # while chunks are trained side by side
PREDICTIONS = "predictions.npz"
PEOPLE = "people.npz"  # whom a run has seen (runs/people.py)
ATTENTION = "attention.npz"  # of networks that weigh the frames of a clip
METRICS = mirror.METRICS
REPORT = "report.html"
FIGURES = "figures"
CHECKPOINTS = mirror.CHECKPOINTS
# below the checkpoints, of an unfinished run: a folder of its trials, in which their state by
# position, and in the end DONE, what is left of it
RESUME, DONE = "resume", "done"
LOG = mirror.LOG
# of a packed run (recognizer/packed_run.py)
PACKED_WEIGHTS = "weights.safetensors"
CARD = "MODEL_CARD.md"


# temporary folders: mkdtemp's of atomic_path ('.metrics.json.x3k_9a0b'), and Orbax's
PARTIAL = re.compile(r"\..+\.[a-z0-9_]{8}|.+\.orbax-checkpoint-tmp.*")


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path`, on the same file system; renames it onto `path` if the
    block succeeds.

    The file (or folder: make it at the yielded path) is removed if the block raises. The suffix of
    `path` is kept, since many writers choose their format by it.

    Raises:
      UserError: the folder cannot be written to, or the disk is full; the path's address cannot be
          written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as e:
        raise unwritable(path, e) from e
    partial = folder / path.name
    try:
        yield partial
        if partial.is_file():
            # on disk before the rename, or a power cut leaves an empty file of that name
            with open(partial, "rb+") as f:
                os.fsync(f.fileno())
        if path.is_dir() and partial.is_dir():
            shutil.rmtree(path)
        os.replace(partial, path)
    except OSError as e:
        raise unwritable(path, e) from e
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    mirror.push(path)


def remove_partial(folder: Path) -> None:
    """Deletes below a run directory what killed processes left half-written: temporary folders of
    `atomic_path`, and of Orbax. Nobody else may be writing there.
    """
    for above, folders, _ in os.walk(folder):
        for name in [n for n in folders if PARTIAL.fullmatch(n)]:
            folders.remove(name)
            shutil.rmtree(Path(above) / name, ignore_errors=True)


def write_text(path: Path | str, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: object) -> None:
    """Strict JSON: NaN and infinities are written as null, NumPy scalars and arrays as plain
    numbers and lists, paths as
    `mirror.display_path`."""
    write_text(
        path, json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )


def read_json(path: Path | str) -> Any:
    """What `write_json` wrote.

    Raises:
      UserError: the file cannot be read, or is damaged.
    """
    try:
        return json.loads(_read_bytes(path).decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as e:  # of JSON or of UTF-8
        raise damaged(path, str(e)) from e


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _read_bytes(path: Path | str) -> bytes:
    """Raises a UserError where there is no file, no plain one, or a larger one than we write."""
    try:
        return bounded.read_bytes(path, LARGEST_TEXT)
    except bounded.Unreadable as e:
        raise _unreadable(path, e) from e


def _unreadable(path: Path | str, error: OSError) -> UserError:
    return UserError(
        f"cannot read {path}: {error.strerror or error}",
        fix="name a whole run directory, and check its permissions",
    )


def write_arrays(path: Path | str, arrays: dict[str, np.ndarray]) -> None:
    """An .npz without pickles, byte for byte the same for the same arrays."""
    for name, array in arrays.items():
        if np.asarray(array).dtype == object:
            raise TypeError(f"array {name!r} has dtype object, which only a pickle could hold")
    with atomic_path(path) as partial:
        # the stub takes every array for the option `allow_pickle`
        np.savez(partial, **arrays)  # pyright: ignore[reportArgumentType]


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote.

    Raises:
      UserError: the file cannot be read, is damaged, or is no .npz without pickles.
    """
    try:
        return npz.read(path)
    except bounded.Unreadable as e:
        raise damaged(path, str(e)) if bounded.is_file(Path(path)) else _unreadable(path, e) from e


def unwritable(path: Path | str, error: OSError) -> UserError:
    """What to raise where a file of a run directory cannot be written, as on a full disk."""
    return UserError(
        f"cannot write {path}: {error.strerror or error}",
        fix="check the folder's permissions and free space; what was written before is whole, and "
        "the same command goes on from it",
    )


def damaged(
    path: Path | str, why: str, otherwise: str = "", problems: Sequence[str] = ()
) -> UserError:
    """What to raise where a file of a run directory is not what was written.

    Args:
      otherwise: what can be done about it if it is nowhere whole.
      problems: one line each.
    """
    otherwise = otherwise or "train into another run directory"
    return UserError(
        f"{path} is damaged: {why}",
        problems,
        fix=f"copy it again from where it is whole, or {otherwise}",
    )


def history_file(run_dir: Path | str, chunk: int | None) -> Path:
    """Where the rows of all chunks stand, or those of one that is trained beside others."""
    return Path(run_dir) / (HISTORY if chunk is None else HISTORY_OF_CHUNK.format(chunk))


def history_files(run_dir: Path | str) -> list[Path]:
    """Those that exist: of all chunks, then of single ones."""
    own = history_file(run_dir, None)
    return [own] * own.exists() + sorted(Path(run_dir).glob(HISTORY_OF_CHUNK.format("*")))


NO_HISTORY = "delete it: only the curves of its epochs are lost"


def resume_folder(run_dir: Path, trials: range) -> Path:
    """Where what an unfinished run has saved of these trials lies."""
    name = f"trials_{trials[0]}-{trials[-1]}"
    return Path(run_dir).absolute() / CHECKPOINTS / RESUME / name


def read_history(run_dir: Path | str) -> list[dict[str, float]]:
    """The rows of metrics.jsonl and of its chunks' files, by chunk and epoch, without a last line
    that a kill cut short.

    A row that is in both is a chunk's that was being put together; no files: no rows.

    Raises:
      UserError: a file cannot be read, or holds something else.
    """
    rows = {}
    for path in history_files(run_dir):
        lines = _read_bytes(path).decode(errors="replace").splitlines()
        for i, line in enumerate(lines):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as e:
                if i + 1 == len(lines):
                    break
                raise damaged(path, f"line {i + 1}: {e}", NO_HISTORY) from e
            if not _is_row(row):
                raise damaged(path, f"line {i + 1} is no epoch of a run: {line[:60]}", NO_HISTORY)
            rows[row.get("chunk", 0), row["epoch"]] = row
    return [rows[key] for key in sorted(rows)]


def _is_row(row: object) -> bool:
    """Whether numbers stand wherever the report and `status` take them."""
    if not isinstance(row, dict):
        return False
    plain = all(
        value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
        for value in row.values()
    )
    counts = plain and all(isinstance(row.get(k, 0), int) for k in ("epoch", "chunk"))
    return counts and "epoch" in row and row.get("seconds", 0.0) is not None


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return mirror.display_path(value)
    return value
