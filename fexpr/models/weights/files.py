"""Reads any file of weights: names and arrays. The format is recognised by the content, never by
the file's name. No code in it is run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from fexpr.errors import UserError
from fexpr.models.weights import keras_h5, torch_zip
from fexpr.storage import bounded, packed

MOST_BYTES = 16 * 1024 * bounded.MIB  # of a file
LEAST_LIMIT = 128 * bounded.MIB  # that a small file may unpack to
MOST_NAMES = 20_000  # of tensors
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
KERAS = "model.weights.h5"  # in a .keras
READS = (
    "Keras .h5, .weights.h5 and .keras, PyTorch .pth and .pt (a zip, since PyTorch 1.6), "
    "safetensors"
)


# metadata of fexpr's own files: checksums of their arrays, and of their other metadata
CHECKSUM, CHECKSUM_OF_METADATA = "crc32", "crc32_metadata"


@dataclasses.dataclass(frozen=True)
class Weights:
    """The content of a file.

    Attributes:
      format: 'Keras HDF5', 'Keras 3 HDF5', 'PyTorch', or 'safetensors'.
      arrays: name -> array, in the order and types of the file.
      about: its metadata (versions, …). sha256: of the file.
    """

    path: Path
    format: str
    arrays: Mapping[str, np.ndarray]
    about: Mapping[str, str]
    sha256: str


def read(path: Path | str) -> Weights:
    """Reads a file of any format in READS.

    Raises:
      UserError: no such file; another format; damaged or cut off; contains more than tensors (see
          torch_zip.py).
    """
    path = Path(path)
    try:
        with bounded.open_file(path, MOST_BYTES) as f:
            head = f.read(16)
            f.seek(0)
            sha256 = hashlib.file_digest(f, "sha256").hexdigest()
            # content may not unpack to much more than the file: weights hardly compress
            most = max(LEAST_LIMIT, 4 * f.tell())
            f.seek(0)
            if head.startswith(b"\x89HDF"):
                return Weights(path, *keras_h5.read(path, f, most), sha256)
            if head.startswith(b"PK"):
                return Weights(path, *_without_prefix(*_zip(path, f, most)), sha256)
    except OSError as e:
        raise UserError(
            f"cannot read {path}: {e.strerror or e}", fix="give the path of a file of weights"
        ) from e
    if head[8:9] == b"{":
        return Weights(path, *_without_prefix(*_safetensors(path)), sha256)
    if head[:1] == b"\x80":
        raise UserError(
            f"{path} is a bare pickle: PyTorch's format before 1.6, or not a file of weights",
            ["fexpr does not unpickle files, as a pickle may contain any code"],
            fix="if you trust it, load it in PyTorch (weights_only=True) and save it again with "
            "torch.save(state_dict, FILE)",
        )
    raise UserError(
        f"{path} is not a file of weights",
        [f"it begins with {head[:8]!r}; fexpr reads {READS}"],
        fix="a page that says 'not found' is sometimes saved under a file's name: open it to see"
        if head[:1] == b"<"
        else "give a file of one of these formats",
    )


def write_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, str]
) -> None:
    """Writes arrays under their names; `about` goes into the file's metadata. If it has a CHECKSUM,
    one of the metadata is added.
    """
    if CHECKSUM in about:
        about = {**about, CHECKSUM_OF_METADATA: _checksum_of_metadata(about)}
    data = safetensors.numpy.save(
        {name: np.ascontiguousarray(a) for name, a in arrays.items()}, dict(about)
    )
    path.write_bytes(data)  # safetensors' own save_file makes the file readable by its owner only


def checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """The CRC-32 (hex) of the arrays' names, types, shapes and bytes; as metadata under CHECKSUM it
    is compared when the file is read.
    """
    found = 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), found)
        found = zlib.crc32(array.reshape(-1).view(np.uint8).data, found)
    return f"{found:08x}"


def _checksum_of_metadata(about: Mapping[str, str]) -> str:
    kept = sorted(item for item in about.items() if item[0] != CHECKSUM_OF_METADATA)
    return f"{zlib.crc32(json.dumps(kept).encode()):08x}"


def _safetensors(path: Path) -> tuple[str, dict[str, np.ndarray], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="numpy") as f:
            about, names = f.metadata() or {}, list(f.keys())
            if len(names) > MOST_NAMES:
                raise ValueError(f"{len(names):,} tensors, at most {MOST_NAMES:,} are read")
            arrays = {}
            for name in names:
                try:
                    arrays[name] = f.get_tensor(name)
                except (AttributeError, KeyError) as e:
                    raise ValueError(f"{name} is of a type that NumPy has not ({e})") from e
            if CHECKSUM in about and about[CHECKSUM] != checksum(arrays):
                raise ValueError("its arrays are not those that were written")
            # older versions wrote none
            if (
                about.get(CHECKSUM_OF_METADATA, expected := _checksum_of_metadata(about))
                != expected
            ):
                raise ValueError("its metadata are not those that were written")
            return "safetensors", arrays, about
    except (safetensors.SafetensorError, MemoryError, OSError, TypeError, ValueError) as e:
        raise UserError(
            f"{path} is damaged, cut off, or not safetensors: {e}", fix="copy or download it again"
        ) from e


def _zip(
    path: Path, file: io.BufferedIOBase, most_bytes: int
) -> tuple[str, dict[str, np.ndarray], dict[str, str]]:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if any("/code/" in name for name in names):
                raise UserError(f"{path} is a TorchScript program, not weights", fix=torch_zip.HOW)
            if sum(name.endswith("/data.pkl") for name in names) == 1:
                return "PyTorch", torch_zip.read(path, archive, most_bytes), {}
            if KERAS in names:
                inner = io.BytesIO(packed.read_member(archive, KERAS, most_bytes))
                return keras_h5.read(path, inner, most_bytes)
    except packed.DAMAGE as e:
        raise UserError(
            f"{path} is damaged, or cut off: {e}",
            fix="copy or download it again, and compare its size",
        ) from e
    raise UserError(
        f"{path} is an archive without weights",
        [f"it contains {', '.join(names[:5]) or 'nothing'}; fexpr reads {READS}"],
        fix="unpack it, if there are weights inside",
    )


def _without_prefix(
    kind: str, arrays: dict[str, np.ndarray], about: Mapping[str, str]
) -> tuple[str, dict[str, np.ndarray], dict[str, str]]:
    """Names without the prefixes that training loops add to all of them: `module.` (DataParallel),
    `_orig_mod.` (torch.compile), `model.` and `net.` (Lightning), in any order.
    """
    taken = ""
    while prefix := next(
        (p for p in PREFIXES if arrays and all(name.startswith(p) for name in arrays)), ""
    ):
        arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
        taken += prefix
    return kind, arrays, {**about, **({"prefix, taken off": taken} if taken else {})}
