//! Where a process listens, and where it says that others reach it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use sockets::Listener;

use crate::host_and_port;

/// `HOST:PORT` of a listener. A host that is a name is looked up when the process listens, and the first
/// of its addresses is taken that this machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenAt {
    host: String,
    port: u16,
}

impl ListenAt {
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Listens there.
    ///
    /// # Errors
    ///
    /// In words, naming the flag to change.
    pub(crate) async fn bind(&self, flag: &str) -> Result<Listener, String> {
        let bound = Listener::bind(self.to_string()).await;
        bound.map_err(|error| format!("cannot listen on {self}: {error}; choose another {flag}"))
    }
}

impl FromStr for ListenAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            let (host, _) = text.rsplit_once(':').unwrap_or((text, ""));
            return Ok(Self {
                host: host.to_owned(),
                port: address.port(),
            });
        }
        let fault = || {
            format!("{text:?} is not HOST:PORT; an IPv6 address stands in brackets, as [::1]:7100")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(fault)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if host.is_empty() || !host.chars().all(plain) {
            return Err(fault());
        }
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().map_err(|_| fault())?,
        })
    }
}

impl fmt::Display for ListenAt {
    /// Writes what the flag takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Returns where others reach a listener: as the operator says or else by its own address; one on all
/// interfaces by the name of the machine.
pub(crate) fn advertised(given: Option<&String>, local: SocketAddr) -> String {
    match given {
        Some(given) => given.clone(),
        None if local.ip().is_unspecified() => format!("http://{}", host_and_port(local.port())),
        None => format!("http://{local}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_addresses_and_names_and_writes_them_as_they_were() {
        for good in [
            "127.0.0.1:0",
            "0.0.0.0:7100",
            "[::1]:7100",
            "localhost:7100",
            "a.b-c_d:1",
        ] {
            assert_eq!(good.parse::<ListenAt>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "localhost",
            ":7100",
            "::1:7100",
            "a b:1",
            "a:70000",
            "http://a:1",
            "a:",
        ] {
            let why = bad.parse::<ListenAt>().unwrap_err();
            assert!(why.contains("HOST:PORT"), "{why}");
        }
    }

    #[tokio::test]
    async fn listens_where_a_name_leads() {
        let at: ListenAt = "localhost:0".parse().unwrap();
        let listener = at.bind("--grpc").await.unwrap();
        assert!(listener.local_addr().ip().is_loopback());
        let taken: ListenAt = listener.local_addr().to_string().parse().unwrap();
        let why = taken.bind("--grpc").await.unwrap_err();
        assert!(why.contains("choose another --grpc"), "{why}");
    }

    #[test]
    fn what_is_given_goes_before_what_is_derived() {
        let local = "127.0.0.1:7100".parse().unwrap();
        assert_eq!(advertised(None, local), "http://127.0.0.1:7100");
        let given = "http://api.example:443".to_owned();
        assert_eq!(advertised(Some(&given), local), given);
        let all = advertised(None, "0.0.0.0:7100".parse().unwrap());
        assert!(all.ends_with(":7100") && !all.contains("0.0.0.0"), "{all}");
    }
}
