"""fexpr as an installation has it: a wheel, and a folder with nothing but what pip makes of it."""

import subprocess
import sys
from pathlib import Path

from tests.launching import ROOT, environment


def build_wheel(folder: Path) -> Path:
    """Without build isolation, which would need the network."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> None:
    """Into a folder for PYTHONPATH; what fexpr needs is that of this environment."""
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)


def run_installed(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command `fexpr` of an installation."""
    return subprocess.run(
        [sys.executable, str(site / "bin" / "fexpr"), *arguments],
        cwd=cwd,
        env=environment(cwd / ".cache", PYTHONPATH=str(site)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
