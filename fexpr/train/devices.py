"""The devices of this process: how many a CPU is taken for, how much memory they have, where
programs compiled for them are kept.
"""

from __future__ import annotations

import os

import jax

from fexpr.errors import UserError
from fexpr.storage import run


def use_every_core(cores: int = 0) -> None:
    """Makes each CPU core, or so many, a device of its own, for many trials; call before JAX is
    used. Accelerators are not affected.

    Trials then run side by side on the cores, 2.5 times (HTNet) to 4.8 times (STSTNet) as fast on
    two cores as vmapped over one device. XLA_FLAGS with a number of host devices goes before.
    """
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        jax.config.update("jax_num_cpu_devices", cores or there)


def check() -> None:
    """Finds the devices.

    Raises:
      UserError: those that JAX_PLATFORMS names cannot be used on this machine.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as e:
        asked = jax.config.jax_platforms
        raise UserError(
            f"JAX finds no device to compute on (JAX_PLATFORMS={asked or ''})",
            str(e).splitlines()[:1],
            fix="unset JAX_PLATFORMS to use what there is; for a GPU install the package that the "
            "README names, and its driver",
        ) from e


def keep_compiled() -> None:
    """Compiled programs are kept in the cache folder: a second run of the same shapes compiles
    nothing.
    """
    jax.config.update("jax_compilation_cache_dir", str(run.cache_dir() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def memory_limit() -> int:
    """Bytes that one device may use: what an accelerator reports, less a tenth; of a CPU's memory
    70 %, shared by its devices.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(0.9 * stats["bytes_limit"])
    return int(
        0.7 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / jax.local_device_count()
    )


def facts() -> dict[str, str | int]:
    """Kind and number of the devices, and of the processes that they belong to, for the record."""
    return {
        "kind": jax.devices()[0].device_kind,
        "count": jax.device_count(),
        "platform": jax.default_backend(),
        "processes": jax.process_count(),
    }
