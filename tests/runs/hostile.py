"""Run directories that somebody, or a bad disk, has damaged: each is a copy of a finished run with
one file changed. Cut off, inverted, of another shape, of other types, empty, huge, no file at all.
"""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np

from fexpr.storage import run

ARRAY_FILES = (run.PREDICTIONS, run.PEOPLE)
VALUES = (None, True, -1, 10**9, 1e308, "", "x" * 300, "\x1b[31m", [], [1], {}, {"a": {}}, "café")
TEXTS = (
    "",
    "null",
    "[]",
    "3",
    '"text"',
    "{}",
    "NaN",
    '{"config": NaN}',
    "[" * 100_000,
    '{"format": 1, "config": []}',
    '{"a": "\\ud800"}',
    "1" * 5000,
    '{"model_type": "bert", "hidden_size": 768}',  # somebody else's config.json
    "\ufeff{}",
)
ARRAYS = (
    np.zeros(0, np.float32),
    np.zeros((3, 3, 3), np.int32),
    np.full(108, np.nan, np.float32),
    np.full((108, 2), np.inf),
    np.array(["a", "b"]),
    np.array(5),
    np.full(108, 10**6, np.int32),
    np.full(108, -1, np.int32),
    np.zeros(108, np.complex64),
    np.array([b"bytes"]),
    np.zeros(108, "M8[s]"),
)


def cases(count, seed=0):
    """Yields names and functions that damage a copy of a run directory, in an order that reaches
    every kind soon.
    """
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        yield (
            f"{kind.__name__[1:]}{i}",
            lambda folder, kind=kind, i=i: kind(folder, random.Random(f"{seed}/{i}")),
        )


def damaged(source, target, damage):
    """A copy of the run directory `source` at `target`, damaged."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    damage(Path(target))
    return target


def _file(folder, rng):
    names = (run.CONFIG, run.METRICS, run.HISTORY, *ARRAY_FILES, run.PACKED_WEIGHTS)
    return folder / rng.choice([name for name in names if (folder / name).exists()])


def _change_bytes(path, rng):
    content = bytearray(path.read_bytes())
    kind = rng.choice(("cut", "invert", "zero", "insert", "empty"))
    at = rng.randrange(max(len(content), 1))
    if kind == "cut":
        del content[at:]
    elif kind == "empty":
        content.clear()
    elif kind == "insert":
        content[at:at] = rng.randbytes(7)
    elif content:
        for i in range(at, min(at + rng.choice((1, 3, 200)), len(content))):
            content[i] = 0 if kind == "zero" else content[i] ^ 0xFF
    path.write_bytes(content)


def _bytes(folder, rng):
    _change_bytes(_file(folder, rng), rng)


def _text(folder, rng):
    path = folder / rng.choice([run.CONFIG, run.METRICS, run.HISTORY])
    path.write_text(rng.choice(TEXTS), encoding="utf-8", errors="surrogatepass")


def _field(folder, rng):
    """One field, at any depth, is missing or holds something else."""
    path = folder / rng.choice([run.CONFIG, run.METRICS])
    content = json.loads(path.read_text())
    inside = content
    while True:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = rng.choice(keys)
        below = inside[key]
        if not isinstance(below, (dict, list)) or not below or rng.random() < 0.35:
            break
        inside = below
    if rng.random() < 0.3:
        del inside[key]
    else:
        inside[key] = rng.choice(VALUES)
    path.write_text(json.dumps(content))


def _array(folder, rng):
    path = folder / rng.choice([name for name in ARRAY_FILES if (folder / name).exists()])
    arrays = run.read_arrays(path)
    name = rng.choice(sorted(arrays))
    change = rng.randrange(4)
    if change == 0:
        del arrays[name]
    elif change == 1:
        arrays[name] = rng.choice(ARRAYS)
    elif change == 2:
        arrays[name] = arrays[name][: len(arrays[name]) // 2]
    else:
        arrays[name] = arrays[name].astype("U32")
    np.savez(path, **arrays)


def _checkpoint(folder, rng):
    packed = folder / run.PACKED_WEIGHTS
    files = sorted(p for p in (folder / run.CHECKPOINTS).rglob("*") if p.is_file())
    path = packed if packed.exists() else rng.choice(files)
    if rng.random() < 0.2:
        path.unlink()
    else:
        _change_bytes(path, rng)


def _no_file(folder, rng):
    """A folder, a pipe, a link to nothing or to itself, a device, instead of a file."""
    path = _file(folder, rng)
    path.unlink()
    kind = rng.randrange(6)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to("nowhere")
    elif kind == 3:
        path.symlink_to(path.name)
    elif kind == 4:
        path.symlink_to("/dev/zero")
    else:
        with open(path, "wb") as file:
            file.truncate(2**40)


KINDS = (_bytes, _text, _field, _array, _checkpoint, _no_file)
