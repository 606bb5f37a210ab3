"""dasbus, as Anaconda and other Python services use it: proxies whose members come from the introspection.

Prints "ok" at the end; an exception or a time-out of the main loop is a failure.
"""

import subprocess
import sys

from dasbus.connection import SystemMessageBus
from dasbus.error import DBusError, ErrorMapper, get_error_decorator
from dasbus.loop import EventLoop
from gi.repository import GLib

NAME = "org.opdbus"
errors = ErrorMapper()
dbus_error = get_error_decorator(errors)


@dbus_error("org.freedesktop.DBus.Error.UnknownObject")
class UnknownObject(DBusError):
    """There is no such object."""


@dbus_error("org.freedesktop.DBus.Error.UnknownMethod")
class UnknownMethod(DBusError):
    """There is no such method, or no such object."""


@dbus_error("org.opdbus.Error.InvalidDocument")
class InvalidDocument(DBusError):
    """The document has faults."""


bus = SystemMessageBus(error_mapper=errors)
loop = EventLoop()
state = bus.get_proxy(NAME, "/org/opdbus/state")
assert isinstance(state.Generation, int) and isinstance(state.InSync, bool)
assert state.Validate("{}", {}) == []
resources, following = state.ListResources({"kind": GLib.Variant("s", "bridge")}, "", 0, {})
assert ("/org/opdbus/bridge/ovsbr0", "bridge", "ovsbr0") in [row[:3] for row in resources], resources
assert following == ""
try:
    state.SetDesiredState("{ this is not JSON")
    raise AssertionError("a bad document is refused")
except InvalidDocument as error:
    assert "line 1" in str(error), error

bridge = bus.get_proxy(NAME, "/org/opdbus/bridge/ovsbr0")
assert bridge.Name == "ovsbr0" and bridge.DatapathType == "netdev"
changes = []


def changed(interface: str, properties: dict, _invalidated: list) -> None:
    if interface == "org.opdbus.Bridge" and "OtherConfig" in properties:
        changes.append(properties["OtherConfig"].unpack())
        loop.quit()


def give_up() -> None:
    print("nothing came for 60 s", file=sys.stderr)
    sys.exit(1)


bridge.PropertiesChanged.connect(changed)
# A call has its reply only after the match for the signal is in place.
assert bridge.OtherConfig == {}
subprocess.run(["ovs-vsctl", "set", "bridge", "ovsbr0", "other_config:mac-aging-time=301"], check=True)
GLib.timeout_add_seconds(60, give_up)
loop.run()
assert changes == [{"mac-aging-time": "301"}], changes
subprocess.run(["ovs-vsctl", "remove", "bridge", "ovsbr0", "other_config", "mac-aging-time"], check=True)

try:
    bus.get_proxy(NAME, "/org/opdbus/bridge/nonsense", interface_name="org.opdbus.Bridge").Name
    raise AssertionError("an unknown object has no properties")
except (UnknownObject, UnknownMethod):
    pass
print("ok")
