# The container 100 of oo1424oo where Proxmox VE has the containers: made from the template of gateway-template.nix, which is
# built with the host's own configuration and uploaded by op-dbus. It stands in place of that container's entry in
# oo1424oo-config.nix.
{ pkgs, ... }:
let
  archive = (import ../default.nix { inherit pkgs; }).gateway-template;
  inherit (pkgs.stdenv.hostPlatform) system;
in
{
  services.op-dbus = {
    proxmox = {
      url = "https://127.0.0.1:8006";
      # The API token, as USER@REALM!ID=SECRET.
      tokenFile = "/var/lib/secrets/op-dbus-proxmox-token";
      caFile = "/etc/pve/pve-root-ca.pem";
    };

    stateConfig.lxc = {
      templates = [
        {
          name = "gateway.tar.xz";
          storage = "local";
          file = "${archive}/tarball/nixos-system-${system}.tar.xz";
        }
      ];
      containers = [
        {
          id = "100";
          hostname = "gateway";
          from = {
            template = "local:vztmpl/gateway.tar.xz";
            storage = "local-lvm";
            size_gib = 8;
          };
          cores = 2;
          memory_mib = 1024;
          onboot = true;
          networks = [
            {
              name = "eth0";
              bridge = "vmbr0";
              ip = "dhcp";
            }
            {
              name = "eth1";
              bridge = "ovsbr0";
              ip = "10.0.0.1/24";
            }
          ];
          running = true;
        }
      ];
    };
  };
}
