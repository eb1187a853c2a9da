"""Parameters of tests, some of them left to `make test-all`."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def keep_short(values: Iterable[Any], kept: Collection[Any]) -> list[Any]:
    """For pytest.mark.parametrize: all values, those that are not in `kept` marked `long`."""
    return [v if v in kept else pytest.param(v, marks=pytest.mark.long) for v in values]
