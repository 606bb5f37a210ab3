# shellcheck shell=bash
# What `run` and `demo` share: packages, cargo, and plain words on the terminal.

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

[ -e /dev/fd/0 ] || exec </dev/null # some runners start their jobs without an input

# One line of headline, so that a log can be skimmed.
say() {
    printf '\n=== %s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || die "this boots a machine and needs root: sudo $0"
}

# Installs what is missing of Debian's packages.
need_packages() {
    local missing=() package
    while read -r package; do
        [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$checkout/tests/packages")
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "please install: ${missing[*]}"
    say "Installing ${missing[*]}"
    apt-get update --quiet
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${missing[@]}" </dev/null
}

# Finds cargo, also where sudo has cut the path, and defines `cargo` to run it as the user whose it is, so that root leaves no
# files behind in somebody's target folder.
need_cargo() {
    local found home user candidates=()
    found=$(command -v cargo || true)
    if [ -z "$found" ]; then
        for user in "$(stat --format=%U "$checkout")" "${SUDO_USER:-root}" root; do
            home=$(getent passwd "$user" | cut -d : -f 6)
            candidates+=("$home/.cargo/bin/cargo")
        done
        for found in "${candidates[@]}" /usr/local/cargo/bin/cargo ''; do
            [ ! -x "$found" ] || break
        done
    fi
    [ -n "$found" ] || die "no cargo found: install Rust with rustup (https://rustup.rs)"
    PATH=$(dirname "$found"):$PATH
    export PATH
    user=$(stat --format=%U "$(dirname "$found")")
    home=$(getent passwd "$user" | cut -d : -f 6)
    as_builder=(env)
    if [ "$user" != root ] && [ "$user" = "$(stat --format=%U "$checkout")" ]; then
        as_builder=(runuser -u "$user" -- env "HOME=$home")
    fi
}

cargo() {
    (cd "$checkout" && "${as_builder[@]}" "PATH=$PATH" cargo "$@" </dev/null)
}

# need_cargo_tool NAME VERSION: a subcommand of cargo's that is no part of Rust, built once and kept in the target folder.
need_cargo_tool() {
    local name=$1 version=$2 root
    root=$(target_folder)/tools/$name-$version
    if [ ! -x "$root/bin/$name" ]; then
        say "Building $name $version (once)"
        cargo install --quiet --debug --locked --root "$root" --version "=$version" "$name"
    fi
    PATH=$root/bin:$PATH
    export PATH
}

target_folder() {
    cargo metadata --locked --no-deps --format-version=1 | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])'
}

# Installs the fake of Proxmox VE's API, and tells the tests where its schema is: from then on they insist on it.
need_fakepve() {
    OPDBUS_FAKEPVE=$("$checkout/tests/lab/pve/install") || die "the fake of Proxmox VE's API cannot be installed"
    export OPDBUS_FAKEPVE
}
