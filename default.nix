# op-dbus for those who use no flakes: nix-build -A op-dbus, or -A tests, or -A gateway-template.
{
  pkgs ? import <nixpkgs> { },
}:
{
  op-dbus = pkgs.callPackage ./nix/package.nix { };
  # services.op-dbus, for `imports` of a NixOS configuration.
  module = ./nix/module.nix;
  tests = import ./nix/test.nix { inherit pkgs; };
  # An archive that Proxmox VE takes as a container template.
  gateway-template =
    (import (pkgs.path + "/nixos/lib/eval-config.nix") {
      inherit (pkgs.stdenv.hostPlatform) system;
      modules = [
        (pkgs.path + "/nixos/modules/virtualisation/proxmox-lxc.nix")
        ./nix/gateway-template.nix
      ];
    }).config.system.build.tarball;
}
