"""The trained networks of a run, and their predictions for arrays: logits, probabilities,
decisions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fexpr.errors import UserError
from fexpr.probabilities import Applied, Identity, Temperature, probabilities
from fexpr.recognizer import network, row_status
from fexpr.recognizer.calibrated import COVERAGE, SetLimits, in_words
from fexpr.recognizer.network import BATCH, Network, in_batches
from fexpr.storage.seen_people import Seen

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    import pandas as pd
    from jaxtyping import Float, Float32, Num


FURTHER = "Trained further on rows that the run does not have"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Ensemble:
    """One trial of a finished run, or an ensemble of several: predictions from arrays of images.

    Attributes:
      networks: the trained network of each member, on the default device.
      class_names: K names. multilabel: whether several classes (action units) may be present at
        once.
      shape: (H, W, C) of an image. kind: of an image: 'face', 'flow' (u, v, optical strain), 'clip'
        (its frames as channels) or 'features' (a vector, H = W = 1).
      trials: how many the run has; members: which of them these are, from 0. selection: 'last' or
          'best_val', their epoch.
      maps: each member's calibration map, chosen by cross-fitting on validation rows when the run
          was evaluated (`Identity` if no map helped); None if there are none. thresholds: [K], of
          action units, on calibrated probabilities (for an ensemble, the mean); None: decisions are
          made at 0.5.
      content: config.json; metrics: metrics.json.
      batch: images per forward pass; a program is compiled for it once.
      limits: of prediction sets; None if the run has none. coverage: how often sets should contain
          the true class; rows whose set contains several classes are then decided 'uncertain';
          None: sets of coverage 0.9, and every row is decided. seen: the people in the members'
              training, if the run records them. further: whether the network was trained further
              than the run, on other rows: `metrics` are those of the network before.
    """

    networks: tuple[Network, ...]
    class_names: tuple[str, ...]
    multilabel: bool
    shape: tuple[int, int, int]
    kind: str
    trials: int
    members: tuple[int, ...]
    selection: str
    maps: tuple[Applied, ...] | None
    thresholds: Float[np.ndarray, " K"] | None
    content: dict
    metrics: dict
    batch: int = BATCH
    limits: SetLimits | None = None
    coverage: float | None = None
    seen: Seen | None = None
    further: bool = False

    @property
    def network(self) -> Network:
        """The network of a single trial.

        Raises:
          UserError: this is an ensemble.
        """
        self._require_single()
        return self.networks[0]

    @property
    def trial(self) -> int:
        """The number of the single trial. Errors as in `network`."""
        self._require_single()
        return self.members[0]

    @property
    def temperatures(self) -> tuple[float, ...] | None:
        """The temperature of each member, if all maps are temperatures."""
        found = [one.temperature for one in self.maps or () if isinstance(one, Temperature)]
        return tuple(found) if found and len(found) == len(self.networks) else None

    @property
    def temperature(self) -> float | None:
        """The temperature of a single trial. Errors as in `network`."""
        self._require_single()
        return self.temperatures[0] if self.temperatures else None

    @property
    def calibrated(self) -> bool:
        """Whether a map changes the probabilities of any member."""
        return any(not isinstance(one, Identity) for one in self.maps or ())

    @property
    def picture(self) -> tuple[int, int, int]:
        """(H, W, C) of a user's picture: `shape`, without the saliency map if that is computed from
        the face itself.

        Raises:
          UserError: the run decides clips, not pictures.
        """
        if self.kind == "clip":
            raise UserError(
                "the run decides whole clips, and cannot read pictures or videos",
                fix="give Recognizer.predict an array of clips, as "
                "fexpr.data.preparation.clip_frames makes them",
            )
        data = self.content["config"]["data"]
        # perhaps from a folder of maps, of unknown origin
        read = data["name"] == "ravdess" and data.get("map") == "saliency"
        return (
            (*self.shape[:2], 1)
            if data.get("map") in ("spectral", "saliency") and not read
            else self.shape
        )

    @property
    def dtype(self) -> type[np.generic]:
        """The type of an image's values."""
        return np.float32 if self.kind == "features" else np.uint8

    def logits(self, images: Num[np.ndarray, "N H W C"]) -> Float32[np.ndarray, "N K"]:
        """Logits float32 [N, K] of images uint8 [N, H, W, C] (features: float32), for any N; those
        of predictions.npz, up to float32 rounding.

        Compiled once.

        Raises:
          UserError: images of another shape, type or range; this is an ensemble, which only has
              probabilities.
        """
        return self._logits(self.network, images)

    def probabilities(
        self, images: Num[np.ndarray, "N H W C"], calibrated: bool = False
    ) -> Float32[np.ndarray, "N K"]:
        """Probabilities [N, K] of images uint8 [N, H, W, C], for any N: `scores` of their logits;
        for an ensemble, the mean. Errors as in `scores`.
        """
        return self.members_probabilities(images, calibrated).mean(axis=0)

    def members_probabilities(
        self, images: Num[np.ndarray, "N H W C"], calibrated: bool = False
    ) -> Float32[np.ndarray, "T N K"]:
        """The probabilities of each member, [T, N, K], as in `probabilities`."""
        return np.stack(
            [
                self.scores(self._logits(one, images), calibrated, i)
                for i, one in enumerate(self.networks)
            ]
        )

    def members_logits(self, pixels: Num[np.ndarray, "N H W C"]) -> Float32[np.ndarray, "T N K"]:
        """Logits [T, N, K] of the T members, from pixels [N, *picture]."""
        if self.kind != "clip" and self.picture != self.shape:
            from fexpr.recognizer import face_finder

            pixels = face_finder.with_maps(pixels)
        return np.stack([self._logits(one, pixels) for one in self.networks])

    def scores(
        self, logits: Float[np.ndarray, "N K"], calibrated: bool = False, member: int = 0
    ) -> Float32[np.ndarray, "N K"]:
        """Logits [N, K] -> probabilities [N, K]: a softmax, or a sigmoid for each action unit;
        `calibrated`: after the member's map. `member`: that of the logits, by its position in
            `members`.

        Raises:
          UserError: `calibrated`, but the run has no map.
        """
        if not calibrated:
            moved = logits
        elif self.maps is None:
            raise UserError(
                "there is no calibration map",
                [in_words(None, True)]
                if self.further
                else [
                    f"metrics.json has none for {self.selection!r}: the run's result has another "
                    "selection, or no validation rows"
                ],
                fix="use calibrated=False",
            )
        else:
            moved = self.maps[member](logits)
        return probabilities(moved, self.multilabel).astype(np.float32)

    def tabulate(
        self,
        names: list[str],
        pixels: Num[np.ndarray, "N H W C"],
        status: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """The table of pixels uint8 [N, *picture]; `status` of each row as in
        `prediction_table.table`, None: all are OK.
        """
        return self.tabulate_logits(names, self.members_logits(pixels), status)

    def tabulate_logits(
        self,
        names: list[str],
        logits: Float[np.ndarray, "T N K"],
        status: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """The table of `members_logits`."""
        status = [row_status.OK] * len(names) if status is None else status
        calibrated = self.maps is not None
        found = np.stack([self.scores(one, calibrated, i) for i, one in enumerate(logits)])
        made = self.decide(names, found, status)
        made.attrs = {"calibrated": self.calibrated}
        if self.limits:
            made.attrs["coverage"] = self.coverage or COVERAGE
        return made

    def decide(
        self, names: Sequence[str], probabilities: Float[np.ndarray, "T N K"], status: Sequence[str]
    ) -> pd.DataFrame:
        """The table of probabilities [T, N, K] of the T members.

        Raises:
          UserError: a coverage is requested, but the run's sets are those of clips.
        """
        from fexpr.recognizer import prediction_table

        if self.coverage is not None and self.limits is None:
            raise UserError(
                f"coverage={self.coverage}: the prediction sets of this run hold for whole clips, "
                "not for single frames",
                fix="ask for a decision of the clip (--clip, Recognizer.predict_clip), or leave "
                "the coverage out",
            )

        return prediction_table.table(
            names,
            probabilities,
            self.class_names,
            self._decision_thresholds(),
            status,
            self.limits
            and self.limits.sets(probabilities, self.coverage or COVERAGE, self.multilabel),
            uncertain=self.coverage is not None,
        )

    def _require_single(self) -> None:
        if len(self.networks) > 1:
            raise UserError(
                f"this is an ensemble of {len(self.networks)} networks",
                fix="restore one of them, with trial=0 for instance",
            )

    def _logits(
        self, one: Network, images: Num[np.ndarray, "N H W C"]
    ) -> Float32[np.ndarray, "N K"]:
        _check(images, self.shape, self.dtype)
        if not len(images):
            return np.zeros((0, len(self.class_names)), np.float32)
        return in_batches(partial(network.predict, one), images, self.batch)

    def _decision_thresholds(self) -> Float[np.ndarray, " K"] | None:
        if not self.multilabel:
            return None
        return np.full(len(self.class_names), 0.5) if self.thresholds is None else self.thresholds


def _check(images: object, shape: tuple[int, int, int], dtype: type[np.generic]) -> None:
    """Raises a UserError if `images` are not an array [N, *shape] of this type."""
    problems = []
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[1:] != shape:
        found = list(images.shape) if isinstance(images, np.ndarray) else type(images).__name__
        problems.append(
            f"shape: expected [N, {', '.join(map(str, shape))}] (rows, height, "
            f"width, channels), found {found}"
        )
    if isinstance(images, np.ndarray) and images.dtype != dtype:
        span = (
            f" from {images.min():g} to {images.max():g}"
            if images.size and images.dtype.kind in "iuf"
            else ""
        )
        problems.append(
            "type: expected "
            f"{'float32' if dtype is np.float32 else 'uint8, 0 to 255'}, found "
            f"{images.dtype}{span}"
        )
    if problems:
        raise UserError(
            "the recogniser cannot read these images",
            problems,
            fix="give images like the run's: the same crop and size, as np.uint8 in 0 to 255, "
            "channels last; Recognizer.predict accepts other kinds",
        )


def described(recognizer: Ensemble) -> list[str]:
    """Describes the weights and the decision rule, for a model card."""
    lines = [
        f"Trial {recognizer.members[0]} of {recognizer.trials}"
        if len(recognizer.members) == 1
        else f"An ensemble of {len(recognizer.members)} networks, trained on different folds or "
        "seeds: the mean of their probabilities"
    ]
    lines[0] += (
        f"; weights of the {'last' if recognizer.selection == 'last' else 'best validation'} epoch"
    )
    lines.append(in_words(recognizer.maps, recognizer.further))
    if recognizer.multilabel:
        lines.append(
            "Several action units may be present at once; one is decided present at or above its "
            "threshold (model.json)"
            if recognizer.thresholds is not None
            else "Several action units may be present at once; no thresholds for this epoch"
        )
    if recognizer.selection != recognizer.metrics["selection"]:
        lines.append("The results below belong to the weights of another epoch")
    if recognizer.further:
        lines.append(f"{FURTHER}: the results below belong to the network before")
    return lines
