"""Waits for an event, with a ceiling that only bounds a hang: a busy machine is the normal one."""

import time

CEILING = 900  # seconds, as long as `reclab run` gives a cell; a wait that comes to its end takes far fewer


def wait_for(what: str, condition, pause: float = 0.1):
    """Look again and again until a condition gives something true, and return that.

    Raises
    ------
    AssertionError : it gave nothing in `CEILING` seconds.
    """
    end = time.monotonic() + CEILING
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(pause)
    return found
