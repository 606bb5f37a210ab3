# Evaluates a NixOS configuration that uses nix/module.nix: with nixpkgs' own lib where NIX_PATH has nixpkgs, else with
# the small evaluator beside this file.
#
#   nix-build tests/nix --arg modules '[ ./nix/oo1424oo-config.nix ]' --argstr package DIR -A state
{
  modules,
  # The folder that dist/install filled, with an empty PREFIX.
  package,
  # Take the small evaluator in any case.
  small ? false,
}:
let
  real = builtins.tryEval <nixpkgs/lib>;
  lib = if real.success && !small then import real.value else import ./lib.nix;
  built = {
    type = "derivation";
    name = "op-dbus";
    outPath = package;
  };
  pkgs = import ./pkgs.nix {
    inherit lib;
    package = built;
  };
  evaluated = lib.evalModules {
    modules = [ ./nixos.nix ] ++ modules;
    specialArgs = { inherit pkgs; };
  };
  inherit (evaluated) config;
  failed = builtins.filter (this: !this.assertion) config.assertions;
  sound =
    value:
    if failed == [ ] then value else throw "Failed assertions: ${toString (map (this: this.message) failed)}";
in
{
  # Which evaluator it was.
  evaluator = if real.success && !small then "nixpkgs" else "small";
  # The files in /etc.
  state = sound config.environment.etc."op-dbus/state.json".source;
  settings = sound config.environment.etc."op-dbus/op-dbus.toml".source;
  # Names of the module's options.
  options =
    let
      names =
        prefix: tree:
        builtins.concatMap (
          name:
          if tree.${name}._type or null == "option" then
            [ "${prefix}${name}" ]
          else
            names "${prefix}${name}." tree.${name}
        ) (builtins.attrNames tree);
    in
    names "" evaluated.options.services.op-dbus;
  # The units' texts by name, and what of the configuration cannot be seen in them.
  units = sound config.units;
  inherit (config) networking services systemd;
}
