"""Any file of weights -> names and arrays. Its format is told by its content, never by its name.
Nothing in it is run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from fexpr.errors import UserError
from fexpr.models.weights import keras_h5, torch_zip

READS = (
    "Keras .h5, .weights.h5 and .keras, PyTorch .pth and .pt (a zip, since PyTorch 1.6), "
    "safetensors"
)


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
      format: 'Keras HDF5', 'Keras 3 HDF5', 'PyTorch', or 'safetensors'.
      arrays: name -> array, in the order and types of the file.
      about: what it says of itself (versions, metadata).
      sha256: of the file.
    """

    path: Path
    format: str
    arrays: Mapping[str, np.ndarray]
    about: Mapping[str, str]
    sha256: str


def read(path: Path | str) -> Weights:
    """Reads a file of any of these formats: READS.

    Raises:
      UserError: no such file; another format; damaged or cut off; holds more than tensors (see
          torch_zip.py).
    """
    path = Path(path)
    try:
        with open(path, "rb") as f:
            head = f.read(16)
            f.seek(0)
            sha256 = hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise UserError(
            f"cannot read {path}: {e.strerror or e}", fix="give the path of a file of weights"
        ) from e
    if head.startswith(b"\x89HDF"):
        return Weights(path, *keras_h5.read(path), sha256)
    if head.startswith(b"PK"):
        return Weights(path, *_zip(path), sha256)
    if head[8:9] == b"{":
        return Weights(path, *_safetensors(path), sha256)
    if head[:1] == b"\x80":
        raise UserError(
            f"{path} is a bare pickle: PyTorch's format before 1.6, or no weights at all",
            ["fexpr does not unpickle what may hold any code"],
            fix="if you trust it, load it in PyTorch (weights_only=True) and save it again with "
            "torch.save(state_dict, FILE)",
        )
    raise UserError(
        f"{path} is no file of weights",
        [f"it begins with {head[:8]!r}; fexpr reads {READS}"],
        fix="a page that says 'not found' is sometimes saved under a file's name: look into it"
        if head[:1] == b"<"
        else "give a file of one of these formats",
    )


def write_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, str]
) -> None:
    """Writes arrays under their names; `about` goes into the file's metadata."""
    data = safetensors.numpy.save(
        {name: np.ascontiguousarray(a) for name, a in arrays.items()}, dict(about)
    )
    path.write_bytes(data)  # its own save_file lets nobody but the owner read


def _safetensors(path: Path) -> tuple[str, dict[str, np.ndarray], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="numpy") as f:
            about = f.metadata() or {}
            return "safetensors", {name: f.get_tensor(name) for name in f.keys()}, about  # noqa: SIM118
    except (safetensors.SafetensorError, TypeError, ValueError) as e:
        raise UserError(
            f"{path} is damaged, cut off, or no safetensors: {e}", fix="copy or download it again"
        ) from e


def _zip(path: Path) -> tuple[str, dict[str, np.ndarray], dict[str, str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any("/code/" in name for name in names):
                raise UserError(f"{path} is a TorchScript program, not weights", fix=torch_zip.HOW)
            if sum(name.endswith("/data.pkl") for name in names) == 1:
                return "PyTorch", torch_zip.read(path, archive), {}
            if "model.weights.h5" in names:
                return keras_h5.read(path, io.BytesIO(archive.read("model.weights.h5")))
    except zipfile.BadZipFile as e:
        raise UserError(
            f"{path} is damaged, or cut off: {e}",
            fix="copy or download it again, and compare its size",
        ) from e
    raise UserError(
        f"{path} is an archive without weights",
        [f"it holds {', '.join(names[:5]) or 'nothing'}; fexpr reads {READS}"],
        fix="unpack it, if weights lie deeper in it",
    )
