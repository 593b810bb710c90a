//! Which addresses a webhook may be told at. A receiver's name is resolved for each connection, and each address is looked at then: a
//! check of the URL alone would be passed by a name that leads elsewhere later. Nothing is sent here.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::Uri;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower::Service;

/// What may be reached besides public addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// This machine itself.
    pub(super) loopback: bool,
    /// Private networks.
    pub(super) private: bool,
}

impl Reach {
    /// Link-local addresses, where clouds hand out credentials, and those that are no machine's are never reached.
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) if v4.is_loopback() => self.loopback,
            IpAddr::V4(v4) => {
                // Of carriers: 100.64.0.0/10 (RFC 6598).
                let shared = matches!(v4.octets(), [100, 64..=127, ..]);
                let nowhere = v4.octets().first() == Some(&0) || v4.is_multicast() || v4.is_broadcast();
                !(nowhere || v4.is_link_local()) && (self.private || !(v4.is_private() || shared))
            }
            IpAddr::V6(v6) if v6.is_loopback() => self.loopback,
            IpAddr::V6(v6) => {
                let nowhere = v6.is_unspecified() || v6.is_multicast() || v6 == AMAZON;
                !(nowhere || v6.is_unicast_link_local()) && (self.private || !v6.is_unique_local())
            }
        }
    }

    /// Whether the URL's host may be asked; where it is a name, its addresses are looked at as it is resolved.
    pub(super) fn allows_host(self, url: &Uri) -> bool {
        let host = url.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare.parse().map_or(true, |address| self.allows(address))
    }
}

/// Where the instances of Amazon hand out credentials over IPv6; in the range of private networks.
const AMAZON: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// The system's resolver, without the addresses that may not be reached.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    inner: GaiResolver,
    reach: Reach,
}

impl Resolver {
    pub(super) fn new(reach: Reach) -> Self {
        Self { inner: GaiResolver::new(), reach }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (found, reach) = (self.inner.call(name), self.reach);
        Box::pin(async move {
            let allowed: Vec<SocketAddr> = found.await?.filter(|address| reach.allows(address.ip())).collect();
            Ok(allowed.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_depends_on_where_it_is() {
        let allowed = |loopback, private, text: &str| Reach { loopback, private }.allows(text.parse().unwrap());
        for public in ["203.0.113.9", "100.128.0.1", "2001:db8::1"] {
            assert!(allowed(false, false, public), "{public}");
        }
        for private in ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1"] {
            assert!(allowed(false, true, private) && !allowed(true, false, private), "{private}");
        }
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(allowed(true, false, here) && !allowed(false, true, here), "{here}");
        }
        for never in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "0.0.0.0",
            "0.0.0.1",
            "::",
            "224.0.0.1",
        ] {
            assert!(!allowed(true, true, never), "{never}");
        }
    }

    #[test]
    fn a_host_that_is_an_address_needs_no_resolver() {
        let reach = Reach { loopback: false, private: false };
        let allowed = |url: &str| reach.allows_host(&url.parse().unwrap());
        assert!(allowed("https://hooks.example/x") && allowed("https://203.0.113.9/x"));
        assert!(!allowed("http://127.0.0.1:8222/x") && !allowed("http://[::1]:8222/x") && !allowed("http://10.0.0.1/"));
    }

    #[tokio::test]
    async fn a_name_that_leads_here_is_not_followed() {
        let named = |loopback| async move {
            let mut resolver = Resolver::new(Reach { loopback, private: false });
            resolver.call("localhost".parse().unwrap()).await.unwrap().count()
        };
        assert!(named(true).await > 0);
        assert_eq!(named(false).await, 0);
    }
}
