"""One decision for each person of a video, by the rule of the run's evaluation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fexpr import pooling
from fexpr.errors import UserError
from fexpr.probabilities import Applied, from_json, log_probabilities
from fexpr.recognizer import calibrated
from fexpr.recognizer.row_status import NO_FACE, OK, UNREADABLE

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float

    from fexpr.recognizer.ensemble import Ensemble

LOG_ODDS = "log_odds"
IN_WORDS = {LOG_ODDS: "mean log odds", "sum": "mean posterior"}
SHOWN = 5  # persons in words
# what a rule reads from metrics.json about each trial's validation frames
NEEDED = {"calibrated": "maps", "centred": "posteriors", "zscored": "posteriors"}


@dataclasses.dataclass
class Person:
    """The rows of one person: their number, the time stamps of the first and last, and for each
    member the sums that the rule needs.
    """

    rows: int
    first: float
    last: float
    members: list[Any]


class ClipSums:
    """Sums over the rows of a video, in memory that grows only with the number of persons.

    A run whose clips were evaluated (RAVDESS: `clips` in metrics.json) decides by the rule of that
    evaluation, with the calibration map and the prediction sets of its clips. All other runs, and
    runs of older versions that lack the figures that their rule needs, decide by the mean log odds
    of the frames after their calibration map (with one class per row: the mean log probabilities,
    scaled to a sum of 1); such a mean was not calibrated itself, and has no prediction set.

    Attributes:
      rule: one of evaluate_config.CLIP_RULES, or LOG_ODDS.
    """

    def __init__(self, recognizer: Ensemble):
        self._recognizer = recognizer
        self._persons: dict[int | None, Person] = {}
        measured = recognizer.metrics.get("clips") or {"rule": LOG_ODDS, "frames": {}}
        self._frames, rule = measured["frames"], measured["rule"]
        self.rule = rule if NEEDED.get(rule, "rows") in ("rows", *self._frames) else LOG_ODDS

    def add(self, face: int | None, logits: Float[np.ndarray, "T 1 K"], seconds: float) -> None:
        """Adds one row of `face` (None: the whole frame), with the members' logits [T, 1, K]."""
        sums = [self._sums(member, one) for member, one in enumerate(logits)]
        person = self._persons.get(face)
        if person is None:
            self._persons[face] = Person(1, seconds, seconds, sums)
            return
        person.rows, person.last = person.rows + 1, seconds
        person.members = [a + b for a, b in zip(person.members, sums, strict=True)]

    def _sums(self, member: int, logits: Float[np.ndarray, "1 K"]) -> Any:
        recognizer = self._recognizer
        if self.rule == LOG_ODDS:
            moved = recognizer.maps[member](logits) if recognizer.maps else logits
            return (
                np.asarray(moved, np.float64)
                if recognizer.multilabel
                else log_probabilities(moved, False)
            )
        if self.rule == "calibrated":
            logits = from_json(self._frames["maps"][recognizer.members[member]])(logits)
        return pooling.frame_sums(logits, np.zeros(len(logits), int), 1)

    def _logits(self, member: int, person: Person) -> Float[np.ndarray, "1 K"]:
        """Logits [1, K] of a clip, computed like the run's own predictions of clips."""
        sums = person.members[member]
        if self.rule == LOG_ODDS:
            return sums / person.rows
        if NEEDED.get(self.rule) != "posteriors":
            return pooling.pooled(sums, self.rule)
        moments = self._frames["posteriors"][self._recognizer.members[member]]
        mean, deviation = np.array(moments["mean"]), np.array(moments["deviation"])
        return pooling.pooled(sums, self.rule, mean, deviation)

    def table(self, name: str, break_off: str = "") -> pd.DataFrame:
        """One row per person, the one with the most rows first; if there is none, one row that says
        so.

        Columns: `decision`, `status`; `face`, the person's number; `rows`, how many frames (of
        flow: pairs of frames) decided; `first` and `last`, their stamps in seconds; `rule`; then
        `set`, `entropy`, `spread` and classes as in `prediction_table.table`.

        Args:
          name: of the video: the index. break_off: `Video.break_off`; a row says so.
        """
        recognizer, persons = self._recognizer, self._persons
        order = sorted(persons, key=lambda face: -persons[face].rows)
        classes, members = len(recognizer.class_names), len(recognizer.networks)
        logits = np.zeros((members, len(order), classes))
        for row, face in enumerate(order):
            logits[:, row] = [self._logits(m, persons[face])[0] for m in range(members)]
        status = [OK] * len(order)
        known = [
            (face, persons[face].rows, persons[face].first, persons[face].last, self.rule)
            for face in order
        ]
        for text in [NO_FACE] * (not order) + [f"{UNREADABLE}: {break_off}"] * bool(break_off):
            status.append(text)
            known.append((None, 0, np.nan, np.nan, self.rule))
        logits = np.pad(logits, ((0, 0), (0, len(status) - len(order)), (0, 0)))
        made = self._decided([name] * len(status), logits, status)
        made.index.name = "video"
        for i, column in enumerate(("face", "rows", "first", "last", "rule")):
            made.insert(2 + i, column, [values[i] for values in known])
        return made.astype({"face": "Int64"})

    @property
    def calibration(self) -> tuple[tuple[Applied, ...] | None, calibrated.SetLimits | None]:
        """The maps and the limits of prediction sets of clips, where the run has them."""
        recognizer = self._recognizer
        # a network that was trained further has no maps: the run's belong to the original network
        if self.rule == LOG_ODDS or recognizer.maps is None:
            return None, None
        of = recognizer.metrics, recognizer.selection, recognizer.members
        return calibrated.maps(*of, of_clips=True), calibrated.set_limits(*of, of_clips=True)

    def check_coverage(self) -> None:
        """Raises a UserError if a coverage is requested, but clips have no prediction sets."""
        if self._recognizer.coverage is not None and self.calibration[1] is None:
            raise UserError(
                f"coverage={self._recognizer.coverage}: clips of this run have no prediction sets",
                [
                    "its sets hold for single frames; only a run whose clips were evaluated "
                    "(RAVDESS) has sets of clips"
                ],
                fix="leave the coverage out, or ask for the rows of single frames",
            )

    def _decided(
        self, names: list[str], logits: Float[np.ndarray, "T N K"], status: list[str]
    ) -> pd.DataFrame:
        """Applies the maps and prediction sets of clips."""
        maps, limits = self.calibration
        coverage = self._recognizer.coverage if limits else None
        clips = dataclasses.replace(self._recognizer, maps=maps, limits=limits, coverage=coverage)
        return clips.tabulate_logits(names, logits, status)

    def in_words(self) -> list[str]:
        """A line for each of the SHOWN persons with the most rows."""
        classes = list(self._recognizer.class_names)
        found = self.table("")
        lines = []
        for _, row in found[found["status"] == OK][:SHOWN].iterrows():
            best = row[classes].astype(float)
            who = f"face {row['face']}: " if pd.notna(row["face"]) else ""
            lines.append(
                f"{who}{row['decision']} ({best.idxmax()} {best.max():.2f}), by "
                f"{IN_WORDS.get(self.rule, self.rule)} over {row['rows']} rows"
            )
        return lines
