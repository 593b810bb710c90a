//! A form of images: a part `manifest` with the lines of items, then the files that it names; as many such groups as a client
//! likes. One manifest and one file are in memory at a time.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::Request;
use axum::extract::multipart::{Field, MultipartError};
use bytes::{Bytes, BytesMut};

use super::item::{self, Said, Wrong, too_large};
use super::pace::{Paced, Patience};
use super::take::Taker;
use crate::App;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::parts::Parts;

/// The part with the lines.
const MANIFEST: &str = "manifest";
/// Bytes of a manifest.
const MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// Lines of a manifest.
const MANIFEST_LINES: usize = 10_000;

/// What a manifest names, by file.
type Named = HashMap<String, Said>;

/// Takes every file that a manifest names as an item.
pub(super) async fn take(app: &App, caller: Caller, request: Request, taker: &mut Taker<'_>) -> Result<(), ApiError> {
    let (parts, body) = request.into_parts();
    let body = Paced::new(app, caller, body);
    // One item has the time of a request.
    let mut patience = Patience::new(app.options.request_timeout, body.read());
    let (pieces, ended) = body.into_stream();
    let request = Request::from_parts(parts, Body::from_stream(pieces));
    let no_form = |_: &dyn std::error::Error| ApiError::invalid("body", "it is no form of parts");
    let broken = |error: MultipartError| ended.take().unwrap_or_else(|| no_form(&error));
    let mut form = Parts::of(request).await.map_err(|error| no_form(&error))?;
    let most = app.options.max_image.as_u64();
    let (mut named, mut lines) = (Named::new(), 0);
    loop {
        let part = patience.wait(form.part()).await?;
        let Some(mut part) = part.map_err(broken)? else { break };
        if part.name() == Some(MANIFEST) {
            missing(std::mem::take(&mut named), taker);
            let text = patience.wait(whole(&mut part, MANIFEST_BYTES)).await?;
            let text = text.map_err(broken)?.ok_or_else(too_long)?;
            named = manifest(text, &mut lines, taker).await?;
            if !named.is_empty() {
                patience.renew();
            }
            continue;
        }
        let file = part.file_name().or_else(|| part.name()).unwrap_or_default().to_owned();
        let room = usize::try_from(most).unwrap_or(usize::MAX);
        let image = patience.wait(whole(&mut part, room)).await?.map_err(broken)?;
        let Some(said) = named.remove(&file) else {
            taker.refuse(None, None, &ApiError::invalid("file", format!("no line names {}", printable(&file))));
            continue;
        };
        let Some(image) = image else {
            taker.refuse(Some(said.line), Some(said.item), &too_large(most));
            patience.renew();
            continue;
        };
        let line = said.line;
        match tokio::task::spawn_blocking(move || item::whole(said, image, most)).await.map_err(ApiError::internal)? {
            Ok(item) => taker.take(item).await?,
            Err(Wrong { item, error }) => taker.refuse(Some(line), item, &error),
        }
        patience.renew();
    }
    missing(named, taker);
    Ok(())
}

/// All of a part; `None`, and nothing of it is kept, where it is larger than `most`.
async fn whole(part: &mut Field<'_>, most: usize) -> Result<Option<Bytes>, MultipartError> {
    let (mut bytes, mut is_too_large) = (BytesMut::new(), false);
    while let Some(piece) = part.chunk().await? {
        is_too_large = is_too_large || bytes.len() + piece.len() > most;
        if is_too_large {
            bytes = BytesMut::new();
        } else {
            bytes.extend_from_slice(&piece);
        }
    }
    Ok((!is_too_large).then(|| bytes.freeze()))
}

/// Reads a manifest; `lines` were before it.
async fn manifest(text: Bytes, lines: &mut u64, taker: &mut Taker<'_>) -> Result<Named, ApiError> {
    let before = *lines;
    let read = move || {
        let lines = text.split(|byte| *byte == b'\n').zip(before + 1..);
        let lines = lines.filter(|(line, _)| !line.trim_ascii().is_empty()).take(MANIFEST_LINES + 1);
        lines.map(|(line, number)| (number, item::of_manifest(number, line))).collect::<Vec<_>>()
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(ApiError::internal)?;
    if read.len() > MANIFEST_LINES {
        return Err(too_long());
    }
    let mut named = Named::new();
    for (number, line) in read {
        *lines = number;
        match line {
            Ok((file, said)) if named.contains_key(&file) => {
                taker.refuse(Some(number), Some(said.item), &ApiError::invalid("file", "another line names it"));
            }
            Ok((file, said)) => drop(named.insert(file, said)),
            Err(Wrong { item, error }) => taker.refuse(Some(number), item, &error),
        }
    }
    Ok(named)
}

/// Tells of lines whose files did not come.
fn missing(named: Named, taker: &mut Taker<'_>) {
    let mut left: Vec<Said> = named.into_values().collect();
    left.sort_unstable_by_key(|said| said.line);
    for said in left {
        let why = "no part behind the manifest has this file name";
        taker.refuse(Some(said.line), Some(said.item), &ApiError::invalid("file", why));
    }
}

fn too_long() -> ApiError {
    let why = format!(
        "a manifest has at most {MANIFEST_LINES} lines and {MANIFEST_BYTES} bytes: send several, each before its files"
    );
    ApiError::new(Code::PayloadTooLarge, why)
}

fn printable(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(64).collect()
}
