#!/usr/bin/env python3
"""Prints how a container stands: now, and at each change, until it is stopped. Anybody may.

Usage: watch-container.py ID
"""

import sys

from dasbus.connection import SystemMessageBus
from dasbus.loop import EventLoop
from gi.repository import GLib

NAME = "org.opdbus"


def main(container_id: str) -> None:
    bus = SystemMessageBus()
    state = bus.get_proxy(NAME, "/org/opdbus/state")
    # Paths are not put together by hand: op-dbus escapes names, and tells the path of each resource.
    wanted = {"kind": GLib.Variant("s", "container"), "name-prefix": GLib.Variant("s", container_id)}
    found, _ = state.ListResources(wanted, "", 1, {})
    if not found or found[0][2] != container_id:
        sys.exit(f"there is no container {container_id}")
    container = bus.get_proxy(NAME, found[0][0])
    last = ""

    def show(*_changed: object) -> None:
        nonlocal last
        now = f"container {container_id}: running {str(container.Running).lower()}, {container.Status}"
        # One change of a container is a signal for each of its two interfaces.
        if now != last:
            print(now, flush=True)
        last = now

    # First the match for the signal, then the look: what happens in between is not missed.
    container.PropertiesChanged.connect(show)
    show()
    EventLoop().run()


if __name__ == "__main__":
    main(sys.argv[1])
