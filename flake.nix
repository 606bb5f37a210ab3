{
  description = "A host's declared state as a live, typed D-Bus object tree";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEach = make: nixpkgs.lib.genAttrs systems (system: make (import ./. { pkgs = nixpkgs.legacyPackages.${system}; }));
    in
    {
      packages = forEach (op-dbus: {
        inherit (op-dbus) op-dbus gateway-template;
        default = op-dbus.op-dbus;
      });
      checks = forEach (op-dbus: {
        inherit (op-dbus) op-dbus tests;
      });
      nixosModules.default = ./nix/module.nix;
    };
}
