//! Every link from one document to another, to a heading or to a file of the checkout leads somewhere.

use std::{fmt::Write as _, path::Path};

use op_dbus_testkit::markdown;

/// The anchor that a heading gets where Markdown is shown (GitHub's way).
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|char| char.is_alphanumeric() || "-_".contains(*char)).collect()
}

/// The text without its fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = String::new();
    for file in markdown::documents() {
        let text = prose(&markdown::read(file.to_str().unwrap()));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap_or(Path::new("")).join(path) };
            let found = markdown::root().join(&target);
            let leads = found.exists()
                && heading.is_none_or(|heading| {
                    anchors(&prose(&markdown::read(target.to_str().unwrap()))).iter().any(|anchor| anchor == heading)
                });
            if !leads {
                writeln!(dead, "{}: {link}", file.display()).unwrap();
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{dead}");
}
