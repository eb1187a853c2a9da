"""The status of a row in the recogniser's table."""

OK = "ok"
NO_FACE = "no face"
UNREADABLE = "unreadable"  # followed by a colon and the reason
