"""A page in the browser for a trained model: see --help."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# C++ chatter of XLA; must be set before it is loaded
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from fexpr import terminal
from fexpr.command_parser import Parser
from fexpr.errors import UserError
from fexpr.storage import compiled, zoo

if TYPE_CHECKING:
    from fexpr.recognizer import Recognizer

INSTALL = 'pip install "gradio>=6.31,<7"'
LOCAL = "127.0.0.1"
BATCH = 8  # faces per forward pass, of one photo or of several frames


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog=terminal.program("fexpr.app"),
        description="Opens a page for photos, the webcam and videos, on this machine alone: "
        "faces, probabilities with their uncertainty, a timeline, tables to take away.",
        epilog=f"It needs Gradio: {INSTALL}",
    )
    p.add_argument(
        "run_dir",
        metavar="RUN",
        help="a model that `fexpr weights` lists (fer2013), a run directory, a .zip or .tar.gz of "
        "one, or an address that fsspec opens",
    )
    p.add_argument(
        "--host",
        default=LOCAL,
        help=f"address to listen at (default {LOCAL}: this machine alone); with 0.0.0.0 everybody "
        "in the network can use the page",
    )
    p.add_argument("--port", type=int, help="default: the first free one from 7860")
    p.add_argument("--trial", type=int, metavar="N", help="one trial of a cross-validation")
    return p


def serve(args: argparse.Namespace) -> None:
    """Runs the page until Ctrl-C.

    Raises:
      UserError: Gradio is not installed; a run that cannot be restored, or has no page; a port
        that is taken.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the page needs Gradio, which is not installed", fix=INSTALL)
    from fexpr.recognizer import Recognizer

    recognizer = Recognizer.restore(zoo.run_or_model(args.run_dir), trial=args.trial, batch=BATCH)
    check_kind(recognizer)
    # treated like Ctrl-C: uploads are deleted
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="fexpr_app_") as folder:
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": folder,
            "HF_HUB_OFFLINE": "1",
        }
        launch(recognizer, Path(folder), args.host, args.port)


def check_kind(recognizer: Recognizer) -> None:
    """Raises a UserError if the run's input cannot be made from pictures or videos."""
    if recognizer.kind in ("clip", "features") or recognizer.picture[2] not in (1, 3):
        raise UserError(
            f"the run reads {recognizer.kind} of {recognizer.shape[2]} channels, which cannot be "
            "made from pictures or videos",
            fix="name a run trained on faces, or on flow",
        )


def launch(recognizer: Recognizer, folder: Path, host: str, port: int | None) -> None:
    """Serves the page until Ctrl-C; `folder` holds uploads and tables. Errors as in `serve`."""
    # of fexpr[app]
    import gradio  # pyright: ignore[reportMissingImports]
    from starlette.middleware import Middleware  # pyright: ignore[reportMissingImports]

    from fexpr.app import interface
    from fexpr.app.guard import Guard

    font = "system-ui", "sans-serif"
    blocks = interface.build(recognizer, folder / "tables")
    try:
        _, url, _ = blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=gradio.themes.Base(font=font, font_mono=("monospace",)),
            css=interface.CSS,
            app_kwargs={"middleware": [Middleware(Guard, hosts=_hosts(host))]},
        )
    except OSError as e:
        raise UserError(f"the page cannot be served at {host}: {e}", fix="choose a --port") from e
    terminal.errors.print(f"page       {url}   (Ctrl-C ends it)", markup=False)
    if host != LOCAL:
        terminal.errors.print(
            f"listens at {host}: everybody who can reach this machine can use the page",
            markup=False,
            style=terminal.BANNER,
        )
    try:
        blocks.block_thread()
    finally:
        blocks.close()


def _hosts(host: str) -> tuple[str, ...]:
    """Host names under which the page may be requested; (): any."""
    return (LOCAL, "localhost") if host == LOCAL else ()


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return terminal.exit_code(lambda: serve(args))


if __name__ == "__main__":
    terminal.quiet()
    compiled.set_environment()
    sys.exit(main())
