"""Arrays of a file -> the variables of a model, with a report by name. All of them fit, or none is
used.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from fexpr.errors import UserError

LAST = "head"  # the name of every model's last layer
TOP = "top"  # the part that a file may lack entirely: the dense layers after a trunk

Path = tuple[str, ...]  # ('params', 'conv_0', 'kernel')


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names and the layout of a model's arrays in a file.

    Attributes:
      name: path in our model -> name in the file; None: the format cannot contain it.
      to_file, from_file: convert an array between our layout and the file's; they also take the
          path.
      ignored: regex of names in the file that the model does not need (PyTorch's batch counter,
          the top of another task).
    """

    name: Callable[[Path], str | None]
    to_file: Callable[[Path, np.ndarray], np.ndarray] = lambda path, array: array
    from_file: Callable[[Path, np.ndarray], np.ndarray] = lambda path, array: array
    ignored: str = r"$^"


@dataclasses.dataclass(frozen=True)
class Report:
    """A report by name. Arrays of the model: `loaded`, and `reinitialized` (kept at their initial
    values on purpose) with the reason. Arrays of the file: `ignored`. `missing`, `extra` and
    `wrong` are problems, as text. All are in the order of the model or file.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    wrong: tuple[str, ...]
    reinitialized: Mapping[str, str]
    ignored: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        return (*self.missing, *self.extra, *self.wrong)

    def summary(self) -> str:
        """The report in one line, for the terminal."""
        parts = [f"{len(self.loaded)} arrays loaded"]
        if self.reinitialized:
            names = dict.fromkeys(
                name.partition("/")[2].rpartition("/")[0] for name in self.reinitialized
            )
            reasons = dict.fromkeys(self.reinitialized.values())
            parts.append(f"reinitialized: {', '.join(names)} ({'; '.join(reasons)})")
        if self.ignored:
            layers = dict.fromkeys(name.rpartition("/")[0] or name for name in self.ignored)
            parts.append(f"ignored: {', '.join(layers)}")
        return "; ".join(parts)


def fit_arrays(
    arrays: Mapping[str, np.ndarray],
    like: Mapping[str, PyTree],
    layout: Layout,
    reinitialize: str = "",
) -> tuple[dict, Report]:
    """The variables that the file contains, as a tree of float32 arrays like `like` without the
    reinitialized ones, and the report. Reinitialized are a last layer of another width, a top that
    the file lacks entirely, and what `reinitialize` (a regex of our paths without their collection:
    'top/hidden_0/kernel') matches. Check `report.problems` before using the tree.

    Args:
      like: the variables of the model that is to take them; only shapes are read, so
          `jax.eval_shape(model.init, …)` will do.
    """
    leaves = {path: tuple(leaf.shape) for path, leaf in flatten_dict(like).items()}
    names = {path: layout.name(path) for path in leaves}
    expected = {
        path: layout.to_file(path, np.broadcast_to(np.float32(0), shape)).shape
        for path, shape in leaves.items()
    }
    fresh = _find_reinitialized(arrays, names, expected, reinitialize)
    tree, missing, wrong = {}, [], []
    for path in leaves:
        name, ours = names[path], "/".join(path)
        if path in fresh:
            continue
        if name is None or name not in arrays:
            missing.append(f"{name or ours}: missing, expected {expected[path]}")
            continue
        array, problem = np.asarray(arrays[name]), ""
        if array.shape != expected[path]:
            problem = f"expected {expected[path]}, found {array.shape}"
        elif array.dtype.kind not in "fV":  # V: bfloat16, to NumPy
            problem = f"expected floating numbers, found {array.dtype}"
        elif not np.isfinite(array := array.astype(np.float32)).all():
            problem = "contains NaN or infinity"
        if problem:
            wrong.append(f"{name}: {problem}")
        else:
            tree[path] = np.ascontiguousarray(layout.from_file(path, array))
    wanted = set(names.values())
    unknown = [name for name in arrays if name not in wanted]
    ignored = [name for name in unknown if re.search(layout.ignored, name)]
    extra = [
        f"{name}: not part of this model, found {np.shape(arrays[name])}"
        for name in unknown
        if name not in ignored
    ]
    report = Report(
        tuple("/".join(path) for path in tree),
        tuple(missing),
        tuple(extra),
        tuple(wrong),
        {"/".join(path): why for path, why in fresh.items()},
        tuple(ignored),
    )
    return unflatten_dict(tree), report


def refuse_problems(report: Report, title: str, fix: str) -> None:
    """Raises one UserError that lists everything missing, extra and of the wrong shape."""
    if report.problems:
        raise UserError(
            f"{title} ({len(report.problems)} problems, nothing was loaded)",
            report.problems,
            fix=fix,
        )


def _find_reinitialized(
    arrays: Mapping, names: Mapping, expected: Mapping, reinitialize: str
) -> dict[Path, str]:
    """Paths that are reinitialized, and why."""
    fresh = {
        path: "as asked for"
        for path in names
        if reinitialize and re.search(reinitialize, "/".join(path[1:]))
    }
    top = [path for path in names if path[1] == TOP and path not in fresh]
    if top and not any(names[path] in arrays for path in top):
        fresh |= dict.fromkeys(top, "the file has none")
    kernel = next(
        (path for path in names if path[-2:] == (LAST, "kernel") and path not in fresh), None
    )
    bias = kernel and (*kernel[:-1], "bias")
    if kernel and names[kernel] in arrays and names[bias] in arrays:
        (own_classes,), file_classes = expected[bias], np.size(arrays[names[bias]])
        # the number of classes is the first axis of a kernel in PyTorch's layout, the last in
        # Keras' and ours
        if (
            sorted(np.shape(arrays[names[kernel]]))
            == sorted(file_classes if n == own_classes else n for n in expected[kernel])
            and file_classes != own_classes
        ):
            fresh |= dict.fromkeys(
                (kernel, bias), f"{file_classes} classes in the file, {own_classes} in the model"
            )
    return fresh
