"""Weights: the models of this installation, and files of weights.

python -m fexpr.weights                        the trained models, with what was measured
python -m fexpr.weights inspect FILE           the content of a file of weights, a run or a model;
no code in it is run
python -m fexpr.weights export RUN FILE        the network of a run as safetensors, under
                                               fexpr's own names
python -m fexpr.weights export RUN FILE --layout=pytorch
                                               an HTNet or Deep-Emotion under the names of its
                                               PyTorch release, for
                                               load_state_dict(safetensors.torch.load_file(FILE))
python -m fexpr.weights pack RUN FOLDER        a run without its predictions and checkpoints,
                                               in float16, with a model card: for
                                               Recognizer.restore(FOLDER)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fexpr import terminal
from fexpr.command_parser import Parser
from fexpr.errors import UserError
from fexpr.evaluate.report import findings, model_card
from fexpr.storage import run, zoo
from fexpr.storage.addresses import local_path, path_or_url
from fexpr.terminal import say


def list_models() -> None:
    """Prints the models that are installed with fexpr."""
    names = zoo.names()
    if not names:
        say("this installation has no trained models")
    for name in names:
        folder = zoo.folder(name)
        content, metrics = run.read_json(folder / run.CONFIG), run.read_json(folder / run.METRICS)
        data, size = content["data"], (folder / run.PACKED_WEIGHTS).stat().st_size
        say(f"{name}", style="bold")
        say(f"  {model_card.one_line(content, metrics)}; {size / 1e6:.2f} MB")
        say(f"  {', '.join(data['classes'])}")
        say(f"  {findings.verdict(metrics)}")
        say(f"  data: {model_card.licence(data)}")
        say(f"  card: {folder / run.CARD}")
        say()


def inspect(path: Path) -> None:
    """Prints the format, the SHA-256, the network that it seems to belong to, and every array's
    name, shape and type.
    """
    from flax.traverse_util import flatten_dict

    from fexpr.models.weights import files, layouts

    if path.is_dir():
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
    say(f"looks like  {layouts.identify_network(weights.arrays) or 'no network that fexpr knows'}")
    for name, value in weights.about.items():
        say(f"{name}  {value}")
    _list(weights.arrays)


def export(run_dir: Path | str, path: Path, layout: str, trial: int) -> None:
    """Writes a run's network, of the run's own selection, completely or not at all.

    Raises:
      UserError: not a finished run, no such trial; a model without that layout; the file cannot be
          written.
    """
    from fexpr.recognizer import Recognizer
    from fexpr.recognizer.write_weights import write_weights

    if path.suffix != ".safetensors":
        raise UserError(
            f"{path}: exports are safetensors", fix=f"name it {path.stem or 'weights'}.safetensors"
        )
    arrays = write_weights(Recognizer.restore(run_dir, trial=trial), path, layout)
    say(f"{path}: {len(arrays)} arrays, {sum(a.size for a in arrays.values()):,} numbers")


def _list(arrays: Mapping[str, np.ndarray]) -> None:
    say(f"{len(arrays)} arrays, {sum(a.size for a in arrays.values()):,} numbers")
    width = max(map(len, arrays), default=0)
    for name, array in arrays.items():
        say(
            f"  {name:<{width}}  {'x'.join(map(str, array.shape)) or 'one number':<16}  "
            f"{array.dtype}"
        )


def parser() -> argparse.ArgumentParser:
    whole = Parser(
        prog=terminal.program("fexpr.weights"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(dest="command")
    one = commands.add_parser("inspect", help="the content of a file of weights, a run or a model")
    one.add_argument("path", metavar="FILE", type=lambda text: Path(zoo.run_or_model(text)))
    two = commands.add_parser("export", help="a run's network as safetensors")
    two.add_argument("run", metavar="RUN", type=path_or_url)
    two.add_argument("path", metavar="FILE", type=local_path)
    two.add_argument("--layout", choices=("fexpr", "pytorch"), default="fexpr")
    two.add_argument(
        "--trial", type=int, default=0, help="fold x seed, numbered as in predictions.npz"
    )
    three = commands.add_parser("pack", help="a run in float16 with its card, for use")
    three.add_argument("run", metavar="RUN", type=path_or_url)
    three.add_argument("path", metavar="FOLDER", type=local_path)
    three.add_argument(
        "--selection",
        choices=("last", "best_val"),
        help="weights of this epoch (default: those of the run's result)",
    )
    return whole


def main(argv: list[str] | None = None) -> int:
    a = parser().parse_args(argv)
    terminal.quiet()
    if a.command == "inspect":
        return terminal.exit_code(lambda: inspect(a.path))
    if a.command == "export":
        return terminal.exit_code(lambda: export(a.run, a.path, a.layout, a.trial))
    if a.command == "pack":
        from fexpr.recognizer import pack

        return terminal.exit_code(lambda: pack.run_pack(a.run, a.path, a.selection))
    return terminal.exit_code(list_models)


if __name__ == "__main__":
    sys.exit(main())
