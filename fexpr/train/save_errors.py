"""Disks that are full, write-protected or too slow while checkpoints are saved, as messages for the
user.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from fexpr.errors import UserError, shortened

OF_THE_DISK = re.compile(
    "No space left|RESOURCE_EXHAUSTED|quota|Permission denied|Read-only|Input/output", re.IGNORECASE
)
TOO_LATE = re.compile("timed out|DEADLINE_EXCEEDED", re.IGNORECASE)
GO_ON = (
    "check the folder's permissions and free space; the same command then resumes from the last "
    "complete checkpoint"
)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns errors of Orbax and TensorStore about a full or write-protected disk, or about a save
    that took too long, into a UserError.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as e:
        if isinstance(e, TimeoutError) or TOO_LATE.search(str(e)):  # an OSError too
            raise UserError(
                f"a checkpoint in {folder} was not saved within the time limit",
                [shortened(str(e))] * bool(str(e)),
                "the machine was suspended or stopped meanwhile, or the disk is too slow; the same "
                "command resumes from the last complete checkpoint",
            ) from e
        found = OF_THE_DISK.search(str(e))
        if not isinstance(e, OSError) and not found:
            raise
        full = "No space left on device" if "No space left" in str(e) else ""
        reason = full or (isinstance(e, OSError) and e.strerror) or (found[0] if found else str(e))
        raise UserError(f"cannot write {folder}: {reason}", fix=GO_ON) from e


def check_space(folder: Path, tree: PyTree) -> None:
    """Raises a UserError if the arrays would not fit on the disk: TensorStore only notices midway,
    in many threads at once.
    """
    needed = sum(np.asarray(array).nbytes for array in jax.tree.leaves(tree))
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"cannot write {folder}: it needs {needed / 2**20:.1f} MiB, and "
            f"{free / 2**20:.1f} MiB are free",
            fix=GO_ON,
        )
