"""Strict by default: no silent type promotion, no silent broadcasting, no warning overlooked, no
network, no cache of the user's.
"""

import gc
import os
import shutil
import warnings
from pathlib import Path

from tests.launching import PNG, QUICK

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["XLA_FLAGS"] = " ".join(
    (os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=4", QUICK)
)

import builtins

import jax
import jaxtyping
import pytest

import tests.type_checker

# shapes of arrays are checked in the first calls of every function
jaxtyping.install_import_hook(["experiments", "fexpr"], "tests.type_checker.check")
# data and evaluate import these names for the type checker alone: jaxtyping takes long to import
for name in ("Bool", "Float", "Float32", "Int", "Int32", "Num", "Shaped", "UInt8"):
    setattr(builtins, name, getattr(jaxtyping, name))

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    tests.type_checker.begin_test()


@pytest.fixture(autouse=True)
def _strict():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are filled, but their pixels, which take longer than everything else in a report,
    are not computed: their files are empty pictures.
    """
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: Path(path).write_bytes(PNG))


@pytest.fixture(scope="session")
def all_workers(tmp_path_factory):
    """A folder that the tests of all workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def shared_cache(all_workers):
    """A cache folder for launches: releases are drawn and prepared, programs compiled once."""
    folder = all_workers / "shared_cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _compiled(pytestconfig, all_workers):
    """Programs are compiled once, over all workers and until `pytest --cache-clear`: compiling is
    most of the time of the tests. JAX writes into a folder of this session, as an entry that a
    killed session has left half-written would never be replaced.
    """
    folder = all_workers / "compiled"
    folder.mkdir(exist_ok=True)
    _link_all(_kept_programs(pytestconfig), folder)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    # else the folder's name is a part of every key
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    # and of launches, which read these
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"


def pytest_sessionfinish(session, exitstatus):
    """Keeps the programs that this session compiled, unless it was interrupted."""
    base = getattr(session.config, "_tmp_path_factory", None)
    is_worker = hasattr(session.config, "workerinput")
    if base and not is_worker and exitstatus in (0, pytest.ExitCode.TESTS_FAILED):
        _link_all(base.getbasetemp() / "compiled", _kept_programs(session.config))


def _kept_programs(config):
    """The folder in pytest's cache; None with `-p no:cacheprovider`."""
    cache = getattr(config, "cache", None)
    return cache and cache.mkdir("compiled")


def _link_all(source, target):
    """Links the programs of a folder into another that lacks them; copies to another disk."""
    if not (source and target and source.is_dir()):
        return
    for path in source.glob("*-cache"):
        try:
            os.link(path, target / path.name)
        except FileExistsError:
            pass
        except OSError:  # another disk, or one without links
            partial = target / f"{path.name}.{os.getpid()}"
            shutil.copyfile(path, partial)
            partial.replace(target / path.name)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache folder of the test's own; no data root, unless the test is marked `release`."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FEXPR_CACHE_DIR", str(folder))
    return folder


def pytest_collection_finish():
    """What is imported now stays: collecting garbage need not look at it again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    if not os.environ.get("FEXPR_DATA_DIR"):
        skip = pytest.mark.skip(reason="needs a real release: set FEXPR_DATA_DIR")
        for item in items:
            if item.get_closest_marker("release"):
                item.add_marker(skip)
