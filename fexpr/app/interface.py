"""The page: its parts, and what they do when used. The only file that needs Gradio."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]  # of fexpr[app]
import numpy as np
import pandas as pd

from fexpr.app import answers
from fexpr.errors import UserError
from fexpr.recognizer import Recognizer, calibrated

# buttons of a picture: without Gradio's, which publishes it
SHOWN: dict[str, Any] = {"interactive": False, "buttons": ["download", "fullscreen"]}
SECONDS = 0.5  # between two frames of the webcam
PROGRESS = gr.Progress()  # a default argument, which Gradio replaces by the event's own
CSS = """
.bars { width: 100%; } .bars, .bars tr, .bars td { border: 0 !important; }
.bars td { padding: 1px 6px !important; }
.bars td:first-child, .bars td:last-child { width: 1%; white-space: nowrap; }
.bars div { height: 1em; border-radius: 3px; } .bars .held { background: #0f766e; }
.bars .other { background: #a8a29e; }
"""
WARNING = (
    "An expression is not an emotion. Nothing leaves this machine; uploads are deleted when the "
    "page's program ends."
)


def build(recognizer: Recognizer, folder: Path) -> gr.Blocks:
    """The page of a recogniser; tables to take away are written below `folder`."""
    with gr.Blocks(title="fexpr", analytics_enabled=False) as page:
        gr.Markdown(_heading(recognizer))
        span = answers.coverages(recognizer)
        least, most, start = span or (0.5, 0.99, calibrated.COVERAGE)
        coverage = gr.Slider(
            least,
            most,
            start,
            step=0.01,
            label="Coverage",
            info="The share of new rows whose set holds the true class; where the set holds "
            "several, the decision is 'uncertain'",
            visible=span is not None,
        )
        tab = _Tabs(recognizer, folder, coverage)
        if recognizer.kind != "flow":
            tab.photo()
            tab.webcam()
        tab.video()
    return page


def _heading(recognizer: Recognizer) -> str:
    first, *rest = repr(recognizer).splitlines()
    lines = [f"**{first}**", *rest]
    if recognizer.content["data"]["source"] == "synthetic":
        lines.append("**Trained on SYNTHETIC data: its predictions for real faces mean nothing.**")
    return "# fexpr\n\n" + "  \n".join(line.strip() for line in (*lines, WARNING))


class _Tabs:
    """Adds the tabs to the page that is being built."""

    def __init__(self, recognizer: Recognizer, folder: Path, coverage: gr.Slider):
        self.recognizer, self.coverage = recognizer, coverage
        self.names = recognizer.class_names
        numbers = itertools.count()  # one folder per table, as two people may save at the same time
        self.save = lambda rows, name: answers.save(rows, folder / str(next(numbers)), name)

    def photo(self) -> None:
        with gr.Tab("Photo"):
            given = gr.File(label="Photo", type="filepath", elem_id="photo")
            with gr.Row():
                drawn = gr.Image(label="Faces", elem_id="photo-drawn", **SHOWN)
                shown = gr.HTML(elem_id="photo-bars")
            csv = gr.File(label="Table (CSV)", interactive=False, elem_id="photo-csv")
        parts = [drawn, shown, csv]

        def answer(path: str | None, coverage: float) -> list:
            if path is None:
                return [None, "", None]
            picture, rows = answers.photo(self.recognizer, Path(path), coverage)
            return [picture, answers.bars(rows, self.names), self.save(rows, path)]

        gr.on(
            [given.change, self.coverage.release],
            _show_errors(answer),
            [given, self.coverage],
            parts,
        )

    def webcam(self) -> None:
        with gr.Tab("Webcam"):
            with gr.Row():
                given = gr.Image(
                    label="Webcam",
                    sources=["webcam"],
                    streaming=True,
                    type="numpy",
                    webcam_options=gr.WebcamOptions(mirror=False),
                    elem_id="webcam",
                )
                drawn = gr.Image(label="Faces", elem_id="webcam-drawn", **SHOWN)
                shown = gr.HTML(elem_id="webcam-bars")
            tables = gr.State([])
            save = gr.Button("Save the table", elem_id="webcam-save")
            csv = gr.File(label="Table (CSV)", interactive=False, elem_id="webcam-csv")

        def answer(pixels: np.ndarray | None, coverage: float, tables: list) -> list:
            if pixels is None:
                return [None, "", tables]
            picture, rows = answers.camera(self.recognizer, pixels, coverage)
            rows.index = pd.Index([str(len(tables))] * len(rows), name="frame")
            return [picture, answers.bars(rows, self.names), [*tables, rows]]

        def write(tables: list) -> str:
            if not tables:
                raise UserError("there is no picture from the webcam yet", fix="start it first")
            return self.save(pd.concat(tables), "webcam")

        given.stream(
            _show_errors(answer),
            [given, self.coverage, tables],
            [drawn, shown, tables],
            stream_every=SECONDS,
            time_limit=None,
            concurrency_limit=1,
            show_progress="hidden",
        )
        save.click(_show_errors(write), tables, csv)

    def video(self) -> None:
        flow = self.recognizer.kind == "flow"
        with gr.Tab("Video"):
            given = gr.File(label="Video", type="filepath", elem_id="video")
            every = gr.Number(1, label="Read every n-th frame", precision=0, visible=not flow)
            spot = gr.Checkbox(
                flow, label="Find where faces move, from onset to offset", visible=flow
            )
            start = gr.Button("Recognize", variant="primary", elem_id="video-start")
            with gr.Row():
                example = gr.Image(label="A frame", elem_id="video-drawn", **SHOWN)
                shown = gr.HTML(elem_id="video-bars")
            person = gr.Dropdown([], label="Face", visible=False)
            line = gr.LinePlot(
                x="seconds", y="probability", color="class", y_lim=[0, 1], elem_id="video-line"
            )
            csv = gr.File(label="Table (CSV)", interactive=False, elem_id="video-csv")
        rows = gr.State(None)

        def answer(
            path: str | None,
            coverage: float,
            every: int,
            spot: bool,
            progress: gr.Progress = PROGRESS,
        ) -> list:
            if path is None:
                raise UserError("there is no video yet", fix="give one first")
            found = answers.film(
                self.recognizer,
                Path(path),
                coverage,
                None if flow else every,
                spot,
                lambda share, text: progress(share, desc=text),
            )
            people = answers.persons(found.rows)
            shown = found.rows if found.clips is None else found.clips
            plot = self._line(None if spot else found.rows, people[0] if people else None)
            choice = gr.Dropdown(
                people, value=people[0] if people else None, visible=len(people) > 1
            )
            saved = self.save(found.rows, path)
            return [found.example, answers.bars(shown, self.names), choice, plot, saved, found.rows]

        start.click(
            _show_errors(answer),
            [given, self.coverage, every, spot],
            [example, shown, person, line, csv, rows],
            concurrency_limit=1,
        )
        person.input(self._line, [rows, person], line)

    def _line(self, rows: pd.DataFrame | None, face: int | None) -> pd.DataFrame | None:
        """The data of the timeline; None if there is nothing to show."""
        return None if rows is None else answers.timeline(rows, self.names, face)


def _show_errors(answer: Callable) -> Callable:
    """Wraps `answer` so that its UserErrors are shown on the page."""

    @functools.wraps(answer)
    def call(*given: object) -> object:
        try:
            return answer(*given)
        except UserError as e:
            raise gr.Error(e.text(), print_exception=False) from e

    return call
