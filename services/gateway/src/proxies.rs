//! Whose request it is where proxies stand before the gateway: each says in `X-Forwarded-For` who came to it. Only those that the
//! operator names are believed: anybody else writes there what they like.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The addresses of a network, such as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    /// So many bits of it are those of the network.
    prefix: u32,
}

/// A text that names no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it takes an address, or a network such as 10.0.0.0/8")]
pub struct NoNetwork;

impl TryFrom<String> for Network {
    type Error = NoNetwork;

    fn try_from(text: String) -> Result<Self, NoNetwork> {
        let (address, prefix) = text.split_once('/').map_or((text.as_str(), None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let (_, length) = bits(address);
        let prefix = prefix.map_or(Ok(length), str::parse).map_err(|_| NoNetwork)?;
        if prefix <= length { Ok(Self { address, prefix }) } else { Err(NoNetwork) }
    }
}

impl From<Network> for String {
    fn from(Network { address, prefix }: Network) -> Self {
        format!("{address}/{prefix}")
    }
}

impl Network {
    fn holds(self, address: IpAddr) -> bool {
        let ((own, length), (other, other_length)) = (bits(self.address), bits(address));
        length == other_length && (own ^ other).leading_zeros() >= self.prefix
    }
}

/// An address from its highest bit on, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

/// Who sends a request: the peer, or, where that is a trusted proxy, who came to it, and so on from the right.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let mut client = peer.to_canonical();
    let said = headers.get_all(FORWARDED_FOR).iter().rev();
    for text in said.flat_map(|value| value.to_str().unwrap_or_default().rsplit(',')) {
        let is_trusted = trusted.iter().any(|network| network.holds(client));
        let Some(before) = address(text.trim()).filter(|_| is_trusted) else { break };
        client = before;
    }
    client
}

/// Some proxies write the port as well.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    text.parse::<IpAddr>().or_else(|_| with_port()).ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| Network::try_from((*text).to_owned()).unwrap()).collect()
    }

    #[test]
    fn a_network_is_an_address_and_so_many_bits_of_it() {
        let holds = |network: &str, address: &str| networks(&[network])[0].holds(address.parse().unwrap());
        assert!(holds("10.1.0.0/16", "10.1.255.255") && !holds("10.1.0.0/16", "10.2.0.0"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.2") && holds("0.0.0.0/0", "203.0.113.9"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1") && !holds("::/0", "10.1.2.3"));
        for wrong in ["", "/8", "10.0.0.0/", "10.0.0.0/33", "fd00::/129", "10.0.0.0/-1", "10.0.0/8", "ingress"] {
            assert_eq!(Network::try_from(wrong.to_owned()), Err(NoNetwork), "{wrong}");
        }
        for text in ["\"10.0.0.0/8\"", "\"fd00::/8\""] {
            assert_eq!(serde_json::to_string(&serde_json::from_str::<Network>(text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn who_came_to_a_trusted_proxy_is_believed_and_nobody_before_them() {
        let trusted = networks(&["10.0.0.0/8", "192.0.2.1"]);
        let sent = |peer: &str, said: &[&str], trusted: &[Network]| {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(FORWARDED_FOR, value.parse().unwrap());
            }
            client(peer.parse().unwrap(), &headers, trusted).to_string()
        };
        let from = |peer: &str, said: &[&str]| sent(peer, said, trusted.as_slice());
        assert_eq!(from("10.0.0.7", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(from("::ffff:10.0.0.7", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(from("10.0.0.7", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(from("10.0.0.7", &["127.0.0.1, 203.0.113.9, 192.0.2.1"]), "203.0.113.9");
        assert_eq!(from("10.0.0.7", &["198.51.100.1", "203.0.113.9,10.0.0.8"]), "203.0.113.9", "several headers");
        // Nothing that can be read, or nothing: the nearest that is known.
        assert_eq!(from("10.0.0.7", &[]), "10.0.0.7");
        assert_eq!(from("10.0.0.7", &["203.0.113.9, unknown, 10.0.0.8"]), "10.0.0.8");
        assert_eq!(from("10.0.0.7", &["10.0.0.9"]), "10.0.0.9", "a client in the proxies' own network");
        // Whoever is no trusted proxy is who they are.
        assert_eq!(from("203.0.113.9", &["10.0.0.8", "127.0.0.1"]), "203.0.113.9");
        assert_eq!(sent("10.0.0.7", &["203.0.113.9"], &[]), "10.0.0.7");
    }
}
