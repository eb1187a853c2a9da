"""The run directory and the cache: names, formats, atomic writes. Users' scripts rely on them
(docs/design.md).

A run directory holds `config.json`, `metrics.jsonl`, `predictions.npz`, `metrics.json`,
`report.html`, `figures/`,
`checkpoints/` and `log.jsonl`. Every file is written under a temporary name and renamed, so that a
kill at any instant leaves either the old file or the new one, never half of one. In a run directory
at an address, it is then pushed there (mirror.py).
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

# re-exported here
from fexpr.storage.cache import cache_dir as cache_dir

LARGEST_TEXT = 2**28  # bytes of a JSON file
FORMAT_VERSION = 1
READABLE = (1,)  # formats that can be restored; tests/fixtures holds a run of each

CONFIG = mirror.CONFIG
HISTORY = "metrics.jsonl"
HISTORY_OF_CHUNK = "metrics.chunk_{}.jsonl"  # while chunks are trained at the same time
PREDICTIONS = "predictions.npz"
PEOPLE = "people.npz"  # the people in a run's training (runs/people.py)
ATTENTION = "attention.npz"  # of networks that weight the frames of a clip
METRICS = mirror.METRICS
REPORT = "report.html"
FIGURES = "figures"
CHECKPOINTS = mirror.CHECKPOINTS
# folder in the checkpoints of an unfinished run: one folder per chunk of trials, with their state
# by position and finally DONE, the part that is kept
RESUME, DONE = "resume", "done"
LOG = mirror.LOG
# of a packed run (recognizer/packed_run.py)
PACKED_WEIGHTS = "weights.safetensors"
CARD = "MODEL_CARD.md"


# temporary folders: mkdtemp's of atomic_path ('.metrics.json.x3k_9a0b'), and Orbax's
LONGEST_PREFIX = 40  # characters of a name that its temporary folder repeats; up to 160 bytes
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
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name[:LONGEST_PREFIX]}.", dir=path.parent))
    except OSError as e:
        raise unwritable(path, e) from e
    partial = folder / path.name
    try:
        yield partial
        if partial.is_file():
            # flushed to disk before the rename, or a power cut would leave an empty file
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
    """Deletes half-written files of killed processes below a run directory: temporary folders of
    `atomic_path` and of Orbax. No other process may be writing there.
    """
    for above, folders, _ in os.walk(folder):
        for name in [n for n in folders if PARTIAL.fullmatch(n)]:
            folders.remove(name)
            shutil.rmtree(Path(above) / name, ignore_errors=True)


def write_text(path: Path | str, text: str) -> None:
    """Writes a file as a whole or not at all, in UTF-8."""
    with atomic_path(path) as partial:
        # a path that is not UTF-8 contains lone surrogates, which only JSON can express
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path | str, value: object) -> None:
    """Writes strict JSON: NaN and infinities as null, NumPy scalars and arrays as plain
    numbers and lists, paths as
    `mirror.display_path`."""
    write_text(
        path, json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )


def read_json(path: Path | str) -> Any:
    """Reads what `write_json` wrote.

    Raises:
      UserError: the file cannot be read, or is damaged.
    """
    try:
        return json.loads(_read_bytes(path).decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as e:  # of JSON or of UTF-8
        raise damaged(path, str(e)) from e


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _read_bytes(path: Path | str) -> bytes:
    """Raises a UserError if there is no plain file, or it is larger than any that we write."""
    try:
        return bounded.read_bytes(path, LARGEST_TEXT)
    except bounded.Unreadable as e:
        raise _unreadable(path, e) from e


def _unreadable(path: Path | str, error: OSError) -> UserError:
    return UserError(
        f"cannot read {path}: {error.strerror or error}",
        fix="name a complete run directory, and check its permissions",
    )


def write_arrays(path: Path | str, arrays: dict[str, np.ndarray], compressed: bool = False) -> None:
    """Writes an .npz without pickles; the same arrays give the same bytes.

    Raises:
      TypeError: an array of objects.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype == object:
            raise TypeError(
                f"array {name!r} has dtype object, which can only be stored as a pickle"
            )
    with atomic_path(path) as partial:
        # the stub takes every array for the option `allow_pickle`
        save = np.savez_compressed if compressed else np.savez
        save(partial, **arrays)  # pyright: ignore[reportArgumentType]


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote.

    Raises:
      UserError: the file cannot be read, is damaged, or is not an .npz without pickles.
    """
    try:
        return npz.read(path)
    except bounded.Unreadable as e:
        raise damaged(path, str(e)) if bounded.is_file(Path(path)) else _unreadable(path, e) from e


def unwritable(path: Path | str, error: OSError) -> UserError:
    """The UserError for a file of a run directory that cannot be written, for example on a full
    disk.
    """
    return UserError(
        f"cannot write {path}: {error.strerror or error}",
        fix="check the folder's permissions and free space; files written before are complete, and "
        "the same command resumes from them",
    )


def damaged(
    path: Path | str, why: str, otherwise: str = "", problems: Sequence[str] = ()
) -> UserError:
    """The UserError for a damaged file of a run directory.

    Args:
      otherwise: what to do if there is no intact copy. problems: one line each.
    """
    otherwise = otherwise or "train into another run directory"
    return UserError(
        f"{path} is damaged: {why}",
        problems,
        fix=f"copy it again from an intact copy, or {otherwise}",
    )


def history_file(run_dir: Path | str, chunk: int | None) -> Path:
    """The file with the rows of all chunks, or those of one chunk that is trained at the same time
    as others.
    """
    return Path(run_dir) / (HISTORY if chunk is None else HISTORY_OF_CHUNK.format(chunk))


def history_files(run_dir: Path | str) -> list[Path]:
    """The history files that exist: that of all chunks, then those of single ones."""
    own = history_file(run_dir, None)
    return [own] * own.exists() + sorted(Path(run_dir).glob(HISTORY_OF_CHUNK.format("*")))


NO_HISTORY = "delete it: only the curves of its epochs are lost"


def resume_folder(run_dir: Path, trials: range) -> Path:
    """The folder in which an unfinished run saves the state of these trials."""
    name = f"trials_{trials[0]}-{trials[-1]}"
    return Path(run_dir).absolute() / CHECKPOINTS / RESUME / name


def read_history(run_dir: Path | str) -> list[dict[str, float]]:
    """The rows of metrics.jsonl and of its chunks' files, by chunk and epoch, without a last line
    that a kill cut short. A row that is in both is from a chunk that was being merged; no files: no
    rows.

    Raises:
      UserError: a file cannot be read, or has other content.
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
                raise damaged(
                    path, f"line {i + 1} is not an epoch of a run: {line[:60]}", NO_HISTORY
                )
            rows[row.get("chunk", 0), row["epoch"]] = row
    return [rows[key] for key in sorted(rows)]


def _is_row(row: object) -> bool:
    """Whether all fields that the report and `status` read are numbers, none too large to draw."""
    if not isinstance(row, dict):
        return False
    plain = all(value is None or _is_number(value) for value in row.values())
    counts = plain and all(isinstance(row.get(k, 0), int) for k in ("epoch", "chunk"))
    return counts and "epoch" in row and row.get("seconds", 0.0) is not None


def _is_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


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
