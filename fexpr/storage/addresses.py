"""File systems behind addresses, through fsspec: names, reading, writing, deleting; their errors
become one message each.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from fexpr.errors import UserError
from fexpr.storage.cache import cache_dir, expand_home

PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
}
CREDENTIALS = {
    "s3fs": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run: aws configure",
    "gcsfs": "run: gcloud auth application-default login",
}
WEB = ("http", "https")  # where a page is a file and a folder at once
# as file systems call the time of a change
TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")


def is_address(place: Path | str) -> TypeGuard[str]:
    return isinstance(place, str) and "://" in place


def path_or_url(text: str) -> Path | str:
    """A command-line argument as an address (unchanged), or else as a path, in which a leading ~
    is expanded: shells do that in `~/x`, but not in `--out=~/x`. Errors as in `expand_home`.
    """
    return text if is_address(text) else expand_home(text)


def local_path(text: str) -> Path:
    """A command-line argument as a path, for what is written on this machine alone.

    Raises:
      UserError: it is an address, which would become a folder called `s3:`; as in `expand_home`.
    """
    if is_address(text):
        raise UserError(
            f"{text} is an address; this is read and written on this machine alone",
            fix="give a path",
        )
    return expand_home(text)


class Gone(UserError):
    """A file that was listed no longer exists."""


class Store:
    """The files at an address. Names are relative to it; '' stands for an address that is a file
    itself.

    Raises (here and in every method):
      UserError: a package for the scheme is missing; no such bucket, no permission, no credentials,
          no answer.
    """

    def __init__(self, address: str):
        self.address, self.failed = address.rstrip("/"), False
        if "://" not in self.address:
            raise UserError(
                f"{address} is incomplete",
                fix="give a full address, for example s3://bucket/runs/first",
            )
        with self._wrap_errors("open"):
            import fsspec  # a quarter of a second, for addresses alone

            self._files, root = fsspec.core.url_to_fs(self.address)
            self._root = root.rstrip("/")

    def names(self, below: str = "") -> dict[str, float | None]:
        """Every file below a name, and its modification time in seconds since the epoch, if known;
        empty if there are no files.
        """
        root = self._path(below)
        with self._wrap_errors("open"):
            self._files.invalidate_cache()
            if self.address.partition("://")[0] in WEB and not self._files.isdir(root):
                return {"": None} if self._files.isfile(root) else {}
            try:
                found = self._files.find(root, detail=True)
            except FileNotFoundError as e:
                if "bucket" in str(e):
                    raise
                found = {}  # some file systems raise this for an empty folder
        names = {
            path[len(root) :].lstrip("/"): _modified(info)
            for path, info in found.items()
            if not path.endswith("/")
        }
        # a key may contain any character
        return {name: modified for name, modified in names.items() if ".." not in name.split("/")}

    def get(self, names: Mapping[str, float | None], target: Path) -> None:
        """Files into the folder `target` (the file '' as `target`), with their times.

        Raises:
          Gone: one of them no longer exists.
        """
        local = {name: target / name if name else target for name in names}
        with self._wrap_errors("read"):
            for folder in {path.parent for path in local.values()}:
                folder.mkdir(parents=True, exist_ok=True)
            if names:
                self._files.get(
                    [self._path(name) for name in names],
                    [os.fspath(path) for path in local.values()],
                )
        for name, modified in names.items():
            if modified is not None:
                os.utime(local[name], (modified, modified))

    def put(self, files: Mapping[str, Path]) -> None:
        """Uploads files, name -> local path. Raises a UserError if the store refuses."""
        with self._wrap_errors("write"):
            if files:
                self._files.put(
                    [os.fspath(path) for path in files.values()],
                    [self._path(name) for name in files],
                )

    def delete(self, names: Sequence[str]) -> None:
        """Deletes those of the files that exist. Raises a UserError if the store refuses."""
        with self._wrap_errors("write"), contextlib.suppress(FileNotFoundError):
            if names:
                self._files.rm([self._path(name) for name in names])

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name and name != "." else self._root

    @contextlib.contextmanager
    def _wrap_errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as e:  # every file system has its own exceptions, and few are OSErrors
            self.failed = True
            raise _message(f"cannot {doing} {self.address}", e, doing) from e


def _message(title: str, error: Exception, doing: str) -> UserError:
    """A UserError for a failure at an address, with advice."""
    scheme = title.partition("://")[0].rpartition(" ")[2]
    package = PACKAGES.get(scheme, "")
    reason, kind = (
        str(error).strip() or type(error).__name__,
        f"{type(error).__name__} {error}".lower(),
    )
    fix, made = "check the address", UserError
    if isinstance(error, ImportError):
        fix = f"pip install {package or 'what it asks for'}"
    elif "credential" in kind:
        fix = CREDENTIALS.get(package, "provide credentials for this file system")
    elif isinstance(error, PermissionError):
        reason, fix = (
            f"no permission: {reason}",
            f"these credentials have no permission to {doing} there: use others, or request the "
            "permission",
        )
    elif isinstance(error, FileNotFoundError):
        reason = reason if "bucket" in kind else "not found"
        fix, made = "check the address; a bucket must exist before the run", Gone
    elif isinstance(error, NotImplementedError):
        reason, fix = f"{scheme}:// can only be read", "choose another address"
    elif any(
        word in kind for word in ("connect", "timeout", "timed out", "resolve", "unreachable")
    ):
        fix = "check the network, and the address of the service" + " (AWS_ENDPOINT_URL_S3)" * (
            package == "s3fs"
        )
    if doing == "write":
        fix += "; the same command resumes from the files that are there"
    return made(title, [reason.splitlines()[0]], fix)


def _modified(info: Mapping) -> float | None:
    value = next((info[key] for key in TIMES if info.get(key) is not None), None)
    with contextlib.suppress(ValueError):
        value = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
    if isinstance(value, datetime.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp()
    return float(value) if isinstance(value, (int, float)) else None


@contextlib.contextmanager
def temporary(name: str) -> Iterator[Path]:
    """Yields a path of this name in a cache folder of this process, which is removed afterwards.

    A process that is killed leaves its folder behind, but not the lock on it: the next one cleans
    up.

    Raises:
      UserError: the cache cannot be written to.
    """
    above = cache_dir().absolute() / "mirrors"
    try:
        above.mkdir(parents=True, exist_ok=True)
        _clean(above)
        folder = Path(tempfile.mkdtemp(dir=above))
    except OSError as e:
        raise UserError(
            f"cannot write {above}: {e.strerror or e}",
            fix="set FEXPR_CACHE_DIR to a folder that can be written",
        ) from e
    try:
        with open(folder / ".lock", "w") as lock:
            _lock(lock)
            yield folder / (name or "run")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clean(above: Path) -> None:
    for path in above.glob("*/.lock"):
        with contextlib.suppress(OSError), open(path) as lock:
            # a newer folder may not be locked yet
            if time.time() - path.stat().st_mtime > 60 and _lock(lock):
                shutil.rmtree(path.parent, ignore_errors=True)


def _lock(file) -> bool:
    """Tries to lock the file; returns whether this process now has the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # another process has it, or the file system has no locks: then nothing is ever cleaned up
        return False
    return True
