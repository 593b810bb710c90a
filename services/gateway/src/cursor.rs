//! Cursors: where a list goes on, opaque to clients. They hold no secret and are checked like any input.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// Longest cursor that is read.
const LONGEST: usize = 2048;

/// The text of a position.
pub(crate) fn write<T: Serialize>(position: &T) -> Result<String, ApiError> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(position).map_err(ApiError::internal)?))
}

/// The cursor of the next page: after the last of `rows`, where they fill the page.
pub(crate) fn next<R, T: Serialize>(
    rows: &[R],
    page_size: u32,
    position: impl FnOnce(&R) -> T,
) -> Result<Option<String>, ApiError> {
    let is_full = rows.len() as u64 == u64::from(page_size);
    rows.last().filter(|_| is_full).map(|last| write(&position(last))).transpose()
}

/// The position of a text.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    let wrong = || ApiError::invalid("cursor", "it is none of this list's");
    if text.len() > LONGEST {
        return Err(wrong());
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    serde_json::from_slice(&bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_page_has_a_next() {
        assert_eq!(next(&[1, 2], 2, |last| *last), Ok(Some(write(&2).unwrap())));
        assert_eq!(next(&[1], 2, |last| *last), Ok(None));
        assert_eq!(next(&[], 2, |last: &i32| *last), Ok(None));
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let position = ("Ada".to_owned(), 7_u32);
        assert_eq!(read::<(String, u32)>(&write(&position).unwrap()).unwrap(), position);
        for wrong in ["", "%", "e30", &"A".repeat(LONGEST + 1)] {
            assert!(read::<(String, u32)>(wrong).is_err(), "{wrong:?}");
        }
    }
}
