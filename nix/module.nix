# services.op-dbus: op-dbus on NixOS, with the desired state of the host as a part of its configuration.
#
# The document and the configuration are checked when the system is built, by op-dbus itself: a fault fails the build with
# the words and the place that it would have at run time.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf mkOption types;
  cfg = config.services.op-dbus;
  json = pkgs.formats.json { };
  toml = pkgs.formats.toml { };

  # The file `name`, if op-dbus finds no fault with it. Of a system for another processor the binary cannot run where the
  # system is built; it finds the faults when it reads the file.
  checked =
    name: file:
    pkgs.runCommand "op-dbus-${name}" { } ''
      cp ${file} ${name}
      ${lib.optionalString (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) "${cfg.package}/bin/op-dbus check ${name}"}
      cp ${name} "$out"
    '';
  stateFile = checked "state.json" (json.generate "state.json" cfg.stateConfig);
  configFile = checked "op-dbus.toml" (toml.generate "op-dbus.toml" cfg.settings);

  withProxmox = cfg.proxmox.url != null;
  # Backends that are reached through the network and not through a socket of this host.
  remote = withProxmox || !lib.hasPrefix "unix:" cfg.ovsdb.remote;
  # Name of the credential that holds the token of Proxmox VE's API.
  credential = "proxmox-token";
  # Instances of templates that the document enables, without what they end in. On NixOS nobody but NixOS makes the links
  # that enable a unit: the folder that they are in is read-only. (A unit that is no instance is some other module's.)
  enabledInstances = map (lib.removeSuffix ".service") (
    builtins.filter (name: builtins.match "[^@]+@[^@]+\\.service" name != null) (
      builtins.attrNames (
        lib.filterAttrs (_name: unit: unit.enabled or false == true) (cfg.stateConfig.systemd.units or { })
      )
    )
  );
  instances = lib.genAttrs enabledInstances (_name: {
    wantedBy = [ "multi-user.target" ];
    # The template is the unit, and this adds to it.
    overrideStrategy = lib.mkDefault "asDropin";
    enableDefaultPath = lib.mkDefault false;
    # One hand: a switch leaves to op-dbus whether it runs.
    restartIfChanged = lib.mkDefault false;
  });
  fromStore = path: path != null && lib.hasPrefix builtins.storeDir (toString path);
in
{
  options.services.op-dbus = {
    enable = lib.mkEnableOption "op-dbus, the desired and the observed state of this host as a D-Bus object tree";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The package of op-dbus.";
    };

    stateConfig = mkOption {
      type = types.nullOr json.type;
      default = null;
      example = lib.literalExpression ''
        {
          systemd.units."pve-container@100.service" = { enabled = true; active_state = "active"; };
          lxc.containers = [ { id = "100"; veth = "veth100"; bridge = "ovsbr0"; running = true; } ];
        }
      '';
      description = ''
        The desired state of this host, as docs/document.md describes it; written to /etc/op-dbus/state.json. Where it is
        null there is no such file, and the desired state comes over D-Bus.
      '';
    };

    settings = mkOption {
      inherit (toml) type;
      default = { };
      example = lib.literalExpression "{ systemd.hold_down_ms = 3000; }";
      description = ''
        What stands in /etc/op-dbus/op-dbus.toml: how to reach the backends, patterns and bounds; see op-dbus.toml(5). The
        options below are a part of it.
      '';
    };

    proxmox = {
      url = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "https://127.0.0.1:8006";
        description = "Where the REST API of Proxmox VE is. Where it is null, systemd alone runs the containers.";
      };
      node = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "oo1424oo";
        description = "Name of this host among the nodes of Proxmox VE; its host name where it is null.";
      };
      tokenFile = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/run/keys/op-dbus-proxmox-token";
        description = ''
          The file, outside of the store, that holds the API token: USER@REALM!ID=SECRET. systemd reads it as root and
          hands it to op-dbus as a credential.
        '';
      };
      caFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/etc/pve/pve-root-ca.pem";
        description = "The certificate authority, in PEM, that the server's certificate must be of.";
      };
      fingerprint = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "SHA-256 fingerprint of the server's certificate, in place of a certificate authority.";
      };
    };

    ovsdb.remote = mkOption {
      type = types.str;
      default = "unix:/run/openvswitch/db.sock";
      example = "tcp:192.0.2.1:6640";
      description = "Where Open vSwitch's database is. The default is the socket of virtualisation.vswitch.";
    };

    logLevel = mkOption {
      type = types.enum [
        "error"
        "warn"
        "info"
        "debug"
        "trace"
      ];
      default = "info";
      description = "How much op-dbus tells the journal.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = withProxmox -> cfg.proxmox.tokenFile != null;
        message = "services.op-dbus.proxmox.url needs services.op-dbus.proxmox.tokenFile";
      }
      {
        assertion = cfg.proxmox.caFile == null || cfg.proxmox.fingerprint == null;
        message = "services.op-dbus.proxmox takes a caFile or a fingerprint, not both";
      }
      {
        assertion = !fromStore cfg.proxmox.tokenFile;
        message = "services.op-dbus.proxmox.tokenFile lies in the store, which everybody can read";
      }
    ];

    services.op-dbus.settings = {
      ovsdb.remote = cfg.ovsdb.remote;
      log.level = cfg.logLevel;
      proxmox = mkIf withProxmox (
        lib.filterAttrs (_name: value: value != null) {
          inherit (cfg.proxmox) url node fingerprint;
          ca_file = if cfg.proxmox.caFile == null then null else toString cfg.proxmox.caFile;
          token_credential = credential;
        }
      );
    };

    environment.etc = {
      "op-dbus/op-dbus.toml".source = configFile;
      "op-dbus/state.json" = mkIf (cfg.stateConfig != null) { source = stateFile; };
    };

    # Its unit, bus policy, polkit actions and man pages are those of the package.
    environment.systemPackages = [ cfg.package ];
    services.dbus.packages = [ cfg.package ];
    systemd.packages = [ cfg.package ];
    # Without polkit only root could change anything.
    security.polkit.enable = lib.mkDefault true;

    systemd.services = lib.mkMerge [
      # Where Proxmox VE has the containers, it starts them at boot.
      (mkIf (!withProxmox) instances)
      {
        op-dbus = {
          # NixOS does not look at [Install] sections.
          wantedBy = [ "multi-user.target" ];
          # The names that NixOS's own modules give these; the unit itself has those of other distributions.
          after = [
            "ovsdb.service"
            "ovs-vswitchd.service"
            "polkit.service"
          ]
          ++ lib.optional remote "network-online.target";
          wants = lib.optional remote "network-online.target";
          # A new document is read by a reload (op-dbus also watches the file); a new configuration takes a restart, of a
          # moment: nothing that op-dbus looks after notices it.
          reloadTriggers = lib.optional (cfg.stateConfig != null) stateFile;
          restartTriggers = [ configFile ];
          stopIfChanged = false;
          serviceConfig = mkIf withProxmox { LoadCredential = "${credential}:${cfg.proxmox.tokenFile}"; };
        };

        # journalctl looks for texts of packages in /usr/local alone, besides its own.
        op-dbus-catalog = {
          description = "Texts of op-dbus for journalctl --catalog";
          wantedBy = [ "multi-user.target" ];
          after = [ "systemd-journal-catalog-update.service" ];
          path = [ config.systemd.package ];
          script = ''
            mkdir -p /usr/local/lib/systemd/catalog
            ln -sfn ${cfg.package}/lib/systemd/catalog/op-dbus.catalog /usr/local/lib/systemd/catalog/op-dbus.catalog
            journalctl --update-catalog
          '';
          serviceConfig = {
            Type = "oneshot";
            RemainAfterExit = true;
          };
        };
      }
    ];
  };
}
