"""Run directories at an address ('s3://…', 'gs://…', whatever fsspec opens): a local folder that is
filled from the address, and pushed back. The address is authoritative: a killed run resumes, on any
machine, from the files there. A file is pushed when it is finished on disk. A checkpoint, which is
a folder, appears at the address as a whole: the file WHOLE, which Orbax writes into each, is pushed
last and removed first, and a checkpoint without it is not fetched. Nothing is renamed or appended
at the address, as object stores can do neither.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from fexpr.errors import UserError
from fexpr.storage import addresses
from fexpr.storage.addresses import is_address

# as in run.py, which takes them from here
CONFIG, METRICS, LOG, CHECKPOINTS = "config.json", "metrics.json", "log.jsonl", "checkpoints"
OURS = {CONFIG, METRICS, "comparison.json"}  # one of these files is in everything that fexpr writes
WHOLE = "_CHECKPOINT_METADATA"
# redrawn by each command, or never read again: pushed at the end, never fetched
UNREAD = re.compile(r"(.*/)?(tensorboard|figures|profile|wandb)/")
# matches the folder of the checkpoint to which a file belongs
CHECKPOINT = re.compile(rf"(?:.*/)?{CHECKPOINTS}/(?:resume/[^/]+/)?[^/]+(?=/)")
SOON = 5.0  # seconds from one push of a growing file to the next


@contextlib.contextmanager
def opened(
    place: Path | str, only: Sequence[str] = (), names_only: Sequence[str] = ()
) -> Iterator[Path]:
    """Yields a run directory as a local folder: a path is used directly, an address is fetched.

    Finished files in the folder are pushed to the address at once; the rest (log, TensorBoard) when
    the block ends, also with an error. The folder has the last name of the address, and is removed
    afterwards. Several processes may have the same address open, as long as they write different
    files.

    Args:
      only: names of files to read, or patterns of them (metrics.*); then nothing else is fetched,
          and nothing is pushed. The address may then be a single file.
      names_only: names of files of which only the existence matters: they are created empty. Needs
          `only`.

    Raises:
      UserError: the address cannot be read or written; with `only`, nothing is found. In a
          UserError of the block, the address replaces the folder's path.
    """
    if not is_address(place):
        yield Path(place)
        return
    address = str(place).rstrip("/")
    with addresses.temporary(address.rpartition("/")[2]) as folder, _named(address, folder):
        store = addresses.Store(str(place))
        names = store.names()
        if only:
            if not names:
                raise UserError(f"cannot open {address}", ["not found"], fix="check the address")
            _fetch(
                store,
                names,
                folder,
                lambda name: (
                    not name or any(fnmatch(name.rpartition("/")[2], text) for text in only)
                ),
            )
            for name in (name for name in names if name.rpartition("/")[2] in names_only):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).touch()
            yield folder
            return
        _refuse_others(address, names)
        folder.mkdir()
        _fetch(store, names, folder, lambda name: not UNREAD.match(name))
        with _Mirror(store, folder) as mirror:
            yield folder
            mirror.push_rest()


def fetch(address: str, target: Path) -> Path:
    """The file or the whole folder at an address, to `target`; of its checkpoints only complete
    ones.

    Raises:
      UserError: nothing is found, or it cannot be read.
    """
    store = addresses.Store(address)
    names = store.names()
    if not names:
        raise UserError(f"cannot open {address}", ["not found"], fix="check the address")
    _fetch(store, names, target, lambda name: True)
    return target


def push(path: Path | str) -> None:
    """Pushes a finished file or folder of an opened run directory to its address; does nothing for
    other paths.

    Raises:
      UserError: it cannot be written there.
    """
    if mirror := _of(path):
        mirror.push(Path(path))


def push_soon(path: Path | str) -> None:
    """Pushes a file that grows, in the background and every few seconds at most. Raises what went
    wrong with it before.
    """
    if mirror := _of(path):
        mirror.push_soon(Path(path))


def pull(path: Path | str) -> None:
    """Fetches the files at a folder's address again, with those that other processes have pushed
    meanwhile. Errors as in `opened`.
    """
    if mirror := _of(path):
        mirror.pull(Path(path))


def remove(path: Path | str) -> None:
    """Deletes a file or folder, here and at its address, if it exists. Errors as in
    `push`.
    """
    if mirror := _of(path):
        mirror.remove(Path(path))
    if Path(path).is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        Path(path).unlink(missing_ok=True)


def forget_others(folder: Path | str) -> None:
    """Deletes at the address every entry of `folder` that no longer exists locally. Errors as in
    `push`.
    """
    if mirror := _of(folder):
        mirror.forget_others(Path(folder))


def later(path: Path | str, do: Callable[[], None]) -> concurrent.futures.Future | None:
    """Runs `do` in the background if `path` has an address; returns None otherwise."""
    mirror = _of(path)
    return mirror.workers.submit(do) if mirror else None


def display_path(path: Path | str) -> str:
    """A path's name in messages and reports: its address, if it has one."""
    mirror = _of(path)
    return mirror.address_of(Path(path)) if mirror else str(path)


class _Mirror:
    """An open run directory and its address."""

    def __init__(self, store: addresses.Store, root: Path):
        self.store, self.root = store, root
        # a checkpoint's and the history's
        self.workers = concurrent.futures.ThreadPoolExecutor(2, "push")
        # of two pushes of a file, the later one must also read it later
        self._lock = threading.Lock()
        self._pushed = {path: _stamp(path) for path in root.rglob("*") if path.is_file()}
        self._soon: dict[Path, tuple[float, concurrent.futures.Future | None]] = {}

    def __enter__(self) -> _Mirror:
        _open[self.root] = self
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.workers.shutdown(cancel_futures=True)
        if kind and not self.store.failed:
            with contextlib.suppress(UserError):  # the first error is the one reported
                self.push_rest()
        del _open[self.root]

    def address_of(self, path: Path) -> str:
        return self.store.address + "".join(
            f"/{part}" for part in path.relative_to(self.root).parts
        )

    def push(self, path: Path) -> None:
        if not path.is_dir():
            with self._lock:
                self._put([path])
            return
        whole = [path / WHOLE] if (path / WHOLE).is_file() else []
        if CHECKPOINT.match(self._name(path) + "/") and not whole:
            # an Orbax version that writes other files
            raise RuntimeError(f"{path} has no {WHOLE}, so it would never be fetched")
        if whole:
            self.remove(path)  # of an earlier or half-pushed checkpoint
        self._put([p for p in sorted(path.rglob("*")) if p.is_file() and p not in whole])
        self._put(whole)

    def push_soon(self, path: Path) -> None:
        began, job = self._soon.get(path, (-math.inf, None))
        if job and job.done():
            job.result()
        if time.monotonic() - began >= SOON and (not job or job.done()):
            self._soon[path] = time.monotonic(), self.workers.submit(self.push, path)

    def push_rest(self) -> None:
        """Pushes every file that differs from its copy at the address, except checkpoints and files
        that are still being written.
        """
        found = {
            path.relative_to(self.root): path for path in self.root.rglob("*") if path.is_file()
        }
        self._put(
            [
                path
                for name, path in found.items()
                if not CHECKPOINT.match(name.as_posix())
                and not any(part.startswith(".") for part in name.parts)
                and self._pushed.get(path) != _stamp(path)
            ]
        )

    def pull(self, path: Path) -> None:
        store = addresses.Store(self.address_of(path))
        _fetch(store, store.names(), path, lambda name: not UNREAD.match(name))
        self._pushed |= {p: _stamp(p) for p in path.rglob("*") if p.is_file()}

    def remove(self, path: Path) -> None:
        self._delete(path, self.store.names(self._name(path)))

    def forget_others(self, folder: Path) -> None:
        stored = self.store.names(self._name(folder))
        for entry in sorted({name.partition("/")[0] for name in stored}):
            if not (folder / entry).exists():
                self._delete(
                    folder / entry,
                    [name[len(entry) + 1 :] for name in stored if name.partition("/")[0] == entry],
                )

    def _delete(self, path: Path, names: Collection[str]) -> None:
        own = self._name(path)
        self.store.delete([f"{own}/{name}" for name in names if name.rpartition("/")[2] == WHOLE])
        self.store.delete(
            [f"{own}/{name}".rstrip("/") for name in names if name.rpartition("/")[2] != WHOLE]
        )

    def _put(self, paths: Sequence[Path]) -> None:
        stamps = {path: _stamp(path) for path in paths}
        self.store.put({self._name(path): path for path in paths})
        self._pushed |= stamps

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


_open: dict[Path, _Mirror] = {}


def _of(path: Path | str) -> _Mirror | None:
    return (
        next(
            (mirror for root, mirror in list(_open.items()) if Path(path).is_relative_to(root)),
            None,
        )
        if _open
        else None
    )


def _stamp(path: Path) -> tuple[int, int]:
    """A value that changes when the file does."""
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def _fetch(
    store: addresses.Store,
    names: dict[str, float | None],
    target: Path,
    wanted: Callable[[str], bool],
) -> None:
    """Fetches the requested files; of checkpoints only complete ones."""
    parts: dict[str | None, dict[str, float | None]] = {}
    for name, modified in names.items():
        if wanted(name):
            match = CHECKPOINT.match(name)
            parts.setdefault(match and match[0], {})[name] = modified
    for folder, part in parts.items():
        if folder is None:
            store.get(part, target)
        elif f"{folder}/{WHOLE}" in part:
            try:
                store.get(part, target)
            except addresses.Gone:  # another process, which owns it, has a newer one
                shutil.rmtree(target / folder)


def _refuse_others(address: str, names: dict[str, float | None]) -> None:
    """Raises a UserError for a folder of something else, before all of it is fetched."""
    last = {name.rpartition("/")[2] for name in names}
    if not OURS & last and any(
        name != LOG and not name.startswith(".") and not UNREAD.match(name) for name in names
    ):
        raise UserError(
            f"{address} is not empty and contains no run of fexpr", fix="choose another address"
        )


@contextlib.contextmanager
def _named(address: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError as e:
        title, fix, *problems = (
            text.replace(str(folder), address) for text in (e.title, e.fix, *e.problems)
        )
        raise UserError(title, problems, fix) from e
