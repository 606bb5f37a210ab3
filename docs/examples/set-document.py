#!/usr/bin/env python3
"""Shows what a document would do, sets it, and waits for the end of its job; ends with 0 if all of it holds.

Usage: set-document.py FILE
"""

import sys
from pathlib import Path

from dasbus.connection import SystemMessageBus
from dasbus.error import DBusError
from gi.repository import GLib

NAME = "org.opdbus"
# A job may take as long as the slowest start: the usual 25 s are not enough.
FOR_EVER = GLib.MAXINT


def main(file: str) -> int:
    document = Path(file).read_text(encoding="utf-8")
    bus = SystemMessageBus()
    state = bus.get_proxy(NAME, "/org/opdbus/state")
    # The plan holds for what is current now: if somebody else sets a document meanwhile, ours is refused (Conflict).
    options = {"expected-generation": GLib.Variant("t", state.Generation)}
    try:
        for number, _path, _action, summary, _changes, _after, _reversible, more in state.Plan(document, {}):
            print(f"{number}. {summary}{' [blocked]' if 'reason' in more else ''}")
        generation, path = state.SetDesiredStateWithOptions(document, options)
    except DBusError as error:
        # Of a document with faults each is a line, with its place.
        print(error, file=sys.stderr)
        return 1
    job = bus.get_proxy(NAME, path)
    result = job.Wait(timeout=FOR_EVER)
    print(f"generation {generation}, {result}: {job.Message}")
    return 0 if result in ("done", "unchanged") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
