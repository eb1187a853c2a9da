"""Faces in pictures and video: boxes, landmarks, pose, quality, tracks."""

from fexpr.faces.face import POINTS, Face
from fexpr.faces.finder import find
from fexpr.faces.framing import align, similarity
from fexpr.faces.tracking import Tracker

__all__ = ["POINTS", "Face", "Tracker", "align", "find", "similarity"]
