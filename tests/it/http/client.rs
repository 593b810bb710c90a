//! A client as an application would write one: requests with a key, forms of images, JSON answers.

use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::chain::in_time;

/// Speaks to one gateway, with a key or without.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    key: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The JSON of a success.
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// Its status and code must be these.
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        let said = String::from_utf8_lossy(&self.bytes).into_owned();
        assert_eq!((self.status.as_u16(), self.code().as_str()), (status, code), "{said}");
        let json = self.json();
        assert_eq!(json["request_id"].as_str(), self.headers["x-request-id"].to_str().ok(), "{said}");
        json
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// One part of a form.
pub(crate) enum Part<'a> {
    Image(&'a [u8]),
    Text(&'a str, &'a str),
}

impl Http {
    pub(crate) fn new(base: String) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), base, key: None }
    }

    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn authority(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(HeaderName::from_bytes(name.as_bytes()).unwrap(), *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = in_time(path, self.client.request(request)).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = in_time(path, body.collect()).await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Bytes::new()).await
    }

    pub(crate) async fn json(&self, method: Method, path: &str, body: Value) -> Answer {
        self.json_with(method, path, &[], body).await
    }

    pub(crate) async fn json_with(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let headers: Vec<_> = headers.iter().copied().chain([("content-type", "application/json")]).collect();
        self.send(method, path, &headers, body.to_string()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.json(Method::POST, path, body).await
    }

    /// One image as the body.
    pub(crate) async fn image(&self, path: &str, image: &[u8]) -> Answer {
        self.send(Method::POST, path, &[("content-type", "application/octet-stream")], image.to_vec()).await
    }

    pub(crate) async fn form(&self, path: &str, parts: &[Part<'_>]) -> Answer {
        self.form_with(path, &[], parts).await
    }

    pub(crate) async fn form_with(&self, path: &str, headers: &[(&str, &str)], parts: &[Part<'_>]) -> Answer {
        let boundary = format!("boundary-{}", uuid::Uuid::new_v4());
        let mut body = Vec::new();
        for part in parts {
            body.extend(format!("--{boundary}\r\n").bytes());
            match part {
                Part::Image(bytes) => {
                    body.extend(b"Content-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n");
                    body.extend(*bytes);
                }
                Part::Text(name, text) => {
                    body.extend(format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}").bytes());
                }
            }
            body.extend(b"\r\n");
        }
        body.extend(format!("--{boundary}--\r\n").bytes());
        let kind = format!("multipart/form-data; boundary={boundary}");
        let headers: Vec<_> = headers.iter().copied().chain([("content-type", kind.as_str())]).collect();
        self.send(Method::POST, path, &headers, body).await
    }
}
