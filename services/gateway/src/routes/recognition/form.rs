//! Images and parameters of a request, however they come: as a form of parts, or as one image with a query string. Counts,
//! bytes and names are bounded before anything is kept.

use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::App;
use crate::error::{ApiError, Code};
use crate::input;
use crate::parts::Parts;

/// Text parts of a form.
const MOST_FIELDS: usize = 32;
/// Bytes of a text part.
const LONGEST_FIELD: usize = 16 * 1024;

/// An image as it came.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Encoded.
    pub(crate) bytes: Bytes,
}

/// Reads 1 to `most` images, and the parameters of query string and form together. `parts`: the names of parts that hold
/// images.
pub(crate) async fn read<T: DeserializeOwned>(
    app: &App,
    request: Request,
    parts: &[&str],
    most: usize,
) -> Result<(Vec<Image>, T), ApiError> {
    let query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    let mut pairs: Vec<(String, String)> = query.into_owned().collect();
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let images = match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "multipart/form-data" => form(app, request, parts, most, &mut pairs).await?,
        "image/jpeg" | "image/png" | "image/webp" | "application/octet-stream" => {
            vec![Image { bytes: fits(app, "body", input::bytes(request, &()).await?)? }]
        }
        _ => {
            let why = "send multipart/form-data, or one image as image/jpeg, image/png, image/webp or \
                       application/octet-stream";
            return Err(ApiError::new(Code::UnsupportedMediaType, why));
        }
    };
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    Ok((images, input::query(&query)?))
}

async fn form(
    app: &App,
    request: Request,
    parts: &[&str],
    most: usize,
    pairs: &mut Vec<(String, String)>,
) -> Result<Vec<Image>, ApiError> {
    let broken = |error: axum::extract::multipart::MultipartError| match error.status().as_u16() {
        413 => ApiError::new(Code::PayloadTooLarge, "the body is above the limit of gateway.max_body"),
        _ => ApiError::invalid("body", "it is no form of parts"),
    };
    let mut form = Parts::of(request).await.map_err(|_| ApiError::invalid("body", "it is no form of parts"))?;
    let (mut images, mut fields) = (Vec::new(), 0);
    while let Some(part) = form.part().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        if parts.contains(&name.as_str()) {
            if images.len() >= most {
                return Err(ApiError::invalid(&name, format!("at most {most} images are taken")));
            }
            let bytes = fits(app, &name, part.bytes().await.map_err(broken)?)?;
            images.push(Image { bytes });
            continue;
        }
        fields += 1;
        let text = part.bytes().await.map_err(broken)?;
        if fields > MOST_FIELDS || text.len() > LONGEST_FIELD {
            return Err(ApiError::invalid("body", "too many fields, or one that is too long"));
        }
        let text = std::str::from_utf8(&text).map_err(|_| ApiError::invalid(&shortened(&name), "it is no UTF-8"))?;
        pairs.push((name, text.to_owned()));
    }
    if images.is_empty() {
        return Err(ApiError::invalid(parts.first().unwrap_or(&"image"), "an image is missing"));
    }
    Ok(images)
}

/// A name for an error's text.
fn shortened(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

fn fits(app: &App, part: &str, bytes: Bytes) -> Result<Bytes, ApiError> {
    let limit = app.options.max_image.as_u64();
    if bytes.is_empty() {
        return Err(ApiError::invalid(part, "an image of no bytes"));
    }
    if bytes.len() as u64 > limit {
        let why = format!("{part}: an image has at most {limit} bytes (gateway.max_image)");
        return Err(ApiError::new(Code::PayloadTooLarge, why));
    }
    Ok(bytes)
}
