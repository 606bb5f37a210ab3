//! A container's settings file, `/etc/systemd/nspawn/ID.nspawn` (systemd.nspawn(5)): what systemd-machined has no call
//! for. Pure, but for [`store`].
//!
//! op-dbus writes only files that bear its mark, a comment on top. In these it owns the keys it knows; whatever else
//! somebody put there is kept.

pub(super) mod store;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Write as _};

/// The comment that marks a file as op-dbus's; the machine's id follows.
const MARK: &str = "# opdbus-owner=";

/// The comment of a container whose image is still being made.
const UNFINISHED: &str = "# opdbus-unfinished";

/// What people read first.
const PREFACE: &str = "# Written by op-dbus from the desired state, which has the last word on the keys that it knows: see docs/machined.md.";

/// A settings file that bears op-dbus's mark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// `[Exec] Hostname=`; `None` = the container's id.
    pub(super) hostname: Option<String>,
    /// `[Exec] PrivateUsers=`: `Some(true)` = its users are nobody on the host, `Some(false)` = they are the host's;
    /// `None` = what the unit says.
    pub(super) private_users: Option<bool>,
    /// `[Network] VirtualEthernetExtra=`: name of the device inside to that of its host side. `None` = what the unit
    /// says: `host0`, with `ve-ID` outside.
    pub(super) links: Option<BTreeMap<String, String>>,
    /// `[Files] Bind=` and `BindReadOnly=`, by the folder inside.
    pub(super) binds: BTreeMap<String, Bind>,
    /// Its image is still being made: what is there of it is of no use.
    pub(super) unfinished: bool,
    /// What else the file says, in its order: section, key, value.
    pub(super) rest: Vec<(String, String, String)>,
}

/// A folder of the host that a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bind {
    /// The folder.
    pub(super) source: String,
    /// It cannot be written.
    pub(super) read_only: bool,
    /// What else the line says: options.
    pub(super) options: String,
}

/// A settings file as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none.
    #[default]
    None,
    /// It is another's: never written.
    Foreign,
    /// It bears this machine's mark.
    Ours {
        /// What it says.
        settings: Settings,
        /// When it was last written, CLOCK_REALTIME microseconds.
        written_usec: u64,
    },
}

impl Settings {
    /// Reads a file; `None` of one that does not bear the mark of this machine.
    pub(super) fn parse(text: &str, machine_id: &str) -> Option<Self> {
        let is_ours = |line: &str| line.strip_prefix(MARK).is_some_and(|id| id.trim_end() == machine_id);
        if !text.lines().any(is_ours) {
            return None;
        }
        let mut out = Self { unfinished: text.lines().any(|line| line.trim_end() == UNFINISHED), ..Self::default() };
        let mut section = String::new();
        for line in joined(text) {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=') {
                out.take(&section, key.trim_end(), value.trim_start());
            }
        }
        Some(out)
    }

    fn take(&mut self, section: &str, key: &str, value: &str) {
        match (section, key) {
            ("Exec", "Hostname") => self.hostname = (!value.is_empty()).then(|| value.to_owned()),
            ("Exec", "PrivateUsers") if matches!(value, "pick" | "no") => self.private_users = Some(value == "pick"),
            ("Network", "VirtualEthernet") if value == "no" => drop(self.links.get_or_insert_default()),
            ("Network", "VirtualEthernetExtra") => {
                let (outside, inside) = value.split_once(':').unwrap_or((value, value));
                self.links.get_or_insert_default().insert(inside.to_owned(), outside.to_owned());
            }
            ("Files", "Bind" | "BindReadOnly") => {
                let mut fields = unescaped(value).into_iter();
                let source = fields.next().unwrap_or_default();
                let inside = fields.next().filter(|inside| !inside.is_empty()).unwrap_or_else(|| source.clone());
                let options = fields.next().unwrap_or_default();
                self.binds.insert(inside, Bind { source, read_only: key == "BindReadOnly", options });
            }
            _ => self.rest.push((section.to_owned(), key.to_owned(), value.to_owned())),
        }
    }

    /// The file's text.
    pub(super) fn text(&self, machine_id: &str) -> String {
        let mut out = format!("{PREFACE}\n{MARK}{machine_id}\n");
        if self.unfinished {
            let _ = writeln!(out, "{UNFINISHED}");
        }
        let mut sections: BTreeMap<&str, Vec<(&str, String)>> = BTreeMap::new();
        let mut say = |section, key, value: String| sections.entry(section).or_default().push((key, value));
        if let Some(hostname) = &self.hostname {
            say("Exec", "Hostname", hostname.clone());
        }
        if let Some(private) = self.private_users {
            say("Exec", "PrivateUsers", if private { "pick" } else { "no" }.to_owned());
        }
        for (inside, bind) in &self.binds {
            let key = if bind.read_only { "BindReadOnly" } else { "Bind" };
            let options = if bind.options.is_empty() { String::new() } else { format!(":{}", bind.options) };
            say("Files", key, format!("{}:{}{options}", escaped(&bind.source), escaped(inside)));
        }
        if let Some(links) = &self.links {
            say("Network", "VirtualEthernet", "no".to_owned());
            for (inside, outside) in links {
                say("Network", "VirtualEthernetExtra", format!("{outside}:{inside}"));
            }
        }
        for (section, key, value) in &self.rest {
            say(section, key, value.clone());
        }
        for (section, lines) in sections {
            let _ = writeln!(out, "\n[{section}]");
            for (key, value) in lines {
                let _ = writeln!(out, "{key}={value}");
            }
        }
        out
    }

    /// Whether it says anything at all: what says nothing need not be there.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Lines without comments, those that end in a backslash joined with the next (systemd.syntax(7)).
fn joined(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        // Of two, the one takes the meaning of the other.
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        let goes_on = backslashes % 2 == 1;
        let part = if goes_on { line.strip_suffix('\\').unwrap_or(line) } else { line };
        match out.last_mut().filter(|_| open) {
            Some(last) => {
                last.push(' ');
                last.push_str(part);
            }
            None => out.push(part.to_owned()),
        }
        open = goes_on;
    }
    out
}

/// Fields separated by colons, of which a backslash takes the meaning.
fn unescaped(value: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        let letter = match char {
            ':' => {
                fields.push(String::new());
                continue;
            }
            '\\' => chars.next().unwrap_or('\\'),
            other => other,
        };
        if let Some(last) = fields.last_mut() {
            last.push(letter);
        }
    }
    fields
}

fn escaped(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:")
}
