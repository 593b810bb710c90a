//! Where a request comes from that needs no key because the gateway listens on this machine only. A page from anywhere
//! can have a browser on this machine send requests to it, under a name that leads to a loopback address or from its
//! own origin: neither may do what whoever sits at the machine may. Whoever sends a key is not looked at here.
//!
//! A browser names no Origin where a page merely shows something (`<img>`, a link): there `Sec-Fetch-Site` tells where it comes
//! from. The pages that people may come to from elsewhere, such as `/docs`, need no key and are not looked at here either.

use std::net::IpAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};

use crate::error::{ApiError, Code};

/// Where a request comes from, as browsers say of every request (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// From the gateway's own page, or from nowhere: an address that somebody typed.
const OWN_SITE: [&str; 2] = ["same-origin", "none"];

/// Fails unless the request is for this machine by name, and from no page of another origin. Programs send no origin.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), ApiError> {
    let hosts = all(headers, &HOST);
    let [Some(host)] = hosts.as_slice() else { return Err(foreign("the header Host has to be there once")) };
    if !host_of(host).is_some_and(is_loopback) {
        return Err(foreign("the header Host names neither localhost nor a loopback address"));
    }
    let is_own = |origin: &str| origin.split_once("://").is_some_and(|(_, page)| page.eq_ignore_ascii_case(host));
    // Another port is another page, and none that was let in here.
    if !all(headers, &ORIGIN).into_iter().all(|origin| origin.is_some_and(is_own)) {
        return Err(foreign("the header Origin names another page than the gateway's"));
    }
    if !all(headers, &SEC_FETCH_SITE).into_iter().all(|site| site.is_some_and(|site| OWN_SITE.contains(&site))) {
        return Err(foreign("the header Sec-Fetch-Site says that another site's page asks"));
    }
    Ok(())
}

/// What every header of the name says; `None` where that is no text.
fn all<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<Option<&'a str>> {
    headers.get_all(name).iter().map(|value| value.to_str().ok()).collect()
}

/// The host of a host with a port or without; an IPv6 address is in brackets there.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(host)
}

/// Names are not looked up: anybody's name may lead here.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn foreign(why: &str) -> ApiError {
    ApiError::new(Code::Unauthorized, format!("{why}: without a key only this machine's own requests are taken"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn allowed(hosts: &[&'static str], origins: &[&'static str]) -> bool {
        allowed_from(hosts, origins, &[])
    }

    fn allowed_from(hosts: &[&'static str], origins: &[&'static str], sites: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, values) in [(HOST, hosts), (ORIGIN, origins), (SEC_FETCH_SITE, sites)] {
            for &value in values {
                headers.append(name.clone(), HeaderValue::from_static(value));
            }
        }
        check(&headers).is_ok()
    }

    #[test]
    fn only_this_machine_is_named() {
        let own = ["localhost", "LocalHost:8090", "127.0.0.1", "127.0.0.1:8090", "127.8.9.1:80", "[::1]", "[::1]:8090"];
        for host in own {
            assert!(allowed(&[host], &[]), "{host}");
        }
        let others = [
            "",
            "x",
            "10.0.0.7",
            "0.0.0.0:8090",
            "[::]:8090",
            "facewire.example",
            "facewire.example:127",
            "localhost.facewire.example",
            "127.0.0.1.facewire.example",
            "127.0.0.1@facewire.example",
            "localhost:8090@facewire.example",
            "[::1].facewire.example",
        ];
        for host in others {
            assert!(!allowed(&[host], &[]), "{host}");
        }
        assert!(!allowed(&[], &[]) && !allowed(&["localhost", "facewire.example"], &[]));
    }

    #[test]
    fn only_the_gateways_own_page_asks() {
        let host = ["localhost:8090"];
        assert!(allowed(&host, &["http://localhost:8090"]) && allowed(&host, &["https://LOCALHOST:8090"]));
        let others = [
            "null",
            "",
            "http://",
            "http://facewire.example",
            "http://localhost",
            "http://localhost:3000",
            "http://127.0.0.1:8090",
            "http://localhost:8090.facewire.example",
        ];
        for origin in others {
            assert!(!allowed(&host, &[origin]), "{origin}");
        }
        assert!(!allowed(&host, &["http://localhost:8090", "http://facewire.example"]));
    }

    #[test]
    fn what_another_sites_page_shows_is_not_taken_though_it_names_no_origin() {
        let host = ["localhost:8090"];
        for own in ["same-origin", "none"] {
            assert!(allowed_from(&host, &[], &[own]), "{own}");
            assert!(allowed_from(&host, &["http://localhost:8090"], &[own]), "{own}");
        }
        // Of the same site is another port of this machine.
        for other in ["cross-site", "same-site", "", "Same-Origin"] {
            assert!(!allowed_from(&host, &[], &[other]), "{other}");
        }
        assert!(!allowed_from(&host, &[], &["same-origin", "cross-site"]));
        assert!(!allowed_from(&host, &["http://facewire.example"], &["same-origin"]));
    }
}
