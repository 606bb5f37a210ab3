//! An archive of this machine on its way to a storage: read as it is sent, with a length that is known before. Proxmox VE
//! takes no chunks, and no form that is not in its order.

use std::{
    fmt::Write as _,
    io,
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt as _, ReadBuf},
};

/// Bytes that are read and sent at once: TLS cuts them into records of 16 KiB anyway.
const CHUNK: usize = 64 * 1024;

/// The parameter that the archive itself stands for.
const FILE: &str = "filename";

/// A file that is there and can be read.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    bytes: u64,
}

impl Archive {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is no regular file.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        // Asked before it is opened: to open a pipe waits for whoever writes into it.
        if !tokio::fs::metadata(path).await?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let file = File::open(path).await?;
        let bytes = file.metadata().await?.len();
        Ok(Self { file, bytes })
    }

    /// The form with those parameters, and its Content-Type.
    pub(super) fn form(self, parameters: &[(String, String)]) -> (String, Form) {
        // 128 random bits stand in no archive but by a chance that need not be thought of.
        let boundary = boundary();
        let mut head = String::new();
        let mut name = "";
        for (key, value) in parameters {
            if key == FILE {
                name = value;
                continue;
            }
            // Writing to a String cannot fail.
            let _ = write!(head, "--{boundary}\r\nContent-Disposition: form-data; name=\"{key}\"\r\n\r\n{value}\r\n");
        }
        let _ = write!(
            head,
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{FILE}\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let ends = (head.len() + tail.len()) as u64;
        let reader = io::Cursor::new(head.into_bytes())
            .chain(self.file.take(self.bytes))
            .chain(io::Cursor::new(tail.into_bytes()));
        let form = Form { reader: Box::pin(reader), left: ends.saturating_add(self.bytes) };
        (format!("multipart/form-data; boundary={boundary}"), form)
    }
}

fn boundary() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    // A hasher's keys are random; nothing here needs better.
    format!("op-dbus-{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}

/// The body of an upload.
pub(super) struct Form {
    reader: Pin<Box<dyn AsyncRead + Send + Sync>>,
    left: u64,
}

impl Body for Form {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; CHUNK];
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(self.reader.as_mut().poll_read(context, &mut buffer))?;
        let read = buffer.filled().len();
        let left = self.left.checked_sub(read as u64).filter(|_| read > 0);
        let Some(left) = left else {
            let text = "the archive became shorter while it was uploaded";
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text))));
        };
        self.left = left;
        chunk.truncate(read);
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
