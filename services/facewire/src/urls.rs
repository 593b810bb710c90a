//! URLs as they are shown: without the users and passwords that they may hold. Whoever named them knows those, and what is
//! shown is read by others.

/// What comes after the user and the password.
pub(crate) fn behind_user(url: &str) -> &str {
    url.rsplit('@').next().unwrap_or_default()
}

/// URLs, with commas between them, without their users and passwords.
pub(crate) fn without_users(urls: &str) -> String {
    let shown = |url: &str| match url.trim().split_once("://") {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            format!("{scheme}://{}", behind_user(rest))
        }
        _ => behind_user(url.trim()).to_owned(),
    };
    urls.split(',').map(shown).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_said_without_its_password() {
        for (url, said) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("nats://ada:secret@nats:4222", "nats://nats:4222"),
            ("tls://ada:se@cret://@one, nats://token@two:4222", "tls://one,nats://two:4222"),
            ("ada:secret@nats:4222", "nats:4222"),
            ("ada:://secret@nats", "nats"),
        ] {
            assert_eq!(without_users(url), said, "{url}");
        }
    }
}
