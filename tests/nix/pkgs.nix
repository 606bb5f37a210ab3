# What of nixpkgs' packages the files in nix/ use: derivations that a plain /bin/sh builds, without a network.
{ lib, package }:
let
  platform.canExecute = _: true;
  runCommand =
    name: environment: script:
    derivation (
      {
        inherit name;
        system = builtins.currentSystem;
        builder = "/bin/sh";
        args = [
          "-euc"
          script
        ];
        PATH = "/usr/bin:/bin";
      }
      // environment
    );
  # As nixpkgs' formats: a type and a generator.
  format = type: text: {
    inherit type;
    generate = name: value: runCommand name { content = text value; } "printf '%s\\n' \"$content\" > $out";
  };
  word = value: if builtins.isAttrs value then null else builtins.toJSON value;
  # Tables of plain values, which is all that op-dbus.toml has; JSON's values are TOML's.
  table = name: values: ''
    [${name}]
    ${builtins.concatStringsSep "\n" (
      builtins.attrValues (builtins.mapAttrs (key: value: "${key} = ${word value}") values)
    )}
  '';
  jsonType = lib.types.json or (import ./json-type.nix { inherit lib; });
in
{
  inherit runCommand;
  stdenv.buildPlatform = platform;
  stdenv.hostPlatform = platform;
  callPackage = _file: _overrides: package;
  formats.json = _: format (lib.types.nullOr jsonType) builtins.toJSON;
  formats.toml =
    _: format (lib.types.attrsOf jsonType) (
      value: builtins.concatStringsSep "\n" (builtins.attrValues (builtins.mapAttrs table value))
    );
}
