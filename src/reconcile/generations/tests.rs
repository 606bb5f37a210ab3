//! What becomes of documents from the bus and from the state file.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

const ONE: &str = r#"{"systemd":{"units":{"a.service":{"active_state":"active"}}}}"#;
const TWO: &str = r#"{"systemd":{"units":{"b.service":{"active_state":"active"}}}}"#;

struct Desk {
    own: Generations,
    told: mpsc::UnboundedReceiver<Input>,
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(dir: tempfile::TempDir) -> Self {
        let (out, told) = Inputs::new();
        let own = Generations::restore(Store::open(dir.path()).unwrap(), Rules::default(), out);
        Self { own, told, dir }
    }

    fn restart(self) -> Self {
        let Self { own, dir, .. } = self;
        own.store.close().unwrap();
        Self::at(dir)
    }

    fn file(&mut self, text: &str) {
        self.own.answer(Request::File(StateFileEvent::Content(text.as_bytes().to_vec())));
    }

    fn set(&mut self, text: &str) {
        let document = Arc::new(parse_with(text, &Rules::default()).unwrap());
        let (reply, _answer) = oneshot::channel();
        let options = ApplyOptions::default();
        self.own.answer(Request::Set { text: text.into(), document, options, caller: Caller::default(), reply });
    }

    /// Adopts; the error, if it was refused.
    fn adopt(&mut self, allow_empty: bool) -> Option<CoreError> {
        let (reply, mut answer) = oneshot::channel();
        let options = ApplyOptions { allow_empty, ..ApplyOptions::default() };
        self.own.answer(Request::Adopt { options, caller: Caller::default(), reply });
        answer.try_recv().ok().and_then(Result::err)
    }

    /// What the core was told since, in short: generations with their source, and the file's standing.
    fn said(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Ok(input) = self.told.try_recv() {
            match input {
                Input::Desired { new, .. } => said.push(format!("{} {}", new.generation, new.source)),
                Input::Restored { new, .. } => said.push(format!("restored {} {}", new.generation, new.source)),
                Input::FileStatus(status, _) => said.push(status.to_string()),
                _ => {}
            }
        }
        said
    }
}

#[test]
fn the_file_is_a_generation_whenever_it_differs_from_its_last_content() {
    let mut desk = Desk::new();
    desk.file(ONE);
    assert_eq!(desk.said(), ["current", "1 file"]);
    desk.file(ONE);
    assert_eq!(desk.said(), ["current"]);
    desk.set(TWO);
    assert_eq!(desk.said(), ["overridden", "2 bus"], "the standing first: it has changed when the answer comes");
    desk.own.answer(Request::File(StateFileEvent::Missing));
    desk.file(ONE);
    assert_eq!(desk.said(), ["missing", "overridden"], "removed and restored, it is no news");
    desk.file("{");
    desk.file(TWO);
    assert_eq!(desk.said(), ["refused", "current", "2 file"], "the same meaning is the same generation");
    desk.file(ONE);
    assert_eq!(desk.said(), ["current", "3 file"]);
}

#[test]
fn a_restart_remembers_what_the_file_last_held() {
    let mut desk = Desk::new();
    desk.file(ONE);
    desk.set(TWO);
    let mut desk = desk.restart();
    desk.file(ONE);
    assert_eq!(desk.said(), ["restored 2 bus", "overridden"]);
    assert_eq!(desk.adopt(false), None);
    assert_eq!(desk.said(), ["current", "3 file"]);
}

#[test]
fn an_empty_file_that_was_refused_can_be_adopted_by_whoever_means_it() {
    let mut desk = Desk::new();
    desk.file(ONE);
    desk.file("{}");
    assert_eq!(desk.said(), ["current", "1 file", "refused"]);
    assert!(matches!(desk.adopt(false), Some(CoreError::InvalidDocument(_))));
    assert_eq!(desk.adopt(true), None);
    assert_eq!(desk.said(), ["current", "2 file"]);
    let mut desk = desk.restart();
    desk.file("{}");
    assert_eq!(desk.said(), ["restored 2 file", "current"]);
}

#[test]
fn a_file_that_is_wrong_cannot_be_adopted() {
    let mut desk = Desk::new();
    assert!(matches!(desk.adopt(false), Some(CoreError::NotFound(_))));
    desk.file("{");
    assert!(matches!(desk.adopt(true), Some(CoreError::InvalidDocument(_))));
    assert_eq!(desk.said(), ["refused"]);
}
