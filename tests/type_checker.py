"""How annotations are checked while tests run: an int will do for a float, as for every checker."""

import ast
import functools
import sys
from collections import Counter
from unittest import mock

from beartype import BeartypeConf, beartype
from jaxtyping import _import_hook

# they refuse wrong arrays themselves, which their tests give them
REFUSING = {
    "fexpr.data.dataset.Dataset.__init__",
    "fexpr.data.preparation.flow.flow_map",
    "fexpr.data.preparation.flow.tvl1",
    "fexpr.data.preparation.regions.join_regions",
    "fexpr.data.records.write",
    "fexpr.recognizer.ensemble.Ensemble._logits",
    "fexpr.recognizer.ensemble.Ensemble.logits",
}
CALLS = 5  # of a function in one test: fits and resamples call some ten thousand times
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_calls: Counter[str] = Counter()
_unchecked: dict[str, object] = {}


def check(checked):
    """`checked` with its annotations checked, in the first CALLS calls of every test."""
    name = f"{checked.__module__}.{checked.__qualname__}"
    if name in REFUSING or not any(map(_is_array, checked.__annotations__.values())):
        return checked
    typed = _check(checked)
    if "." in checked.__qualname__:  # a method: always
        return typed

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


def _is_array(annotation):
    """Array, np.ndarray, with or without a shape; the annotation as text or not."""
    return "rray" in str(annotation)


class _Chosen(_import_hook.JaxtypingTransformer):
    """Checks functions that have arrays, but none that is defined inside another: it is created at
    every call of that one, and preparing its checks takes longer than the call. Fields of pytrees
    are not checked: while JAX handles one, they may hold anything.
    """

    def visit_FunctionDef(self, node):
        inside = any(isinstance(parent, ast.FunctionDef) for parent in self._parents)
        given = node.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        annotations = [node.returns, *(a.annotation for a in arguments if a)]
        checked = any(_is_array(ast.unparse(a)) for a in annotations if a)
        return super().visit_FunctionDef(node) if checked and not inside else node

    def visit_ClassDef(self, node):
        node = super().visit_ClassDef(node)
        if "struct.dataclass" in map(ast.unparse, node.decorator_list):
            del node.decorator_list[0]  # the check
        return node


mock.patch.object(_import_hook, "JaxtypingTransformer", _Chosen).start()
