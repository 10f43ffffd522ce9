//! Addresses of internal services: `http://HOST:PORT`.

use std::net::SocketAddr;

pub(crate) use records::address_fault;

use crate::error::{Error, Result};

/// Returns where other members reach a listener that nothing is configured for. A listener on all
/// interfaces is reached by the name of the machine.
///
/// # Errors
///
/// [`Error::Config`] if the machine has no usable name.
pub(crate) fn advertised(local: SocketAddr) -> Result<String> {
    if !local.ip().is_unspecified() {
        return Ok(format!("http://{local}"));
    }
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let address = format!("http://{name}:{}", local.port());
    match address_fault(&address) {
        None => Ok(address),
        Some(why) => Err(Error::Config {
            field: "advertise",
            why: format!("must be set: the name of this machine makes no address ({why})"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_hosts_and_both_kinds_of_ip() {
        for address in [
            "http://a.b:1",
            "http://127.0.0.1:7200",
            "http://[::1]:7200",
            "http://a:1/",
        ] {
            assert_eq!(address_fault(address), None, "{address}");
        }
    }

    #[test]
    fn refuses_what_is_not_an_address() {
        for address in [
            "",
            "a:1",
            "https://a:1",
            "http://a",
            "http://a:0",
            "http://a:1/x",
            "http://ops:pw@a:1",
            "http://a:1#x",
            "http:// :1",
        ] {
            assert!(address_fault(address).is_some(), "{address}");
        }
    }

    #[test]
    fn a_listener_on_all_interfaces_is_reached_by_name() {
        let address = advertised("0.0.0.0:7200".parse().unwrap()).unwrap();
        assert!(
            !address.contains("0.0.0.0") && address.ends_with(":7200"),
            "{address}"
        );
        let local = advertised("127.0.0.1:7200".parse().unwrap()).unwrap();
        assert_eq!(local, "http://127.0.0.1:7200");
    }
}
