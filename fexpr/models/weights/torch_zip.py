"""PyTorch's `.pth` and `.pt` files without PyTorch, and without running what they say.

Since PyTorch 1.6 such a file is a zip archive: a pickle that describes tensors, and the numbers of
each storage as plain bytes. A pickle is a program that may call anything; this reader lets it call
nothing but what puts tensors together, and refuses all else before it is run.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fexpr.errors import UserError

LARGEST_PICKLE = 64 * 2**20  # bytes: names and shapes alone; tensors lie beside it
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
# under which training scripts put the weights into a checkpoint
WRAPPERS = ("state_dict", "model_state_dict", "model")
HOW = "save the weights alone in PyTorch, torch.save(model.state_dict(), FILE), or as safetensors"


class _Refused(Exception):
    """The pickle names something that no tensor needs. The text is 'module.name'."""


def read(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """All tensors of a state dict, or of a checkpoint that holds one, by name. Copies of the file's
    numbers, in their own types.

    Raises:
      UserError: the pickle calls for anything but tensors (the message names it; nothing of it was
          run), holds none, or is damaged.
    """
    folder = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix(
        "data.pkl"
    )
    if archive.getinfo(f"{folder}data.pkl").file_size > LARGEST_PICKLE:
        raise UserError(
            f"{path} is no state dict: its description alone has more than "
            f"{LARGEST_PICKLE >> 20} MiB",
            fix=HOW,
        )
    try:
        order = (
            archive.read(f"{folder}byteorder")
            if f"{folder}byteorder" in archive.namelist()
            else b"little"
        )
        if order.strip() != b"little":
            raise ValueError(f"byte order {order!r}")
        content = _Tensors(archive, folder).load()
    except _Refused as e:
        problem = f"its pickle calls for {e}, which could be any code; nothing of it was run"
        raise UserError(
            f"{path} is not read: it holds more than tensors", [problem], fix=HOW
        ) from None
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as e:
        raise UserError(
            f"{path} is damaged, or no PyTorch file: {e}", fix="copy or download it again"
        ) from e
    tensors = dict(_named(_weights(content)))
    if not tensors:
        raise UserError(f"{path} holds no tensors", fix=HOW)
    return tensors


class _Tensors(pickle.Unpickler):
    """Admits the names below, compared as they stand, and nothing else."""

    def __init__(self, archive: zipfile.ZipFile, folder: str):
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")), encoding="utf-8")
        self._archive, self._folder = archive, folder
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        admitted = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) in admitted:
            return admitted[module, name]
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
            numbers = np.frombuffer(self._archive.read(f"{self._folder}data/{key}"), np.uint8)
            if numbers.nbytes < dtype.itemsize * count:
                raise pickle.UnpicklingError(
                    f"storage {key} has {numbers.nbytes} bytes, expected {dtype.itemsize * count}"
                )
            self._storages[key] = numbers[: dtype.itemsize * count]
        return self._storages[key].view(dtype)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """torch._utils._rebuild_tensor_v2: a view of a storage. What would lie outside it is an error,
    not a look into other memory.
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
            f"a tensor of size {tuple(size)} reaches beyond its storage of {len(storage)} numbers"
        )
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _weights(content: Any) -> Any:
    """The state dict of a checkpoint, which may hold an epoch, an optimiser and more beside it."""
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            return content[name]
    return content


def _named(content: Any, prefix: str = ""):
    """(name, tensor) of nested dicts; DataParallel's prefix `module.` is taken off."""
    if isinstance(content, np.ndarray):
        yield prefix.removeprefix("module."), content
    elif isinstance(content, dict):
        for name, value in dict.items(content):
            yield from _named(value, f"{prefix}.{name}" if prefix else str(name))
