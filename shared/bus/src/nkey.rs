//! Keys of NATS users: Ed25519 pairs in NATS' own text form. The seed is the secret half, by which a client proves who it is;
//! the server's configuration has the public half only. A seed never comes into a text.

use facewire_config::Secret;
use nkeys::{KeyPair, KeyPairType};

use crate::error::BusError;

/// The key of a user.
#[derive(Debug, Clone)]
pub struct UserKey {
    public: String,
    seed: Option<Secret>,
}

impl UserKey {
    /// A new pair.
    ///
    /// # Errors
    /// [`BusError::Key`].
    pub fn generate() -> Result<Self, BusError> {
        let pair = KeyPair::new_user();
        let seed = pair.seed().map_err(|_| BusError::Key("a new key has no seed".to_owned()))?;
        Ok(Self { public: pair.public_key(), seed: Some(Secret::new(seed)) })
    }

    /// The pair of a seed (`SU…`), whatever space is around it.
    ///
    /// # Errors
    /// [`BusError::Key`]: it is no seed of a user.
    pub fn from_seed(text: &str) -> Result<Self, BusError> {
        let text = text.trim();
        let pair = KeyPair::from_seed(text).ok().filter(|pair| pair.key_pair_type() == KeyPairType::User);
        let pair = pair.ok_or_else(|| BusError::Key("this is no seed of a NATS user (SU…)".to_owned()))?;
        Ok(Self { public: pair.public_key(), seed: Some(Secret::new(text)) })
    }

    /// The public half alone (`U…`), whatever space is around it.
    ///
    /// # Errors
    /// [`BusError::Key`]: it is no public key of a user.
    pub fn from_public(text: &str) -> Result<Self, BusError> {
        let text = text.trim();
        let pair = KeyPair::from_public_key(text).ok().filter(|pair| pair.key_pair_type() == KeyPairType::User);
        let pair = pair.ok_or_else(|| BusError::Key("this is no public key of a NATS user (U…)".to_owned()))?;
        Ok(Self { public: pair.public_key(), seed: None })
    }

    /// The public half, for the server.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The secret half, where it is known.
    pub fn seed(&self) -> Option<&Secret> {
        self.seed.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_its_seed_and_is_never_printed() {
        let key = UserKey::generate().unwrap();
        let seed = key.seed().unwrap().expose().to_owned();
        assert!(seed.starts_with("SU") && key.public().starts_with('U'));
        assert_eq!(UserKey::from_seed(&format!(" {seed}\n")).unwrap().public(), key.public());
        let public = UserKey::from_public(&format!("{}\n", key.public())).unwrap();
        assert_eq!((public.public(), public.seed().is_none()), (key.public(), true));
        assert!(!format!("{key:?}").contains(&seed));
    }

    #[test]
    fn what_is_no_key_of_a_user_is_refused_and_not_repeated() {
        let account = KeyPair::new_account();
        let seed = UserKey::generate().unwrap().seed().unwrap().expose().to_owned();
        let mut damaged = seed.clone();
        damaged.replace_range(20..21, if &seed[20..21] == "A" { "B" } else { "A" });
        for text in ["", "SU", &account.seed().unwrap(), &account.public_key(), &damaged, "S\u{FC}"] {
            for refused in [UserKey::from_seed(text), UserKey::from_public(text)] {
                let said = refused.unwrap_err().to_string();
                assert!(text.len() < 3 || !said.contains(text), "{said}");
            }
        }
        assert!(UserKey::from_public(&seed).is_err(), "a seed is not taken for its public half");
    }
}
