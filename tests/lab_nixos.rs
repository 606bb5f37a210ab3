//! nix/ on a machine without nixpkgs: the module and the example host are evaluated, what they generate is checked by
//! op-dbus and by systemd, and op-dbus runs with it, laid out as NixOS lays it out. The virtual machine of nix/test.nix takes
//! nixpkgs; here its program runs on the lab's machine. (The package is built by tests/nix-package.)

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use op_dbus_testkit::{Lab, Outcome, STATE, STATE_FILE};
use serde_json::{Value, json};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// The example host, as a list of modules.
const HOST: &str = "[ ./nix/oo1424oo-config.nix ]";

/// Nix, with a store of its own, and op-dbus as nix/package.nix would put it there.
#[derive(Debug)]
struct Nix(TempDir);

impl Nix {
    fn new() -> Self {
        // Not in /tmp: op-dbus's unit has one of its own.
        let nix = Self(tempfile::tempdir_in("/srv").unwrap());
        let package = nix.path("package");
        let installed = Command::new(Path::new(CHECKOUT).join("dist/install"))
            .arg(BINARY)
            .env("DESTDIR", &package)
            .env("PREFIX", "")
            .status();
        assert!(installed.unwrap().success());
        nix
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs one of Nix's tools on tests/nix, in the checkout, with these modules.
    fn run(&self, tool: &str, modules: &str, arguments: &[&str]) -> Outcome {
        let package = self.path("package");
        let output = Command::new(tool)
            .args(["tests/nix", "--arg", "modules", modules, "--argstr", "package", &package])
            .args(arguments)
            .current_dir(CHECKOUT)
            .env("NIX_STORE_DIR", self.path("store"))
            .env("NIX_STATE_DIR", self.path("state"))
            .env("NIX_LOG_DIR", self.path("log"))
            .env("NIX_CONF_DIR", self.path("conf"))
            .env("NIX_CONFIG", "build-users-group =\nsandbox = false\nsubstituters =\n")
            .output()
            .unwrap_or_else(|error| panic!("{tool} does not start: {error}"));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        Outcome { success: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The value of an attribute.
    fn value(&self, modules: &str, attribute: &str) -> Value {
        let done = self.run("nix-instantiate", modules, &["--eval", "--strict", "--json", "-A", attribute]);
        assert!(done.success, "{attribute}: {}", done.stderr);
        serde_json::from_str(&done.stdout).unwrap()
    }

    /// Builds a file, and tells where it is in the store.
    fn build(&self, modules: &str, attribute: &str) -> Outcome {
        self.run("nix-build", modules, &["--no-out-link", "-A", attribute])
    }

    fn built(&self, modules: &str, attribute: &str) -> String {
        let done = self.build(modules, attribute);
        assert!(done.success, "{attribute}: {}", done.stderr);
        done.stdout
    }
}

/// A host with that in its configuration.
fn host(configuration: &str) -> String {
    format!("[ ./nix/module.nix {{ services.op-dbus.enable = true; {configuration} }} ]")
}

#[test]
fn every_file_is_nix() {
    let Some(lab) = Lab::enter() else { return };
    let mut files = vec!["default.nix".to_owned(), "flake.nix".to_owned()];
    for folder in ["nix", "tests/nix"] {
        let entries = fs::read_dir(Path::new(CHECKOUT).join(folder)).unwrap();
        files.extend(entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap())));
    }
    for file in files.iter().filter(|file| file.rsplit('.').next() == Some("nix")) {
        lab.run(&["nix-instantiate", "--parse", Path::new(CHECKOUT).join(file).to_str().unwrap()]);
    }
}

#[test]
fn the_package_is_of_this_version_and_builds_from_this_checkout() {
    let Some(lab) = Lab::enter() else { return };
    let expression = format!(
        "import {CHECKOUT}/nix/package.nix {{ lib = import {CHECKOUT}/tests/nix/lib.nix; coreutils = \"/usr\"; \
         dbus = null; mandoc = null; openvswitch = null; rustPlatform.buildRustPackage = package: {{ \
         inherit (package) version meta; lock = builtins.pathExists package.cargoLock.lockFile; \
         inherit (package) postInstall; }}; }}"
    );
    let package = lab.run(&["nix-instantiate", "--eval", "--strict", "--json", "--expr", &expression]);
    let package: Value = serde_json::from_str(&package).unwrap();
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(package["meta"]["license"]["spdxId"], env!("CARGO_PKG_LICENSE"));
    assert_eq!(package["lock"], true);
    // What it replaces is there to be replaced.
    let unit = fs::read_to_string(Path::new(CHECKOUT).join("dist/op-dbus.service")).unwrap();
    let script = package["postInstall"].as_str().unwrap();
    let replaced: Vec<&str> =
        script.split("--replace-fail ").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
    assert_eq!(replaced, ["ExecStart=/usr/bin/op-dbus", "ExecReload=kill"]);
    assert!(replaced.iter().all(|text| unit.contains(text)), "{unit}");
}

/// The flake offers what default.nix has, for each kind of machine, and the module.
#[test]
fn the_flake_offers_what_default_nix_has() {
    let Some(lab) = Lab::enter() else { return };
    let expression = format!(
        r#"
        let
          lib = import {CHECKOUT}/tests/nix/lib.nix;
          pkgs = import {CHECKOUT}/tests/nix/pkgs.nix {{ inherit lib; package = "the package"; }};
          legacyPackages =
            lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: pkgs // {{ testers.runNixOSTest = test: test.name; }});
          flake = import {CHECKOUT}/flake.nix;
          outputs = flake.outputs {{ self = flake; nixpkgs = {{ inherit lib legacyPackages; }}; }};
        in
        {{ inherit (outputs) packages checks; module = builtins.pathExists outputs.nixosModules.default; }}"#
    );
    let outputs = lab.run(&["nix-instantiate", "--eval", "--strict", "--json", "--expr", &expression]);
    let outputs: Value = serde_json::from_str(&outputs).unwrap();
    assert_eq!(outputs["module"], true);
    for system in ["x86_64-linux", "aarch64-linux"] {
        let packages = &outputs["packages"][system];
        assert_eq!((&packages["default"], &packages["op-dbus"]), (&json!("the package"), &json!("the package")));
        assert!(packages["gateway-template"].as_str().unwrap().ends_with("-tarball"), "{packages}");
        assert_eq!(outputs["checks"][system], json!({ "op-dbus": "the package", "tests": "op-dbus" }));
    }
}

/// The guide's `stateConfig`, as the guide shows it, is the guide's document.
#[test]
fn the_guides_state_config_is_its_document() {
    let Some(_lab) = Lab::enter() else { return };
    let nix = Nix::new();
    let modules = host(
        r#"services.op-dbus.stateConfig = {
             systemd = { units = {
               "pve-container@100.service" = { enabled = true; active_state = "active"; };
               "pve-container@101.service" = { enabled = true; active_state = "active"; }; }; };
             lxc = { containers = [ { id = "100"; veth = "veth100"; bridge = "ovsbr0"; running = true; } ]; };
           };"#,
    );
    let document: Value = serde_json::from_str(&fs::read_to_string(nix.built(&modules, "state")).unwrap()).unwrap();
    let active = json!({ "enabled": true, "active_state": "active" });
    assert_eq!(
        document,
        json!({
            "systemd": { "units": { "pve-container@100.service": active, "pve-container@101.service": active } },
            "lxc": { "containers": [{ "id": "100", "veth": "veth100", "bridge": "ovsbr0", "running": true }] }
        })
    );
}

/// A fault fails the build, with the words, the pointer and the code that it has at run time.
#[test]
fn a_fault_fails_the_build_with_the_words_of_the_run_time() {
    let Some(lab) = Lab::enter() else { return };
    let nix = Nix::new();
    lab.install(BINARY, None);
    for (configuration, document) in [
        (
            r#"systemd.units."a.service".enabeld = true;"#,
            json!({ "systemd": { "units": { "a.service": { "enabeld": true } } } }),
        ),
        (
            r#"lxc.containers = [ { id = "100"; running = "yes"; } ];"#,
            json!({ "lxc": { "containers": [{ "id": "100", "running": "yes" }] } }),
        ),
    ] {
        let build = nix.build(&host(&format!("services.op-dbus.stateConfig = {{ {configuration} }};")), "state");
        assert!(!build.success, "{configuration} is taken");
        let faults = lab.call(STATE, "org.opdbus.State", "Validate", &["sa{sv}", &document.to_string(), "0"]);
        let fault = &faults[0][0];
        let [pointer, code, message] = [0, 1, 2].map(|at| fault[at].as_str().unwrap());
        let line = format!("state.json: {pointer}: {message} [{code}]");
        assert!(build.stderr.lines().any(|said| said == line), "{line} in\n{}", build.stderr);
    }
    let build = nix.build(&host("services.op-dbus.settings.systemd.hold_down = 3;"), "settings");
    assert!(!build.success && build.stderr.contains("op-dbus.toml:"), "{}", build.stderr);
    assert!(build.stderr.contains("systemd.hold_down: ") && build.stderr.contains("hold_down_ms"), "{}", build.stderr);
}

#[test]
fn the_options_come_to_the_configuration() {
    let Some(_lab) = Lab::enter() else { return };
    let nix = Nix::new();
    let settings = |configuration: &str| -> toml::Table {
        fs::read_to_string(nix.built(&host(configuration), "settings")).unwrap().parse().unwrap()
    };
    let plain = settings("");
    assert_eq!(plain["ovsdb"]["remote"].as_str(), Some("unix:/run/openvswitch/db.sock"));
    assert_eq!(plain["log"]["level"].as_str(), Some("info"));
    assert!(!plain.contains_key("proxmox"));
    let set = settings(
        "services.op-dbus = { logLevel = \"debug\"; ovsdb.remote = \"tcp:192.0.2.1:6640\"; \
         settings.systemd.hold_down_ms = 3000; };",
    );
    assert_eq!(set["ovsdb"]["remote"].as_str(), Some("tcp:192.0.2.1:6640"));
    assert_eq!(set["log"]["level"].as_str(), Some("debug"));
    assert_eq!(set["systemd"]["hold_down_ms"].as_integer(), Some(3000));

    // What cannot be meant is refused before anything is built.
    for (configuration, words) in [
        ("services.op-dbus.logLevel = \"loud\";", "logLevel"),
        ("services.op-dbus.loglevel = \"info\";", "does not exist"),
        ("services.op-dbus.proxmox.url = \"https://127.0.0.1:8006\";", "tokenFile"),
    ] {
        let refused = nix.run("nix-instantiate", &host(configuration), &["-A", "settings"]);
        assert!(!refused.success && refused.stderr.contains(words), "{configuration}: {}", refused.stderr);
    }
}

/// Proxmox VE: the token stays out of the store and out of the configuration, and the links that start containers at boot
/// are Proxmox VE's.
#[test]
fn the_token_of_proxmox_is_a_credential() {
    let Some(_lab) = Lab::enter() else { return };
    let nix = Nix::new();
    let with = |more: &str| {
        host(&format!(
            r#"services.op-dbus.proxmox = {{ url = "https://127.0.0.1:8006"; tokenFile = "/run/keys/token"; {more} }};
               services.op-dbus.stateConfig.systemd.units."pve-container@100.service".enabled = true;"#
        ))
    };
    let modules = with("node = \"oo1424oo\"; caFile = \"/etc/pve/pve-root-ca.pem\";");
    assert_eq!(
        nix.value(&modules, "services.op-dbus.settings")["proxmox"],
        json!({
            "url": "https://127.0.0.1:8006",
            "node": "oo1424oo",
            "token_credential": "proxmox-token",
            "ca_file": "/etc/pve/pve-root-ca.pem",
        })
    );
    let units = nix.value(&modules, "units");
    let unit = units["op-dbus"].as_str().unwrap();
    assert!(unit.lines().any(|line| line == "LoadCredential=proxmox-token:/run/keys/token"), "{unit}");
    assert!(unit.contains("network-online.target"), "{unit}");
    assert!(units.get("pve-container@100").is_none(), "{units}");

    let both = with("caFile = \"/a.pem\"; fingerprint = \"00\";");
    let refused = nix.run("nix-instantiate", &both, &["--eval", "-A", "units"]);
    assert!(!refused.success && refused.stderr.contains("not both"), "{}", refused.stderr);
    let stored = format!("[ ({}) ]", "{ services.op-dbus.proxmox.tokenFile = \"${./Cargo.toml}\"; }");
    let stored = format!("{} ++ {stored}", host("services.op-dbus.proxmox.url = \"https://127.0.0.1:8006\";"));
    let refused = nix.run("nix-instantiate", &stored, &["--eval", "-A", "units"]);
    assert!(!refused.success && refused.stderr.contains("everybody can read"), "{}", refused.stderr);
}

/// systemd takes the unit as NixOS would have it: the package's, with the module's additions.
fn verify(lab: &Lab, nix: &Nix, modules: &str) {
    let units = nix.value(modules, "units");
    let folder = nix.path("units");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(format!("{folder}/op-dbus.service.d")).unwrap();
    // As nix/package.nix has it.
    let unit = fs::read_to_string(Path::new(CHECKOUT).join("dist/op-dbus.service")).unwrap();
    let unit = unit.replace("/usr/bin/op-dbus", &nix.path("package/bin/op-dbus"));
    fs::write(format!("{folder}/op-dbus.service"), unit).unwrap();
    for (name, text) in units.as_object().unwrap() {
        let file = match name.as_str() {
            "op-dbus" => format!("{folder}/op-dbus.service.d/overrides.conf"),
            // LXC's own programs are elsewhere on NixOS; of an instance there is nothing to say.
            name if name.starts_with("pve-container@") => continue,
            name => format!("{folder}/{name}.service"),
        };
        fs::write(file, text.as_str().unwrap()).unwrap();
    }
    for unit in ["op-dbus.service", "op-dbus-catalog.service"] {
        let verified = lab.outcome(&["systemd-analyze", "verify", "--man=no", &format!("{folder}/{unit}")]);
        let about: Vec<&str> = verified.stderr.lines().filter(|line| line.contains("op-dbus")).collect();
        assert!(verified.success && about.is_empty(), "{unit}: {}", verified.stderr);
    }
}

/// Swaps what /etc points to, as a switch of the system does.
fn switch_to(document: &str) {
    let folder = Path::new("/etc/op-dbus");
    fs::create_dir_all("/etc/static-new/op-dbus").unwrap();
    symlink(document, "/etc/static-new/op-dbus/state.json").unwrap();
    let _ = fs::remove_dir_all("/etc/static");
    fs::rename("/etc/static-new", "/etc/static").unwrap();
    fs::create_dir_all(folder).unwrap();
    if fs::symlink_metadata(STATE_FILE).is_err() {
        symlink("/etc/static/op-dbus/state.json", STATE_FILE).unwrap();
    }
}

/// systemd's folder as NixOS has it: with the links of the configuration, and read-only for everybody.
#[derive(Debug)]
struct ReadOnlyUnits;

const UNITS: &str = "/etc/systemd/system";

impl ReadOnlyUnits {
    fn new(lab: &Lab, services: &Value) -> Self {
        for (name, service) in services.as_object().unwrap() {
            if service["overrideStrategy"] == "asDropin" {
                assert_eq!(service["restartIfChanged"], false, "{name}");
                for target in service["wantedBy"].as_array().unwrap() {
                    let folder = format!("{UNITS}/{}.wants", target.as_str().unwrap());
                    fs::create_dir_all(&folder).unwrap();
                    symlink(format!("../{name}.service"), format!("{folder}/{name}.service")).unwrap();
                }
            }
        }
        lab.run(&["mount", "--bind", UNITS, UNITS]);
        lab.run(&["mount", "--options", "remount,bind,ro", UNITS]);
        lab.run(&["systemctl", "daemon-reload"]);
        Self
    }
}

impl Drop for ReadOnlyUnits {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").args(["--lazy", UNITS]).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{UNITS} stays read-only");
    }
}

/// Starts op-dbus as a host with these modules has it.
fn boot(lab: &Lab, nix: &Nix, modules: &str) -> ReadOnlyUnits {
    lab.install_afresh(BINARY, None);
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    let overrides = nix.value(modules, "units")["op-dbus"].as_str().unwrap().to_owned();
    lab.add_to_service("overrides", &overrides);
    fs::copy(nix.built(modules, "settings"), "/etc/op-dbus/op-dbus.toml").unwrap();
    switch_to(&nix.built(modules, "state"));
    let units = ReadOnlyUnits::new(lab, &nix.value(modules, "systemd.services"));
    lab.run(&["systemctl", "start", "op-dbus.service"]);
    units
}

/// The example host, from its configuration to its containers; and a switch to another document is a reload.
#[test]
fn the_example_host_boots_with_its_generated_document() {
    let Some(lab) = Lab::enter() else { return };
    let nix = Nix::new();
    verify(&lab, &nix, HOST);
    let document = nix.built(HOST, "state");
    assert!(lab.run(&[BINARY, "check", &document]).contains("valid: 3 units, 1 bridge, 3 containers"));

    let _units = boot(&lab, &nix, HOST);
    lab.until(STATE, "org.opdbus.State", "ObservedGeneration", |value| *value == 1);
    assert_eq!(lab.get(STATE, "org.opdbus.State", "StateSource"), "file");
    lab.until(STATE, "org.opdbus.State", "InSync", |value| *value == true);
    for id in ["100", "101", "102"] {
        let container = op_dbus_testkit::path("container", id);
        assert_eq!(lab.get(&container, "org.opdbus.Container", "Running"), true);
        assert_eq!(lab.get(&container, "org.opdbus.Container", "OnBoot"), true);
        assert_eq!(lab.run(&["ovs-vsctl", "port-to-br", &format!("veth{id}")]), "ovsbr0");
    }
    assert_eq!(lab.run(&["ovs-vsctl", "get", "bridge", "ovsbr0", "external_ids:site"]), "oo1424oo");

    // Another document: the unit stays as it is, but for what says that it is to be reloaded.
    let other = "[ ./nix/oo1424oo-config.nix ({ lib, ... }: { services.op-dbus.stateConfig.ovsdb.bridges.ovsbr0\
                 .external_ids.site = lib.mkForce \"elsewhere\"; }) ]";
    assert_eq!(nix.value(other, "units"), nix.value(HOST, "units"));
    let triggers = "systemd.services.op-dbus.reloadTriggers";
    let (before, after) = (nix.value(HOST, triggers), nix.value(other, triggers));
    assert!(before != after && before.as_array().unwrap().len() == 1, "{before} and {after}");
    let restart = "systemd.services.op-dbus.restartTriggers";
    assert_eq!(nix.value(HOST, restart), nix.value(other, restart));

    let process = lab.show("op-dbus.service", "MainPID");
    switch_to(&nix.built(other, "state"));
    lab.run(&["systemctl", "reload", "op-dbus.service"]);
    lab.until("/org/opdbus/bridge/ovsbr0", "org.opdbus.Bridge", "ExternalIds", |ids| ids["site"] == "elsewhere");
    assert_eq!(lab.get(STATE, "org.opdbus.State", "Generation"), 2);
    assert_eq!(lab.show("op-dbus.service", "MainPID"), process);

    // What only NixOS could enable is refused, in systemd's words.
    let unit = "systemd-networkd.service";
    let (_, result) = lab.set_desired_state(&json!({ "systemd": { "units": { unit: { "enabled": true } } } }));
    assert_eq!(result, "failed");
    let unit = op_dbus_testkit::path("unit", unit);
    assert_eq!(lab.get(&unit, "org.opdbus.Resource", "Reason"), "Refused");
    let message = lab.get(&unit, "org.opdbus.Resource", "Message");
    assert!(message.as_str().unwrap().contains("Read-only"), "{message}");
}

/// Where the NixOS machine's test expects the switch to its other configuration.
const SWITCH: &str = "/run/current-system/specialisation/changed/bin/switch-to-configuration";

/// The program of the NixOS machine's test, on the lab's machine with what that machine's configuration generates.
#[test]
fn the_program_of_the_virtual_machines_test_passes() {
    let Some(lab) = Lab::enter() else { return };
    let nix = Nix::new();
    let test = "(import ./nix/test.nix { pkgs.testers.runNixOSTest = test: test; })";
    let machine = format!("[ {test}.nodes.machine ]");
    let changed = format!(
        "[ {test}.nodes.machine (args: {{ config = ({test}.nodes.machine args).specialisation.changed.configuration; }}) ]"
    );
    let document = nix.built(&machine, "state");
    assert!(lab.run(&[BINARY, "check", &document]).contains("valid: 1 unit, 1 bridge, 1 port"));
    assert_eq!(nix.value(&machine, "units"), nix.value(&changed, "units"));

    let _units = boot(&lab, &nix, &machine);
    // What a switch does where a unit's reloadTriggers alone are others.
    let swap = format!(
        "#!/bin/sh -e\nmkdir -p /etc/static-new/op-dbus\nln -s {} /etc/static-new/op-dbus/state.json\n\
         rm -rf /etc/static\nmv /etc/static-new /etc/static\nsystemctl reload op-dbus.service\n",
        nix.built(&changed, "state")
    );
    fs::create_dir_all(Path::new(SWITCH).parent().unwrap()).unwrap();
    fs::write(SWITCH, swap).unwrap();
    lab.run(&["chmod", "+x", SWITCH]);

    let expression = test.replace("./", &format!("{CHECKOUT}/"));
    let program = lab.run(&["nix-instantiate", "--eval", "--json", "--expr", &format!("{expression}.testScript")]);
    let program: String = serde_json::from_str(&program).unwrap();
    let driver = Path::new(CHECKOUT).join("tests/nix/driver.py");
    let said = lab.run(&["python3", driver.to_str().unwrap(), &program]);
    assert_eq!(said.lines().count(), program.matches("with subtest(").count(), "{said}");
}

#[test]
fn the_containers_template_is_a_gateway() {
    let Some(_lab) = Lab::enter() else { return };
    let nix = Nix::new();
    let template = nix.value("[ ./nix/gateway-template.nix ]", "networking.nat");
    assert_eq!(template["externalInterface"], "eth0");
}

/// The template is a part of the host's configuration, and so is the container that is made from it.
#[test]
fn the_gateway_is_declared_from_its_template() {
    let Some(_lab) = Lab::enter() else { return };
    let nix = Nix::new();
    let modules = "[ ./nix/module.nix ./nix/gateway.nix { services.op-dbus.enable = true; } ]";
    let lxc = nix.value(modules, "services.op-dbus.stateConfig")["lxc"].take();
    let template = &lxc["templates"][0];
    let file = template["file"].as_str().unwrap();
    assert!(file.starts_with(&nix.path("store")) && file.ends_with(".tar.xz"), "{file}");
    let volume = format!("{}:vztmpl/{}", template["storage"].as_str().unwrap(), template["name"].as_str().unwrap());
    assert_eq!(lxc["containers"][0]["from"]["template"], volume);
    assert!(nix.value(modules, "services.op-dbus.settings")["proxmox"]["token_credential"].is_string());
}

/// docs/nixos.md has every option, and shows what a build prints.
#[test]
fn the_page_about_nixos_is_right() {
    let Some(_lab) = Lab::enter() else { return };
    let nix = Nix::new();
    let page = fs::read_to_string(Path::new(CHECKOUT).join("docs/nixos.md")).unwrap();
    let options = nix.value(&host(""), "options");
    let options: Vec<&str> = options.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let (_, table) = page.split_once("| option of `services.op-dbus` |").unwrap();
    let listed: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).take(options.len() + 1).collect();
    let sorted = |mut names: Vec<&str>| {
        names.sort_unstable();
        names.join(" ")
    };
    assert_eq!(sorted(listed), sorted(options));

    let (_, said) = page.split_once("```text\n").unwrap();
    let said = said.lines().next().unwrap();
    let misspelt = r#"services.op-dbus.stateConfig.systemd.units."pve-container@100.service".enabeld = true;"#;
    let build = nix.build(&host(misspelt), "state");
    assert!(build.stderr.lines().any(|line| line == said), "{said} in\n{}", build.stderr);

    // Each example in Nix is Nix, and the one that declares something declares a document.
    let examples: Vec<&str> = page.split("```nix\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 3);
    let document = nix.built(&format!("[ ./nix/module.nix ({}) ]", examples[2]), "state");
    let document: Value = serde_json::from_str(&fs::read_to_string(document).unwrap()).unwrap();
    assert_eq!(document["lxc"]["containers"][0]["veth"], "veth100");
    for example in &examples[..2] {
        let parsed = Command::new("nix-instantiate").args(["--parse", "--expr", example]).output().unwrap();
        assert!(parsed.status.success(), "{example}");
    }
}

/// Where the machine has nixpkgs, both evaluators say the same; the small one is then known to be right.
#[test]
fn both_evaluators_agree() {
    let Some(_lab) = Lab::enter() else { return };
    let nix = Nix::new();
    if nix.value(HOST, "evaluator") == "small" {
        return;
    }
    let with = |small: &str, attribute: &str| {
        let arguments = ["--eval", "--strict", "--json", "--arg", "small", small, "-A", attribute];
        let done = nix.run("nix-instantiate", HOST, &arguments);
        assert!(done.success, "{}", done.stderr);
        done.stdout
    };
    for attribute in ["units", "services.op-dbus.stateConfig", "services.op-dbus.settings"] {
        assert_eq!(with("true", attribute), with("false", attribute), "{attribute}");
    }
}
