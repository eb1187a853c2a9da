"""The recogniser: one trial of a finished run, or all of them as an ensemble."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fexpr.errors import UserError
from fexpr.probabilities import Applied, Identity, Temperature, probabilities
from fexpr.recognizer import archive, images, network, restored
from fexpr.recognizer import status as statuses
from fexpr.recognizer.calibrated import COVERAGE, SetLimits, in_words
from fexpr.recognizer.network import BATCH, Network, in_batches
from fexpr.storage import zoo
from fexpr.storage.seen_people import Seen

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Recognizer:
    """One trial of a finished run, or an ensemble of several.

    Attributes:
      networks: the trained network of each member, on the default device.
      class_names: K names. multilabel: whether several classes (action units) may be present at
        once.
      shape: (H, W, C) of an image. kind: what it is, 'face', 'flow' (u, v, optical strain), 'clip'
        (its frames as channels) or 'features' (a vector, H = W = 1).
      trials: how many the run has; members: which of them these are, from 0. selection: 'last' or
          'best_val', their epoch.
      maps: each member's calibration map, chosen by cross-fitting on validation rows when the run
          was evaluated (`Identity` where no map helped); None where there are none.
      thresholds: [K], of action units, on calibrated probabilities (of an ensemble the mean); None
          where there are none: decisions are then at 0.5.
      content: config.json; metrics: metrics.json.
      batch: images a forward pass; a program is compiled for it once.
      limits: of prediction sets; None where the run has none.
      coverage: how often sets are to hold the truth, and rows whose set holds several classes are
          decided 'uncertain'; None: sets of 0.9, and every row is decided.
      seen: whom the members have learned from, where the run records it.
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
    thresholds: np.ndarray | None
    content: dict
    metrics: dict
    batch: int = BATCH
    limits: SetLimits | None = None
    coverage: float | None = None
    seen: Seen | None = None

    @classmethod
    def restore(
        cls,
        run_dir: Path | str,
        selection: str | None = None,
        trial: int | None = None,
        batch: int = BATCH,
        coverage: float | None = None,
    ) -> Recognizer:
        """Reads a run directory of the experiments fit and cross_validate, on whatever devices
        there are.

        Args:
          run_dir: a folder, a .zip or .tar(.gz) of one, or an address that fsspec opens.
          selection: 'last' or 'best_val'; None: the one that the run's result is about
              (config.train.selection).
          trial: fold x seed, numbered as in predictions.npz; None: all that did not fail, as an
            ensemble. Its members have seen one another's test subjects in training: it is for new
            faces, and has no test result on the run's own.
          batch: images a forward pass: 1 answers soonest, an accelerator is better used by
              hundreds.
          coverage: share of new rows whose `set` shall hold the truth, 0.5 to 0.99; decisions are
            then 'uncertain' where the set holds several classes.

        Raises:
          UserError: not a finished run, or of another format; no such selection or trial; a
            coverage that the run has no sets for; weights
            that the run did not keep, that were saved before the normalisation was saved with them,
            or that do not fit the model of this version of fexpr.
        """
        with archive.opened(run_dir) as folder:
            found = restored.read(folder, selection, trial)
        data, train = found.content["data"], found.content["config"]["train"]
        multilabel = train["loss"] != "cross_entropy"
        return cls(
            found.networks,
            tuple(data["classes"]),
            multilabel,
            tuple(data["image"]),
            data["kind"],
            found.trials,
            found.members,
            found.selection,
            restored.maps(found),
            restored.thresholds(found),
            found.content,
            found.metrics,
            batch,
            restored.set_limits(found, coverage),
            coverage,
            found.seen,
        )

    @classmethod
    def pretrained(
        cls,
        name: str,
        trial: int | None = None,
        batch: int = BATCH,
        coverage: float | None = None,
    ) -> Recognizer:
        """A trained model that is installed with fexpr: "fer2013", for instance. `fexpr weights`
        lists them, with what was measured. Other arguments as of `restore`.

        Raises:
          UserError: there is none of that name; no such trial.
        """
        return cls.restore(zoo.folder(name), trial=trial, batch=batch, coverage=coverage)

    def __repr__(self) -> str:
        data, (height, width, channels) = self.content["data"], self.shape
        names = ", ".join(self.class_names[:8]) + (", …" if len(self.class_names) > 8 else "")
        how = in_words(self.maps).removeprefix("Probabilities are ")
        if self.multilabel:
            how += f", with{'out' if self.thresholds is None else ''} thresholds"
        return "\n".join(
            [
                f"Recognizer of {self.content['model']['name']} trained on {data['source']}, "
                f"{self.selection}",
                f"  {self.kind} uint8 [{height}, {width}, {channels}]"
                if self.kind != "features"
                else f"  features float32 [{channels}]",
                f"  {len(self.class_names)} {'action units' if self.multilabel else 'classes'}: "
                f"{names}",
                f"  {len(self.members)} of {self.trials} trials, {how}",
            ]
        )

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
        """Which single trial this is. Errors as of `network`."""
        self._require_single()
        return self.members[0]

    @property
    def temperatures(self) -> tuple[float, ...] | None:
        """Of each member, where all maps are temperatures."""
        found = [one.temperature for one in self.maps or () if isinstance(one, Temperature)]
        return tuple(found) if found and len(found) == len(self.networks) else None

    @property
    def temperature(self) -> float | None:
        """Of a single trial. Errors as of `network`."""
        self._require_single()
        return self.temperatures[0] if self.temperatures else None

    @property
    def calibrated(self) -> bool:
        """Whether a map changes the probabilities of any member."""
        return any(not isinstance(one, Identity) for one in self.maps or ())

    @property
    def picture(self) -> tuple[int, int, int]:
        """(H, W, C) of what people give: `shape`, less the saliency map where it is computed from
        the face itself.

        Raises:
          UserError: the run decides clips, not pictures.
        """
        if self.kind == "clip":
            raise UserError(
                "the run decides whole clips, it takes neither pictures nor videos",
                fix="give Recognizer.predict an array of clips, as "
                "fexpr.data.preparation.clip_frames makes them",
            )
        data = self.content["config"]["data"]
        # perhaps from a folder: whose maps these are is unknown
        read = data["name"] == "ravdess" and data.get("map") == "saliency"
        return (
            (*self.shape[:2], 1)
            if data.get("map") in ("spectral", "saliency") and not read
            else self.shape
        )

    @property
    def dtype(self) -> type[np.generic]:
        """Of an image."""
        return np.float32 if self.kind == "features" else np.uint8

    def predict(
        self,
        images_or_paths: Any,
        *,
        layout: str = "HWC",
        colours: str | None = None,
        values: str | None = None,
        fit: str = "exact",
    ) -> pd.DataFrame:
        """Images -> a table (`table.table` says which columns), calibrated where the run
        applies a map (`attrs['calibrated']`).

        A run trained on feature vectors takes an array [N, F] instead, one trained on clips uint8
        [N, *shape].

        Args:
          images_or_paths: an array of N images, or a list of images of any sizes, or of paths, or
              one path. N may be anything.
          layout: of an array, per image: 'HWC', 'CHW' or 'HW'.
          colours: of an array: 'grey', 'rgb', 'bgr', turned into those of the network; None: it has
              the network's already.
          values: of an array: '0..255' or '0..1'; required for anything but uint8.
          fit: 'exact': other sizes are refused. 'resize': the images show the face alone, cropped
            as in training, in another size. 'face': every face is found, turned upright and cut
            out; each is a row (`prediction_table.with_faces` says which columns are added). A
            picture without a face, or a file that cannot be read, is a row whose `status` says so.

        Raises:
          UserError: arguments, or images that do not fit them; all of them at once.
        """
        if self.kind == "features":
            rows = images.vectors(images_or_paths, self.shape[2])
            return self.tabulate([str(i) for i in range(len(rows))], rows)
        if self.kind == "clip" and isinstance(images_or_paths, np.ndarray):
            return self.tabulate([str(i) for i in range(len(images_or_paths))], images_or_paths)
        looks = fit == "face"
        rows = images.collect_images(
            images_or_paths,
            self.picture,
            self.kind == "flow",
            layout,
            colours,
            values,
            fit,
            self.face_finder() if looks else None,
            keep_unreadable=looks,
        )
        made = self.tabulate(rows.names, rows.pixels, rows.status)
        if not looks:
            return made
        from fexpr.recognizer import prediction_table

        return prediction_table.with_faces(made, rows.faces)

    def predict_pair(
        self, onset: Any, apex: Any, *, align: str = "detect", landmarks: Any = None
    ) -> pd.DataFrame:
        """The onset and apex frame of a movement -> a table of one row, by the optical flow between
        them, made as the run's data were.

        Args:
          onset, apex: paths, or grey uint8 [H, W].
          align: 'detect' finds the face on the onset, 'landmarks' takes these,
            'none': the frames show the face alone, upright, as in the published crops.
          landmarks: [5, 2], (x, y) of both eyes, nose, both mouth corners in pixels of the onset;
              left and right as the image shows them.

        Raises:
          UserError: a run that was not trained on flow; frames or arguments that cannot be used.
        """
        return self.tabulate(
            [_pair_name(onset, apex)], self.pair(onset, apex, align, landmarks)[None]
        )

    def predict_video(
        self, path: Path | str, *, onset: int | None = None, apex: int | None = None, **options: Any
    ) -> pd.DataFrame:
        """A video -> a table with one row a frame, or, of a run trained on flow, a pair of frames.
        Options, errors: `video.batches`.

        Args:
          onset, apex: of a run trained on flow, the numbers (from 0) of the only two frames to be
              read; options are then `predict_pair`'s.
        """
        import pandas as pd

        from fexpr.recognizer import video

        if onset is None and apex is None:
            return pd.concat(list(video.tables(self, path, **options)))
        frames = video.grey_frames(path, (onset, apex))
        return self.predict_pair(*frames, **options).set_axis(
            pd.Index([f"{onset} -> {apex}"], name="frame")
        )

    def predict_clip(self, path: Path | str, **options: Any) -> pd.DataFrame:
        """A video -> a table with one row for each person in it: a decision of the whole clip.
        Columns: `clip.ClipSums.table`. Options, errors: `video.batches`.
        """
        from fexpr.recognizer import clip, video

        sums = clip.ClipSums(self)
        source = video.Video(path)
        for _ in video.batches(self, source, sums=sums, **options):
            pass
        return sums.table(str(path), source.break_off)

    def spot(self, path: Path | str) -> pd.DataFrame:
        """Where in a video faces move, from onset to offset, and what each movement is: a table of
        one row a movement. Columns, errors: `spot_video.spot_video`.
        """
        from fexpr.recognizer import spot_video

        return spot_video.spot_video(self, path)

    def continue_training(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        train: np.ndarray,
        val: np.ndarray,
        **options: Any,
    ) -> tuple[Recognizer, pd.DataFrame]:
        """Trains the network further; see `continued.continue_training`.

        Returns:
          A recogniser with the new network, without map, thresholds and sets, which were those of
          another one; and the history.
        """
        from fexpr.recognizer import continued

        further, history = continued.continue_training(self, images, labels, train, val, **options)
        return dataclasses.replace(
            self, networks=(further,), maps=None, thresholds=None, limits=None, coverage=None
        ), history

    def pair(
        self, onset: Any, apex: Any, align: str = "detect", landmarks: Any = None
    ) -> np.ndarray:
        """The flow map uint8 [H, W, 3] that `predict_pair` reads. Arguments and errors as there."""
        from fexpr.recognizer import face_finder

        if self.kind != "flow":
            raise UserError(
                f"the run was trained on images of kind {self.kind!r}, not on flow between "
                "two frames",
                fix="use predict",
            )
        if self.shape[2] != 3:
            raise UserError(
                f"the run reads {self.shape[2] // 3} flow maps of a clip, and two frames make one",
                fix="use predict, with an array of maps whose channels are stacked as "
                "config.data.maps names them",
            )
        return face_finder.pair(
            _frame(onset, "onset"),
            _frame(apex, "apex"),
            self.shape,
            self.content["config"]["data"],
            align,
            landmarks,
        )

    def tabulate(
        self, names: list[str], pixels: np.ndarray, status: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """The table of pixels uint8 [N, *picture]; `status` of each row as of
        `prediction_table.table`, None: all are as they should be.
        """
        return self.tabulate_logits(names, self.members_logits(pixels), status)

    def members_logits(self, pixels: np.ndarray) -> np.ndarray:
        """[T, N, K] of the T members, from pixels [N, *picture]."""
        if self.kind != "clip" and self.picture != self.shape:
            from fexpr.recognizer import face_finder

            pixels = face_finder.with_maps(pixels)
        return np.stack([self._logits(one, pixels) for one in self.networks])

    def tabulate_logits(
        self, names: list[str], logits: np.ndarray, status: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """The table of `members_logits`."""
        status = [statuses.OK] * len(names) if status is None else status
        calibrated = self.maps is not None
        found = np.stack([self.scores(one, calibrated, i) for i, one in enumerate(logits)])
        made = self.decide(names, found, status)
        made.attrs = {"calibrated": self.calibrated}
        if self.limits:
            made.attrs["coverage"] = self.coverage or COVERAGE
        return made

    def decide(
        self, names: Sequence[str], probabilities: np.ndarray, status: Sequence[str]
    ) -> pd.DataFrame:
        """The table of probabilities [T, N, K] of the T members."""
        from fexpr.recognizer import prediction_table

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

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 [N, H, W, C] (features: float32), any N -> float32 [N, K]: those of
        predictions.npz, to float32 rounding.

        Compiled once.

        Raises:
          UserError: images of another shape, type or range; this is an ensemble, which has
              probabilities only.
        """
        return self._logits(self.network, images)

    def probabilities(self, images: np.ndarray, calibrated: bool = False) -> np.ndarray:
        """Images uint8 [N, H, W, C], any N -> [N, K]: `scores` of their logits; of an ensemble
        their mean. Errors as there.
        """
        return self.members_probabilities(images, calibrated).mean(axis=0)

    def members_probabilities(self, images: np.ndarray, calibrated: bool = False) -> np.ndarray:
        """The same of each member: [T, N, K]."""
        return np.stack(
            [
                self.scores(self._logits(one, images), calibrated, i)
                for i, one in enumerate(self.networks)
            ]
        )

    def scores(self, logits: np.ndarray, calibrated: bool = False, member: int = 0) -> np.ndarray:
        """Logits [N, K] -> probabilities [N, K]: a softmax, or of action units a sigmoid each;
        `calibrated`: after the member's map.

        `member`: whose logits they are, by its place in `members`.

        Raises:
          UserError: `calibrated`, and the run has no map.
        """
        if calibrated and self.maps is None:
            raise UserError(
                "there is no calibration map to calibrate with",
                [
                    f"metrics.json has none for {self.selection!r}: the run's result is another "
                    "selection, or has no validation rows"
                ],
                fix="ask for calibrated=False",
            )
        moved = self.maps[member](logits) if calibrated else logits
        return probabilities(moved, self.multilabel).astype(np.float32)

    def _require_single(self) -> None:
        if len(self.networks) > 1:
            raise UserError(
                f"this is an ensemble of {len(self.networks)} networks",
                fix="restore one of them, with trial=0 for instance",
            )

    def _logits(self, one: Network, images: np.ndarray) -> np.ndarray:
        self._check(images)
        if not len(images):
            return np.zeros((0, len(self.class_names)), np.float32)
        return in_batches(partial(network.predict, one), images, self.batch)

    def _decision_thresholds(self) -> np.ndarray | None:
        if not self.multilabel:
            return None
        return np.full(len(self.class_names), 0.5) if self.thresholds is None else self.thresholds

    def face_finder(self) -> images.Finder:
        """Finds faces in a picture and cuts them out as the run's were."""
        from fexpr.recognizer import face_finder

        return partial(face_finder.find, frame=face_finder.frame_of(self.content))

    def _check(self, images: np.ndarray) -> None:
        problems = []
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[1:] != self.shape:
            found = list(images.shape) if isinstance(images, np.ndarray) else type(images).__name__
            problems.append(
                f"shape: expected [N, {', '.join(map(str, self.shape))}] (rows, height, "
                f"width, channels), found {found}"
            )
        if isinstance(images, np.ndarray) and images.dtype != self.dtype:
            span = (
                f" from {images.min():g} to {images.max():g}"
                if images.size and images.dtype.kind in "iuf"
                else ""
            )
            problems.append(
                "type: expected "
                f"{'float32' if self.kind == 'features' else 'uint8, 0 to 255'}, found "
                f"{images.dtype}{span}"
            )
        if problems:
            raise UserError(
                "the recogniser cannot read these images",
                problems,
                fix="give what the run was trained on: the same crop and size, as np.uint8 in 0 "
                "to 255, channels last; "
                "Recognizer.predict takes more",
            )


def _frame(frame: Any, name: str) -> np.ndarray:
    """A grey frame uint8 [H, W] from a path or an array."""
    if isinstance(frame, np.ndarray):
        if frame.ndim != 2 or frame.dtype != np.uint8:
            raise UserError(
                f"the {name} frame cannot be used",
                [f"expected grey uint8 [H, W], found {frame.dtype} {list(frame.shape)}"],
            )
        return frame
    try:
        return images.read(Path(frame), (0, 0, 1))
    except images.Unusable as e:
        raise UserError(f"the {name} frame {frame} cannot be used", [str(e)]) from e


def _pair_name(onset: Any, apex: Any) -> str:
    return " -> ".join(
        "array" if isinstance(frame, np.ndarray) else str(frame) for frame in (onset, apex)
    )
