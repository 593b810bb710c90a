//! Which addresses a webhook may be told at. A receiver's name is resolved for each connection, and each address is looked at then: a
//! check of the URL alone would be passed by a name that leads elsewhere later. What the URL itself gives away is refused when the
//! webhook is made. Nothing is sent here.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::Uri;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower::Service;

use crate::error::ApiError;
use crate::options::Options;

/// Bytes of a URL.
const LONGEST: usize = 2048;

/// What may be reached besides public addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// This machine itself.
    loopback: bool,
    /// Private networks.
    private: bool,
}

/// Why an address is not told, for whoever makes a webhook and whoever looks for its dead deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum OutOfReach {
    #[error("a loopback address: only a gateway that listens on one itself tells webhooks of its own machine")]
    Loopback,
    #[error("a link-local address, where clouds hand out credentials: such are never told")]
    LinkLocal,
    #[error("no machine's address")]
    Nowhere,
    #[error("an address of a private network: gateway.webhooks.private_networks is off")]
    Private,
}

impl Reach {
    /// Of a gateway with these options.
    pub(crate) fn of(options: &Options) -> Self {
        Self { loopback: options.address().ip().is_loopback(), private: options.webhooks.private_networks }
    }

    /// Link-local addresses and those that are no machine's are never reached.
    fn check(self, address: IpAddr) -> Result<(), OutOfReach> {
        let (is_loopback, is_link_local, is_nowhere, is_private) = match unfolded(address) {
            IpAddr::V4(v4) => {
                // Of carriers: 100.64.0.0/10 (RFC 6598).
                let shared = matches!(v4.octets(), [100, 64..=127, ..]);
                let nowhere = v4.octets().first() == Some(&0) || v4.is_multicast() || v4.is_broadcast();
                (v4.is_loopback(), v4.is_link_local(), nowhere, v4.is_private() || shared)
            }
            IpAddr::V6(v6) => {
                let nowhere = v6.is_unspecified() || v6.is_multicast();
                // Translated to IPv4 within a network: 64:ff9b:1::/48 (RFC 8215).
                let private = v6.is_unique_local() || matches!(v6.segments(), [0x64, 0xff9b, 1, ..]);
                (v6.is_loopback(), v6.is_unicast_link_local() || v6 == AMAZON, nowhere, private)
            }
        };
        let refusals = [
            (is_link_local, OutOfReach::LinkLocal),
            (is_nowhere, OutOfReach::Nowhere),
            (is_loopback && !self.loopback, OutOfReach::Loopback),
            (is_private && !self.private, OutOfReach::Private),
        ];
        refusals.into_iter().find(|(applies, _)| *applies).map_or(Ok(()), |(_, why)| Err(why))
    }

    /// Fails unless the URL's host may be asked; where it is a name, its addresses are looked at as it is resolved. Of the names
    /// `localhost` and those below it that is known before (RFC 6761).
    pub(super) fn check_host(self, url: &Uri) -> Result<(), OutOfReach> {
        let host = url.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.check(address);
        }
        let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
        let is_local = name == "localhost" || name.ends_with(".localhost");
        if is_local && !self.loopback { Err(OutOfReach::Loopback) } else { Ok(()) }
    }

    /// A receiver's URL as a client names it: one that could never be told is refused at once, and not after its last attempt.
    pub(crate) fn receiver(self, text: &str) -> Result<String, ApiError> {
        let wrong = || ApiError::invalid("url", "a URL with http or https and a host");
        let parsed: Uri = text.parse().map_err(|_| wrong())?;
        let is_http =
            matches!(parsed.scheme_str(), Some("http" | "https")) && parsed.host().is_some_and(|host| !host.is_empty());
        if !is_http || text.len() > LONGEST {
            return Err(wrong());
        }
        self.check_host(&parsed).map_err(|why| ApiError::invalid("url", why))?;
        Ok(text.to_owned())
    }
}

/// The address itself, or the IPv4 address that it leads to: mapped (`::ffff:0:0/96`), compatible (`::/96`), of a translator
/// (`64:ff9b::/96`, RFC 6052) or of 6to4 (`2002::/16`).
fn unfolded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match v6.segments() {
        // Nothing, and this machine.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)).into()
        }
        _ => address,
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
            let allowed: Vec<SocketAddr> = found.await?.filter(|address| reach.check(address.ip()).is_ok()).collect();
            Ok(allowed.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_depends_on_where_it_is() {
        let allowed = |loopback, private, text: &str| Reach { loopback, private }.check(text.parse().unwrap()).is_ok();
        for public in ["203.0.113.9", "100.128.0.1", "2001:db8::1", "64:ff9b::203.0.113.9", "2002:cb00:7109::1"] {
            assert!(allowed(false, false, public), "{public}");
        }
        for private in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd12::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::1",
            "64:ff9b:1::1",
        ] {
            assert!(allowed(false, true, private) && !allowed(true, false, private), "{private}");
        }
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1"] {
            assert!(allowed(true, false, here) && !allowed(false, true, here), "{here}");
        }
        for never in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
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
        let allowed = |url: &str| reach.check_host(&url.parse().unwrap()).is_ok();
        assert!(allowed("https://hooks.example/x") && allowed("https://203.0.113.9/x"));
        assert!(!allowed("http://127.0.0.1:8222/x") && !allowed("http://[::1]:8222/x") && !allowed("http://10.0.0.1/"));
    }

    #[test]
    fn a_receiver_that_can_never_be_told_is_refused_with_the_reason() {
        let nothing = Reach { loopback: false, private: false };
        let refusals = [
            ("http://127.0.0.1:8222/x", OutOfReach::Loopback),
            ("http://[::1]/x", OutOfReach::Loopback),
            ("http://localhost/x", OutOfReach::Loopback),
            ("https://LocalHost.:8443/x", OutOfReach::Loopback),
            ("http://hooks.localhost/x", OutOfReach::Loopback),
            ("http://169.254.169.254/latest", OutOfReach::LinkLocal),
            ("http://[fe80::1]/x", OutOfReach::LinkLocal),
            ("http://[fd00:ec2::254]/x", OutOfReach::LinkLocal),
            ("http://0.0.0.0/x", OutOfReach::Nowhere),
            ("http://10.0.0.1/x", OutOfReach::Private),
            ("http://[fd12::1]/x", OutOfReach::Private),
        ];
        for (url, why) in refusals {
            let refused = nothing.receiver(url).unwrap_err();
            assert_eq!(refused.message, format!("url: {why}"), "{url}");
            assert_eq!(refused.details["field"], "url");
            // An option is named where it helps, and there alone.
            assert_eq!(refused.message.contains("private_networks"), why == OutOfReach::Private, "{url}");
        }
        let all = Reach { loopback: true, private: true };
        for (url, why) in refusals {
            let never = matches!(why, OutOfReach::LinkLocal | OutOfReach::Nowhere);
            assert_eq!(all.receiver(url).is_err(), never, "{url}");
        }
        for url in ["https://hooks.example/x", "http://localhost.hooks.example/x", "http://203.0.113.9:8080/x"] {
            assert_eq!(nothing.receiver(url).as_deref(), Ok(url));
        }
        let long = format!("https://hooks.example/{}", "x".repeat(LONGEST));
        for wrong in ["", "hooks.example", "/x", "ftp://hooks.example/x", long.as_str()] {
            assert!(nothing.receiver(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn this_machine_is_told_by_a_gateway_that_listens_on_it_alone() {
        let reach = |listen: &str, private_networks| {
            let webhooks = crate::events::Options { private_networks, ..crate::events::Options::default() };
            Reach::of(&Options { listen: Some(listen.parse().unwrap()), webhooks, ..Options::default() })
        };
        assert_eq!(reach("127.0.0.1:1", true), Reach { loopback: true, private: true });
        assert_eq!(reach("0.0.0.0:1", false), Reach { loopback: false, private: false });
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
