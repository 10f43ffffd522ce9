//! The smallest HTTP client: one request a connection.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::soon;

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }

    /// Returns a header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
    }

    /// Returns the data of all server-sent events.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.body
            .split_terminator("\n\n")
            .map(|event| event.strip_prefix("data: ").unwrap())
            .collect()
    }

    /// Returns the error's message, field and code.
    pub(crate) fn error(&self) -> (String, Value, Value) {
        let mut json = self.json();
        let error = json["error"].take();
        let message = error["message"].as_str().unwrap().to_owned();
        (message, error["param"].clone(), error["code"].clone())
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn call(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let mut connection = open(to, method, path, headers, body).await;
    let mut answer = Vec::new();
    soon(connection.read_to_end(&mut answer)).await.unwrap();
    parse(&answer)
}

/// Sends a request and returns the connection.
pub(crate) async fn open(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> TcpStream {
    let mut connection = TcpStream::connect(to).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    connection
}

pub(crate) async fn get(to: SocketAddr, path: &str) -> Answer {
    call(to, "GET", path, "", "").await
}

pub(crate) async fn complete(to: SocketAddr, body: Value) -> Answer {
    call(to, "POST", "/v1/completions", "", &body.to_string()).await
}

pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let split = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = std::str::from_utf8(&bytes[..split]).unwrap().to_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = bytes[split + 4..].to_vec();
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        body = unchunk(&body);
    }
    Answer {
        status,
        head,
        body: String::from_utf8(body).unwrap(),
    }
}

/// Joins the chunks of a body (RFC 9112, section 7.1); a body that was broken off has no last one.
fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let length =
            usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
    body
}
