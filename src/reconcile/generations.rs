//! The owner of the desired state: the store, the current document, and what the state file says. A thread of its
//! own, for writing a generation blocks on the disk and nothing else shall.

use std::{sync::Arc, thread};

use tokio::sync::{mpsc, oneshot};

use super::{
    ApplyOptions, Caller, CoreError, Fault, GenerationInfo, Left, NewDesired,
    driver::{Input, Inputs},
};
use crate::{
    desired::{Document, Rules, code, parse_bytes_with, parse_with},
    model::{JobId, OP_DBUS_UID, StateFileStatus, StateSource},
    state_file::StateFileEvent,
    store::{FileContent, Source, Store, sha256_hex},
};

/// Job numbers taken from the store at once.
const JOB_NUMBERS: u64 = 256;

/// What is asked of it.
#[derive(Debug)]
pub(super) enum Request {
    /// A document from the bus.
    Set { text: Arc<str>, document: Arc<Document>, options: ApplyOptions, caller: Caller, reply: Reply },
    /// The state file's content, once more.
    Adopt { options: ApplyOptions, caller: Caller, reply: Reply },
    /// The state file's content, or its absence.
    File(StateFileEvent),
    /// All generations.
    List(oneshot::Sender<Vec<GenerationInfo>>),
    /// One generation's document.
    Text(u64, oneshot::Sender<Result<String, CoreError>>),
    /// How a generation's job ended.
    Finished { generation: u64, result: &'static str, complete: bool },
    /// More job numbers.
    ReserveJobs,
    /// The end.
    Close,
}

/// Generation and job of a document that was set.
pub(super) type Reply = oneshot::Sender<Result<(u64, JobId), CoreError>>;

/// The state file as last seen.
#[derive(Debug)]
enum Seen {
    Nothing,
    Missing,
    Unreadable(String),
    Content(Content),
    /// ... with what it says, where that could be understood and was refused for another reason: it is empty, or could
    /// not be stored.
    Refused {
        why: CoreError,
        content: Option<Content>,
    },
}

/// A document of the state file.
#[derive(Debug, Clone)]
struct Content {
    text: Arc<str>,
    document: Arc<Document>,
}

struct Generations {
    store: Store,
    rules: Rules,
    current: Arc<Document>,
    number: u64,
    source: StateSource,
    seen: Seen,
    out: Inputs,
}

/// Takes up what the store holds, tells the core, and answers requests until [`Request::Close`].
pub(super) fn spawn(
    store: Store,
    rules: Rules,
    out: Inputs,
) -> std::io::Result<(mpsc::UnboundedSender<Request>, thread::JoinHandle<()>)> {
    let (sender, mut requests) = mpsc::unbounded_channel();
    let handle = thread::Builder::new().name("generations".to_owned()).spawn(move || {
        let mut generations = Generations::restore(store, rules, out);
        while let Some(request) = requests.blocking_recv() {
            if matches!(request, Request::Close) {
                break;
            }
            generations.answer(request);
        }
        if let Err(error) = generations.store.close() {
            tracing::warn!("the state directory was not closed in order: {error}");
        }
    })?;
    Ok((sender, handle))
}

impl Generations {
    fn restore(store: Store, rules: Rules, out: Inputs) -> Self {
        let mut own = Self {
            store,
            rules,
            current: Arc::default(),
            number: 0,
            source: StateSource::None,
            seen: Seen::Nothing,
            out,
        };
        own.reserve_jobs();
        let Some(found) = own.store.current().cloned() else { return own };
        own.number = found.info.number;
        match parse_with(&found.text, &own.rules) {
            Ok(document) => {
                own.current = Arc::new(document);
                own.source =
                    if found.info.source == Source::File.as_str() { StateSource::File } else { StateSource::Bus };
                let caller = Caller { uid: found.info.uid, ..Caller::default() };
                let left = match (found.finished, found.finished_this_boot) {
                    (_, true) => Left::Finished,
                    (true, false) => Left::FinishedInEarlierBoot,
                    (false, false) => Left::Unfinished,
                };
                own.out.send(Input::Restored { new: own.new_desired(caller), left });
            }
            Err(error) => tracing::error!(generation = own.number, error = %CoreError::from(error),
                "the stored generation is not understood by this version; waiting for a new document"),
        }
        own
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Set { text, document, options, caller, reply } => {
                let outcome = self.set(&text, &document, options, Source::Bus, caller.uid);
                self.conclude(outcome, caller, reply);
            }
            Request::Adopt { options, caller, reply } => {
                let outcome = self.adopt(options, &caller);
                self.conclude(outcome, caller, reply);
            }
            Request::File(event) => {
                let news = self.file(event);
                self.tell_file_status();
                if news {
                    self.tell_desired(Caller { uid: OP_DBUS_UID, ..Caller::default() }, None);
                }
            }
            Request::List(reply) => drop(reply.send(self.store.list())),
            Request::Text(number, reply) => drop(reply.send(self.store.text(number).map_err(CoreError::from))),
            Request::Finished { generation, result, complete } => {
                if let Err(error) = self.store.set_result(generation, result, complete) {
                    tracing::warn!(
                        generation,
                        "the result of a generation is not noted: it is taken up again at the next start: {error}"
                    );
                }
            }
            Request::ReserveJobs => self.reserve_jobs(),
            Request::Close => {}
        }
    }

    /// Tells the core, and so the caller. The file's standing goes first: it has changed when the answer comes.
    fn conclude(&self, outcome: Result<(), CoreError>, caller: Caller, reply: Reply) {
        match outcome {
            Ok(()) => {
                self.tell_file_status();
                self.tell_desired(caller, Some(reply));
            }
            // Nobody may wait any more: then nobody is told.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn tell_desired(&self, caller: Caller, reply: Option<Reply>) {
        self.out.send(Input::Desired { new: self.new_desired(caller), reply });
    }

    fn new_desired(&self, caller: Caller) -> NewDesired {
        NewDesired { generation: self.number, document: self.current.clone(), source: self.source, caller }
    }

    /// Makes a document the current generation: a new one where it differs in meaning.
    fn set(
        &mut self,
        text: &str,
        document: &Arc<Document>,
        options: ApplyOptions,
        source: Source,
        uid: u32,
    ) -> Result<(), CoreError> {
        if let Some(expected) = options.expected_generation.filter(|expected| *expected != self.number) {
            return Err(CoreError::Conflict(format!(
                "generation {} is current, not {expected}: look at it and decide anew",
                self.number
            )));
        }
        if document.is_empty() && !self.current.is_empty() && !options.allow_empty && !document.allow_empty {
            return Err(CoreError::InvalidDocument(vec![Fault {
                pointer: String::new(),
                code: code::EMPTY,
                message: format!(
                    "the document names nothing, while generation {} names resources: say \"allow_empty\": true if that is meant",
                    self.number
                ),
            }]));
        }
        if self.source == StateSource::None || *self.current != **document {
            self.number = self.store.add(text, source, uid, crate::clock::realtime_usec())?;
            self.current = document.clone();
            self.source = source.into();
        }
        Ok(())
    }

    fn adopt(&mut self, options: ApplyOptions, caller: &Caller) -> Result<(), CoreError> {
        let content = match &self.seen {
            Seen::Content(content) | Seen::Refused { content: Some(content), .. } => content.clone(),
            Seen::Refused { why, content: None } => return Err(why.clone()),
            Seen::Unreadable(why) => return Err(CoreError::Failed(why.clone())),
            Seen::Missing | Seen::Nothing => return Err(CoreError::NotFound("there is no state file".to_owned())),
        };
        self.set(&content.text, &content.document, options, Source::File, caller.uid)?;
        self.source = StateSource::File;
        self.note_file(FileContent { sha256: sha256_hex(content.text.as_bytes()), refused: false });
        self.seen = Seen::Content(content);
        Ok(())
    }

    /// The state file was read. Its content is a generation whenever it differs from its last content: answers whether
    /// it did.
    fn file(&mut self, event: StateFileEvent) -> bool {
        let bytes = match event {
            StateFileEvent::Missing => {
                self.seen = Seen::Missing;
                return false;
            }
            StateFileEvent::Unreadable(why) => {
                tracing::warn!("the state file cannot be read; the current generation stands: {why}");
                self.seen = Seen::Unreadable(why);
                return false;
            }
            StateFileEvent::Content(bytes) => bytes,
        };
        let sha256 = sha256_hex(&bytes);
        let known = self.store.file_content().cloned();
        let parsed = parse_bytes_with(&bytes, &self.rules).map_err(CoreError::from);
        let content = match parsed {
            Ok(document) => Content { text: Arc::from(String::from_utf8_lossy(&bytes)), document: Arc::new(document) },
            Err(why) => {
                self.refuse(why, None, sha256);
                return false;
            }
        };
        let news = known.is_none_or(|known| known.sha256 != sha256 || known.refused);
        if news {
            let options = ApplyOptions::default();
            if let Err(why) = self.set(&content.text, &content.document, options, Source::File, OP_DBUS_UID) {
                self.refuse(why, Some(content), sha256);
                return false;
            }
            self.source = StateSource::File;
            self.note_file(FileContent { sha256, refused: false });
        }
        self.seen = Seen::Content(content);
        news
    }

    fn refuse(&mut self, why: CoreError, content: Option<Content>, sha256: String) {
        tracing::error!("the state file is refused; the current generation stands: {why}");
        self.note_file(FileContent { sha256, refused: true });
        self.seen = Seen::Refused { why, content };
    }

    fn note_file(&mut self, content: FileContent) {
        if let Err(error) = self.store.set_file_content(content) {
            tracing::warn!("the state file's content is not noted: it may count as changed after a restart: {error}");
        }
    }

    fn tell_file_status(&self) {
        let (status, message) = match &self.seen {
            Seen::Nothing => return,
            Seen::Missing => (StateFileStatus::Missing, String::new()),
            Seen::Unreadable(why) => (StateFileStatus::Refused, why.clone()),
            Seen::Refused { why, .. } => (StateFileStatus::Refused, why.to_string()),
            Seen::Content(content) if content.document == self.current => (StateFileStatus::Current, String::new()),
            Seen::Content(_) => (
                StateFileStatus::Overridden,
                format!("generation {} was set over the bus; AdoptStateFile takes the file back", self.number),
            ),
        };
        self.out.send(Input::FileStatus(status, message));
    }

    fn reserve_jobs(&mut self) {
        let first = self.store.next_job();
        let mut end = first;
        for _ in 0..JOB_NUMBERS {
            match self.store.next_job_id() {
                Ok(id) => end = id + 1,
                Err(error) => {
                    tracing::error!("no more job numbers can be reserved: {error}");
                    break;
                }
            }
        }
        self.out.send(Input::JobNumbers { first, end });
    }
}

#[cfg(test)]
mod tests;
