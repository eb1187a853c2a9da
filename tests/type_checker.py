"""How annotations are checked while tests run: an int will do for a float, as for every checker."""

import ast
import functools
import sys
from collections import Counter
from unittest import mock

from beartype import BeartypeConf, beartype
from jaxtyping import _import_hook

CALLS = 5  # of a function in one test: fits and resamples call some ten thousand times
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_calls: Counter[str] = Counter()
_unchecked: dict[str, object] = {}


def check(checked):
    """`checked` with its annotations checked, in the first CALLS calls of every test."""
    typed = _check(checked)
    if "." in checked.__qualname__:  # a method: always
        return typed
    name = f"{checked.__module__}.{checked.__name__}"

    @functools.wraps(typed)
    def counted(*arguments, **named):
        _calls[name] += 1
        if _calls[name] == 2 * CALLS:  # its parameters, then its result
            # jaxtyping looks at this attribute of the whole function at each call
            found = vars(sys.modules[checked.__module__])[checked.__name__]
            found.__no_type_check__ = True
            _unchecked[name] = found
        return typed(*arguments, **named)

    return counted


def begin_test():
    """All functions are checked again."""
    _calls.clear()
    for found in _unchecked.values():
        del found.__no_type_check__
    _unchecked.clear()


class _Outermost(_import_hook.JaxtypingTransformer):
    """Leaves functions inside functions as they are: they are made anew at every call, and
    preparing their checks takes longer than the call.
    """

    def visit_FunctionDef(self, node):
        inside = any(isinstance(parent, ast.FunctionDef) for parent in self._parents)
        return node if inside else super().visit_FunctionDef(node)


mock.patch.object(_import_hook, "JaxtypingTransformer", _Outermost).start()
