//! A task of Proxmox VE's: waited for by its UPID, with its log as it grows.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    client::{Client, encoded},
    error::ApiError,
};

/// First wait between two looks at a task ...
const FIRST_LOOK: Duration = Duration::from_millis(200);

/// ... and the longest: it doubles.
pub(super) const LAST_LOOK: Duration = Duration::from_secs(2);

/// How the last line of a task's log begins: it repeats how the task ended, and says nothing of why.
const TASK_END: &str = "TASK ";

/// Lines of a log that are read at once.
const LINES: u64 = 500;

/// Characters of a log's line that are handed on.
const MAX_LINE: usize = 300;

/// A task's identity, `UPID:node:pid:pstart:start:type:id:user:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upid(String);

impl Upid {
    /// Takes an answer that is a UPID.
    pub(super) fn of(answer: &Value) -> Result<Self, ApiError> {
        let text = answer.as_str().filter(|text| text.starts_with("UPID:") && text.split(':').count() >= 8);
        text.map(|text| Self(text.to_owned()))
            .ok_or_else(|| ApiError::Nonsense(format!("no task's identity but {answer}")))
    }

    fn part(&self, at: usize) -> &str {
        self.0.split(':').nth(at).unwrap_or_default()
    }

    /// The node that runs it.
    pub(super) fn node(&self) -> &str {
        self.part(1)
    }

    /// The identity itself, for people who look for it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn path(&self) -> String {
        format!("/nodes/{}/tasks/{}", encoded(self.node()), encoded(&self.0))
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// Warnings it gave, for people; empty = none.
    pub(super) warnings: String,
}

/// Waits for the end of a task, and hands on the last line of its log whenever there are new ones. What fails in passing
/// is tried again: the task goes on whoever watches.
///
/// # Errors
/// How the task failed; that nobody could be asked any more, or it took longer than `patience`.
pub(super) async fn wait(
    client: &Client,
    upid: &Upid,
    patience: Duration,
    mut line: impl FnMut(&str),
) -> Result<Ended, ApiError> {
    let until = Instant::now() + patience;
    let mut wait = FIRST_LOOK;
    let mut read = 0;
    loop {
        let status = match client.get(format!("{}/status", upid.path())).await {
            Ok(status) => status,
            // Asked again until the time is over.
            Err(error) if error.may_retry() && Instant::now() < until => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LAST_LOOK);
                continue;
            }
            Err(error) => return Err(error),
        };
        // A log that cannot be read tells nothing; the task counts.
        if let Ok(log) = client.get(format!("{}/log?start={read}&limit={LINES}", upid.path())).await {
            let entries: &[Value] = log.as_array().map_or(&[], Vec::as_slice);
            read += entries.len();
            let mut lines = entries.iter().rev().filter_map(|entry| entry.get("t")?.as_str());
            // One report for each look: those keep their distance, and a task that is found again has a long log.
            if let Some(text) = lines.find(|text| !text.starts_with(TASK_END)) {
                line(&text.chars().take(MAX_LINE).collect::<String>());
            }
        }
        if status.get("status").and_then(Value::as_str) == Some("stopped") {
            let exit = status.get("exitstatus").and_then(Value::as_str).unwrap_or("it says nothing of its end");
            return ended(exit);
        }
        if Instant::now() >= until {
            return Err(ApiError::Busy(format!(
                "task {} still runs after {} s: it is looked at again",
                upid.as_str(),
                patience.as_secs()
            )));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LAST_LOOK);
    }
}

fn ended(exit: &str) -> Result<Ended, ApiError> {
    if exit == "OK" {
        return Ok(Ended { warnings: String::new() });
    }
    if exit.starts_with("WARNINGS") {
        return Ok(Ended { warnings: exit.to_owned() });
    }
    Err(ApiError::of_task(exit))
}

/// The task of those kinds that runs for that container, if any: one that an earlier op-dbus began, or one whose
/// identity was lost with its answer.
pub(super) async fn running(client: &Client, node: &str, id: &str, kinds: &[&str]) -> Result<Option<Upid>, ApiError> {
    let path = format!("/nodes/{}/tasks?vmid={}&source=active", encoded(node), encoded(id));
    let answer = client.get(path).await?;
    let mut found = answer.as_array().into_iter().flatten().filter(|task| {
        let text = |key: &str| task.get(key).and_then(Value::as_str).unwrap_or_default();
        kinds.contains(&text("type")) && task.get("endtime").is_none() && text("id") == id
    });
    Ok(found.find_map(|task| Upid::of(task.get("upid")?).ok()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn identities_and_ends() {
        let upid = Upid::of(&json!("UPID:pve1:000A:0001:65F0:vzcreate:101:root@pam!op:")).unwrap();
        assert_eq!(upid.node(), "pve1");
        assert!(upid.path().starts_with("/nodes/pve1/tasks/UPID%3Apve1%3A"), "{}", upid.path());
        for bad in [json!(null), json!("OK"), json!(7), json!("UPID:a")] {
            Upid::of(&bad).unwrap_err();
        }
        assert_eq!(ended("OK").unwrap().warnings, "");
        assert_eq!(ended("WARNINGS: 2").unwrap().warnings, "WARNINGS: 2");
        assert_eq!(
            ended("unable to create CT 101 - boom"),
            Err(ApiError::Task("unable to create CT 101 - boom".into()))
        );
    }
}
