"""What all releases share: where the data are, their fingerprint, and preparation that is done once
and kept in the cache.

A set that is being prepared is kept in `<cache>/prepared/<name>-<fingerprint>/`: finished items in
a folder of the loader's choice, then all rows in `records/`, and, if they are streamed, the images
in `images/`. All appear under their names only when complete, so a killed preparation resumes, and
a finished one is only read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
from ml_collections import ConfigDict

from fexpr.errors import UserError
from fexpr.storage import bounded, lock, pictures, run
from fexpr.storage.bounded import Unreadable
from fexpr.storage.cache import expand_home
from fexpr.terminal import progress, say

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Shaped, UInt8

    from fexpr.data.preparation.builder import Row

T = TypeVar("T")
SOURCES = ("auto", "release", "synthetic")
# data sets that are made of those of these releases that are found
COMPOSITES = {
    "megc2018": ("samm", "casme2"),
    "megc2019": ("samm", "casme2", "smic"),
    "cd6me": ("casme", "casme2", "samm", "4dme", "mmew", "casme3a"),
    "ravdess_aus": ("ravdess",),
}
# releases that share a folder: files that show that one is present
SIGNS = {"ravdess": ("frames", "Actor_*"), "ravdess_aus": ("average_action_units.csv",)}
# folders of a prepared set: its rows; its images, one record each, if they are streamed
RECORDS, IMAGES = "records", "images"


class BadInput(Exception):
    """One item of a release cannot be used; `gather` collects them. The text names the file and
    what is wrong with it.
    """


def data_root(config: ConfigDict) -> tuple[Path, str]:
    """The folder that contains the releases, and which setting named it: 'config.data.root',
    '$FEXPR_DATA_DIR', or '' for the default.
    """
    if config.root:
        return expand_home(config.root), "config.data.root"
    if os.environ.get("FEXPR_DATA_DIR"):
        return expand_home(os.environ["FEXPR_DATA_DIR"]), "$FEXPR_DATA_DIR"
    return expand_home("~/fexpr_data"), ""


def resolve_source(config: ConfigDict) -> str:
    """Resolves `config.source` on this machine: 'release' or 'synthetic'. Looks for the
    folder, reads nothing.

    Raises:
      UserError: unknown source; a release was requested, or a root was given, and `<root>/<name>`
          is missing (for a composite: all of its releases are).
    """
    if config.source not in SOURCES:
        raise UserError(
            f"config.data.source is {config.source!r}", fix=f"set it to one of {', '.join(SOURCES)}"
        )
    if config.source == "synthetic":
        return "synthetic"
    root, giver = data_root(config)
    names = COMPOSITES.get(config.name, (config.name,))
    if config.name in COMPOSITES and config.get("subsets", "auto") != "auto":
        names = tuple(name.strip() for name in config.subsets.split(",")) + names
    if any(bounded.is_folder(root / name) for name in names):
        return "release"
    if config.source == "auto" and not giver:
        return "synthetic"
    problems = [
        f"looked for the folder {' or '.join(str(root / name) for name in names)}",
        f"{root} {contents(root)}",
    ]
    if giver:
        problems.append(f"the root was given by {giver}")
    if root.name in names:
        problems.append(f"the root is the folder above the release: perhaps {root.parent}")
    fix = (
        "put the release there (docs/data.md), or set config.data.root or $FEXPR_DATA_DIR; for a "
        "trial run on synthetic data give --config.data.source=synthetic"
        + (" instead of config.data.root" if config.root else "")
    )
    raise UserError(f"the release {config.name} is missing", problems, fix)


def contents(folder: Path) -> str:
    """'holds a, b', 'holds nothing' or 'does not exist': the state of a folder, for messages about
    missing files.
    """
    if not bounded.is_folder(folder):
        return "does not exist"
    try:
        names = sorted(p.name for p in folder.iterdir())
    except OSError as e:
        return f"cannot be read: {e.strerror or e}"
    return "holds " + (", ".join(names[:10] + ["…"] * (len(names) > 10)) or "nothing")


def fingerprint(root: Path, files: Iterable[Path], settings: Mapping[str, object]) -> str:
    """SHA-256 (hex) of settings, and of the name (below `root`) and content of every file: the same
    for every copy of a release.

    Raises:
      UserError: files that cannot be read, all of them.
    """
    files = sorted(files)
    contents, problems = [], []
    with ThreadPoolExecutor(_workers()) as pool:
        for digest in [pool.submit(_digest, path) for path in files]:
            try:
                contents.append(digest.result())
            except BadInput as e:
                problems.append(str(e))
    if problems:
        raise UserError(
            f"files in {root} cannot be read", problems, "check the files and their permissions"
        )
    named = [
        (path.relative_to(root).as_posix(), content)
        for path, content in zip(files, contents, strict=True)
    ]
    return hashlib.sha256(json.dumps([settings, named], sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    try:
        with bounded.open_file(path, bounded.limit_of(path)) as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise BadInput(f"{path}: {e.strerror or e}") from e


def prepared(
    name: str, fingerprint: str, rows: Callable[[Path], Iterable[Row]]
) -> dict[str, Shaped[np.ndarray, "N ..."]]:
    """The prepared set `name` with this fingerprint: read if it exists, else made from
    `rows(folder)` first.

    Args:
      name: of the release.
      fingerprint: of everything that the rows depend on. rows: yields the rows (see
          `builder.write`); may keep finished items in sub-folders of `folder` (see `cached_png`)
          until the set is complete.

    Returns:
      Column name -> array [N, ...].
    """
    from fexpr.data.preparation import builder  # TFDS takes half a second to import

    return builder.read(prepared_folder(name, fingerprint, rows))


def prepared_folder(name: str, fingerprint: str, rows: Callable[[Path], Iterable[Row]]) -> Path:
    """The folder of that set's rows, which are written first if it is missing; arguments as in
    `prepared`.
    """
    from fexpr.data.preparation import builder

    folder = run.cache_dir() / "prepared" / f"{name}-{fingerprint[:16]}"
    records = folder / RECORDS
    with exclusive_lock(folder):
        if not builder.exists(records):
            remove(folder.glob(f".{records.name}.*"))  # left by a killed process
            builder.write(records, name, rows(folder))
        remove(path for path in folder.iterdir() if path.name not in (RECORDS, IMAGES))
    return records


def remove(folders: Iterable[Path]) -> None:
    """Deletes folders of the cache."""
    for folder in list(folders):
        shutil.rmtree(folder)


@contextlib.contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Makes other processes that want to write `folder` wait until this one has ended; they print
    which process they wait for.
    """
    busy = lambda holder: say(f"waiting    for {holder}, which prepares {folder.name}")
    with contextlib.ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.held(folder.with_name(f"{folder.name}.lock"), busy))
        except OSError as e:
            reason = f"cannot write into the cache {folder.parent}: {e.strerror or e}"
            raise UserError(reason, fix="set $FEXPR_CACHE_DIR to a folder of yours") from e
        yield


def gather(
    jobs: Mapping[str, Callable[[], T]], description: str, title: str, fix: str
) -> dict[str, T]:
    """Runs all jobs in threads (OpenCV releases Python's lock) under a progress bar; name ->
    result, in the order of `jobs`.

    Raises:
      UserError: lists every job that raised `BadInput`, under `title`. Anything else that a job
          raises stops the work at once.
    """
    results, problems = {}, {}
    pool = ThreadPoolExecutor(_workers())
    try:
        futures = {pool.submit(job): name for name, job in jobs.items()}
        with progress(description, len(jobs)) as advance:
            for future in as_completed(futures):
                name = futures[future]
                try:
                    results[name] = future.result()
                except BadInput as e:
                    problems[name] = str(e)
                advance()
    finally:
        pool.shutdown(cancel_futures=True)
    if problems:
        raise UserError(
            title, [f"{name}: {problems[name]}" for name in jobs if name in problems], fix
        )
    return {name: results[name] for name in jobs}


def _workers() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cached_png(
    path: Path, make: Callable[[], UInt8[np.ndarray, "H W 3"]]
) -> UInt8[np.ndarray, "H W 3"]:
    """The image `make()` (uint8 RGB [H, W, 3]), kept at `path` as a PNG: made once, however often
    the work is interrupted.
    """
    if path.exists():
        return read_image(path, cv2.IMREAD_COLOR_RGB)
    image = make()
    # cv2.imwrite says nothing when the disk is full
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with run.atomic_path(path) as partial:
        partial.write_bytes(data.tobytes())
    return image


def read_image(path: Path, mode: int) -> UInt8[np.ndarray, "H W *C"]:
    """Decodes an image file, uint8 [H, W] or [H, W, C]; `mode` is one of OpenCV's IMREAD_ values.

    Raises:
      BadInput: the file cannot be read, is cut off, is not an image, or exceeds the limits of
          storage/pictures.py.
    """
    try:
        return pictures.read(path, mode)
    except Unreadable as e:
        raise BadInput(f"{path} {e}") from e


def decode_image(data: bytes, mode: int) -> UInt8[np.ndarray, "H W *C"]:
    """Decodes the bytes of an image file; as `read_image`. The error's text begins with 'is' or
    'has', so that the caller can put a name before it.
    """
    try:
        return pictures.decode(data, mode)
    except Unreadable as e:
        raise BadInput(str(e)) from e
