# shellcheck shell=bash disable=SC2154 # the variables are the derivation's
# The phases of nixpkgs' buildRustPackage, as far as nix/package.nix uses them. The profile is that of development, which
# takes less than half the time.
set -euo pipefail

substituteInPlace() {
    local file=$1 from to text
    shift
    while [ $# -gt 0 ]; do
        [ "$1" = --replace-fail ] || { echo "substituteInPlace: $1 is not known here"; exit 1; }
        from=$2 to=$3
        shift 3
        text=$(cat "$file")
        [[ $text = *"$from"* ]] || { echo "substituteInPlace: $file has no '$from'"; exit 1; }
        printf '%s\n' "${text//"$from"/"$to"}" >"$file"
    done
}

echo "unpacking"
cp -r "$src" source
chmod -R u+w source
mkdir vendor .cargo
for crate in $crates; do
    name=$(basename "$crate" .crate)
    name=${name#*-} # the store's hash
    tar -xzf "$crate" -C vendor
    printf '{"files":{},"package":"%s"}' "$(sha256sum <"$crate" | cut -d ' ' -f 1)" >"vendor/$name/.cargo-checksum.json"
done
cat >.cargo/config.toml <<END
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "$PWD/vendor"
END
export CARGO_HOME=$PWD/.cargo
cd source
# For a build that is thrown away.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=none

echo "building"
cargo build --offline --locked
echo "testing"
cargo test --offline --locked
echo "installing"
install -D target/debug/op-dbus "$out/bin/op-dbus"
eval "$postInstall"
