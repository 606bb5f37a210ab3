# Builds nix/package.nix where there is no nixpkgs: Nix's sandbox, phases and pinned crates, with the machine's own cargo
# and Debian's packages in place of nixpkgs'. What a build takes from outside its source, a network, root's rights, or a
# file that the source leaves out, fails here as it would there.
{
  # The folder with the .crate files of Cargo.lock, as `cargo fetch` fills it.
  crates,
  # The sysroot of the Rust to build with.
  rust,
}:
let
  lock = builtins.fromTOML (builtins.readFile ../../Cargo.lock);
  # Each is what the lock file says, or evaluation fails.
  crate =
    { name, version, checksum, ... }:
    builtins.path {
      name = "${name}-${version}.crate";
      path = "${crates}/${name}-${version}.crate";
      recursive = false;
      sha256 = checksum;
    };
  buildRustPackage =
    {
      pname,
      version,
      src,
      postInstall,
      cargoLock,
      OPDBUS_TEST_OVSSCHEMA,
      ...
    }:
    assert cargoLock.lockFile == ../../Cargo.lock;
    derivation {
      name = "${pname}-${version}";
      system = builtins.currentSystem;
      builder = "/bin/bash";
      args = [ ./build.sh ];
      PATH = "${rust}/bin:/usr/sbin:/usr/bin:/sbin:/bin";
      crates = map crate (builtins.filter (package: package ? checksum) lock.package);
      inherit src postInstall OPDBUS_TEST_OVSSCHEMA;
    };
in
import ../../nix/package.nix {
  lib.licenses.mit = { };
  lib.platforms.linux = [ ];
  rustPlatform = { inherit buildRustPackage; };
  coreutils = "/usr";
  dbus = "/usr";
  mandoc = "/usr";
  openvswitch = "/usr";
}
