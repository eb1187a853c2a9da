"""The recogniser: one trial of a finished run, or all of them as an ensemble."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fexpr.errors import UserError
from fexpr.recognizer import archive, images, restored
from fexpr.recognizer.calibrated import in_words
from fexpr.recognizer.ensemble import Ensemble
from fexpr.recognizer.network import BATCH
from fexpr.storage import zoo

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    import pandas as pd
    from jaxtyping import Float, Integer, Num, UInt8


class Recognizer(Ensemble):
    """One trial of a finished run, or an ensemble of several. Attributes: `Ensemble`."""

    @classmethod
    def restore(
        cls,
        run_dir: Path | str,
        selection: str | None = None,
        trial: int | None = None,
        batch: int = BATCH,
        coverage: float | None = None,
    ) -> Recognizer:
        """Reads a run directory of the experiments fit and cross_validate, on the available
        devices.

        Args:
          run_dir: a folder, a .zip or .tar(.gz) of one, or an address that fsspec opens.
          selection: 'last' or 'best_val'; None: that of the run's result (config.train.selection).
          trial: fold x seed, numbered as in predictions.npz; None: all that did not fail, as an
              ensemble. Its members were trained on each other's test subjects: it is for new faces,
              and has no test result on the run's own data.
          batch: images per forward pass: 1 is fastest for a single image, hundreds use an
            accelerator better. coverage: share of new rows whose `set` should contain the true
            class, 0.5 to 0.99; decisions are then 'uncertain' if the set contains several classes.

        Raises:
          UserError: not a finished run, or of another format; no such selection or trial; a
            coverage for which the run has no sets; weights that the run did not save, that were
            saved before the normalisation was saved with them, or that do not fit the model of this
            version of fexpr.
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
        lists them, with what was measured. Other arguments as in `restore`.

        Raises:
          UserError: there is no model of that name; no such trial.
        """
        return cls.restore(zoo.folder(name), trial=trial, batch=batch, coverage=coverage)

    def __repr__(self) -> str:
        data, (height, width, channels) = self.content["data"], self.shape
        names = ", ".join(self.class_names[:8]) + (", …" if len(self.class_names) > 8 else "")
        how = in_words(self.maps, self.further).removeprefix("Probabilities are ")
        if self.multilabel:
            how += f", with{'out' if self.thresholds is None else ''} thresholds"
        return "\n".join(
            [
                f"Recognizer of {self.content['model']['name']} trained on {data['source']}, "
                f"{self.selection}" + ", then further on other rows" * self.further,
                f"  {self.kind} uint8 [{height}, {width}, {channels}]"
                if self.kind != "features"
                else f"  features float32 [{channels}]",
                f"  {len(self.class_names)} {'action units' if self.multilabel else 'classes'}: "
                f"{names}",
                f"  {len(self.members)} of {self.trials} trials, {how}",
            ]
        )

    def predict(
        self,
        images_or_paths: images.Pictures,
        *,
        layout: str = "HWC",
        colours: str | None = None,
        values: str | None = None,
        fit: str = "exact",
    ) -> pd.DataFrame:
        """Images -> a table (columns: `prediction_table.table`), calibrated where the run
        applies a map (`attrs['calibrated']`).

        A run trained on feature vectors takes an array [N, F] instead, one trained on clips uint8
        [N, *shape].

        Args:
          images_or_paths: an array of N images, or a list of images of any sizes, or of paths, or
              one path. N is arbitrary. layout: of an array, per image: 'HWC', 'CHW' or 'HW'.
          colours: of an array: 'grey', 'rgb', 'bgr', converted to those of the network; None: the
              network's.
          values: of an array: '0..255' or '0..1'; required for anything but uint8.
          fit: 'exact': other sizes are refused. 'resize': the images show only the face, cropped as
            in training, but in another size. 'face': every face is found, turned upright and cut
            out; each is a row, with the further columns of `prediction_table.with_faces`. A
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
        self,
        onset: images.Picture,
        apex: images.Picture,
        *,
        align: str = "detect",
        landmarks: ArrayLike | None = None,
    ) -> pd.DataFrame:
        """The onset and apex frame of a movement -> a table of one row, by the optical flow between
        them, made as the run's data were.

        Args:
          onset, apex: paths, or grey uint8 [H, W].
          align: 'detect' finds the face on the onset, 'landmarks' uses `landmarks`, 'none': the
              frames show only the face, upright, as in the published crops.
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
        """A video -> a table with one row per frame, or, for a run trained on flow, per pair of
        frames. Options, errors: `video.batches`.

        Args:
          onset, apex: for a run trained on flow, the numbers (from 0) of the only two frames to
              read; options are then those of `predict_pair`.
        """
        import pandas as pd

        from fexpr.recognizer import video

        if onset is None and apex is None:
            return pd.concat(list(video.tables(self, path, **options)))
        if onset is not None and apex is not None and onset >= apex:
            raise UserError(
                f"{path}: the apex must come after the onset",
                [f"expected onset < apex, found onset {onset} and apex {apex}"],
            )
        frames = video.grey_frames(path, (onset, apex))
        return self.predict_pair(*frames, **options).set_axis(
            pd.Index([f"{onset} -> {apex}"], name="frame")
        )

    def predict_clip(self, path: Path | str, **options: Any) -> pd.DataFrame:
        """A video -> a table with one row for each person in it: a decision on the whole clip.
        Columns: `clip.ClipSums.table`. Options, errors: `video.batches`; also a UserError if a
        coverage is requested, but clips of the run have no prediction sets.
        """
        from fexpr.recognizer import clip, video

        sums = clip.ClipSums(self)
        sums.check_coverage()
        source = video.Video(path)
        for _ in video.batches(self, source, sums=sums, **options):
            pass
        return sums.table(str(path), source.break_off)

    def spot(self, path: Path | str) -> pd.DataFrame:
        """Finds the movements of faces in a video, from onset to offset, and classifies each: a
        table with one row per movement. Columns, errors: `spot_video.spot_video`.
        """
        from fexpr.recognizer import spot_video

        return spot_video.spot_video(self, path)

    def continue_training(
        self,
        images: Num[np.ndarray, "N H W C"],
        labels: Integer[np.ndarray, " N"] | Float[np.ndarray, "N K"],
        train: Integer[np.ndarray, " n"],
        val: Integer[np.ndarray, " m"],
        **options: Any,
    ) -> tuple[Recognizer, pd.DataFrame]:
        """Trains the network further: the new recogniser and the history, as
        `continued.continue_training` describes them.
        """
        from fexpr.recognizer import continued

        return continued.continue_training(self, images, labels, train, val, **options)

    def pair(
        self,
        onset: images.Picture,
        apex: images.Picture,
        align: str = "detect",
        landmarks: ArrayLike | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The flow map uint8 [H, W, 3] that `predict_pair` reads. Arguments and errors as in
        `predict_pair`.
        """
        from fexpr.recognizer import face_finder

        if self.kind != "flow":
            raise UserError(
                f"the run was trained on images of kind {self.kind!r}, not on flow between two "
                "frames",
                fix="use predict",
            )
        if self.shape[2] != 3:
            raise UserError(
                f"the run reads {self.shape[2] // 3} flow maps per clip, but two frames give only "
                "one",
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

    def face_finder(self) -> images.Finder:
        """The function that finds faces in a picture and crops them like the run's data."""
        from fexpr.recognizer import face_finder

        return partial(face_finder.find, frame=face_finder.frame_of(self.content))


def _frame(frame: images.Picture, name: str) -> np.ndarray:
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


def _pair_name(onset: images.Picture, apex: images.Picture) -> str:
    return " -> ".join(
        "array" if isinstance(frame, np.ndarray) else str(frame) for frame in (onset, apex)
    )
