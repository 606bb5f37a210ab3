# The configuration of the host oo1424oo: Open vSwitch with the bridge ovsbr0, and on it the containers 100 (gateway),
# 101 (warp) and 102 (xray). Copy it to /etc/nixos/configuration.nix, beside a checkout of op-dbus in /etc/nixos/op-dbus.
{ lib, ... }:
let
  # In the checkout the module is beside this file.
  module = if builtins.pathExists ./module.nix then ./module.nix else ./op-dbus/nix/module.nix;
in
{
  imports = [
    module
  ]
  # What nixos-generate-config wrote for this machine: disks, boot loader, processor.
  ++ lib.optional (builtins.pathExists ./hardware-configuration.nix) ./hardware-configuration.nix;

  networking.hostName = "oo1424oo";
  system.stateVersion = "25.05";

  virtualisation.vswitch.enable = true;
  virtualisation.lxc.enable = true;

  services.op-dbus = {
    enable = true;

    stateConfig = {
      # What somebody changes by hand is shown, and left alone until the next switch.
      drift = "report";

      # systemd runs the containers: at boot, and now.
      systemd.units = {
        "pve-container@100.service" = {
          enabled = true;
          active_state = "active";
        };
        "pve-container@101.service" = {
          enabled = true;
          active_state = "active";
        };
        "pve-container@102.service" = {
          enabled = true;
          active_state = "active";
        };
      };

      # The bridge is made where it is not there yet.
      ovsdb.bridges.ovsbr0.external_ids.site = "oo1424oo";

      # The host's side of each container's network is a port of the bridge.
      lxc.containers = [
        {
          id = "100";
          veth = "veth100";
          bridge = "ovsbr0";
          running = true;
        }
        {
          id = "101";
          veth = "veth101";
          bridge = "ovsbr0";
          running = true;
          # warp and xray reach the world through the gateway.
          after = [ "container:100" ];
        }
        {
          id = "102";
          veth = "veth102";
          bridge = "ovsbr0";
          running = true;
          after = [ "container:100" ];
        }
      ];
    };
  };

  # The containers' units, where no Proxmox VE brings them.
  systemd.services."pve-container@" = {
    description = "LXC container %i";
    restartIfChanged = false;
    serviceConfig = {
      Delegate = true;
      KillMode = "mixed";
      ExecStart = "/run/current-system/sw/bin/lxc-start --foreground --name=%i";
      ExecStop = "/run/current-system/sw/bin/lxc-stop --name=%i";
    };
  };
}
