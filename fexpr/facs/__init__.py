"""FACS codes: their units, their grammar, and the labels made from them."""

from fexpr.facs.grammar import FacsError, parse, parse_all
from fexpr.facs.presence import Policy, intensities, label_matrix, vocabulary
from fexpr.facs.units import CD6ME, FACS, INTENSITY, NOTEBOOK_25, ActionUnit, Code, names

__all__ = [
    "CD6ME",
    "FACS",
    "INTENSITY",
    "NOTEBOOK_25",
    "ActionUnit",
    "Code",
    "FacsError",
    "Policy",
    "intensities",
    "label_matrix",
    "names",
    "parse",
    "parse_all",
    "vocabulary",
]
