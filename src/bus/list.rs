//! ListResources: the resources, page by page.

use std::{collections::HashMap, ops::Bound};

use zbus::OwnedVariant;

use super::{
    error::CallError,
    options::Options,
    path::Node,
    value::{More, Path, Text},
};
use crate::model::{Kind, ResourceFacts, ResourceId, Snapshot, Status};

/// A page has so many entries where the caller does not say.
const DEFAULT_PAGE: usize = 500;

/// No page has more: it is written on the bus task, between other calls.
const MAX_PAGE: usize = 5000;

/// Which resources, and which page of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Query {
    kind: Option<Kind>,
    status: Option<Status>,
    managed: Option<bool>,
    prefix: String,
    after: Option<ResourceId>,
    limit: usize,
}

/// One entry: path, kind, name, status, reason, more.
type Row<'a> = (Path<'a>, &'static str, Text<'a>, &'static str, &'static str, More);

impl Query {
    /// Reads the arguments.
    pub(crate) fn new(filter: HashMap<String, OwnedVariant>, after: &str, limit: u32) -> Result<Self, CallError> {
        let filter =
            Options::new("the filter of ListResources", filter, &["kind", "status", "managed", "name-prefix"])?;
        let kind = filter.text("kind")?.map(|word| one_of("kind", word, &Kind::ALL, Kind::as_str)).transpose()?;
        let status =
            filter.text("status")?.map(|word| one_of("status", word, Status::ALL, Status::as_str)).transpose()?;
        let after = match (after, Node::parse(after)) {
            ("", _) => None,
            (_, Some(Node::Resource(id))) => Some(id),
            _ => {
                return Err(CallError::InvalidArgs(format!(
                    "after must be the path of a resource or empty, not {after}"
                )));
            }
        };
        let limit = match usize::try_from(limit) {
            Ok(0) => DEFAULT_PAGE,
            Ok(limit) => limit.min(MAX_PAGE),
            Err(_) => MAX_PAGE,
        };
        let prefix = filter.text("name-prefix")?.unwrap_or_default().to_owned();
        Ok(Self { kind, status, managed: filter.bool("managed")?, prefix, after, limit })
    }

    fn matches(&self, id: &ResourceId, facts: &ResourceFacts) -> bool {
        self.kind.is_none_or(|kind| kind == id.kind)
            && self.status.is_none_or(|status| status == facts.status)
            && self.managed.is_none_or(|managed| managed == facts.managed)
            && id.name.starts_with(&self.prefix)
    }

    /// The page, and what to give as `after` for the next one (empty = there is none).
    pub(crate) fn page<'a>(&self, snapshot: &'a Snapshot) -> (Vec<Row<'a>>, String) {
        let from = self.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = snapshot
            .resources
            .range::<_, ResourceId>((from, Bound::Unbounded))
            .filter(|(id, facts)| self.matches(id, facts));
        let page: Vec<_> = found.by_ref().take(self.limit).collect();
        let more = found.next().is_some();
        let next = page.last().filter(|_| more).map(|(id, _)| id.path()).unwrap_or_default();
        let rows = page
            .into_iter()
            .map(|(id, facts)| {
                let (status, reason) = (facts.status.as_str(), facts.reason.as_str());
                (Path::of(id), id.kind.as_str(), Text(&id.name), status, reason, More)
            })
            .collect();
        (rows, next)
    }
}

/// The value whose word that is.
fn one_of<T: Copy>(key: &str, word: &str, all: &[T], as_str: fn(T) -> &'static str) -> Result<T, CallError> {
    all.iter().copied().find(|value| as_str(*value) == word).ok_or_else(|| {
        let known: Vec<&str> = all.iter().copied().map(as_str).collect();
        CallError::InvalidArgs(format!("there is no {key} {word}; there are: {}", known.join(", ")))
    })
}
