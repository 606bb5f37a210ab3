//! Calls that need the core: carried out in tasks of their own, answered when done.

use std::{borrow::Cow, fmt, sync::Arc};

use tokio::sync::{Semaphore, mpsc, oneshot};
use zbus::Message;

use super::{
    auth::Authority,
    error::CallError,
    limits::{Limits, Turn},
    plan_reply::PlanReply,
    reply,
    request::CoreRequest,
    value::{More, Path, Text},
};
use crate::{
    desired::Document,
    reconcile::{Command, CoreError, Fault, PlanRequest},
};

/// Reads and checks a document, off the bus task: [`CoreError::InvalidDocument`] with every fault, or
/// [`CoreError::TooLarge`].
#[derive(Clone)]
pub struct ParseDocument(Arc<Parse>);

type Parse = dyn Fn(&str) -> Result<Document, CoreError> + Send + Sync;

impl ParseDocument {
    /// One that does it by that function.
    pub fn new(parse: impl Fn(&str) -> Result<Document, CoreError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(parse))
    }

    fn call(&self, text: &str) -> Result<Document, CoreError> {
        (self.0)(text)
    }
}

impl fmt::Debug for ParseDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParseDocument")
    }
}

/// Faults of a document beyond so many bytes of text are only counted: the answer must fit a message.
const MAX_FAULT_BYTES: usize = 16 * 1024 * 1024;

/// A fault on the wire costs so many bytes besides its texts: lengths, ends and padding.
const FAULT_OVERHEAD_BYTES: usize = 32;

/// What the tasks share.
#[derive(Debug)]
pub(crate) struct Core {
    /// Commands go here.
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    /// Who calls and whether he may.
    pub(crate) authority: Authority,
    /// Bounds.
    pub(crate) limits: Limits,
    /// Reads documents.
    pub(crate) parse: ParseDocument,
    /// Documents are parsed by so many at once.
    pub(crate) parsers: Semaphore,
}

impl Core {
    /// Carries out a call up to its reply; `None` where the caller expects none.
    pub(crate) async fn carry_out(
        &self,
        call: Message,
        request: CoreRequest,
        mut turn: Option<Turn>,
    ) -> Option<Message> {
        let answered = self.answer(&call, request, &mut turn).await;
        if let Some(mut turn) = turn {
            // Refused before it had its turn: who comes after it still waits for those before it.
            turn.comes().await;
        }
        answered.unwrap_or_else(|why| reply::refusal(&call, &why))
    }

    async fn answer(
        &self,
        call: &Message,
        request: CoreRequest,
        turn: &mut Option<Turn>,
    ) -> Result<Option<Message>, CallError> {
        let caller = self.authority.caller(call).await?;
        if let Some(action) = request.action() {
            self.authority.authorize(call, &caller, action).await?;
        }
        let _heavy = request.is_heavy().then(|| self.authority.admit_heavy(caller.uid)).transpose()?;
        Ok(match request {
            CoreRequest::SetDesiredState { document, options } => {
                let text: Arc<str> = document.into();
                let document = Arc::new(self.parse(Arc::clone(&text)).await?);
                let command = |reply| Command::SetDesiredState { text, document, options, caller, reply };
                let (generation, job) = self.command(turn, command).await??;
                reply::reply(call, &(generation, Path::Job(job)))
            }
            CoreRequest::AdoptStateFile(options) => {
                let command = |reply| Command::AdoptStateFile { options, caller, reply };
                let (generation, job) = self.command(turn, command).await??;
                reply::reply(call, &(generation, Path::Job(job)))
            }
            CoreRequest::Validate(document) => {
                let faults = match self.parse(document.into()).await {
                    Ok(_) => Vec::new(),
                    Err(CallError::Core(CoreError::InvalidDocument(faults))) => faults,
                    Err(why) => return Err(why),
                };
                reply::reply(call, &rows(&faults))
            }
            CoreRequest::Plan(document) => {
                let document = Arc::new(self.parse(document.into()).await?);
                let command = |reply| Command::Plan(PlanRequest { document, caller, reply });
                let plan = self.command(turn, command).await??;
                reply::reply(call, &PlanReply(&plan))
            }
            CoreRequest::Reconcile(target) => {
                let job = self.command(turn, |reply| Command::Reconcile { target, caller, reply }).await??;
                reply::reply(call, &Path::Job(job))
            }
            CoreRequest::ListGenerations => {
                let list = self.command(turn, |reply| Command::ListGenerations { reply }).await?;
                let rows: Vec<_> = list
                    .iter()
                    .map(|entry| {
                        let (sha256, result) = (Text(&entry.sha256), Text(&entry.result));
                        (entry.number, entry.time_usec, entry.source, entry.uid, sha256, result, More)
                    })
                    .collect();
                reply::reply(call, &rows)
            }
            CoreRequest::GetDesiredState(generation) => {
                let text = self.command(turn, |reply| Command::GetDesiredState { generation, reply }).await??;
                reply::reply(call, &Text(&text))
            }
            CoreRequest::ExportState { plugins, all_units } => {
                let command = |reply| Command::ExportState { plugins, all_units, reply };
                let text = self.command(turn, command).await??;
                reply::reply(call, &Text(&text))
            }
            CoreRequest::Cancel(job) => {
                self.command(turn, |reply| Command::Cancel { job, caller, reply }).await??;
                reply::reply(call, &())
            }
            CoreRequest::Lifecycle { container, verb, against_document } => {
                let command = |reply| Command::Lifecycle { container, verb, against_document, caller, reply };
                let job = self.command(turn, command).await??;
                reply::reply(call, &Path::Job(job))
            }
        })
    }

    /// Hands a command to the core, in its turn, and waits for the answer.
    async fn command<T>(
        &self,
        turn: &mut Option<Turn>,
        make: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        let mut turn = turn.take();
        if let Some(turn) = &mut turn {
            turn.comes().await;
        }
        self.commands.send(make(reply)).map_err(|_| CallError::ending())?;
        drop(turn);
        answer.await.map_err(|_| CallError::ending())
    }

    /// Reads a document off the bus task.
    async fn parse(&self, text: Arc<str>) -> Result<Document, CallError> {
        if text.len() > self.limits.document_bytes {
            return Err(CallError::too_large(format!(
                "the document has {} bytes; at most {} are taken",
                text.len(),
                self.limits.document_bytes
            )));
        }
        // The semaphore is never closed.
        let _permit = self.parsers.acquire().await.map_err(|_| CallError::ending())?;
        let parse = self.parse.clone();
        match tokio::task::spawn_blocking(move || parse.call(&text)).await {
            Ok(parsed) => Ok(parsed?),
            Err(why) => Err(CallError::Core(CoreError::Failed(format!("the document could not be read: {why}")))),
        }
    }
}

/// Faults as Validate answers them; those that do not fit a message are counted in a last row.
fn rows(faults: &[Fault]) -> Vec<(Text<'_>, &'static str, Cow<'_, str>)> {
    let mut left = MAX_FAULT_BYTES;
    let mut rows = Vec::new();
    for (at, fault) in faults.iter().enumerate() {
        let bytes = fault.pointer.len() + fault.code.len() + fault.message.len() + FAULT_OVERHEAD_BYTES;
        let Some(rest) = left.checked_sub(bytes) else {
            rows.push((Text(""), "More", Cow::Owned(format!("{} more faults are not listed", faults.len() - at))));
            break;
        };
        left = rest;
        rows.push((Text(&fault.pointer), fault.code, Text(&fault.message).clean()));
    }
    rows
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn faults_beyond_a_message_are_counted() {
        let fault = Fault { pointer: "/x".to_owned(), code: "WrongType", message: "m".repeat(1024 * 1024) };
        let faults = vec![fault; 20];
        let rows = rows(&faults);
        assert_eq!(rows.len(), 16);
        assert_eq!(rows[15].2, "5 more faults are not listed");
    }
}
