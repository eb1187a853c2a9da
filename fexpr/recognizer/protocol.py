"""What the parts of the recogniser need of it, so that none of them imports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from fexpr.recognizer.network import Network


class Reader(Protocol):
    """Attributes as of `Recognizer`, which is the only one there is."""

    @property
    def network(self) -> Network: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def multilabel(self) -> bool: ...

    @property
    def kind(self) -> str: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def picture(self) -> tuple[int, int, int]: ...

    @property
    def dtype(self) -> Any: ...

    @property
    def content(self) -> dict: ...

    @property
    def batch(self) -> int: ...

    def members_logits(self, pixels: np.ndarray) -> np.ndarray: ...

    def tabulate_logits(
        self, names: list[str], logits: np.ndarray, status: Sequence[str] | None = None
    ) -> pd.DataFrame: ...

    def tabulate(
        self, names: list[str], pixels: np.ndarray, status: Sequence[str] | None = None
    ) -> pd.DataFrame: ...
