"""A prepared data set on disk: rows of named arrays and texts, written as ArrayRecord through a
TFDS builder. No TensorFlow.

The only file that imports TFDS (0.5 s): import it where a set is prepared or read, not at the top
of a loader.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from fexpr.errors import UserError
from fexpr.storage import bounded, run

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Shaped

SPLIT = "rows"
FEATURES = {  # of `_feature`, as features.json names them
    f"tensorflow_datasets.core.features.{name}"
    for name in (
        "features_dict.FeaturesDict",
        "text_feature.Text",
        "scalar.Scalar",
        "tensor_feature.Tensor",
    )
}
Row = Mapping[str, "np.ndarray | str | int | float"]


@runtime_checkable
class _Source(Protocol):
    """The builder with which TFDS reads a set."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Mapping[str, np.ndarray | bytes | int | float]: ...

    def __getitems__(
        self, rows: Sequence[int]
    ) -> Sequence[Mapping[str, np.ndarray | bytes | int | float]]: ...


class ArrayRecordBuilder(tfds.core.GeneratorBasedBuilder):
    """Writes rows in the given order, with the column names and types of the first one."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, name: str, rows: Iterator[Row], features: dict, data_dir: Path):
        # TFDS declares it for classes, and reads the builder's own
        self.name = name  # pyright: ignore[reportAttributeAccessIssue]
        self._rows, self._features = rows, features
        super().__init__(file_format="array_record", data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            features=tfds.features.FeaturesDict(self._features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: object) -> dict:
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, Row]]:
        yield from enumerate(self._rows)

    def _log_download_bytes(self) -> None:  # TFDS prints here that it downloads, which it does not
        pass

    def _log_download_done(self) -> None:
        pass


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does nothing: our sets are not in Google's bucket, and TFDS would leave a temporary
        folder behind.
        """


def exists(folder: Path) -> bool:
    """Whether the prepared set in `folder` is complete."""
    return bounded.is_folder(folder)  # it is renamed to its final name only once it is complete


def write(folder: Path, name: str, rows: Iterable[Row]) -> None:
    """Writes a prepared set; `folder` appears as a whole or not at all.

    Args:
      folder: where the set will be; must not exist.
      name: of the data set, a Python identifier.
      rows: at least one, all with the same names, types, shapes: str, int, float, or arrays of any
          shape, one shape a name.

    Raises:
      UserError: the folder cannot be written to, or the disk is full.
      ValueError: no rows, or rows that differ in kind.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"the data set {name} has no rows")
    features = {key: _feature(value) for key, value in first.items()}

    def all_rows() -> Iterator[Row]:
        for row in (first, *rows):
            _check(row, features)
            yield row

    with run.atomic_path(folder) as partial, _disk_errors(folder), _quiet():
        ArrayRecordBuilder(name, all_rows(), features, partial).download_and_prepare()
        shutil.rmtree(partial / "downloads")  # TFDS makes it, empty


def read(folder: Path) -> dict[str, Shaped[np.ndarray, "N ..."]]:
    """All rows of a prepared set in the order they were written in: name -> array [N, ...], texts
    as str [N].

    Raises:
      UserError: the set has been damaged.
    """
    with _damage(folder):
        source = _source(folder)
        rows = source.__getitems__(range(len(source)))
    return {name: _column([row[name] for row in rows]) for name in rows[0]}


def each(folder: Path) -> Iterator[Row]:
    """Yields the rows of a prepared set one by one, without keeping them in memory. Errors as in
    `read`.
    """
    with _damage(folder):
        source = _source(folder)
        for i in range(len(source)):
            yield {
                name: value.decode() if isinstance(value, bytes) else value
                for name, value in source[i].items()
            }


def _source(folder: Path) -> _Source:
    (version,) = folder.glob("*/*/dataset_info.json")
    _check_features(json.loads(bounded.read_bytes(version.with_name("features.json"))))
    with _quiet():
        builder = tfds.builder_from_directory(version.parent)
        return builder.as_data_source(SPLIT)  # pyright: ignore[reportCallIssue]  # its decorator


def _check_features(value: object) -> None:
    """Checks that features.json names only TFDS' own features, as TFDS imports whatever module it
    names.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("type", "proto_cls") or (
                key in ("pythonClassName", "python_class_name") and inner not in FEATURES
            ):
                raise ValueError(f"features.json names {str(inner)[:100]}")
            _check_features(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_features(inner)


@contextlib.contextmanager
def _damage(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as e:
        # each library below raises its own errors for files that are missing, cut off or changed
        raise UserError(
            f"the prepared set {folder} is damaged: {e}",
            fix="remove that folder; it is then prepared again",
        ) from e


def _feature(value: object) -> tfds.features.FeatureConnector:
    if isinstance(value, str):
        return tfds.features.Text()
    value = np.asarray(value)
    if value.ndim == 0:
        return tfds.features.Scalar(value.dtype)
    # six times as fast as its default
    return tfds.features.Tensor(shape=value.shape, dtype=value.dtype, encoding="bytes")


def _check(row: Row, features: Mapping[str, tfds.features.FeatureConnector]) -> None:
    if row.keys() != features.keys():
        raise ValueError(
            f"a row has the columns {sorted(row)}, the first one has {sorted(features)}"
        )
    for name, value in row.items():
        feature, array = features[name], np.asarray(value)
        text = isinstance(feature, tfds.features.Text)
        if text != isinstance(value, str) or (
            not text and (array.shape, array.dtype) != (feature.shape, feature.np_dtype)
        ):
            raise ValueError(
                f"column {name}: a row has {array.dtype} {array.shape}, the first one {feature}"
            )


def _column(values: list) -> np.ndarray:
    return (
        np.array([v.decode() for v in values]) if isinstance(values[0], bytes) else np.stack(values)
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses TFDS's progress bars, which would break our own, and what its libraries print."""
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turns errors about the disk into a UserError. ArrayRecord's C++ writer reports a full disk as
    a RuntimeError: 'write() failed: No space left on device; ...'.
    """
    try:
        yield
    except RuntimeError as e:
        reason = re.search(r"\(\) failed: ([^;]+)", str(e))
        if not reason:
            raise
        raise UserError(
            f"cannot write {folder}: {reason[1]}",
            fix="check the folder's permissions and free space",
        ) from e
