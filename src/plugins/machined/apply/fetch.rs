//! Images that come from elsewhere: downloaded by systemd-importd, or unpacked from a file of this machine.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    os::fd::AsFd as _,
    path::Path,
};

use sha2::{Digest as _, Sha256, Sha512};
use zbus::{Fd, ObjectPath};

use super::{Context, Outcome, Report};
use crate::{
    desired::{ImageKind, TemplateSource, TemplateSpec},
    model::{Name, Reason, StepState},
    plugins::{
        machined::{
            call::{CallError, SHORT, importd, machined},
            transfer::{self, End, SILENCE},
        },
        steps::paced,
    },
};

type Result<T> = std::result::Result<T, Outcome>;

/// What systemd-importd holds a download against: the file SHA256SUMS beside it, or IMAGE.sha256.
const VERIFY: &str = "checksum";

/// How much of a file is read at a time for its digest.
const CHUNK_BYTES: usize = 1 << 20;

/// Brings an image to where containers are cloned from. A transfer that somebody, or op-dbus before a restart, began is
/// followed, and not begun again.
pub(super) async fn fetch(context: &Context, name: &Name, spec: &TemplateSpec, report: &Report) -> Outcome {
    try_fetch(context, name, spec, report).await.unwrap_or_else(|outcome| outcome)
}

async fn try_fetch(context: &Context, name: &Name, spec: &TemplateSpec, report: &Report) -> Result<Outcome> {
    // From before the look, so that the end of a transfer cannot come in between.
    let mut news = context.handle.follow().await?;
    let connection = context.handle.connection()?;
    let under_way = transfer::list(&connection).await?.into_iter().find(|transfer| *transfer.local == **name);
    if under_way.is_none() && context.handle.read().await?.images.contains_key(&**name) {
        return Ok(Outcome::done(false));
    }
    let path = match under_way {
        Some(transfer) => {
            if let TemplateSource::Url(url) = &spec.source
                && transfer.remote != *url
            {
                let why = format!("the image {name} is just being made from {}", transfer.remote);
                return Ok(Outcome::failed(Reason::Contended, why).worth_a_retry());
            }
            tracing::info!(image = &**name, transfer = transfer.path, "a transfer is under way, and followed");
            transfer.path
        }
        None => begin(&connection, name, spec).await?,
    };
    let tell = |(share, line)| report.progress(share, line);
    let end = paced((0.0, String::new()), tell, |said| {
        transfer::follow(&path, &mut news, SILENCE, move |share, line| {
            // A line that says nothing of it goes with the share that was said last.
            said.send_modify(|(last, text)| {
                *last = share.unwrap_or(*last);
                line.clone_into(text);
            });
        })
    });
    let end = end.await?;
    let failed = |reason, why: String| Outcome::failed(reason, why).after_writing();
    match end {
        End::Done => {}
        End::Failed(why) => {
            // Of libcurl's: the network, and not what it brought.
            let passing = why.contains("Transfer failed:");
            let outcome = failed(Reason::Refused, format!("the image {name} cannot be had: {why}"));
            return Ok(if passing { outcome.worth_a_retry() } else { outcome });
        }
        End::Cancelled => {
            return Ok(failed(Reason::JobCancelled, format!("somebody cancelled the transfer of {name}")));
        }
        End::Silent(time) => {
            let why = format!("the transfer of {name} said nothing for {} min, and was cancelled", time.as_secs() / 60);
            transfer::cancel(&connection, &path).await?;
            return Ok(failed(Reason::TimedOut, why).worth_a_retry());
        }
        End::Gone => {
            let why = format!("systemd-importd ended before the image {name} was there");
            return Ok(failed(Reason::BackendAway, why).worth_a_retry());
        }
    }
    report.stands(StepState::Verifying);
    // So that nobody starts it by mistake. Some file systems cannot keep that, and cloning works all the same.
    if let Err(error) = machined(&connection, "MarkImageReadOnly", &(&**name, true), SHORT).await {
        tracing::warn!(image = &**name, %error, "the image cannot be made read-only");
    }
    if context.handle.read().await?.images.contains_key(&**name) {
        Ok(Outcome::done(true))
    } else {
        Ok(failed(Reason::Differs, format!("systemd-importd made the image {name}, and it is gone again")))
    }
}

/// Begins a transfer; answers with its object.
async fn begin(connection: &zbus::Connection, name: &str, spec: &TemplateSpec) -> Result<String> {
    let (source, kind) = match &spec.source {
        TemplateSource::Url(text) | TemplateSource::File(text) => (text, ImageKind::of(text)),
        TemplateSource::Appliance(appliance) => {
            let why = format!("there is no index of appliances without Proxmox VE: {appliance}");
            return Err(Outcome::blocked(Reason::NotSupported, why));
        }
    };
    let Some(kind) = kind else {
        let why = format!("{source} is neither a tar archive nor a disk image by its name");
        return Err(Outcome::blocked(Reason::NotSupported, why));
    };
    let called = if let TemplateSource::Url(url) = &spec.source {
        let member = if kind == ImageKind::Tar { "PullTar" } else { "PullRaw" };
        importd(connection, member, &(url.as_str(), name, VERIFY, false)).await
    } else {
        let file = open(source, spec.checksum.clone()).await?;
        let member = if kind == ImageKind::Tar { "ImportTar" } else { "ImportRaw" };
        importd(connection, member, &(Fd::from(file.as_fd()), name, false, false)).await
    };
    match called {
        Ok(reply) => {
            let body = reply.body();
            let (_, path): (u32, ObjectPath<'_>) = body.deserialize().map_err(CallError::from)?;
            Ok(path.to_string())
        }
        // The same address, as an image of another name.
        Err(CallError::Refused { name: error, message }) if error == "org.freedesktop.import1.TransferInProgress" => {
            Err(Outcome::failed(Reason::Contended, message).worth_a_retry())
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens a file of this machine, and holds it against its checksum.
async fn open(path: &str, checksum: Option<String>) -> Result<File> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let (mut file, refused) = (File::open(&path), |why: String| Outcome::blocked(Reason::Refused, why));
        if let Err(error) = &file
            && error.kind() == io::ErrorKind::NotFound
        {
            return Err(Outcome::blocked(Reason::SourceMissing, format!("there is no file {path}")));
        }
        let unreadable = |error: io::Error| refused(format!("{path}: {error}"));
        let file = file.as_mut().map_err(|error| unreadable(io::Error::new(error.kind(), error.to_string())))?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(refused(format!("{path} is no file")));
        }
        if let Some(checksum) = checksum {
            let found = digest(file, Path::new(&path), &checksum).map_err(unreadable)?;
            if !found.eq_ignore_ascii_case(&checksum) {
                return Err(refused(format!("{path} has the checksum {found}, not {checksum}")));
            }
        }
        file.try_clone().map_err(unreadable)
    });
    opened.await.unwrap_or_else(|error| Err(Outcome::failed(Reason::Internal, error.to_string())))
}

/// The digest of a file, by the algorithm that a checksum names, and back to its beginning.
fn digest(file: &mut File, path: &Path, checksum: &str) -> io::Result<String> {
    use io::Seek as _;
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut short, mut long) = (Sha256::new(), Sha512::new());
    let is_long = checksum.starts_with("sha512:");
    loop {
        let read = file.read(&mut chunk)?;
        let Some(part) = chunk.get(..read).filter(|part| !part.is_empty()) else { break };
        if is_long { long.update(part) } else { short.update(part) }
    }
    file.rewind()?;
    tracing::debug!(path = %path.display(), "its digest is known");
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    Ok(if is_long { format!("sha512:{}", hex(&long.finalize())) } else { format!("sha256:{}", hex(&short.finalize())) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_file_is_held_against_its_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("box.tar");
        std::fs::write(&path, "abc").unwrap();
        let path = path.to_str().unwrap();
        // FIPS 180-2, appendix B.1 and C.1.
        let short = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let long = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        for checksum in
            [None, Some(short.to_owned()), Some(short.to_uppercase().replace("SHA", "sha")), Some(long.to_owned())]
        {
            let mut text = String::new();
            open(path, checksum).await.unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "abc", "from its beginning");
        }
        let wrong = open(path, Some(short.replace("ba78", "0000"))).await.unwrap_err();
        assert!(wrong.reason == Reason::Refused && wrong.message.contains(short), "{}", wrong.message);
        let missing = open("/nowhere/box.tar", None).await.unwrap_err();
        assert_eq!(missing.reason, Reason::SourceMissing);
        let folder = open(folder.path().to_str().unwrap(), None).await.unwrap_err();
        assert_eq!((folder.reason, folder.state), (Reason::Refused, StepState::Blocked));
    }
}
