//! What README.md and docs/ show of a running op-dbus, played in the lab: each `console` block is typed line by line, and
//! what is printed is compared; each block that names a file becomes that file first. `…` stands for anything: within
//! a line for any text, as a line for any lines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "common/markdown.rs"]
mod markdown;

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
use markdown::Block;
use op_dbus_testkit::{Lab, NAME};
use tempfile::TempDir;
use zbus::{Connection, MatchRule, MessageStream, message};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");

/// What stands for whatever differs each time.
const ANYTHING: char = '…';

/// A look that does not show what is written is repeated at op-dbus's next signal, for so long.
const PATIENCE: Duration = Duration::from_secs(100);

/// Commands that only look: what they show may still be on its way.
const LOOKS: [&str; 4] = ["busctl get-property", "busctl tree", "journalctl", "ovs-vsctl get"];

/// In place of ssh: the same machine is the other one.
const SSH: &str = "#!/bin/sh\nwhile :; do case $1 in --) shift; break ;; -*) shift ;; *) break ;; esac; done\nshift\nexec sh -c \"$*\"\n";

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

/// A folder in which commands are typed, with the checkout's docs/ in it, and `ssh` at hand.
struct Stage(TempDir);

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ssh = folder.path().join("bin/ssh");
        fs::create_dir(ssh.parent().unwrap()).unwrap();
        fs::write(&ssh, SSH).unwrap();
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
        symlink(markdown::root().join("docs"), folder.path().join("docs")).unwrap();
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
}

/// Plays a document from its first line to its last.
fn document(file: &str) {
    let Some(lab) = Lab::enter() else { return };
    forget_everything(&lab);
    lab.install(BINARY, None);
    let stage = Stage::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut count = 0;
    for block in markdown::blocks(&markdown::read(file)) {
        match block.info.split_once(' ') {
            None if block.info == "console" => {
                for typed in typed(&block) {
                    count += 1;
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
    document("README.md");
}

#[test]
fn the_deployment() {
    document("docs/deployment.md");
}

#[test]
fn the_operations() {
    document("docs/operations.md");
}

#[test]
fn the_objects() {
    document("docs/objects.md");
}

#[test]
fn the_clients() {
    document("docs/clients.md");
}

#[test]
fn the_packages() {
    document("docs/packages.md");
}

#[test]
fn the_containers_of_machined() {
    document("docs/machined.md");
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
    for program in ["watch-container.py", "watch-container.sh"] {
        assert_ne!(lab.set_desired_state(&containers).1, "failed");
        let path = Path::new("docs/examples").join(program);
        let mut child =
            Command::new(markdown::root().join(path)).arg("100").stdout(Stdio::piped()).spawn().expect("it starts");
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
