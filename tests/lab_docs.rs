//! What README.md and docs/ show of a running op-dbus, played in the lab: each `console` block is typed line by line, and
//! what is printed is compared; each block that names a file becomes that file first. `…` stands for anything: within
//! a line for any text, as a line for any lines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use futures::StreamExt as _;
use op_dbus_testkit::{
    Lab, NAME,
    markdown::{self, Block},
};
use tempfile::TempDir;
use zbus::{Connection, MatchRule, MessageStream, message};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");

/// What stands for whatever differs each time.
const ANYTHING: char = '…';

/// A look that does not show what is written is repeated at op-dbus's next signal, for so long.
const PATIENCE: Duration = Duration::from_secs(100);

/// Commands that only look: what they show may still be on its way.
const LOOKS: [&str; 4] = ["busctl get-property", "busctl tree", "journalctl", "ovs-vsctl get"];

/// Files that `dist/install` puts in place and that make a difference to a machine that has none.
const INSTALLED: [&str; 6] = [
    "/usr/bin/op-dbus",
    "/usr/lib/systemd/system/op-dbus.service",
    "/usr/lib/systemd/catalog/op-dbus.catalog",
    "/usr/share/dbus-1/system.d/org.opdbus.conf",
    "/usr/share/polkit-1/actions/org.opdbus.policy",
    "/usr/share/man/man8/op-dbus.8",
];

/// Where the lab has the npm packages that the clients in JavaScript take, if they could be had.
const NODE_MODULES: &str = "/node_modules/dbus-next";

/// In place of sudo: everything is typed as root.
const SUDO: &str = "#!/bin/sh\nexec \"$@\"\n";

/// In place of cargo: what `cargo build --release --locked` makes has been made.
const CARGO: &str = "#!/bin/sh\nset -eu\ntest \"$*\" = 'build --release --locked'\nmkdir -p target/release\ncp BINARY target/release/op-dbus\n";

/// What a root user types before her first ssh: a key, and the other machine, which is this one under another name.
const SSH: &str = "install -d -m 0700 /root/.ssh
    [ -e /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
    cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
    printf 'Host host1\\n  Hostname 127.0.0.1\\n  StrictHostKeyChecking no\\n  LogLevel ERROR\\n' > /root/.ssh/config
    systemctl start ssh.service";

/// A command that is typed, and what it shall print.
#[derive(Debug, PartialEq, Eq)]
struct Typed {
    line: usize,
    command: String,
    printed: Vec<String>,
}

/// The commands of a console block: `$ ` begins one, `> ` goes on with it.
fn typed(block: &Block) -> Vec<Typed> {
    let mut all: Vec<Typed> = Vec::new();
    for (at, line) in block.text.lines().enumerate() {
        if let Some(command) = line.strip_prefix("$ ") {
            all.push(Typed { line: block.line + at, command: command.to_owned(), printed: Vec::new() });
            continue;
        }
        let last = all.last_mut().unwrap_or_else(|| panic!("line {} belongs to no command", block.line + at));
        match line.strip_prefix("> ").filter(|_| last.printed.is_empty()) {
            Some(more) => last.command.extend(["\n", more]),
            None => last.printed.push(line.to_owned()),
        }
    }
    all
}

/// Whether a line is as it is shown.
fn line_matches(shown: &str, line: &str) -> bool {
    let mut parts = shown.split(ANYTHING);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Whether lines are as they are shown.
fn matches(shown: &[String], lines: &[&str]) -> bool {
    match shown.split_first() {
        None => lines.is_empty(),
        Some((first, more)) if first.chars().eq([ANYTHING]) => (0..=lines.len()).any(|at| matches(more, &lines[at..])),
        Some((first, more)) => {
            lines.split_first().is_some_and(|(line, rest)| line_matches(first, line) && matches(more, rest))
        }
    }
}

/// A folder in which commands are typed: a checkout as far as the documents need one, with `sudo` and `cargo` at hand,
/// and another machine to reach by ssh.
struct Stage(TempDir);

impl Stage {
    fn new(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for (name, text) in [("sudo", SUDO), ("cargo", &CARGO.replace("BINARY", BINARY))] {
            fs::write(bin.join(name), text).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        lab.run(&["bash", "-euc", SSH]);
        symlink(markdown::root().join("docs"), folder.path().join("docs")).unwrap();
        // `dist/install` finds the rest of the checkout from where it lies.
        for part in ["dist", "dbus-interfaces"] {
            let (from, to) = (markdown::root().join(part), folder.path().join(part));
            lab.run(&["cp", "--recursive", from.to_str().unwrap(), to.to_str().unwrap()]);
        }
        Self(folder)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:{}", self.0.path().join("bin").display(), std::env::var("PATH").unwrap());
        command.current_dir(self.0.path()).env("PATH", path).stdin(Stdio::null());
        command
    }

    /// Puts the block into the file that it names; an absolute path is that file of the machine.
    fn write(&self, file: &str, text: &str) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Types a command; all that it prints, complaints too.
    fn run(&self, command: &str) -> String {
        if command.starts_with("journalctl") {
            assert!(Command::new("journalctl").arg("--sync").status().unwrap().success());
        }
        let output = self.command("bash").args(["-c", &format!("exec 2>&1\n{command}")]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Types a command until it prints what is shown. Only a look is repeated.
fn play(runtime: &tokio::runtime::Runtime, stage: &Stage, typed: &Typed) -> Result<(), String> {
    let holds = |printed: &str| matches(&typed.printed, &printed.lines().collect::<Vec<_>>());
    let mut printed = String::new();
    let playing = async {
        if !LOOKS.iter().any(|look| typed.command.starts_with(look)) {
            printed = stage.run(&typed.command);
            return;
        }
        // The match first: a change between the look and the match would be missed.
        let connection = Connection::system().await.unwrap();
        let rule = MatchRule::builder().msg_type(message::Type::Signal).sender(NAME).build().unwrap();
        let mut signals = MessageStream::for_match_rule(rule, &connection, None).await.unwrap();
        loop {
            printed = stage.run(&typed.command);
            if holds(&printed) {
                return;
            }
            signals.next().await.unwrap().unwrap();
        }
    };
    // Out of patience, the last look is the answer.
    let _ = runtime.block_on(async { tokio::time::timeout(PATIENCE, playing).await });
    if holds(&printed) { Ok(()) } else { Err(printed) }
}

/// Whether a command takes npm packages that could not be had; says so.
fn is_left_out(command: &str) -> bool {
    let is_js =
        command.split_whitespace().any(|word| Path::new(word).extension().is_some_and(|extension| extension == "js"));
    let left_out = is_js && !Path::new(NODE_MODULES).exists();
    if left_out {
        eprintln!("left out, for dbus-next is not here: {command}");
    }
    left_out
}

/// Makes the machine as it was when it had no op-dbus.
fn forget_everything(lab: &Lab) {
    for id in ["100", "101", "102"] {
        let unit = format!("pve-container@{id}.service");
        lab.run(&["systemctl", "disable", "--quiet", "--now", &unit]);
    }
    if lab.outcome(&["systemctl", "cat", "op-dbus.service"]).success {
        lab.run(&["systemctl", "disable", "--quiet", "--now", "op-dbus.service"]);
    }
    let script = "rm -rf /var/lib/op-dbus /etc/op-dbus /etc/polkit-1/rules.d/50-op-dbus.rules
        for port in $(ovs-vsctl list-ports ovsbr0); do ovs-vsctl del-port \"$port\"; done
        journalctl --quiet --rotate --vacuum-size=1K";
    lab.run(&["bash", "-euc", script]);
    for file in INSTALLED {
        // The first time there is none.
        let _ = fs::remove_file(file);
    }
    lab.run(&["systemctl", "daemon-reload"]);
}

/// Who installs op-dbus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Installed {
    /// The document does.
    ByIt,
    /// It is there before.
    Before,
}

/// Plays a document from its first line to its last.
fn document(file: &str, installed: Installed) {
    let Some(lab) = Lab::enter() else { return };
    forget_everything(&lab);
    if installed == Installed::Before {
        lab.install(BINARY, None);
    }
    let stage = Stage::new(&lab);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut count = 0;
    for block in markdown::blocks(&markdown::read(file)) {
        match block.info.split_once(' ') {
            None if block.info == "console" => {
                for typed in typed(&block) {
                    count += 1;
                    if is_left_out(&typed.command) {
                        continue;
                    }
                    let (line, command) = (typed.line, &typed.command);
                    if let Err(printed) = play(&runtime, &stage, &typed) {
                        panic!("{file}:{line}: $ {command}\nprints\n{printed}\nand not\n{}", typed.printed.join("\n"));
                    }
                }
            }
            Some((_, path)) if path.contains(['.', '/']) => stage.write(path, &block.text),
            _ => {}
        }
    }
    assert!(count > 0, "{file} shows no command");
}

#[test]
fn the_readme() {
    document("README.md", Installed::ByIt);
}

#[test]
fn the_deployment() {
    document("docs/deployment.md", Installed::Before);
}

#[test]
fn the_operations() {
    document("docs/operations.md", Installed::ByIt);
}

#[test]
fn the_objects() {
    document("docs/objects.md", Installed::Before);
}

#[test]
fn the_clients() {
    document("docs/clients.md", Installed::Before);
}

#[test]
fn the_packages() {
    document("docs/packages.md", Installed::Before);
}

#[test]
fn the_containers_of_machined() {
    document("docs/machined.md", Installed::Before);
}

/// Every document that shows commands is among those above.
#[test]
fn no_document_is_left_out() {
    let played = [
        "README.md",
        "docs/clients.md",
        "docs/deployment.md",
        "docs/machined.md",
        "docs/objects.md",
        "docs/operations.md",
        "docs/packages.md",
    ];
    for file in markdown::documents() {
        let shows = markdown::blocks(&markdown::read(file.to_str().unwrap())).iter().any(|b| b.info == "console");
        assert_eq!(shows, played.contains(&file.to_str().unwrap()), "{}", file.display());
    }
}

/// Each of the watching programs prints what docs/clients.md shows, in that order, while a container is stopped and started.
#[test]
fn the_watching_clients() {
    let Some(lab) = Lab::enter() else { return };
    forget_everything(&lab);
    lab.install(BINARY, None);
    let blocks = markdown::blocks(&markdown::read("docs/clients.md"));
    let text = |info: &str| blocks.iter().find(|block| block.info == info).unwrap().text.clone();
    let containers = serde_json::from_str(&text("json containers.json")).unwrap();
    let shown = text("text watch");
    let stage = Stage::new(&lab);
    let compile = "cc -o watch docs/examples/watch-container.c $(pkg-config --cflags --libs libsystemd)";
    assert_eq!(stage.run(compile), "");
    let examples = Path::new("docs/examples");
    let programs = ["watch-container.py", "watch-container.sh", "watch-container.js"].map(|name| examples.join(name));
    for program in programs.into_iter().chain(["watch".into()]) {
        let program = program.to_str().unwrap();
        if is_left_out(program) {
            continue;
        }
        assert_ne!(lab.set_desired_state(&containers).1, "failed");
        let path = stage.0.path().join(program);
        let mut child = Command::new(path).arg("100").stdout(Stdio::piped()).spawn().expect("it starts");
        let output = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut shown = shown.lines();
        let until = |line: &str| {
            let mut printed = Vec::new();
            loop {
                let next = lines.recv_timeout(PATIENCE);
                printed.push(next.unwrap_or_else(|_| panic!("{program} prints no {line:?} but {printed:?}")));
                if printed.last().is_some_and(|last| last == line) {
                    return;
                }
            }
        };
        until(shown.next().unwrap());
        lab.run(&["systemctl", "stop", "pve-container@100.service"]);
        until(shown.next().unwrap());
        lab.run(&["systemctl", "start", "pve-container@100.service"]);
        until(shown.next().unwrap());
        assert_eq!(shown.next(), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn anything_stands_for_whatever_is_there() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (pattern, text, same) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("", "", true),
        ("", "a", false),
        ("a…c", "abbc", true),
        ("a…c", "ac", true),
        ("a…c", "acb", false),
        ("…b…", "abc", true),
        ("…b…", "ac", false),
        ("a\n…\nd", "a\nb\nc\nd", true),
        ("a\n…\nd", "a\nd", true),
        ("a\n…\nd", "a\nb", false),
        ("a\nb", "a", false),
    ] {
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(matches(&shown(pattern), &lines), same, "{pattern:?} and {text:?}");
    }
}

#[test]
fn a_console_block_is_commands_with_what_they_print() {
    let block = Block { info: "console".to_owned(), text: "$ for\n> done\n1\n> 2\n$ x\n".to_owned(), line: 7 };
    let typed = typed(&block);
    assert_eq!(typed.len(), 2);
    assert_eq!((typed[0].line, typed[0].command.as_str()), (7, "for\ndone"));
    assert_eq!(typed[0].printed, ["1", "> 2"]);
    assert_eq!((typed[1].line, typed[1].printed.len()), (11, 0));
}
