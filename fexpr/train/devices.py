"""The devices of this process: how many a CPU counts as, which of them share a batch, their memory,
and where compiled programs are kept.
"""

from __future__ import annotations

import os
from typing import TypedDict

import jax

from fexpr.errors import UserError
from fexpr.storage import compiled

# Multiply-adds of a step's convolutions (forward) from which on CPU cores share its batch: about 15
# ms of one core with the gradients. Smaller steps would spend too much time waiting for each other.
SHARED = 2**28


def use_every_core() -> None:
    """Makes each CPU core a device of its own; call before JAX is used. Accelerators are not
    affected.

    Trials then run side by side on the cores, 2.5 times (HTNet) to 4.8 times (STSTNet) as fast on
    two cores as vmapped over one device. A number of host devices in XLA_FLAGS takes precedence.
    """
    if not _chosen_by_user():
        jax.config.update("jax_num_cpu_devices", cpu_cores())


def cpu_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_batch(
    batch_size: int,
    work: int,
) -> list[jax.Device]:  # pyright: ignore[reportInvalidTypeForm]  # compiled, without stubs
    """The devices that share the batches of a single trial.

    Accelerators, and the devices of several processes: all. CPU cores: as many as divide the batch,
    if a step's convolutions have SHARED multiply-adds or more, else one. XLA computes a convolution
    on one core of a CPU device, but a matrix product on all cores. If XLA_FLAGS gives a number of
    host devices, they share every batch.

    Args:
      batch_size: rows of a step; 0 = all rows, which are padded to the devices.
      work: multiply-adds of the convolutions in a forward pass of one row.
    """
    found = jax.devices()
    if found[0].platform != "cpu" or jax.process_count() > 1:
        return found
    if not _chosen_by_user() and batch_size * work < SHARED:
        return found[:1]
    return found[: max(d for d in range(1, len(found) + 1) if batch_size % d == 0)]


def _chosen_by_user() -> bool:
    return "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")


def check() -> None:
    """Finds the devices.

    Raises:
      UserError: those that JAX_PLATFORMS names cannot be used on this machine.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as e:
        # its attributes are made at run time
        asked = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
        raise UserError(
            f"JAX finds no device to compute on (JAX_PLATFORMS={asked or ''})",
            str(e).splitlines()[:1],
            fix="unset JAX_PLATFORMS to use what there is; for a GPU install the package that the "
            "README names, and its driver",
        ) from e


def keep_compiled() -> None:
    """Keeps compiled programs in the cache folder: a second run with the same shapes compiles
    nothing. If the user has chosen a folder for them (JAX_COMPILATION_CACHE_DIR), it is used, with
    JAX's own settings.
    """
    kept = str(compiled.folder())
    # its attributes are made at run time
    chosen = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if chosen not in (None, "", kept):
        return
    compiled.remove_cut_off()
    jax.config.update("jax_compilation_cache_dir", kept)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def memory_limit() -> int:
    """Bytes that one device may use: what an accelerator reports, minus a tenth; on a CPU 70 % of
    its memory, shared by its devices.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(0.9 * stats["bytes_limit"])
    return int(
        0.7 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / jax.local_device_count()
    )


class Facts(TypedDict):
    """`kind` of the devices, their `count` and `platform`, and the number of `processes`."""

    kind: str
    count: int
    platform: str
    processes: int


def facts(count: int = 0) -> Facts:
    """Kind and number of the devices, and of the processes that they belong to, for config.json.

    Args:
      count: how many of them are used; 0 = all.
    """
    return {
        "kind": jax.devices()[0].device_kind,
        "count": count or jax.device_count(),
        "platform": jax.default_backend(),
        "processes": jax.process_count(),
    }


def bytes_of(program: jax.stages.Compiled) -> int:
    """Peak memory of one device by the compiler's own account: arguments, results that do not reuse
    them, and temporaries.
    """
    m = program.memory_analysis()
    if m is None:
        raise RuntimeError(f"{program} gives no account of its memory")
    return (
        m.argument_size_in_bytes
        + m.output_size_in_bytes
        - m.alias_size_in_bytes
        + m.temp_size_in_bytes
    )
