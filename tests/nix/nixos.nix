# What of NixOS the files in nix/ set, typed as NixOS types it; and the files of units as NixOS writes them.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  any = mkOption {
    type = types.attrsOf types.raw;
    default = { };
  };
  flag = mkOption {
    type = types.bool;
    default = false;
  };
  texts = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
  packages = mkOption {
    type = types.listOf types.package;
    default = [ ];
  };
  paths = mkOption {
    type = types.listOf types.path;
    default = [ ];
  };
  service = {
    options = {
      description = mkOption {
        type = types.str;
        default = "";
      };
      after = texts;
      wants = texts;
      wantedBy = texts;
      path = paths;
      script = mkOption {
        type = types.lines;
        default = "";
      };
      reloadTriggers = mkOption {
        type = types.listOf types.raw;
        default = [ ];
      };
      restartTriggers = mkOption {
        type = types.listOf types.raw;
        default = [ ];
      };
      overrideStrategy = mkOption {
        type = types.enum [
          "asDropinIfExists"
          "asDropin"
        ];
        default = "asDropinIfExists";
      };
      enableDefaultPath = mkOption {
        type = types.bool;
        default = true;
      };
      restartIfChanged = mkOption {
        type = types.bool;
        default = true;
      };
      stopIfChanged = mkOption {
        type = types.bool;
        default = true;
      };
      serviceConfig = any;
    };
  };
in
{
  options = {
    assertions = mkOption {
      type = types.listOf types.raw;
      default = [ ];
    };
    environment.etc = mkOption {
      type = types.attrsOf (
        types.submodule {
          options.source = mkOption { type = types.path; };
        }
      );
      default = { };
    };
    environment.systemPackages = packages;
    documentation.enable = flag;
    networking.hostName = mkOption { type = types.str; };
    networking.nat = any;
    networking.nftables.enable = flag;
    proxmoxLXC = any;
    security.polkit.enable = flag;
    services.dbus.packages = paths;
    services.openssh = any;
    specialisation = any;
    system.stateVersion = mkOption { type = types.str; };
    systemd.package = mkOption { type = types.package; };
    systemd.packages = packages;
    systemd.services = mkOption {
      type = types.attrsOf (types.submodule service);
      default = { };
    };
    users.users = any;
    virtualisation.lxc.enable = flag;
    virtualisation.vswitch.enable = flag;

    # Not of NixOS: each service as its unit, or drop-in where a package brings the unit.
    units = any;
  };

  config = {
    systemd.package = {
      type = "derivation";
      name = "systemd";
      outPath = "/usr";
    };
    units = builtins.mapAttrs (
      _name: service:
      let
        line = key: values: lib.optionalString (values != [ ]) "${key}=${toString values}\n";
        text = value: if builtins.isBool value then (if value then "true" else "false") else toString value;
        settings = service.serviceConfig // lib.filterAttrs (_: value: value != "") { ExecStart = start; };
        start = lib.optionalString (service.script != "") "/bin/sh -ec true";
      in
      ''
        [Unit]
        ${lib.optionalString (service.description != "") "Description=${service.description}"}
        ${line "After" service.after}${line "Wants" service.wants}
        [Service]
        ${builtins.concatStringsSep "\n" (
          builtins.attrValues (builtins.mapAttrs (key: value: "${key}=${text value}") settings)
        )}
      ''
    ) config.systemd.services;
  };
}
