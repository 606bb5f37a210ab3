#!/bin/sh
# Prints how a container stands: now, and at each change, until it is stopped. Needs root, as all monitoring of the bus does.
# Usage: watch-container.sh ID
set -eu

# Paths are not put together by hand: op-dbus escapes names, and tells the path of each resource.
container=$(busctl call org.opdbus /org/opdbus/state org.opdbus.State ListResources 'a{sv}sua{sv}' \
    2 kind s container name-prefix s "$1" '' 1 0 | cut -d '"' -f 2)

show() {
    running=$(busctl get-property org.opdbus "$container" org.opdbus.Container Running)
    status=$(busctl get-property org.opdbus "$container" org.opdbus.Resource Status)
    now="container $1: running ${running#b }, $(echo "${status#s }" | tr -d '"')"
    # One change of a container is a signal for each of its two interfaces.
    [ "$now" = "${last:-}" ] || echo "$now"
    last=$now
}

# The first line says that the monitor is in place: what happens from then on is not missed.
busctl --json=short monitor 2>&1 \
    --match="type='signal',sender='org.opdbus',path='$container',member='PropertiesChanged'" |
    while read -r _; do show "$1"; done
