# The container 100 of oo1424oo, the gateway, as a NixOS of its own: an archive with its configuration baked in, which
# Proxmox VE takes as a container template.
#
#   nix-build -A gateway-template                                    in a checkout of op-dbus, or
#   nixos-generate -f proxmox-lxc -c nix/gateway-template.nix        with nixos-generators
#
# Whichever makes it adds nixpkgs' module virtualisation/proxmox-lxc.nix.
{ lib, ... }:
{
  # Proxmox VE names the container, and sets up its first network.
  proxmoxLXC.manageHostName = false;
  proxmoxLXC.manageNetwork = false;
  system.stateVersion = "25.05";

  # What comes from the containers behind it leaves with its address.
  networking.nftables.enable = true;
  networking.nat = {
    enable = true;
    externalInterface = "eth0";
    internalInterfaces = [ "eth1" ];
  };

  # Nobody logs in but by key, and the key is the one that Proxmox VE puts there.
  services.openssh = {
    enable = true;
    settings.PasswordAuthentication = false;
  };
  documentation.enable = lib.mkDefault false;
}
