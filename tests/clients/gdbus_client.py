"""GDBus, as GNOME and Cockpit-like programs use it: a DBusObjectManagerClient keeps the tree by itself.

Prints "ok" at the end; an exception or a time-out of the main loop is a failure.
"""

import subprocess
import sys

from gi.repository import Gio, GLib

NAME = "org.opdbus"
BRIDGE = "/org/opdbus/bridge/glib0"
loop = GLib.MainLoop()


def give_up() -> bool:
    print("nothing came for 60 s", file=sys.stderr)
    sys.exit(1)


def run_until(happened: list) -> None:
    """Runs the main loop until something was put into the list."""
    limit = GLib.timeout_add_seconds(60, give_up)
    while not happened:
        loop.get_context().iteration(True)
    GLib.source_remove(limit)


manager = Gio.DBusObjectManagerClient.new_for_bus_sync(
    Gio.BusType.SYSTEM, Gio.DBusObjectManagerClientFlags.NONE, NAME, "/org/opdbus", None, None, None
)
assert manager.get_name_owner(), "the name has an owner"
state = manager.get_interface("/org/opdbus/state", "org.opdbus.State")
assert state.get_cached_property("Version").get_string(), "a property that came with GetManagedObjects"
assert manager.get_interface(BRIDGE, "org.opdbus.Bridge") is None, "no such bridge yet"

added, changed, removed = [], [], []
manager.connect("object-added", lambda _, added_object: added.append(added_object.get_object_path()) if added_object.get_object_path() == BRIDGE else None)
manager.connect("object-removed", lambda _, gone: removed.append(gone.get_object_path()) if gone.get_object_path() == BRIDGE else None)
manager.connect(
    "interface-proxy-properties-changed",
    lambda _m, _o, proxy, properties, _i: changed.append(properties.unpack())
    if proxy.get_object_path() == BRIDGE and "ExternalIds" in properties.unpack()
    else None,
)

subprocess.run(["ovs-vsctl", "add-br", "glib0", "--", "set", "bridge", "glib0", "datapath_type=netdev"], check=True)
run_until(added)
bridge = manager.get_interface(BRIDGE, "org.opdbus.Bridge")
assert bridge.get_cached_property("Name").get_string() == "glib0", "InterfacesAdded carries the properties"
assert manager.get_interface(BRIDGE, "org.opdbus.Resource").get_cached_property("Managed").get_boolean() is False

subprocess.run(["ovs-vsctl", "set", "bridge", "glib0", "external_ids:site=north"], check=True)
run_until(changed)
assert changed[0]["ExternalIds"] == {"site": "north"}, changed
assert bridge.get_cached_property("ExternalIds").unpack() == {"site": "north"}, "the proxy's cache follows"

subprocess.run(["ovs-vsctl", "del-br", "glib0"], check=True)
run_until(removed)

# A plain proxy, which introspects nothing and reads all properties at its start; and a call with a reply of structs.
proxy = Gio.DBusProxy.new_for_bus_sync(
    Gio.BusType.SYSTEM, Gio.DBusProxyFlags.NONE, None, NAME, "/org/opdbus/state", "org.opdbus.State", None
)
faults = proxy.call_sync("Validate", GLib.Variant("(sa{sv})", ('{"systemd":{"unitz":{}}}', {})), 0, -1, None).unpack()[0]
assert faults[0][0] == "/systemd/unitz", faults
try:
    proxy.call_sync("Validate", GLib.Variant("(sa{sv})", ("{}", {"nonsense": GLib.Variant("b", True)})), 0, -1, None)
    raise AssertionError("an unknown option is refused")
except GLib.Error as error:
    assert Gio.DBusError.get_remote_error(error) == "org.freedesktop.DBus.Error.InvalidArgs", error
print("ok")
