"""A trained model: from images, pairs of frames and videos to probabilities, from a finished run, a
packed run, or a model that is installed with fexpr.

    from fexpr import Recognizer

    recognizer = Recognizer.pretrained("fer2013")
    recognizer = Recognizer.restore("runs/cnn_simple_fer2013")  # a folder, a .zip or .tar.gz of
                                                                # one, here or at an address
    recognizer.predict(["anna.png", "ben.jpg"], fit="face")     # a pandas table

`python -m fexpr.recognizer --help` does the same from the command line.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fexpr.recognizer.network import BATCH, Network, in_batches
    from fexpr.recognizer.recognizer import Recognizer

__all__ = ["BATCH", "Network", "Recognizer", "in_batches"]


def __getattr__(name: str) -> Any:
    """Imports JAX on first use: `--help` and mistakes are answered at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "recognizer" if name == "Recognizer" else "network"
    return getattr(importlib.import_module(f"fexpr.recognizer.{home}"), name)
