"""A synthetic RAVDESS: drawn actors who speak and show an emotion for a part of each clip, with the
truth about every frame.

Clips have the names of the real release. A clip starts and ends neutral; in between an emotion
rises to an apex and falls again, by a curve that `truth.csv` holds for every frame. The mouth talks
all along, some frames contain a blink, heads drift. Matching action units are written in tables
like OpenFace's (intensities 0 to 5, with noise and a bias for each actor), for each frame and
averaged over each clip.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fexpr import terminal
from fexpr.data.preparation import alignment, prepare
from fexpr.data.releases.ravdess_names import EMOTIONS, ClipName
from fexpr.data.synthetic import drawn_face, drawn_portrait
from fexpr.data.synthetic.drawn_face import Unit, folds, lid_closure, motion, random_face
from fexpr.data.synthetic.drawn_portrait import Portrait
from fexpr.storage import run

SIDE = 48
GAIN = 2.5  # motion of an action unit, relative to a micro-expression's (drawn_face.AMPLITUDE)
FPS = 30
UNITS: dict[str, dict[int, float]] = {  # action units of an emotion at full strength
    "neutral": {},
    "calm": {12: 0.25, 7: 0.2},
    "happy": {6: 0.8, 12: 1.0},
    "sad": {1: 0.8, 4: 0.5, 15: 0.9, 17: 0.4},
    "angry": {4: 1.0, 7: 0.8, 24: 0.7},
    "fearful": {1: 0.8, 2: 0.5, 4: 0.4, 5: 0.9, 20: 0.8},
    "disgust": {9: 1.0, 10: 0.8, 17: 0.5},
    "surprised": {1: 0.9, 2: 1.0, 5: 0.8, 26: 0.8},
}
TALK = (25, 26)  # what speech moves it measures 23 where 24 is drawn; 45 is a blink
OPENFACE = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
EXPRESSIVE = 0.5  # of a clip's own apex: from here on a frame shows its emotion
README = """SYNTHETIC DATA. No person is shown here, and no result on it says anything about people.

fexpr drew this release (fexpr/data/synthetic/ravdess_clips.py) in the layout and with the names of
RAVDESS.
{clips} clips of {actors} actors, {frames} frames a clip, seed {seed}.
truth.csv says how far each frame shows its emotion, and whether it holds a blink.
"""


@dataclasses.dataclass(frozen=True)
class Take:
    """One clip of the plan. By frame: `shown` in 0 to 1, `blink` 0 to 1, `talk` 0 to 1, float64 [F]
    each.
    """

    name: ClipName
    units: dict[int, float]
    shown: np.ndarray
    blink: np.ndarray
    talk: np.ndarray


def release(config: ConfigDict, frames: bool = False) -> Path:
    """The folder of the synthetic release, drawn on first use, and again when the code that draws
    it has changed.

    Args:
      config: `config.data`; its synthetic_subjects (at most 24), synthetic_clips, synthetic_frames
          and synthetic_seed are read.
      frames: whether to draw frames; False: only the tables of action units.
    """
    files = (__file__, *map(inspect.getfile, (drawn_face, drawn_portrait, alignment)))
    code = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files))
    plan = (
        min(config.synthetic_subjects, 24),
        config.synthetic_clips,
        config.synthetic_frames,
        config.synthetic_seed,
    )
    name = "-".join(map(str, ("ravdess" if frames else "ravdess_aus", *plan, code.hexdigest()[:8])))
    folder = run.cache_dir() / "synthetic" / name / "ravdess"
    with prepare.exclusive_lock(folder.parent):
        if not folder.exists():
            prepare.remove(folder.parent.glob(".ravdess.*"))  # left by a killed process
            write(folder, *plan, draw=frames)
    return folder


def write(
    folder: Path, actors: int, clips: int, frames: int, seed: int = 0, draw: bool = True
) -> None:
    """Writes the tables and, with `draw`, frames/<clip>/<number>.png (48x48 grey) and frames.csv.
    Everything is written, or nothing.

    Raises:
      ValueError: fewer than 1 or more than 24 actors, or more clips of an actor than the release
          has.
    """
    takes = plan(actors, clips, frames, seed)
    with run.atomic_path(Path(folder)) as partial:
        (partial / "openface").mkdir(parents=True)
        averages, truth = [], []
        for take in takes:
            table = action_units(take, seed)
            table.to_csv(
                partial / "openface" / f"{take.name}.csv", index=False, float_format="%.3f"
            )
            averages.append(table.filter(regex="^AU").mean().to_dict() | {"name": str(take.name)})
            shown = zip(take.shown, take.blink, strict=True)
            truth += [
                (f"{take.name}/{i}.png", round(s, 4), int(b > 0.5))
                for i, (s, b) in enumerate(shown)
            ]
        pd.DataFrame(averages).to_csv(partial / "average_action_units.csv", sep=";", index=False)
        pd.DataFrame(truth, columns=["path", "shown", "blink"]).to_csv(
            partial / "truth.csv", sep=";", index=False
        )
        (partial / "README.txt").write_text(
            README.format(clips=clips, actors=actors, frames=frames, seed=seed), encoding="utf-8"
        )
        if draw:
            _write_frames(partial, takes, seed)


def plan(actors: int, clips: int, frames: int, seed: int) -> list[Take]:
    """Plans who shows which emotion, sorted by name: every actor's clips cycle through the
    emotions, in a random order of the release's own 60 names.
    """
    if not 1 <= actors <= 24 or clips > 60 * actors:
        raise ValueError(
            f"RAVDESS has 24 actors with 60 clips each, asked for {clips} clips of {actors} actors"
        )
    rng = np.random.default_rng(seed)
    takes = []
    for actor in range(1, actors + 1):
        own = {
            e: [
                ClipName(1, 1, e + 1, *rest, actor)
                for rest in itertools.product((1, 2) if e else (1,), (1, 2), (1, 2))
            ]
            for e in range(len(EMOTIONS))
        }
        shuffled = [rng.permutation(len(names)) for names in own.values()]
        rounds = [
            own[e][order[i]] for i in range(8) for e, order in enumerate(shuffled) if i < len(order)
        ]
        number = clips // actors + (actor <= clips % actors)
        # with few clips per actor, the next actor continues the cycle
        start = (actor - 1) * number % len(EMOTIONS)
        rounds = rounds[start:] + rounds[:start]
        takes += [
            _take(name, frames, np.random.default_rng([seed, *name])) for name in rounds[:number]
        ]
    return sorted(takes, key=lambda take: take.name[2:])


def _take(name: ClipName, frames: int, rng: np.random.Generator) -> Take:
    t = (np.arange(frames) + 0.5) / frames
    onset, end = rng.uniform(0.1, 0.35), rng.uniform(0.6, 0.9)
    rise, fall = rng.uniform(0.1, 0.2, 2)
    shown = np.minimum(_smooth((t - onset) / rise), _smooth((end - t) / fall))
    full = (0.65 if name.intensity == 1 else 1.0) * rng.uniform(0.85, 1.15)
    units = {
        au: float(amount * full * rng.uniform(0.75, 1.2))
        for au, amount in UNITS[EMOTIONS[name.label]].items()
    }
    blink = np.zeros(frames)
    for start in np.flatnonzero(rng.random(frames) < 0.04):
        blink[start : start + 2] = 1.0
    talk = np.clip(
        0.45 * (1 + np.sin(2 * np.pi * (3 * t + rng.random()))) * rng.uniform(0.3, 1.0, frames),
        0,
        1,
    ) * (abs(t - 0.5) < 0.35)
    return Take(name, units, shown, blink, talk)


def _smooth(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, half a cosine between."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(x, 0, 1))


def action_units(take: Take, seed: int) -> pd.DataFrame:
    """Simulates OpenFace's output for each frame: frame (from 1), timestamp, confidence, success,
    17 intensities, 18 presences.
    """
    rng, frames = np.random.default_rng([seed, 1, *take.name]), len(take.shown)
    bias = np.random.default_rng([seed, 2, take.name.actor])
    columns: dict[str, np.ndarray] = {
        "frame": np.arange(1, frames + 1),
        "timestamp": np.arange(frames) / FPS,
        "confidence": np.full(frames, 0.98),
        "success": np.ones(frames, int),
    }
    gain, offset = bias.uniform(0.6, 1.2, len(OPENFACE)), bias.uniform(0, 0.5, len(OPENFACE))
    for k, au in enumerate(OPENFACE):
        amount = (
            take.shown * take.units.get(24 if au == 23 else au, 0.0)
            + (au in TALK) * 0.6 * take.talk
        )
        amount = take.blink if au == 45 else amount
        columns[f"AU{au:02d}_r"] = np.clip(
            4 * gain[k] * amount + offset[k] + rng.normal(0, 0.35, frames), 0, 5
        )
    columns |= {f"AU{au:02d}_c": (columns[f"AU{au:02d}_r"] > 1).astype(float) for au in OPENFACE}
    columns["AU28_c"] = (rng.random(frames) < 0.05).astype(float)
    names = [c for c in columns if c.endswith("_c")]
    return pd.DataFrame(
        {c: columns[c] for c in [*(c for c in columns if c not in names), *sorted(names)]}
    )


def _write_frames(folder: Path, takes: Sequence[Take], seed: int) -> None:
    portraits = {
        actor: Portrait(random_face(np.random.default_rng([seed, 3, actor])))
        for actor in sorted({t.name.actor for t in takes})
    }
    rows = [
        (f"{take.name}/{i}.png", take.name.label, take.name.actor, str(take.name), i)
        for take in takes
        for i in range(len(take.shown))
    ]
    pd.DataFrame(rows, columns=["path", "emotion", "actor", "video_name", "frame_i"]).to_csv(
        folder / "frames.csv", sep=";", index=False
    )

    def write_clip(take: Take) -> None:
        target = folder / "frames" / str(take.name)
        target.mkdir(parents=True)
        portrait = portraits[take.name.actor]
        transform = alignment.similarity(portrait.face.landmarks(), SIDE)
        for i, frame in enumerate(render(portrait, take, seed)):
            _, data = cv2.imencode(".png", alignment.align(frame, transform, SIDE))
            (target / f"{i}.png").write_bytes(data.tobytes())

    with (
        ThreadPoolExecutor() as pool,
        terminal.progress("drawing the synthetic RAVDESS", len(takes)) as advance,
    ):
        for _ in pool.map(write_clip, takes):
            advance()


def render(portrait: Portrait, take: Take, seed: int):
    """Yields the clip's frames at full size, grey uint8 [288, 320]."""
    rng, face = np.random.default_rng([seed, 4, *take.name]), portrait.face
    expression, talk = (
        [Unit(au, amount) for au, amount in units.items()]
        for units in (take.units, dict.fromkeys(TALK, 0.5))
    )
    fields, losses = (
        [GAIN * motion(face, units) for units in (expression, talk)],
        [folds(face, units) for units in (expression, talk)],
    )
    lids, phase, reach = (
        lid_closure(expression),
        rng.uniform(0, 2 * np.pi, 3),
        rng.uniform(0.5, 2.0, 2),
    )
    for i, (shown, blink, speech) in enumerate(zip(take.shown, take.blink, take.talk, strict=True)):
        sway = np.sin(2 * np.pi * i / len(take.shown) + phase)
        head = portrait.head_motion(
            (reach * sway[:2]).astype(np.float32), np.float32(0.01 * sway[2])
        )
        amounts = np.array([shown, speech], np.float32)
        field = sum((a * f for a, f in zip(amounts, fields, strict=True)), head)
        loss = np.minimum(sum(a * part for a, part in zip(amounts, losses, strict=True)), 0.8)
        image = portrait.frame(field, loss, np.maximum(lids * shown, blink), gaze=0.0)
        yield (
            np.clip(image + face.noise * rng.standard_normal(image.shape, np.float32), 0, 255)
            .round()
            .astype(np.uint8)
        )
