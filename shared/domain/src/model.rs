//! The names of models whose embeddings pass through a projection head: `<pack's fingerprint>+<head's fingerprint>`. Embeddings of
//! different names are never compared.

/// Hexadecimal digits of a head in a name: the start of the SHA-256 of its file.
pub const HEAD_DIGITS: usize = 16;

/// The model of a pack's embeddings behind a head.
pub fn projected(pack: &str, head: &str) -> String {
    format!("{pack}+{head}")
}

/// The pack whose embeddings a head projects; `None` where the model has no head.
pub fn base_of(model: &str) -> Option<&str> {
    let (pack, head) = model.rsplit_once('+')?;
    (!pack.is_empty() && is_head(head)).then_some(pack)
}

/// Whether a text is a head's fingerprint, as it stands in a model's name.
pub fn is_head(text: &str) -> bool {
    text.len() == HEAD_DIGITS && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projected_model_names_its_pack() {
        let model = projected("default@0.0.1:0a1b2c3d", "0123456789abcdef");
        assert_eq!(base_of(&model), Some("default@0.0.1:0a1b2c3d"));
        // A pack's version may have a plus of its own.
        assert_eq!(base_of(&projected("own@1.0+cu12:0a1b2c3d", "0123456789abcdef")), Some("own@1.0+cu12:0a1b2c3d"));
    }

    #[test]
    fn a_pack_alone_has_no_head() {
        for plain in [
            "default@0.0.1:0a1b2c3d",
            "own@1.0+cu12:0a1b2c3d",
            "own@1:0+0123456789ABCDEF",
            "own@1:0+0123456789abcde",
            "+0123456789abcdef",
            "",
        ] {
            assert_eq!(base_of(plain), None, "{plain}");
        }
    }
}
