"""How annotations are checked while tests run: an int will do for a float, as for every checker."""

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(checked):
    """`checked` with its annotations checked; as it is if it is made inside another function, anew
    at every call: preparing its checks would take longer than the call.
    """
    return checked if "<locals>" in checked.__qualname__ else _check(checked)
