"""Packs a finished run into a folder that `Recognizer.restore` reads (packed_run.py describes its
content).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

import fexpr
from fexpr import terminal
from fexpr.errors import UserError
from fexpr.evaluate.report.model_card import model_card
from fexpr.models.weights.files import write_safetensors
from fexpr.recognizer import archive, packed_run, restored
from fexpr.recognizer.ensemble import described
from fexpr.recognizer.recognizer import Recognizer
from fexpr.storage import run, seen_people

# largest allowed difference of a probability from the run's own; that of float16 was 0.001 to 0.002
TOLERANCE = 0.005
TRIED = 32  # random images on which this is checked

FILES = (
    (run.PACKED_WEIGHTS, "weights of every trial, parameters as float16"),
    (run.CONFIG, "the config, the classes, versions"),
    (
        run.PEOPLE,
        "the people in its training, as hashes; a run that starts from it tests none of them",
    ),
    (run.METRICS, "every measured figure, calibration maps, thresholds"),
)
USAGE = """```python
from fexpr import Recognizer

recognizer = Recognizer.restore("FOLDER")  # of this card
print(recognizer.predict(["photo.jpg"], fit="face"))
```"""


def pack(place: Path | str, folder: Path, selection: str | None = None) -> float:
    """Writes all trials of a run into `folder`, completely or not at all; an existing packed run is
    replaced.

    Args:
      place: the run, as in `Recognizer.restore`. selection: of its epoch, as in
          `Recognizer.restore`.

    Returns:
      The largest difference of a probability between the run and what was written, on TRIED random
      images.

    Raises:
      UserError: `place` is not a finished run, or cannot be written as float16; `folder` holds
          something else.
    """
    if folder.exists() and not packed_run.is_packed(folder):
        raise UserError(f"{folder} exists and contains no packed run", fix="name a new folder")
    with archive.opened(place) as run_dir:
        original = Recognizer.restore(run_dir, selection)
        saved = restored.load_variables(run_dir, original.selection)
        with run.atomic_path(folder) as partial:
            partial.mkdir()
            seen_people.pass_on(run_dir, partial)
            return _write(partial, folder.name, str(place), original, saved)


def _write(partial: Path, name: str, place: str, original: Recognizer, saved: dict) -> float:
    arrays = {
        path: _half(path, np.asarray(array))
        for path, array in flatten_dict(dict(saved), sep="/").items()
    }
    about = {
        "fexpr": fexpr.__version__,
        "selection": original.selection,
        "model": original.content["config"]["model"],
        "classes": original.class_names,
        "data": original.content["data"]["source"],
    }
    # one entry: safetensors writes several in any order, and the same run is the same file
    write_safetensors(partial / run.PACKED_WEIGHTS, arrays, {packed_run.ABOUT: json.dumps(about)})
    sha256 = hashlib.sha256((partial / run.PACKED_WEIGHTS).read_bytes()).hexdigest()
    content = _without_places(original.content) | {"weights": {"sha256": sha256}}
    run.write_json(partial / run.CONFIG, content)
    run.write_json(partial / run.METRICS, original.metrics)
    difference = largest_difference(original, Recognizer.restore(partial, original.selection))
    if not difference <= TOLERANCE:
        raise UserError(
            f"{place} does not give the same probabilities in float16",
            [f"a probability differs by {difference:.2g}; expected at most {TOLERANCE}"],
            fix="pass on the run directory itself, or `fexpr export` (float32)",
        )
    run.write_text(
        partial / run.CARD,
        model_card(
            content,
            original.metrics,
            [
                *described(original),
                f"Parameters are kept as float16: on {TRIED} random images a probability "
                f"differs by {difference:.1g} at most from the network that was measured",
            ],
            [(file, content) for file, content in FILES if (partial / file).is_file()],
            USAGE.replace("FOLDER", name),
        ),
    )
    return difference


def largest_difference(original: Recognizer, other: Recognizer) -> float:
    """The largest difference of a probability on random images, half of them noise, half smooth
    like faces.
    """
    rng = np.random.default_rng(0)
    height, width, channels = original.shape
    noise = rng.integers(0, 256, (TRIED // 2, height, width, channels))
    coarse = rng.integers(0, 256, (TRIED // 2, -(-height // 8), -(-width // 8), channels))
    smooth = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    images = np.concatenate([noise, smooth]).astype(original.dtype)
    calibrated = original.maps is not None
    return float(
        np.abs(
            original.members_probabilities(images, calibrated)
            - other.members_probabilities(images, calibrated)
        ).max()
    )


def _half(name: str, array: np.ndarray) -> np.ndarray:
    """Parameters as float16; statistics, which may be very small or large, as they are."""
    return array.astype(np.float16) if name.startswith("params/") else array


def _without_places(content: dict) -> dict:
    """The content of config.json without paths of the machine on which the run was made."""
    config = content["config"]
    words = content.get("command", "").split()  # runs of older versions lack it
    return {
        **content,
        "config": {**config, "data": {**config["data"], "root": ""}},
        "command": " ".join(word for word in words if not word.startswith("--workdir")),
    }


def run_pack(place: Path | str, folder: Path, selection: str | None) -> None:
    """Runs the command `fexpr weights pack`. Errors as in `pack`."""
    difference = pack(place, folder, selection)
    size = sum(path.stat().st_size for path in folder.iterdir())
    terminal.say(f"packed     {folder}: {size / 1e6:.2f} MB")
    terminal.say(
        f"verified   a probability differs by {difference:.1g} at most from the run's, on {TRIED} "
        "random images"
    )
