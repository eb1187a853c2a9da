"""Extensions: a user's own modules, which register data sets, models, protocols and metrics.

An extension is a module that adds to the plain dicts, `LOADERS["my_faces"] = load`. It is named by
`config.extensions`, or installed with an entry point of the group `fexpr.extensions`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType

from fexpr.errors import UserError

GROUP = "fexpr.extensions"  # group of entry points
FIX = (
    "install its package, or put the folder of the module on PYTHONPATH "
    "(docs/recipes.md, 'Extensions')"
)


def load(names: Iterable[str]) -> list[ModuleType]:
    """Imports the installed extensions and those named, once each.

    Args:
      names: of modules ('my_lab.faces'), found on Python's path or in the working directory, or
        paths of files ('lab/my_faces.py').

    Returns:
      The modules of `names`.

    Raises:
      UserError: modules or files that are missing or cannot be imported; all of them.
    """
    _load_installed()
    modules, problems = [], []
    for name in split(names):
        try:
            modules.append(_from_file(Path(name)) if _is_path(name) else _from_path(name))
        except _NotLoaded as e:
            problems.append(f"{name}: {e}")
    if problems:
        raise UserError("config.extensions cannot be imported", problems, FIX)
    return modules


def load_recorded(names: Iterable[str], run_dir: Path | None = None) -> dict[str, str]:
    """Imports the extensions that a run names, if they are on Python's path or already imported.

    A run may come from somebody else, so nothing is imported from a location that the run names, or
    from inside the run: a file 'lab/my_faces.py' is looked for as the module `lab.my_faces` or
    `my_faces`.

    Args:
      names: `config.extensions` of the run.
      run_dir: the run directory, or None.

    Returns:
      The missing extensions: name -> reason, for `refuse_missing`.

    Raises:
      UserError: modules that were found cannot be imported; all of them.
    """
    _load_installed()
    missing, problems = {}, []
    for name in split(names):
        candidates = module_names(name)
        if any(candidate in sys.modules for candidate in candidates):
            continue
        reasons = {candidate: _why_not_found(candidate, run_dir) for candidate in candidates}
        found = next((candidate for candidate, why in reasons.items() if not why), None)
        if found is None:
            missing[name] = "; ".join(reasons.values()) or "is no name of a module"
            continue
        try:
            _imported(found)
        except _NotLoaded as e:
            problems.append(f"{name}: {e}")
    if problems:
        raise UserError("extensions of the run cannot be imported", problems, FIX)
    return missing


def refuse_missing(missing: dict[str, str], of: object) -> None:
    """Raises a UserError that names every extension in `missing`, if any; `of`: the run that needs
    them.
    """
    if missing:
        title = f"{of} needs extensions that cannot be imported"
        raise UserError(
            title,
            [f"{name}: {why}" for name, why in missing.items()],
            f"{FIX}; a run directory contains no code",
        )


def module_names(name: str) -> list[str]:
    """The module names that an entry of `config.extensions` may have, the longest first."""
    if not _is_path(name):
        return [name] if _is_module(name) else []
    path = Path(name).with_suffix("")
    names = [] if path.is_absolute() or ".." in path.parts else [".".join(path.parts)]
    return [found for found in dict.fromkeys([*names, path.name]) if _is_module(found)]


def sources(names: Iterable[str]) -> list[str]:
    """Files and package folders of the extensions named, to be copied to another machine.

    Errors as in `load`.
    """
    found = []
    for module in load(names):
        top = sys.modules.get(module.__name__.partition(".")[0], module)
        place = next(iter(getattr(top, "__path__", [])), None) or top.__file__
        if place is not None:
            found.append(str(Path(place).resolve()))
    return list(dict.fromkeys(found))


def split(names: Iterable[str]) -> list[str]:
    """Splits names, as a text may contain several:
    --config.extensions=my_lab.faces,my_lab.nets.

    Raises:
      UserError: they are not texts.
    """
    names = list(names)
    if wrong := [repr(name) for name in names if not isinstance(name, str)]:
        raise UserError(
            "config.extensions cannot be used",
            [f"expected names of modules, found {', '.join(wrong)}"],
            fix="write them as my_lab.faces,my_lab.nets",
        )
    return [name.strip() for text in names for name in text.split(",") if name.strip()]


class _NotLoaded(Exception):
    """An extension cannot be imported; the text says why."""


@functools.cache
def _load_installed() -> None:
    problems = []
    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as e:
            problems.append(f"{entry.value}: {_where(e)}")
    if problems:
        raise UserError(
            f"installed extensions (entry points of {GROUP}) cannot be imported",
            problems,
            "repair or uninstall their packages",
        )


def _is_path(name: str) -> bool:
    return name.endswith(".py")


def _is_module(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _from_path(name: str) -> ModuleType:
    """Imports the module `name` from Python's path or the working directory."""
    if not _is_module(name):
        raise _NotLoaded(
            "expected the name of a module, for example my_lab.faces, or of a file, for example "
            "lab/my_faces.py"
        )
    _add_to_path(Path.cwd())
    if name not in sys.modules and (why := _why_not_found(name, None)):
        raise _NotLoaded(f"{why} (looked on Python's path and in {Path.cwd()})")
    return _imported(name)


def _from_file(path: Path) -> ModuleType:
    """Imports a file as the module of its name; it can import modules beside it."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise _NotLoaded(f"there is no file {path}")
    name = path.stem
    if not _is_module(name):
        raise _NotLoaded("a module's name may only contain letters, digits and _: rename the file")
    for known in list(sys.modules.values()):
        if (
            (file := getattr(known, "__file__", None))
            and file.endswith(path.name)
            and Path(file).resolve() == path
        ):
            return known
    if name in sys.modules:
        raise _NotLoaded(f"another module is already called {name}: rename the file")
    _add_to_path(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _NotLoaded(f"{path} is no file of Python code")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        del sys.modules[name]
        raise _NotLoaded(_where(e)) from e
    return module


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as e:
        raise _NotLoaded(_where(e)) from e


def _where(error: Exception) -> str:
    """An exception's message, and the line of the user's file that raised it."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    lines = [f" ({frame.filename}, line {frame.lineno})" for frame in place]
    return f"{type(error).__name__}: {error}{''.join(lines)}"


def _why_not_found(name: str, run_dir: Path | None) -> str:
    """Why the module cannot be imported; '' if it can. Imports its parent packages to look into
    them.
    """
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        prefix = ".".join(parts[:i])
        if prefix in sys.modules:
            continue
        try:
            spec = importlib.util.find_spec(prefix)
        except Exception as e:
            return f"{prefix}: {_where(e)}"
        if spec is None:
            return f"no module {prefix} was found"
        places = [spec.origin, *(spec.submodule_search_locations or ())]
        if run_dir and any(_lies_in(place, run_dir) for place in places if place):
            return f"module {prefix} is in the run directory, from which no code is imported"
    return ""


def _lies_in(place: str, folder: Path) -> bool:
    return Path(place).resolve().is_relative_to(folder.resolve())


def _add_to_path(folder: Path) -> None:
    """Appends to the path's end, so that no module of Python or of an installed package is
    hidden.
    """
    if not any(Path(entry or os.curdir).resolve() == folder for entry in sys.path):
        sys.path.append(str(folder))


def registered_by(names: Sequence[str]) -> str:
    """A hint for messages about unknown names: how users register their own."""
    given = f"config.extensions is {tuple(names)!r}" if names else "config.extensions is empty"
    return f"your own must be registered by a module in config.extensions ({given})"
