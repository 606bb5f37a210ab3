# op-dbus, built from this checkout and its Cargo.lock. The tests that need no root are run.
{
  lib,
  rustPlatform,
  coreutils,
  dbus,
  mandoc,
  openvswitch,
}:
let
  cargo = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).package;
  # What a build leaves behind, and what changes without changing op-dbus.
  unwanted = [
    ".git"
    "proptest-regressions"
    "result"
    "target"
  ];
in
rustPlatform.buildRustPackage {
  pname = cargo.name;
  inherit (cargo) version;

  src = builtins.path {
    name = "op-dbus-source";
    path = ../.;
    filter = path: _type: !(builtins.elem (baseNameOf path) unwanted);
  };
  cargoLock.lockFile = ../Cargo.lock;

  # Private buses and databases of the tests, and what reads the manual.
  nativeCheckInputs = [
    dbus
    mandoc
    openvswitch
  ];
  OPDBUS_TEST_OVSSCHEMA = "${openvswitch}/share/openvswitch/vswitch.ovsschema";

  postInstall = ''
    mv "$out/bin/op-dbus" op-dbus
    DESTDIR="$out" PREFIX= sh dist/install ./op-dbus
    mkdir -p "$out/share/doc/op-dbus"
    mv "$out/etc/op-dbus/op-dbus.toml" "$out/share/doc/op-dbus/"
    rmdir "$out/etc/op-dbus" "$out/etc"
    substituteInPlace "$out/lib/systemd/system/op-dbus.service" \
      --replace-fail ExecStart=/usr/bin/op-dbus "ExecStart=$out/bin/op-dbus" \
      --replace-fail ExecReload=kill ExecReload=${coreutils}/bin/kill
  '';

  meta = {
    inherit (cargo) description;
    homepage = cargo.repository;
    license = lib.licenses.mit;
    mainProgram = "op-dbus";
    platforms = lib.platforms.linux;
  };
}
