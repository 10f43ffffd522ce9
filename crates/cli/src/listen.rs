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
        let listener = bound
            .map_err(|error| format!("cannot listen on {self}: {error}; choose another {flag}"))?;
        let local = listener.local_addr();
        if self.is_name() && local.ip().is_loopback() && self.host != "localhost" {
            tracing::warn!(
                flag, name = self.host, at = %local,
                "a name leads to this machine's loopback: no other machine reaches it there"
            );
        }
        Ok(listener)
    }

    /// Whether the host is a name, and no address.
    fn is_name(&self) -> bool {
        self.to_string().parse::<SocketAddr>().is_err()
    }

    /// Returns where others reach the listener, where that is a name that was given: what it leads to
    /// here may change, and need not be what it leads to elsewhere.
    pub(crate) fn named(&self, local: SocketAddr) -> Option<String> {
        let is_for_others = self.is_name() && !local.ip().is_loopback();
        is_for_others.then(|| format!("http://{}:{}", self.host, local.port()))
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

/// Returns where others reach a listener: as the operator says, or else by the name that it was given or
/// by its own address; one on all interfaces by the name of the machine.
pub(crate) fn advertised(given: Option<&String>, at: &ListenAt, local: SocketAddr) -> String {
    let given = given.cloned().or_else(|| at.named(local));
    given.unwrap_or_else(|| match local.ip().is_unspecified() {
        true => format!("http://{}", host_and_port(local.port())),
        false => format!("http://{local}"),
    })
}

/// Returns likewise what people are shown; nothing where the machine has no name to be reached by.
pub(crate) fn shown(given: Option<&String>, at: &ListenAt, local: SocketAddr) -> Option<String> {
    let address = advertised(given, at, local);
    let usable = given.is_some() || records::shown_fault(&address).is_none();
    usable.then_some(address)
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
    fn a_name_is_told_as_it_was_given_unless_it_leads_nowhere_else() {
        let named: ListenAt = "gw.example:0".parse().unwrap();
        let told = |local: &str| advertised(None, &named, local.parse().unwrap());
        assert_eq!(told("10.0.0.1:7100"), "http://gw.example:7100");
        assert_eq!(told("127.0.0.1:7100"), "http://127.0.0.1:7100");
        let address: ListenAt = "[fd00::1]:7100".parse().unwrap();
        assert_eq!(address.named("[fd00::1]:7100".parse().unwrap()), None);
    }

    #[test]
    fn what_cannot_be_shown_is_left_out_unless_it_was_given() {
        let odd: ListenAt = "a:1".parse().unwrap();
        let odd = ListenAt {
            host: "(none)".into(),
            ..odd
        };
        let local = "10.0.0.1:7100".parse().unwrap();
        assert_eq!(shown(None, &odd, local), None);
        let given = "https://api.example:443".to_owned();
        assert_eq!(shown(Some(&given), &odd, local), Some(given));
    }

    #[test]
    fn what_is_given_goes_before_what_is_derived() {
        let local = "127.0.0.1:7100".parse().unwrap();
        let at: ListenAt = "127.0.0.1:7100".parse().unwrap();
        assert_eq!(advertised(None, &at, local), "http://127.0.0.1:7100");
        let given = "http://api.example:443".to_owned();
        assert_eq!(advertised(Some(&given), &at, local), given);
        let all = advertised(None, &at, "0.0.0.0:7100".parse().unwrap());
        assert!(all.ends_with(":7100") && !all.contains("0.0.0.0"), "{all}");
    }
}
