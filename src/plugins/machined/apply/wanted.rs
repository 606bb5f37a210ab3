//! What a settings file shall say. Pure.

use crate::{
    desired::ContainerSpec,
    plugins::machined::settings::{Bind, Settings},
};

/// The settings that are there with what the document says of them; what it does not name stays. Whose users they are
/// is settled when the container is made: its files are theirs.
pub(super) fn settings(id: &str, spec: &ContainerSpec, there: Option<Settings>) -> Settings {
    let made = there.is_some();
    let mut out = there.unwrap_or_default();
    if let Some(hostname) = &spec.hostname {
        out.hostname = Some(hostname.clone());
    }
    if !made {
        out.private_users = spec.from.as_ref().and_then(|from| from.unprivileged);
    }
    if let Some(links) = spec.machine_links(id) {
        out.links = Some(links.into_iter().map(|(inside, outside)| (inside, outside.to_string())).collect());
    }
    for (inside, mount) in &spec.mounts {
        let Some(source) = &mount.source else { continue };
        let bind = out.binds.entry(inside.clone()).or_insert_with(Bind::default);
        source.clone_into(&mut bind.source);
        bind.read_only = mount.read_only.unwrap_or(bind.read_only);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{ContainerSource, MountSpec};

    #[test]
    fn what_is_not_named_stays() {
        let folder = |source: &str| MountSpec { source: Some(source.to_owned()), ..MountSpec::default() };
        let mut spec = ContainerSpec {
            hostname: Some("www".to_owned()),
            from: Some(ContainerSource { unprivileged: Some(false), ..ContainerSource::default() }),
            veth: Some("up7".into()),
            bridge: Some("ovsbr0".into()),
            mounts: [("/data".to_owned(), folder("/srv/a"))].into(),
            ..ContainerSpec::default()
        };
        let first = settings("web", &spec, None);
        assert_eq!((first.hostname.as_deref(), first.private_users), (Some("www"), Some(false)));
        assert_eq!(first.links, Some([("host0".to_owned(), "up7".to_owned())].into()));
        spec.hostname = None;
        spec.from = Some(ContainerSource { unprivileged: Some(true), ..ContainerSource::default() });
        spec.veth = None;
        spec.bridge = None;
        spec.mounts = [("/more".to_owned(), folder("/srv/b"))].into();
        let second = settings("web", &spec, Some(first.clone()));
        assert_eq!(
            (&second.hostname, second.private_users, &second.links),
            (&first.hostname, Some(false), &first.links)
        );
        assert_eq!(second.binds.keys().collect::<Vec<_>>(), ["/data", "/more"]);
    }
}
