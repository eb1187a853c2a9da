# Flax leaves these without annotations, and what a checker infers holds its internal marker of an
# empty node.
from collections.abc import Callable, Mapping
from typing import Any, overload

@overload
def flatten_dict(
    xs: Mapping[str, Any],
    keep_empty_nodes: bool = False,
    is_leaf: Callable[[tuple[str, ...], Any], bool] | None = None,
    sep: None = None,
) -> dict[tuple[str, ...], Any]: ...
@overload
def flatten_dict(
    xs: Mapping[str, Any],
    keep_empty_nodes: bool = False,
    is_leaf: Callable[[tuple[str, ...], Any], bool] | None = None,
    *,
    sep: str,
) -> dict[str, Any]: ...
@overload
def unflatten_dict(xs: Mapping[tuple[str, ...], Any], sep: None = None) -> dict[str, Any]: ...
@overload
def unflatten_dict(xs: Mapping[str, Any], sep: str) -> dict[str, Any]: ...
