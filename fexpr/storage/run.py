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
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fexpr.errors import UserError
from fexpr.storage import mirror

# stands here too: what a run leaves elsewhere
from fexpr.storage.cache import cache_dir as cache_dir

FORMAT_VERSION = 1
READABLE = (1,)  # formats that can be restored; tests/fixtures holds a run of each

CONFIG = mirror.CONFIG
HISTORY = "metrics.jsonl"
HISTORY_OF_CHUNK = "metrics.chunk_{}.jsonl"  # while chunks are trained side by side
PREDICTIONS = "predictions.npz"
ATTENTION = "attention.npz"  # of networks that weigh the frames of a clip
METRICS = mirror.METRICS
REPORT = "report.html"
FIGURES = "figures"
CHECKPOINTS = mirror.CHECKPOINTS
LOG = mirror.LOG
# of a packed run (recognizer/packed.py)
PACKED_WEIGHTS = "weights.safetensors"
CARD = "MODEL_CARD.md"


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
        raise UserError(
            f"cannot write {path}: {e.strerror or e}",
            fix="check the folder's permissions and free space",
        ) from e
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
        raise UserError(
            f"cannot write {path}: {e.strerror or e}",
            fix="check the folder's permissions and free space",
        ) from e
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    mirror.push(path)


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


def read_json(path: Path | str) -> object:
    """What `write_json` wrote.

    Raises:
      UserError: the file is damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as e:  # of JSON or of UTF-8
        raise damaged(path, str(e)) from e


def write_arrays(path: Path | str, arrays: dict[str, np.ndarray]) -> None:
    """An .npz without pickles, byte for byte the same for the same arrays."""
    for name, array in arrays.items():
        if np.asarray(array).dtype == object:
            raise TypeError(f"array {name!r} has dtype object, which only a pickle could hold")
    with atomic_path(path) as partial:
        np.savez(partial, **arrays)


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote.

    Raises:
      UserError: the file is missing, damaged, or no .npz without pickles.
    """
    try:
        # opened here: np.load leaves a broken one open
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as f:
            return {name: f[name] for name in f.files}
    except FileNotFoundError as e:
        raise UserError(
            f"{path} is missing", fix="name the whole run directory; packed runs do without it"
        ) from e
    except (zipfile.BadZipFile, ValueError, EOFError) as e:
        raise damaged(path, str(e)) from e


def damaged(path: Path | str, why: str) -> UserError:
    """What to raise where a file of a run directory is not what was written."""
    return UserError(
        f"{path} is damaged: {why}",
        fix="copy it again from where it is whole, or train into another run directory",
    )


def history_file(run_dir: Path | str, chunk: int | None) -> Path:
    """Where the rows of all chunks stand, or those of one that is trained beside others."""
    return Path(run_dir) / (HISTORY if chunk is None else HISTORY_OF_CHUNK.format(chunk))


def history_files(run_dir: Path | str) -> list[Path]:
    """Those that are there: of all chunks, then of single ones."""
    own = history_file(run_dir, None)
    return [own] * own.exists() + sorted(Path(run_dir).glob(HISTORY_OF_CHUNK.format("*")))


def read_history(run_dir: Path | str) -> list[dict[str, float]]:
    """The rows of metrics.jsonl and of its chunks' files, by chunk and epoch, without a last line
    that a kill cut short.

    A row that stands in both is a chunk's that was being put together; no files: no rows.
    """
    rows = {}
    for path in history_files(run_dir):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            rows[row.get("chunk", 0), row["epoch"]] = row
    return [rows[key] for key in sorted(rows)]


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
