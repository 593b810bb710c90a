//! What an API key may be used for. The list exists once: the table of keys, the command line and the checks of
//! requests are made from it. Which request needs which scope is the gateway's.

use serde::{Deserialize, Serialize};

/// One kind of use. A key has a set of them; none implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read people, faces, results and events.
    Read,
    /// Send images to be recognised, compared or judged.
    Recognise,
    /// Create and change people and their faces.
    Enrol,
    /// Get embeddings, and search by them.
    Embed,
    /// Collections, webhooks, erasure and everything else that an operator does.
    Admin,
}

impl Scope {
    /// All scopes, in order.
    pub const ALL: [Scope; 5] = [Scope::Read, Scope::Recognise, Scope::Enrol, Scope::Embed, Scope::Admin];

    /// The name in rows, on the command line and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Recognise => "recognise",
            Scope::Enrol => "enrol",
            Scope::Embed => "embed",
            Scope::Admin => "admin",
        }
    }

    /// The scope of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Scope {
    type Err = UnknownScope;
    fn from_str(s: &str) -> Result<Self, UnknownScope> {
        Scope::parse(s).ok_or(UnknownScope)
    }
}

/// No scope has that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such scope; the scopes are {}", Scope::ALL.map(Scope::as_str).join(", "))]
pub struct UnknownScope;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_is_read_by_the_name_that_is_written() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
        assert_eq!(Scope::parse("Admin"), None);
        assert!("root".parse::<Scope>().unwrap_err().to_string().ends_with("read, recognise, enrol, embed, admin"));
    }
}
