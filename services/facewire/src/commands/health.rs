//! `facewire health`: asks a running process's health endpoints. For containers, whose image has no other program that
//! could ask. No HTTP client of general use: one request over plain HTTP.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, bail};
use facewire_composition::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cli::{Health, Probe};
use crate::output::{self, Exit};

/// An answer has some hundred bytes for each service.
const MAX_ANSWER: u64 = 64 * 1024;

pub(crate) async fn run(config: &Config, args: &Health) -> anyhow::Result<Exit> {
    let address = match &args.url {
        Some(url) => authority(url)?.to_owned(),
        None => listening(config.health.listen)?.to_string(),
    };
    let asked = tokio::time::timeout(args.timeout, ask(&address, path(args.probe)));
    let late = || format!("{address} did not answer within {}", humantime::format_duration(args.timeout));
    let (healthy, body) = asked.await.with_context(late)??;
    output::line(body);
    Ok(if healthy { Exit::Success } else { Exit::Failed })
}

fn path(probe: Probe) -> &'static str {
    match probe {
        Probe::Ready => "/readyz",
        Probe::Live => "/livez",
        Probe::Startup => "/startupz",
    }
}

/// Where a process with this configuration answers. What listens on every address is asked over loopback.
fn listening(listen: Option<SocketAddr>) -> anyhow::Result<SocketAddr> {
    let mut address =
        listen.context("health.listen is not set: name the process to ask with --url http://HOST:PORT")?;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    Ok(address)
}

/// `host:port` of `http://host:port`.
fn authority(url: &str) -> anyhow::Result<&str> {
    let authority = url.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    match authority {
        Some(authority) if authority.contains(':') && !authority.contains(['/', '@', '?', '#']) => Ok(authority),
        _ => bail!("--url takes http://HOST:PORT, not {url:?}"),
    }
}

/// Whether the answer's status is 200, and its body.
async fn ask(address: &str, path: &str) -> anyhow::Result<(bool, String)> {
    let connected = TcpStream::connect(address).await;
    let mut stream = connected.with_context(|| format!("{address} cannot be reached"))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (healthy, body) = parsed(&answer).with_context(|| format!("{address} does not answer as Facewire does"))?;
    Ok((healthy, body.to_owned()))
}

fn parsed(answer: &str) -> Option<(bool, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some((status == "200", body))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use facewire_composition::{Endpoint, HealthOptions};
    use facewire_devstack::free_address;
    use facewire_runtime::{Health as States, State};

    use super::*;

    fn asking(url: Option<String>, probe: Probe) -> Health {
        Health { probe, url, timeout: Duration::from_secs(30) }
    }

    #[tokio::test]
    async fn the_exit_status_is_the_endpoints_answer() {
        let health = HealthOptions { listen: Some(free_address("the endpoint").unwrap()) };
        let (states, config) = (States::default(), Config { health, ..Config::default() });
        let endpoint = Endpoint::bind(&config.health, states.clone()).await.unwrap().unwrap();
        let questions = async {
            let (ready, live) = (asking(None, Probe::Ready), asking(None, Probe::Live));
            states.set("ingest", State::Starting);
            assert_eq!(run(&config, &ready).await.unwrap(), Exit::Failed);
            assert_eq!(run(&config, &asking(None, Probe::Startup)).await.unwrap(), Exit::Failed);
            assert_eq!(run(&config, &live).await.unwrap(), Exit::Success);
            states.set("ingest", State::Ready);
            assert_eq!(run(&config, &ready).await.unwrap(), Exit::Success);
            // Named on the command line instead of in the configuration.
            let url = format!("http://{}/", config.health.listen.unwrap());
            assert_eq!(run(&Config::default(), &asking(Some(url), Probe::Ready)).await.unwrap(), Exit::Success);
            states.set("ingest", State::Failed);
            assert_eq!(run(&config, &live).await.unwrap(), Exit::Failed);
        };
        tokio::select! {
            () = questions => {}
            never = endpoint.serve() => match never {},
        }
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_that_names_the_address() {
        let address = free_address("nobody").unwrap();
        let nobody = asking(Some(format!("http://{address}")), Probe::Ready);
        let error = run(&Config::default(), &nobody).await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(run(&Config::default(), &asking(None, Probe::Ready)).await.is_err(), "no address at all");
    }

    #[test]
    fn addresses_are_those_of_the_process() {
        let asked = |listen: &str| listening(Some(listen.parse().unwrap())).unwrap().to_string();
        assert_eq!(asked("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(asked("[::]:8080"), "[::1]:8080");
        assert_eq!(asked("10.0.0.7:8080"), "10.0.0.7:8080");
        assert_eq!(authority("http://gateway:8090").unwrap(), "gateway:8090");
        for wrong in ["https://gateway:8090", "gateway:8090", "http://gateway", "http://a:1/readyz", "http://a@b:1"] {
            assert!(authority(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_that_is_not_http_is_none() {
        assert_eq!(parsed("HTTP/1.1 200 OK\r\nX: y\r\n\r\n{}"), Some((true, "{}")));
        assert_eq!(parsed("HTTP/1.1 503 Service Unavailable\r\n\r\n"), Some((false, "")));
        assert_eq!(parsed("SSH-2.0-x\r\n\r\n"), None);
        assert_eq!(parsed("HTTP/1.1 200 OK"), None);
    }
}
