//! Addresses of internal services.

/// Says whether an address is one that workers take: `http://HOST:PORT`.
#[must_use]
pub fn is_address(address: &str) -> bool {
    let Some(authority) = address.strip_prefix("http://") else {
        return false;
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let Some((host, port)) = authority.rsplit_once(':') else {
        return false;
    };
    let port = port.parse::<u16>().is_ok_and(|port| port != 0);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match inner {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(plain),
    };
    port && host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port_and_nothing_else() {
        for good in [
            "http://a.b-c_d:1",
            "http://127.0.0.1:7200/",
            "http://[::1]:7200",
        ] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "a:1",
            "https://a:1",
            "http://a",
            "http://:1",
            "http://a:0",
            "http://a:99999",
            "http://a:1/x",
            "http://u@a:1",
            "http://::1:7200",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
