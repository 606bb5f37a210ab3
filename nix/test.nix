# A NixOS machine with services.op-dbus, in a virtual machine: nix-build -A tests
{ pkgs }:
pkgs.testers.runNixOSTest {
  name = "op-dbus";

  nodes.machine =
    { lib, ... }:
    let
      document = extra: {
        systemd.units."pve-container@100.service" = {
          enabled = true;
          active_state = "active";
        };
        ovsdb.bridges.ovsbr0 = {
          datapath_type = "netdev";
          ports.uplink0 = {
            type = "internal";
          }
          // extra;
        };
      };
    in
    {
      imports = [ ./module.nix ];
      virtualisation.vswitch.enable = true;
      services.op-dbus = {
        enable = true;
        stateConfig = document { };
      };
      # In place of a container.
      systemd.services."pve-container@".serviceConfig.ExecStart = "/run/current-system/sw/bin/sleep infinity";
      users.users.alice.isNormalUser = true;

      specialisation.changed.configuration.services.op-dbus.stateConfig = lib.mkForce (document {
        tag = 10;
      });
    };

  testScript = ''
    import json

    STATE = "/org/opdbus/state org.opdbus.State"


    def get(what):
        return json.loads(machine.succeed(f"busctl --json=short get-property org.opdbus {what}"))["data"]


    machine.wait_for_unit("op-dbus.service")
    machine.wait_until_succeeds(f"busctl get-property org.opdbus {STATE} InSync | grep true")

    with subtest("the state file is a generation, and holds"):
        assert get(f"{STATE} StateFileStatus") == "current"
        assert get("/org/opdbus/port/uplink0 org.opdbus.Resource Status") == "in-sync"
        assert get("/org/opdbus/container/_3100 org.opdbus.Container Running")
        machine.succeed("ovs-vsctl port-to-br uplink0 | grep ovsbr0")

    with subtest("anybody reads, and only root writes"):
        machine.succeed(f"su alice -c 'busctl get-property org.opdbus {STATE} InSync'")
        machine.fail("su alice -c 'busctl call org.opdbus /org/opdbus/state org.opdbus.State ExportState asa{sv} 0 0'")

    with subtest("a switch with a new document reloads op-dbus, and does not restart it"):
        before = machine.succeed("systemctl show --property MainPID op-dbus.service")
        machine.succeed("/run/current-system/specialisation/changed/bin/switch-to-configuration test")
        machine.wait_until_succeeds("ovs-vsctl get port uplink0 tag | grep 10")
        assert machine.succeed("systemctl show --property MainPID op-dbus.service") == before
        assert get(f"{STATE} Generation") == 2

    with subtest("the journal has its texts"):
        machine.succeed("journalctl --unit=op-dbus --catalog | grep 'Subject: Job'")
  '';
}
