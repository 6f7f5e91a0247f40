//! The daemon's HTTP API over its Unix socket: requests with typed answers, and the endless stream of events.
//!
//! Blocking on the outside. One connection for each request: a verb makes one or two, and the daemon may have been restarted
//! in between.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use daemon::api::{self, PREFIX};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::failure::Failure;

/// How long an answer may take. Loading a feed of a million entries takes seconds; this is far beyond.
const PATIENCE: Duration = Duration::from_secs(120);

/// The longest line of the event stream. An event is at most some kilobytes.
const LONGEST_LINE: usize = 1 << 20;

/// A way to the daemon.
pub(crate) struct Client {
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// A client for this socket; nothing is connected yet.
    pub(crate) fn new(socket: &Path) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| Failure::Failed(format!("cannot start: {why}")))?;
        Ok(Self {
            socket: socket.to_owned(),
            runtime,
        })
    }

    /// GET without query.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// GET with a query: the fields of `query` that are not null.
    pub(crate) fn query<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::GET, &with_query(path, query), Bytes::new())
    }

    /// POST with a body of JSON.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, json(body)?)
    }

    /// POST without a body.
    pub(crate) fn command<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::POST, path, Bytes::new())
    }

    /// DELETE with a query.
    pub(crate) fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::DELETE, &with_query(path, query), Bytes::new())
    }

    /// GET of a stream of lines without end: each line goes to `each` as it comes; `idle` is called when nothing more is there
    /// at the moment. Returns when the daemon ends.
    pub(crate) fn follow(
        &self,
        path: &str,
        query: &impl Serialize,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
        mut idle: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let path = with_query(path, query);
        self.runtime.block_on(async {
            let response = self.send(Method::GET, &path, Bytes::new());
            let mut body = self.within(response).await??.into_body();
            let mut pending = Vec::new();
            loop {
                let frame = match tokio::time::timeout(Duration::ZERO, body.frame()).await {
                    Ok(frame) => frame,
                    Err(_nothing_yet) => {
                        idle()?;
                        body.frame().await
                    }
                };
                let Some(frame) = frame else {
                    return idle();
                };
                let frame = frame.map_err(|why| self.broken(&why))?;
                let Some(data) = frame.data_ref() else {
                    continue;
                };
                for piece in data.split_inclusive(|&byte| byte == b'\n') {
                    pending.extend_from_slice(piece);
                    if pending.len() > LONGEST_LINE {
                        return Err(Failure::Failed(format!(
                            "the daemon on {} sends a line without end; is it a Portcullis of this version?",
                            self.socket.display()
                        )));
                    }
                    if let Some(line) = pending.strip_suffix(b"\n") {
                        if !line.is_empty() {
                            each(line)?;
                        }
                        pending.clear();
                    }
                }
            }
        })
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failure> {
        let bytes = self.runtime.block_on(async {
            let whole = async {
                let response = self.send(method, path, body).await?;
                let body = response.into_body().collect().await;
                body.map(|body| body.to_bytes())
                    .map_err(|why| self.broken(&why))
            };
            self.within(whole).await?
        })?;
        serde_json::from_slice(&bytes).map_err(|why| {
            Failure::Failed(format!(
                "the daemon on {} answers in words this version does not know ({why}); restart it after an update",
                self.socket.display()
            ))
        })
    }

    async fn within<F: Future>(&self, asked: F) -> Result<F::Output, Failure> {
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| {
            Failure::Failed(format!(
                "the daemon on {} did not answer within {} s; see its log",
                self.socket.display(),
                PATIENCE.as_secs()
            ))
        })
    }

    /// Sends one request and returns the response when its status is good.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|why| self.unreachable(&why))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|why| self.broken(&why))?;
        // Its errors come back through the request as well.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("{PREFIX}/{path}"))
            .header("host", "portcullis")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|why| Failure::Failed(format!("cannot ask for {path}: {why}")))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|why| self.broken(&why))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|why| self.broken(&why))?
            .to_bytes();
        Err(refusal(status, &body))
    }

    fn unreachable(&self, why: &io::Error) -> Failure {
        let socket = self.socket.display();
        match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Failure::NotRunning(format!(
                    "no daemon answers on {socket}; start one with `portcullis run`, or name its socket with --socket"
                ))
            }
            io::ErrorKind::PermissionDenied => Failure::NotPermitted(format!(
                "you may not use {socket}; run this as root or join the group that owns it"
            )),
            _ => Failure::Failed(format!("cannot connect to {socket}: {why}")),
        }
    }

    fn broken(&self, why: &hyper::Error) -> Failure {
        Failure::Failed(format!(
            "the daemon on {} broke off ({why}); see whether it still runs",
            self.socket.display()
        ))
    }
}

/// What the daemon says when it does not do as asked.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let Ok(api::Error { error, findings }) = serde_json::from_slice(body) else {
        return Failure::Failed(format!(
            "the daemon answers {status} without saying why; see its log"
        ));
    };
    match status {
        StatusCode::FORBIDDEN => Failure::NotPermitted(error),
        StatusCode::UNPROCESSABLE_ENTITY => {
            let mut lines: Vec<String> = findings.iter().map(crate::finding::line).collect();
            lines.push(error);
            Failure::InvalidPolicy(lines.join("\n"))
        }
        _ => Failure::Failed(error),
    }
}

fn json(body: &impl Serialize) -> Result<Bytes, Failure> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|why| Failure::Failed(format!("cannot write the request as JSON: {why}")))
}

/// The path with the fields of `query` that are neither null nor false behind it.
fn with_query(path: &str, query: &impl Serialize) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) else {
        return path.to_owned();
    };
    let mut whole = path.to_owned();
    let mut separator = '?';
    for (name, value) in fields {
        let text = match value {
            serde_json::Value::Null | serde_json::Value::Bool(false) => continue,
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        whole.push(separator);
        whole.push_str(&name);
        whole.push('=');
        whole.push_str(&percent(&text));
        separator = '&';
    }
    whole
}

/// Percent-encodes everything but what RFC 3986 §2.3 calls unreserved: safe in a path segment and in a query.
pub(crate) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_what_is_set() {
        let query = api::EventQuery {
            limit: Some(5),
            rule: Some("ssh & web".into()),
            address: Some("2001:db8::/32".into()),
            ..api::EventQuery::default()
        };
        assert_eq!(
            with_query("events", &query),
            "events?address=2001%3Adb8%3A%3A%2F32&limit=5&rule=ssh%20%26%20web"
        );
    }

    #[test]
    fn each_status_has_its_exit_code() {
        use crate::failure::Exit;
        let body = br#"{"error":"why not"}"#;
        for (status, exit) in [
            (400, Exit::Failed),
            (403, Exit::NotPermitted),
            (404, Exit::Failed),
            (409, Exit::Failed),
            (422, Exit::InvalidPolicy),
            (503, Exit::Failed),
        ] {
            let failure = refusal(
                StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT),
                body,
            );
            assert_eq!(
                (failure.exit(), failure.to_string()),
                (exit, "why not".into()),
                "{status}"
            );
        }
    }
}
