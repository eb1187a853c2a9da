"""What became of a row of the recogniser's table."""

OK = "ok"
NO_FACE = "no face"
UNREADABLE = "unreadable"  # with the reason behind a colon
