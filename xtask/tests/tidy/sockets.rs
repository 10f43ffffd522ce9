//! Sockets are made in one place.

use super::{code, product_lines, root, sources};

/// The crate that makes them.
const PLACE: &str = "crates/sockets/";

/// Binds an address and lets it go, to see whether it is free.
const PROBE: &str = "crates/cli/src/commands/up.rs";

/// What makes a socket by itself. Our dialer's methods are told from an endpoint's by what they take.
const MAKERS: [&str; 10] = [
    ".connect()",
    ".connect_lazy()",
    "Client::connect(",
    "connect_with_connector",
    "TcpIncoming",
    "TcpListener",
    "TcpSocket",
    "TcpStream",
    "UnixListener",
    "UnixStream",
];

/// The first line of the product's code that makes a socket, and how.
fn makes_one(text: &str) -> Option<(usize, &'static str)> {
    let code = code::without_comments_and_texts(text);
    let lines = code.lines().take(product_lines(text)).enumerate();
    let mut made = lines.filter_map(|(index, line)| {
        let maker = MAKERS.into_iter().find(|maker| line.contains(maker))?;
        Some((index + 1, maker))
    });
    made.next()
}

#[test]
fn sockets_are_made_in_one_place() {
    let mut wrong = Vec::new();
    for path in sources() {
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        let is_product = shown.starts_with("crates/") && shown.contains("/src/");
        if !is_product || shown.starts_with(PLACE) || shown == PROBE {
            continue;
        }
        if let Some((line, maker)) = makes_one(&std::fs::read_to_string(&path).unwrap()) {
            wrong.push(format!(
                "{shown}:{line} says {maker}: take a Dialer or a Listener of {PLACE}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_socket_is_seen_however_it_is_made() {
    for made in [
        "let channel = endpoint.connect().await;",
        "endpoint\n    .connect_lazy();",
        "StepServiceClient::connect(address).await",
        "use tokio::net::TcpStream;",
        "TcpIncoming::from(listener)",
        "#[cfg(test)]\nmod testing;\nfn f() { endpoint.connect().await }",
    ] {
        assert!(makes_one(made).is_some(), "{made}");
    }
    for harmless in [
        "dialer.connect(&endpoint).await",
        "// endpoint.connect() would be TCP alone",
        "let listener = Listener::bind(address).await?;",
        "fn f() {}\n#[cfg(test)]\nmod tests { use tokio::net::TcpStream; }",
    ] {
        assert!(makes_one(harmless).is_none(), "{harmless}");
    }
}
