"""The content of the page, computed by the same recogniser as in `fexpr recognize`; none of it
needs Gradio.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fexpr.errors import UserError
from fexpr.recognizer import Recognizer, clip, draw, picture_files, read_out, video
from fexpr.recognizer.calibrated import COVERAGE
from fexpr.recognizer.row_status import NO_FACE, OK, UNREADABLE

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import UInt8

POINTS = 300  # points of a line in the timeline


@dataclasses.dataclass(frozen=True)
class VideoAnswer:
    """`rows`: one for each face of each frame, or for each movement; `clips`: one decision for each
    person, None for movements; `example`: the frame with the most faces, annotated, or None.
    """

    rows: pd.DataFrame
    clips: pd.DataFrame | None
    example: np.ndarray | None


def at_coverage(recognizer: Recognizer, coverage: float) -> Recognizer:
    """The recogniser with prediction sets of this coverage, and the decision 'uncertain' where a
    set contains several classes; unchanged if it has no sets.
    """
    if recognizer.limits is None:
        return recognizer
    return dataclasses.replace(recognizer, coverage=coverage)


def coverages(recognizer: Recognizer) -> tuple[float, float, float] | None:
    """The lowest, highest and initial coverage of its prediction sets; None if it has no sets."""
    if recognizer.limits is None:
        return None
    levels = recognizer.limits.levels
    return float(levels[0]), float(levels[-1]), recognizer.coverage or COVERAGE


def photo(
    recognizer: Recognizer, path: Path, coverage: float
) -> tuple[UInt8[np.ndarray, "h w 3"], pd.DataFrame]:
    """A picture file with its faces drawn, RGB uint8 [h, w, 3], and the table of `predict`.

    Raises:
      UserError: the file cannot be read.
    """
    rows = at_coverage(recognizer, coverage).predict([path], fit="face")
    if rows["status"].iloc[0].startswith(UNREADABLE):
        raise UserError(f"{path.name} is not a picture that can be read: {rows['status'].iloc[0]}")
    drawn = draw.annotated(picture_files.read(path), rows, recognizer.class_names)
    rows.index = pd.Index([path.name] * len(rows), name=rows.index.name)
    return drawn, rows


def camera(
    recognizer: Recognizer, pixels: UInt8[np.ndarray, "H W 3"], coverage: float
) -> tuple[UInt8[np.ndarray, "h w 3"], pd.DataFrame]:
    """The same as `photo`, for a frame of a camera, RGB uint8 [H, W, 3]."""
    colours = {} if recognizer.picture[2] == 3 else {"colours": "rgb"}
    rows = at_coverage(recognizer, coverage).predict([pixels], fit="face", **colours)
    return draw.annotated(pixels, rows, recognizer.class_names), rows


def film(
    recognizer: Recognizer,
    path: Path,
    coverage: float,
    every: int | None,
    movements: bool,
    advance: Callable[[float, str], object] = lambda share, text: None,
) -> VideoAnswer:
    """A video file, as `fexpr recognize --video` reads it.

    Args:
      every: read every n-th frame. movements: find where faces move instead (`spot`). advance:
          called with the share of the video that is done, and a text.

    Raises:
      UserError: the file, or an argument, cannot be used.
    """
    recognizer = at_coverage(recognizer, coverage)
    if movements:
        advance(0.0, "looking for movements")
        return VideoAnswer(recognizer.spot(path), None, None)
    source, sums, found = video.Video(path), clip.ClipSums(recognizer), []
    example, most = None, 0
    for frames, rows in video.batches(recognizer, source, every, sums=sums):
        found.append(rows)
        counts = rows["face"].notna().groupby(level=0, sort=False).sum()
        if counts.max() > most:
            most, best = counts.max(), counts.idxmax()
            pixels = frames[list(rows.index).index(best)].pixels
            example = draw.annotated(pixels, rows.loc[[best]], recognizer.class_names)
        last = frames[-1].number + 1
        advance(min(1.0, last / source.count) if source.count else 0.0, f"{last} frames")
    return VideoAnswer(pd.concat(found), sums.table(path.name, source.break_off), example)


def bars(rows: pd.DataFrame, class_names: Sequence[str]) -> str:
    """HTML with the decision and prediction set of each face (or movement, or person), and a bar
    for the probability of each class, dark for classes in the set.
    """
    return "".join(_bars(row, class_names) for _, row in rows.iterrows())


def _bars(row: pd.Series, class_names: Sequence[str]) -> str:
    who = f"Face {row['face']}: " if pd.notna(row.get("face")) else ""
    lines = [f"<h3>{html.escape(who + row['decision'])}</h3>"]
    if row["status"] != OK:
        status = "" if row["status"] == NO_FACE else row["status"]
        return lines[0] + f"<p>{html.escape(status)}</p>"
    words, held = _words(row), _held(row)
    if words:
        lines.append(f"<p>{html.escape('; '.join(words))}</p>")
    lines.append("<table class='bars'>")
    for name, p in row[list(class_names)].astype(float).sort_values(ascending=False).items():
        shade = "held" if held is None or name in held else "other"
        lines.append(
            f"<tr><td>{html.escape(str(name))}</td><td><div class='{shade}' "
            f"style='width:{100 * p:.1f}%'></div></td><td>{p:.2f}</td></tr>"
        )
    return "".join([*lines, "</table>"])


def _words(row: pd.Series) -> list[str]:
    words = []
    if isinstance(row.get("set"), str):
        words.append(f"set: {row['set']}")
    if isinstance(row.get("quality"), str) and row["quality"] != "good":
        words.append(f"the face is {row['quality'].replace('+', ' and ')}")
    if pd.notna(row.get("rows")):
        words.append(f"{clip.IN_WORDS.get(row['rule'], row['rule'])} over {row['rows']} rows")
    return words


def _held(row: pd.Series) -> set[str] | None:
    """The classes in the prediction set; None if there is no set."""
    if not isinstance(row.get("set"), str):
        return None
    return {name for part in row["set"].split(" or ") for name in (part, *part.split("+"))}


def timeline(rows: pd.DataFrame, class_names: Sequence[str], face: int | None) -> pd.DataFrame:
    """Columns `seconds`, `class`, `probability` of one person (None: of the frame as a whole): at
    most POINTS time stamps, each with the mean of the rows around it.
    """
    mine = rows["face"] == face if face is not None else rows["face"].isna()
    ok = rows[mine.fillna(False) & (rows["status"] == OK)]
    if len(ok) > POINTS:
        parts = np.arange(len(ok)) * POINTS // len(ok)
        ok = ok[["seconds", *class_names]].astype(float).groupby(parts).mean()
    return ok.melt("seconds", list(class_names), "class", "probability").astype(
        {"probability": float}
    )


def persons(rows: pd.DataFrame) -> list[int]:
    """The numbers of the persons in a video, the one with the most rows first."""
    return [int(face) for face in rows["face"].value_counts().index]


def save(rows: pd.DataFrame, folder: Path, name: str) -> str:
    """Writes a table as `fexpr recognize` does, and returns the path of the .csv file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{Path(name).stem or 'faces'}.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        read_out.write_rows(rows, stream, "csv", first=True)
    return str(path)
