"""Wrong shapes of arguments are found while tests run."""

import pkgutil

import jaxtyping
import numpy as np
import pytest

from fexpr.evaluate.metrics import confusion_cells
from tests import type_checker

PRESENCE = np.eye(4, 3) > 0


def test_a_function_is_checked_in_its_first_calls_of_every_test():
    for _ in range(type_checker.CALLS):
        assert confusion_cells(PRESENCE, PRESENCE).shape == (4, 12)
    assert confusion_cells.__no_type_check__
    type_checker.begin_test()
    assert not hasattr(confusion_cells, "__no_type_check__")
    with pytest.raises(jaxtyping.TypeCheckError, match="decisions"):
        confusion_cells(PRESENCE, PRESENCE[:, :2])


def test_functions_that_refuse_arrays_themselves_exist():
    for name in type_checker.REFUSING:
        assert callable(pkgutil.resolve_name(name))
