#!/bin/sh
# Sets a document and waits for the end of its job; ends with 0 if all of it holds.
# Usage: set-document.sh FILE (of up to 128 KiB: Linux gives a command no longer argument)
set -eu

# The text between the first two quotes: of a path, or of a text.
quoted() { printf '%s\n' "$1" | cut -d '"' -f 2; }

# The reply reads: to GENERATION "/org/opdbus/job/N". Of a document with faults each is a line, with its place.
reply=$(busctl call org.opdbus /org/opdbus/state org.opdbus.State SetDesiredState s "$(cat "$1")")
job=$(quoted "$reply")
# A job may take as long as the slowest start: busctl's own 25 s are not enough.
result=$(busctl --timeout=1h call org.opdbus "$job" org.opdbus.Job Wait)
result=$(quoted "$result")
echo "$result: $(busctl get-property org.opdbus "$job" org.opdbus.Job Message | cut -d '"' -f 2)"
case $result in
    "done" | unchanged) ;;
    *) exit 1 ;;
esac
