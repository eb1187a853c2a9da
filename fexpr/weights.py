"""python -m fexpr.weights inspect FILE             what a file of weights, or a run directory,
holds; nothing in it is run python -m fexpr.weights export RUN FILE          the network of a
finished run as safetensors, under fexpr's own names python -m fexpr.weights export RUN FILE
--layout=pytorch
                                                           an HTNet or Deep-Emotion under the names
                                                           of its PyTorch release:
                                                           model.load_state_dict(safetensors.torch.load_file(FILE))
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from fexpr import terminal
from fexpr.errors import UserError
from fexpr.models.weights import files, layouts
from fexpr.storage.addresses import path_or_url
from fexpr.terminal import say


def inspect(path: Path) -> None:
    """Prints format, SHA-256, what network it looks like, and every array's name, shape and
    type.
    """
    if path.is_dir():
        # the command line alone reaches out of the room: a run is restored by the recogniser
        from fexpr.recognizer import Recognizer

        restored = Recognizer.restore(path, trial=0)
        say(
            f"{path}: finished run of {restored.content['model']['name']}, selection "
            f"{restored.selection}, trial 0 of {restored.trials}"
        )
        say(
            f"classes  {', '.join(restored.class_names)}   images "
            f"{'x'.join(map(str, restored.shape))}"
        )
        _list(
            {
                "/".join(name): np.asarray(array)
                for name, array in flatten_dict(dict(restored.networks[0].variables)).items()
            }
        )
        return
    weights = files.read(path)
    say(f"{path}: {weights.format}, {path.stat().st_size:,} bytes, sha256 {weights.sha256}")
    say(f"looks like  {layouts.recognised(weights.arrays) or 'no network that fexpr knows'}")
    for name, value in weights.about.items():
        say(f"{name}  {value}")
    _list(weights.arrays)


def export(run_dir: Path | str, path: Path, layout: str, trial: int) -> None:
    """Writes a run's network, of its own selection, whole or not at all.

    Raises:
      UserError: not a finished run, no such trial; a model without that layout; the file cannot be
          written.
    """
    from fexpr.recognizer import Recognizer
    from fexpr.recognizer.export import write_weights

    if path.suffix != ".safetensors":
        raise UserError(
            f"{path}: exports are safetensors", fix=f"call it {path.with_suffix('.safetensors')}"
        )
    arrays = write_weights(Recognizer.restore(run_dir, trial=trial), path, layout)
    say(f"{path}: {len(arrays)} arrays, {sum(a.size for a in arrays.values()):,} numbers")


def _list(arrays: dict[str, np.ndarray]) -> None:
    say(f"{len(arrays)} arrays, {sum(a.size for a in arrays.values()):,} numbers")
    width = max(map(len, arrays), default=0)
    for name, array in arrays.items():
        say(
            f"  {name:<{width}}  {'x'.join(map(str, array.shape)) or 'one number':<16}  "
            f"{array.dtype}"
        )


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        prog=terminal.program("fexpr.weights"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(required=True, dest="command")
    one = commands.add_parser("inspect", help="what a file of weights, or a run directory, holds")
    one.add_argument("path", metavar="FILE", type=Path)
    two = commands.add_parser("export", help="a run's network as safetensors")
    two.add_argument("run", metavar="RUN", type=path_or_url)
    two.add_argument("path", metavar="FILE", type=Path)
    two.add_argument("--layout", choices=("fexpr", "pytorch"), default="fexpr")
    two.add_argument(
        "--trial", type=int, default=0, help="fold x seed, numbered as in predictions.npz"
    )
    return whole


def main(argv: list[str] | None = None) -> int:
    a = parser().parse_args(argv)
    terminal.quiet()
    return terminal.exit_code(
        lambda: (
            inspect(a.path) if a.command == "inspect" else export(a.run, a.path, a.layout, a.trial)
        )
    )


if __name__ == "__main__":
    sys.exit(main())
