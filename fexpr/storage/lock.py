"""Lock files, with information on the process that holds a lock. A lock ends with its process,
however that ends.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from fexpr.errors import UserError

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)  # of file systems that have none


@contextlib.contextmanager
def held(
    path: Path, busy: Callable[[str], None], shared: bool = False, keep: bool = True
) -> Iterator[None]:
    """Holds the lock file `path` for the block. Its folder must exist.

    Args:
      busy: called with a description of the holder ('process 12 on host, since 10:15:00: python …')
          if another process has the lock; raises, or returns to wait. shared: several processes
          that all pass True may have the lock together.
      keep: False removes the file at the end.

    Raises:
      OSError: it cannot be opened or written; it is a symbolic link.
    """
    file = _open_locked(path, busy, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        os.ftruncate(file, 0)
        several = "several processes, most recently " if shared else ""
        os.pwrite(file, f"{several}{_own_name()}".encode(errors="backslashreplace"), 0)
        yield
    finally:
        if not keep and not shared:
            path.unlink(missing_ok=True)
        os.close(file)


def refuse(what: str, fix: str) -> Callable[[str], None]:
    """A callback for `busy` of `held` that raises a UserError with this text and advice."""

    def busy(holder: str) -> None:
        raise UserError(f"{what} is in use by {holder}", fix=fix)

    return busy


def _open_locked(path: Path, busy: Callable[[str], None], kind: int) -> int:
    asked = False
    while True:
        # opening a link would empty the file that it points to
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(path, flags, 0o644)
        try:
            if not _lock(file, kind | fcntl.LOCK_NB):
                if not asked:
                    busy(_holder(file))
                    asked = True
                _lock(file, kind)
            # the previous holder may have removed the file: then this lock is void
            if path.exists() and os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, kind: int) -> bool:
    """Whether the lock was obtained; also True if the file system has no locks."""
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        return False
    except OSError as e:
        if e.errno not in NO_LOCKS:
            raise
    return True


def _own_name() -> str:
    now = datetime.datetime.now().isoformat(" ", "seconds")
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return f"process {os.getpid()} on {socket.gethostname()}, since {now}: {command}"


def _holder(file: int) -> str:
    text = os.pread(file, 1000, 0).decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in text) or "another process"
