//! Object paths of the tree: which there are, what is below each.

use std::ops::Bound;

use crate::model::{JobId, Kind, ResourceId, Snapshot, unescape_path_element};

/// The object that holds the ObjectManager of the whole tree.
pub(crate) const ROOT: &str = "/org/opdbus";

/// A place on the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// `/`.
    Top,
    /// `/org`.
    Org,
    /// `/org/opdbus`.
    Root,
    /// `/org/opdbus/state`.
    State,
    /// `/org/opdbus/job`.
    Jobs,
    /// `/org/opdbus/job/N`.
    Job(JobId),
    /// `/org/opdbus/plugin`.
    Plugins,
    /// `/org/opdbus/plugin/NAME`.
    Plugin(String),
    /// `/org/opdbus/KIND`.
    Kind(Kind),
    /// `/org/opdbus/KIND/ESC`.
    Resource(ResourceId),
}

impl Node {
    /// The place that the path names, whether or not there is something now; `None` where there never can be.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        match path {
            "/" => return Some(Self::Top),
            "/org" => return Some(Self::Org),
            ROOT => return Some(Self::Root),
            _ => {}
        }
        let below = path.strip_prefix(ROOT)?.strip_prefix('/')?;
        match below.split_once('/') {
            None => Some(match below {
                "state" => Self::State,
                "job" => Self::Jobs,
                "plugin" => Self::Plugins,
                kind => Self::Kind(kind.parse().ok()?),
            }),
            Some(("job", number)) => parse_job(number).map(Self::Job),
            Some(("plugin", name)) => (!name.contains('/')).then(|| Self::Plugin(name.to_owned())),
            Some((kind, element)) => {
                Some(Self::Resource(ResourceId::new(kind.parse::<Kind>().ok()?, unescape_path_element(element)?)))
            }
        }
    }

    /// Whether there is something here now. A folder is there as long as something is in it.
    pub(crate) fn exists(&self, snapshot: &Snapshot) -> bool {
        match self {
            Self::Top | Self::Org | Self::Root | Self::State => true,
            Self::Jobs => !snapshot.jobs.is_empty(),
            Self::Job(id) => snapshot.jobs.contains_key(id),
            Self::Plugins => !snapshot.plugins.is_empty(),
            Self::Plugin(name) => snapshot.plugins.contains_key(name.as_str()),
            Self::Kind(kind) => of_kind(snapshot, *kind).next().is_some(),
            Self::Resource(id) => snapshot.resources.contains_key(id),
        }
    }

    /// Calls `each` with the last path element of every child: at a cost of the children, not of the tree.
    pub(crate) fn children(&self, snapshot: &Snapshot, mut each: impl FnMut(&str)) {
        match self {
            Self::Top => each("org"),
            Self::Org => each("opdbus"),
            Self::Root => {
                each("state");
                for (name, folder) in [("job", Self::Jobs), ("plugin", Self::Plugins)] {
                    if folder.exists(snapshot) {
                        each(name);
                    }
                }
                for kind in Kind::ALL {
                    if Self::Kind(kind).exists(snapshot) {
                        each(kind.as_str());
                    }
                }
            }
            Self::Jobs => snapshot.jobs.keys().for_each(|id| each(&id.to_string())),
            Self::Plugins => snapshot.plugins.keys().for_each(|name| each(name)),
            Self::Kind(kind) => {
                of_kind(snapshot, *kind).for_each(|id| each(&crate::model::escape_path_element(&id.name)));
            }
            Self::State | Self::Job(_) | Self::Plugin(_) | Self::Resource(_) => {}
        }
    }
}

/// Path of a job's object.
pub(crate) fn job_path(id: JobId) -> String {
    format!("{ROOT}/job/{id}")
}

/// Reads a job's number; only the spelling that [`job_path`] makes, so that each job has one path.
fn parse_job(text: &str) -> Option<JobId> {
    let id: JobId = text.parse().ok()?;
    (id.to_string() == text).then_some(id)
}

/// The resources of that kind, by name.
fn of_kind(snapshot: &Snapshot, kind: Kind) -> impl Iterator<Item = &ResourceId> {
    // The empty name sorts before all others.
    let first = ResourceId::new(kind, "");
    snapshot
        .resources
        .range((Bound::Included(first), Bound::Unbounded))
        .map(|(id, _)| id)
        .take_while(move |id| id.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_place_and_nothing_else() {
        let cases = [
            ("/", Some(Node::Top)),
            ("/org", Some(Node::Org)),
            ("/org/opdbus", Some(Node::Root)),
            ("/org/opdbus/state", Some(Node::State)),
            ("/org/opdbus/job/7", Some(Node::Job(7))),
            ("/org/opdbus/plugin/ovsdb", Some(Node::Plugin("ovsdb".to_owned()))),
            ("/org/opdbus/port", Some(Node::Kind(Kind::Port))),
            ("/org/opdbus/container/_3100", Some(Node::Resource(ResourceId::container("100")))),
            ("/org/opdbus/job/07", None),
            ("/org/opdbus/job/18446744073709551616", None),
            ("/org/opdbus/container/100", None),
            ("/org/opdbus/container/_3100/x", None),
            ("/org/opdbus/plugin/a/b", None),
            ("/org/opdbus/nothing/nginx", None),
            ("/org/opdbusx", None),
            ("/com", None),
        ];
        for (path, node) in cases {
            assert_eq!(Node::parse(path), node, "{path}");
        }
    }

    #[test]
    fn every_resource_is_found_at_its_own_path() {
        for name in ["", "a", "a_b", "a-b", "_", "ünï", "pve-container@100.service", "\0"] {
            let id = ResourceId::unit(name);
            assert_eq!(Node::parse(&id.path()), Some(Node::Resource(id)));
        }
    }
}
