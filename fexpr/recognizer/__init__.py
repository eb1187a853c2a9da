"""A finished run, restored: from images, pairs of frames and videos to probabilities, with nothing
but the run directory.

    from fexpr import Recognizer recognizer = Recognizer.restore("runs/cnn_simple_fer2013")  # a
    folder, a .zip or .tar.gz of one, here or anywhere that fsspec opens
    recognizer.predict(["anna.png", "ben.jpg"], fit="face")     # a pandas table: decision, entropy,
    a column for each class

`python -m fexpr.recognizer --help` does the same from the command line.
"""

from fexpr.recognizer.network import BATCH, Network, in_batches
from fexpr.recognizer.recognizer import Recognizer

__all__ = ["BATCH", "Network", "Recognizer", "in_batches"]
