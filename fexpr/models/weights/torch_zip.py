"""Reads PyTorch's `.pth` and `.pt` files without PyTorch, and without running any code in them.

Since PyTorch 1.6 such a file is a zip archive: a pickle that describes tensors, and the numbers of
each storage as plain bytes. A pickle is a program that may call anything; this reader allows only
calls that assemble tensors, and refuses all others before they are run.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fexpr.errors import UserError
from fexpr.storage import packed

LARGEST_PICKLE = 8 * 2**20  # bytes, of names and shapes only; tensors are stored beside it
LARGEST_MEMO = 2**20  # remembered objects; a pickle of a few bytes may claim billions
MOST_NAMES, DEEPEST = 100_000, 32  # of tensors and other values; dicts in dicts
STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
# keys under which training scripts put the weights into a checkpoint
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "params",
    "weights",
)
# names in pickles of NumPy's numbers and arrays, which may occur beside weights and are skipped
NUMPY = (
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
)
HOW = "save the weights alone in PyTorch, torch.save(model.state_dict(), FILE), or as safetensors"


class _Refused(Exception):
    """The pickle refers to something that tensors do not need. The text is 'module.name'."""


def read(path: Path, archive: zipfile.ZipFile, most_bytes: int) -> dict[str, np.ndarray]:
    """All tensors of a state dict, or of a checkpoint that holds one, by name. Copies of the file's
    numbers, in their own types.

    Args:
      most_bytes: limit for all tensors together.

    Raises:
      UserError: the pickle calls anything that tensors do not need (the message names it; it was
          not run), contains no tensors, is damaged, or claims more than `most_bytes`.
    """
    folder = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix(
        "data.pkl"
    )
    if archive.getinfo(f"{folder}data.pkl").file_size > LARGEST_PICKLE:
        raise UserError(
            f"{path} is not a state dict: its description alone has more than "
            f"{LARGEST_PICKLE >> 20} MiB",
            fix=HOW,
        )
    try:
        order = (
            packed.read_member(archive, f"{folder}byteorder", 64)
            if f"{folder}byteorder" in archive.namelist()
            else b"little"
        )
        if order.strip() != b"little":
            raise ValueError(f"byte order {order!r}")
        description = packed.read_member(archive, f"{folder}data.pkl", LARGEST_PICKLE)
        _check_memo(description)
        content = _Tensors(archive, folder, description, most_bytes).load()
        tensors = dict(_named(_weights(content)))
    except _Refused as e:
        problem = f"its pickle calls {e}, which could run any code; it was not run"
        raise UserError(
            f"{path} cannot be read: it contains more than tensors", [problem], fix=HOW
        ) from None
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        MemoryError,
        *packed.DAMAGE,
        TypeError,
    ) as e:
        raise UserError(
            f"{path} is damaged, or not a PyTorch file: {e or type(e).__name__}",
            fix="copy or download it again",
        ) from e
    if not tensors:
        raise UserError(f"{path} contains no tensors", fix=HOW)
    return tensors


def _check_memo(description: bytes) -> None:
    """Refuses large memo numbers: Python allocates room for all numbers up to the largest one."""
    for code, argument, _ in pickletools.genops(description):
        puts = code.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if puts and isinstance(argument, int) and argument > LARGEST_MEMO:
            raise pickle.UnpicklingError(f"it remembers an object as number {argument:,}")


class _Nothing:
    """A placeholder for a number or array of NumPy, which accepts any arguments and state and keeps
    none.
    """

    def __new__(cls, *_: object) -> _Nothing:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


class _Tensors(pickle.Unpickler):
    """An unpickler that allows the names below, compared literally, and nothing else."""

    def __init__(self, archive: zipfile.ZipFile, folder: str, description: bytes, most_bytes: int):
        super().__init__(io.BytesIO(description), encoding="utf-8")
        self._archive, self._folder, self._left = archive, folder, most_bytes
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        admitted = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) in admitted:
            return admitted[module, name]
        if (module, name) in NUMPY:
            return _Nothing
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> np.ndarray:
        match pid:
            case ("storage", np.dtype() as dtype, str(key), _, int(count)):
                pass
            case _:
                raise pickle.UnpicklingError(f"expected a storage, found {pid!r:.80}")
        if key not in self._storages:
            member = f"{self._folder}data/{key}"
            self._spend(dtype.itemsize * count)
            # torch pads nothing: a member with more bytes than the storage was not written for it
            data = packed.read_member(self._archive, member, dtype.itemsize * count + 4096)
            numbers = np.frombuffer(data, np.uint8)
            if numbers.nbytes < dtype.itemsize * count:
                raise pickle.UnpicklingError(
                    f"storage {key} has {numbers.nbytes} bytes, expected {dtype.itemsize * count}"
                )
            self._storages[key] = numbers[: dtype.itemsize * count]
        return self._storages[key].view(dtype)

    def _spend(self, count: int) -> None:
        """Counts the bytes of tensors: many tensors may share a small storage."""
        self._left -= count
        if count < 0 or self._left < 0:
            raise pickle.UnpicklingError("its tensors claim far more bytes than the file has")

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
        """torch._utils._rebuild_tensor_v2: a view of a storage. A view beyond the storage is an
        error, and never reads other memory.
        """
        whole = [offset, *size, *stride]
        if (
            not isinstance(storage, np.ndarray)
            or not all(type(n) is int and n >= 0 for n in whole)
            or len(size) != len(stride)
        ):
            raise pickle.UnpicklingError(
                f"no tensor: offset {offset!r:.40}, size {size!r:.40}, stride {stride!r:.40}"
            )
        if math.prod(size) == 0:
            return np.zeros(size, storage.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= len(storage) or math.prod(size) > len(storage):
            raise pickle.UnpicklingError(
                f"a tensor of size {tuple(size)} reaches beyond its storage of {len(storage)} "
                "numbers"
            )
        strides = [step * storage.itemsize for step in stride]
        self._spend(math.prod(size) * storage.itemsize)
        return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _weights(content: Any) -> Any:
    """The state dict of a checkpoint, which may also contain an epoch, an optimiser and more."""
    for name in WRAPPERS:
        # a pickle may have replaced the object's `get`
        if isinstance(content, dict) and isinstance(inner := dict.get(content, name), dict):
            return inner
    return content


def _named(content: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, tensor) of nested dicts, in their order.

    Raises:
      pickle.UnpicklingError: more than MOST_NAMES values, or dicts nested more than DEEPEST deep; a
      dict that contains itself exceeds both.
    """
    count, waiting = 0, [("", content, 0)]
    while waiting:
        prefix, value, depth = waiting.pop()
        count += 1
        if count > MOST_NAMES or depth > DEEPEST:
            raise pickle.UnpicklingError(
                "its dicts are nested deeper, or have more values, than those of weights"
            )
        if isinstance(value, np.ndarray):
            yield prefix, value
        elif isinstance(value, dict):
            waiting += [
                (f"{prefix}.{name}" if prefix else str(name), inner, depth + 1)
                for name, inner in reversed([*dict.items(value)][:MOST_NAMES])
                if isinstance(inner, (np.ndarray, dict))
            ]
