//! HTTP: one call and its answer, bounded in time and number.

use std::{
    error::Error as _,
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use hyper::ext::ReasonPhrase;
use reqwest::{Method, header};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{
    Settings,
    error::ApiError,
    token::{Secret, SecretError},
    trust::TrustError,
    upload::Archive,
};

/// Calls under way at once: the server's own workers are as few.
const PARALLEL: usize = 8;

/// How often a read is tried in all, where trying again may help.
const READS: u32 = 3;

/// The first wait between reads; doubles, with jitter.
const READ_WAIT: Duration = Duration::from_millis(100);

/// A response's size that is read at the most: the list of thousands of guests has some MiB.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Makes, or has something done.
    Post,
    /// Changes.
    Put,
    /// Removes.
    Delete,
}

impl Verb {
    /// The word of HTTP.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// A call: everything of it but where and who.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    /// What it does.
    pub verb: Verb,
    /// Path under /api2/json, its parts percent-encoded.
    pub path: String,
    /// Parameters. Those that are secrets are sent, and shown nowhere.
    pub parameters: Vec<(String, String)>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.parameters.iter().map(|(name, value)| (name, crate::model::shown(name, value)));
        write!(f, "{} ", self.shown())?;
        f.debug_map().entries(shown).finish()
    }
}

impl Call {
    /// A call of that path.
    #[must_use]
    pub fn new(verb: Verb, path: impl Into<String>) -> Self {
        Self { verb, path: path.into(), parameters: Vec::new() }
    }

    /// ... with another parameter.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// For the log: no parameters, which may hold secrets.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{} {}", self.verb.as_str(), self.path)
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// No trust can be established.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The token or the rest makes no HTTP client.
    #[error("{0}")]
    Http(String),
}

/// The client.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    authorization: header::HeaderValue,
    read: Duration,
    write: Duration,
    upload: Duration,
    parallel: Arc<Semaphore>,
}

impl Client {
    /// A client with the token as it is now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(super) fn new(settings: &Settings) -> Result<Self, ClientError> {
        let token = settings.token.read_token()?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(settings.trust.config()?)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.timing.connect)
            .pool_max_idle_per_host(PARALLEL)
            .build()
            .map_err(|error| ClientError::Http(causes(&error)))?;
        Ok(Self {
            http,
            base: format!("{}/api2/json", settings.url.trim_end_matches('/')),
            authorization: authorization(&token)?,
            read: settings.timing.read,
            write: settings.timing.write,
            upload: settings.timing.upload,
            parallel: Arc::new(Semaphore::new(PARALLEL)),
        })
    }

    /// Reads. Tried again where that may help: a read changes nothing.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(super) async fn get(&self, path: impl Into<String>) -> Result<Value, ApiError> {
        let call = Call::new(Verb::Get, path);
        let mut wait = READ_WAIT;
        for _ in 1..READS {
            match self.call(&call).await {
                Err(error) if error.may_retry() => {}
                answer => return answer,
            }
            tokio::time::sleep(jittered(wait)).await;
            wait *= 2;
        }
        self.call(&call).await
    }

    /// Calls, once.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(super) async fn call(&self, call: &Call) -> Result<Value, ApiError> {
        // The semaphore is never closed.
        let _permit = self.parallel.acquire().await.ok();
        let (method, bound) = match call.verb {
            Verb::Get => (Method::GET, self.read),
            Verb::Post => (Method::POST, self.write),
            Verb::Put => (Method::PUT, self.write),
            Verb::Delete => (Method::DELETE, self.write),
        };
        let form = form(&call.parameters);
        let mut url = format!("{}{}", self.base, call.path);
        let in_query = matches!(call.verb, Verb::Get | Verb::Delete);
        if in_query && !form.is_empty() {
            let _ = write!(url, "?{form}");
        }
        let mut request =
            self.http.request(method, url).header(header::AUTHORIZATION, self.authorization.clone()).timeout(bound);
        if !in_query {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        }
        let started = std::time::Instant::now();
        let answer = self.answer(request).await;
        tracing::debug!(
            call = call.shown(),
            milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            error = answer.as_ref().err().map(tracing::field::display),
            "called Proxmox VE"
        );
        answer
    }

    /// Calls, once, with the parameters as parts of a form and the archive as the last part, in place of `filename`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(super) async fn upload(&self, call: &Call, archive: Archive) -> Result<Value, ApiError> {
        // The semaphore is never closed.
        let _permit = self.parallel.acquire().await.ok();
        let (content_type, body) = archive.form(&call.parameters);
        let request = self
            .http
            .request(Method::POST, format!("{}{}", self.base, call.path))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::CONTENT_TYPE, content_type)
            .timeout(self.upload)
            .body(reqwest::Body::wrap(body));
        let answer = self.answer(request).await;
        tracing::debug!(
            call = call.shown(),
            error = answer.as_ref().err().map(tracing::field::display),
            "uploaded to Proxmox VE"
        );
        answer
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, ApiError> {
        let mut response = request.send().await.map_err(|error| ApiError::Unreachable {
            // What never connected was never sent.
            sent: !error.is_connect() && !error.is_builder(),
            why: causes(&error.without_url()),
        })?;
        let status = response.status();
        let phrase = response.extensions().get::<ReasonPhrase>().map(|phrase| phrase.as_bytes().to_vec());
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await;
            match chunk.map_err(|error| ApiError::Unreachable { why: causes(&error.without_url()), sent: true })? {
                Some(chunk) if body.len() + chunk.len() <= MAX_BODY => body.extend_from_slice(&chunk),
                Some(_) => return Err(ApiError::Nonsense(format!("it is longer than {MAX_BODY} bytes"))),
                None => break,
            }
        }
        if status.is_success() {
            let answer: Answer =
                serde_json::from_slice(&body).map_err(|error| ApiError::Nonsense(error.to_string()))?;
            return Ok(answer.data);
        }
        let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
        Err(ApiError::of_status(status.as_u16(), &refusal.text(phrase.as_deref())))
    }
}

/// An answer that is a success.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    data: Value,
}

/// An answer that is none.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: serde_json::Map<String, Value>,
}

impl Refusal {
    /// What it says, field by field; where the body says nothing, what stands in the status line.
    fn text(&self, phrase: Option<&[u8]>) -> String {
        let mut text = self.message.trim().to_owned();
        if text.is_empty() {
            String::from_utf8_lossy(phrase.unwrap_or_default()).trim().clone_into(&mut text);
        }
        for (field, error) in &self.errors {
            let error = error.as_str().map_or_else(|| error.to_string(), |text| text.trim().to_owned());
            let _ = write!(text, "{}{field}: {error}", if text.is_empty() { "" } else { "; " });
        }
        text
    }
}

fn authorization(token: &Secret) -> Result<header::HeaderValue, ClientError> {
    let value = header::HeaderValue::from_str(&format!("PVEAPIToken={}", token.reveal()));
    // The error would show nothing of the value, but neither would it help.
    let mut value =
        value.map_err(|_| ClientError::Http("the token holds characters that no header takes".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// An error with what caused it, which alone says what is wrong.
fn causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() };
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}

/// Up to a quarter more, at random.
fn jittered(wait: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    // A hasher's keys are random; nothing here needs better.
    let thousandths = u32::try_from(RandomState::new().hash_one(()) % 250).unwrap_or(0);
    wait + wait * thousandths / 1000
}

/// One part of a path, or one value of a form.
#[must_use]
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn form(parameters: &[(String, String)]) -> String {
    let pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
