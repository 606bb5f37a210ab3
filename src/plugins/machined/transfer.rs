//! A transfer of systemd-importd's, followed to its end.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};
use zbus::{Connection, ObjectPath};

use super::call::{CallError, IMPORTD, SHORT, TRANSFER, call, importd};

/// News of transfers, whoever began them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TransferNews {
    /// A line of a transfer's log.
    Line {
        /// Of that transfer.
        path: String,
        /// Of syslog(3), its facility included: systemd-importd's own lines have one, those of tools it runs have none.
        priority: u32,
        /// The line.
        line: String,
    },
    /// A transfer ended: done, failed, canceled.
    Ended {
        /// That transfer.
        path: String,
        /// How.
        result: String,
    },
    /// systemd-importd left the bus, and its transfers with it; what ends by itself when idle has none.
    Gone,
}

/// A transfer that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transfer {
    /// Its object.
    pub(super) path: String,
    /// Where it gets the image; empty = from a file that it was handed.
    pub(super) remote: String,
    /// The image it makes.
    pub(super) local: String,
}

type Listed<'a> = (u32, &'a str, String, String, f64, ObjectPath<'a>);

/// The transfers under way.
pub(super) async fn list(connection: &Connection) -> Result<Vec<Transfer>, CallError> {
    let reply = importd(connection, "ListTransfers", &()).await?;
    let body = reply.body();
    let listed: Vec<Listed<'_>> = body.deserialize()?;
    let transfer = |(_, _, remote, local, _, path): Listed<'_>| Transfer { path: path.to_string(), remote, local };
    Ok(listed.into_iter().map(transfer).collect())
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The image is there.
    Done,
    /// It is not; why, as the log said.
    Failed(String),
    /// Somebody cancelled it.
    Cancelled,
    /// systemd-importd is gone, and took it along.
    Gone,
    /// It said nothing for so long that nothing will come of it.
    Silent(Duration),
}

/// How long a transfer may say nothing. It says each percent, and gives a download up that stands still for a minute, so
/// only a slow one of a large image is silent for long: 1 % of 10 GB in an hour is 28 kB/s. Up to systemd 252 at least it
/// may also wait for ever: of files that are downloaded side by side it sees one end at a time, and where two end at
/// once and nothing else comes, it never sees the other.
pub(super) const SILENCE: Duration = Duration::from_secs(60 * 60);

/// Ends a transfer.
pub(super) async fn cancel(connection: &Connection, path: &str) -> Result<(), CallError> {
    call(connection, (IMPORTD, path, TRANSFER), "Cancel", &(), SHORT).await.map(drop)
}

/// Waits for the end of a transfer, as long as it says something now and then, and tells how far it is: the share, where
/// that is known, and the line that said so. `news` were followed before it was begun, or was found in the list.
pub(super) async fn follow(
    path: &str,
    news: &mut mpsc::UnboundedReceiver<TransferNews>,
    silence: Duration,
    mut progress: impl FnMut(Option<f64>, &str),
) -> Result<End, CallError> {
    let mut complaints = Complaints::default();
    let mut until = Instant::now() + silence;
    loop {
        // The time first: others may have much to say.
        let said = tokio::select! {
            biased;
            () = tokio::time::sleep_until(until) => return Ok(End::Silent(silence)),
            said = news.recv() => said,
        };
        match said {
            Some(TransferNews::Line { path: of, priority, line }) if of == path => {
                until = Instant::now() + silence;
                progress(share(&line), &line);
                complaints.hear(priority, line);
            }
            Some(TransferNews::Ended { path: of, result }) if of == path => {
                return Ok(match result.as_str() {
                    "done" => End::Done,
                    "canceled" => End::Cancelled,
                    _ => End::Failed(complaints.text(&result)),
                });
            }
            Some(TransferNews::Gone) => return Ok(End::Gone),
            Some(_) => {}
            None => return Err(CallError::Away("the bus went out of reach".to_owned())),
        }
    }
}

/// The lines of a log that tell why, the last few of them.
#[derive(Debug, Default)]
struct Complaints(Vec<String>);

/// As many lines as fit into a message.
const MOST_COMPLAINTS: usize = 4;

/// The lowest severity that tells why: a warning.
const WARNING: u32 = 4;

impl Complaints {
    fn hear(&mut self, priority: u32, line: String) {
        let (facility, severity) = (priority >> 3, priority & 7);
        // A missing settings file beside the image is the usual case, and no complaint.
        let is_usual = line.contains(".nspawn failed with code 404");
        if (facility == 0 || severity <= WARNING) && !is_usual {
            self.0.push(line);
            if self.0.len() > MOST_COMPLAINTS {
                self.0.remove(0);
            }
        }
    }

    fn text(self, result: &str) -> String {
        if self.0.is_empty() { format!("the transfer ended as {result}") } else { self.0.join("; ") }
    }
}

/// How far a line says that the transfer is: `Got 35% of URL`, `Imported 5%.` systemd 252 does not keep the property
/// that should say so.
fn share(line: &str) -> Option<f64> {
    let rest = ["Got ", "Imported ", "Exported "].iter().find_map(|word| line.strip_prefix(word))?;
    let (number, _) = rest.split_once('%')?;
    let percent: u8 = number.parse().ok()?;
    (percent <= 100).then(|| f64::from(percent) / 100.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PATH: &str = "/org/freedesktop/import1/transfer/_1";

    fn line(priority: u32, line: &str) -> TransferNews {
        TransferNews::Line { path: PATH.to_owned(), priority, line: line.to_owned() }
    }

    fn ended(path: &str, result: &str) -> TransferNews {
        TransferNews::Ended { path: path.to_owned(), result: result.to_owned() }
    }

    async fn end(all: Vec<TransferNews>) -> (End, Vec<Option<f64>>) {
        let (sender, mut news) = mpsc::unbounded_channel();
        for one in all {
            sender.send(one).unwrap();
        }
        let mut shares = Vec::new();
        let end = follow(PATH, &mut news, SILENCE, |share, _| shares.push(share)).await.unwrap();
        (end, shares)
    }

    #[tokio::test]
    async fn a_transfer_is_followed_to_its_own_end() {
        let (found, shares) = end(vec![
            line(30, "Pulling 'http://x/box.tar', saving as 'box'."),
            line(30, "Got 35% of http://x/box.tar. 4s left at 262.8K/s."),
            ended("/org/freedesktop/import1/transfer/_12", "failed"),
            line(30, "Got 100% of http://x/box.tar."),
            ended(PATH, "done"),
        ])
        .await;
        assert_eq!((found, shares), (End::Done, vec![None, Some(0.35), Some(1.0)]));
    }

    #[tokio::test]
    async fn what_failed_says_why() {
        // As systemd 252 says it of a file that is no archive.
        let (found, _) = end(vec![
            line(30, "Importing '/srv/bad.tar', saving as 'bad'."),
            line(30, "Imported 5%."),
            line(6, "tar: This does not look like a tar archive"),
            line(27, "HTTP request to http://x/box.nspawn failed with code 404."),
            line(27, "tar failed with exit status 2."),
            line(30, "Exiting."),
            ended(PATH, "failed"),
        ])
        .await;
        let why = "tar: This does not look like a tar archive; tar failed with exit status 2.";
        assert_eq!(found, End::Failed(why.to_owned()));
        assert_eq!(end(vec![ended(PATH, "failed")]).await.0, End::Failed("the transfer ended as failed".to_owned()));
        assert_eq!(end(vec![ended(PATH, "canceled")]).await.0, End::Cancelled);
        assert_eq!(end(vec![TransferNews::Gone]).await.0, End::Gone);
    }

    #[tokio::test]
    async fn one_that_says_nothing_more_is_not_waited_for_for_ever() {
        let (sender, mut news) = mpsc::unbounded_channel();
        let silence = Duration::from_millis(1);
        sender.send(line(30, "Got 80% of http://x/box.tar.")).unwrap();
        // What others say is no sign of its life.
        let other = "/org/freedesktop/import1/transfer/_2".to_owned();
        let chatter = tokio::spawn(async move {
            while sender.send(TransferNews::Line { path: other.clone(), priority: 30, line: String::new() }).is_ok() {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(follow(PATH, &mut news, silence, |_, _| {}).await, Ok(End::Silent(silence)));
        chatter.abort();
    }

    #[test]
    fn only_a_percentage_is_a_share() {
        for (text, found) in [
            ("Got 5% of x", Some(0.05)),
            ("Imported 100%.", Some(1.0)),
            ("Got 101% of x", None),
            ("Got x% of y", None),
            ("Acquired 1.9M.", None),
            ("", None),
        ] {
            assert_eq!(share(text), found, "{text}");
        }
    }
}
