//! Records that nobody can read are named, put aside, and end nothing.

use std::time::Duration;

use e2e::{Killed, free_address, get, post, wait_until};
use serde_json::json;
use store::{Config, Store, Txn};
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(60);
const MODEL: [&str; 2] = ["--model", "synth:tiny,seed=7"];

/// A client of the cluster's membership store.
struct Keys {
    store: Store,
    runtime: Runtime,
}

impl Keys {
    fn of(address: &str) -> Self {
        let config = Config {
            endpoints: vec![address.to_owned()],
            cluster: "default".into(),
            dialer: sockets::Dialer::default(),
        };
        Self {
            store: Store::new(config).unwrap(),
            runtime: Runtime::new().unwrap(),
        }
    }

    /// Returns what a key holds.
    fn read(&self, key: &str) -> Option<Vec<u8>> {
        let entry = self.runtime.block_on(self.store.get(key)).unwrap();
        entry.map(|entry| entry.value)
    }

    fn spoil(&self, key: &str) {
        let txn = Txn::new().put(key, b"\xff not a record".to_vec(), None);
        let outcome = self.runtime.block_on(self.store.txn(txn)).unwrap();
        assert!(outcome.succeeded);
    }

    /// Waits until what was spoilt lies aside, and the key can be read again.
    fn is_mended(&self, key: &str, is_good: impl Fn(&[u8]) -> bool) {
        let aside = records::quarantine_key(key);
        wait_until(key, LIMIT, || {
            self.read(&aside).is_some() && self.read(key).is_some_and(|value| is_good(&value))
        });
    }
}

#[test]
fn what_cannot_be_read_in_the_store_is_put_aside_and_ends_nothing() {
    let [address, http] = [free_address(), free_address()];
    let own = [
        "coordinator",
        "--ranks",
        "2",
        "--name",
        "c0",
        "--internal",
        &address,
    ];
    let apis = ["--grpc", "127.0.0.1:0", "--http", &http];
    let _coordinator = Killed::start(&[&own[..], &apis, &MODEL].concat());
    let worker = |name| {
        Killed::start(&[&["worker", "--store", &address, "--name", name], &MODEL[..]].concat())
    };
    let (_a, _b) = (worker("a"), worker("b"));
    let ask = || {
        wait_until("the group serves", LIMIT, || {
            // Nothing listens until the coordinator does.
            std::net::TcpStream::connect(&http).is_ok()
                && get(&format!("http://{http}/readyz")).status == 200
        });
        let body = json!({"prompt": "x", "max_tokens": 24, "temperature": 0, "ignore_eos": true});
        let answer = post(&format!("http://{http}/v1/completions"), &body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json["choices"][0]["text"].clone()
    };
    let expected = ask();

    let keys = Keys::of(&address);
    let (lead, last) = (records::lead_key("0"), records::last_key("0"));
    let (member, other) = (records::member_key("a"), records::member_key("c"));
    let coordinator = records::coordinator_key("c0");
    let ghosts = [
        records::member_key("ghost"),
        records::coordinator_key("ghost"),
    ];
    let held = [&lead, &last, &member, &other, &coordinator];
    for key in held.into_iter().chain(&ghosts) {
        keys.spoil(key);
    }
    // Nobody has these names, and nobody ever will.
    for ghost in &ghosts {
        let aside = records::quarantine_key(ghost);
        wait_until(ghost, LIMIT, || {
            keys.read(&aside).is_some() && keys.read(ghost).is_none()
        });
    }
    keys.is_mended(&lead, |value| records::read_lead(&lead, value).is_ok());
    keys.is_mended(&last, |value| records::read_lead(&last, value).is_ok());
    keys.is_mended(&member, |value| {
        records::read_member(&member, value).is_ok()
    });
    keys.is_mended(&coordinator, |value| {
        records::read_coordinator(&coordinator, value).is_ok()
    });
    // Nobody has this name, until somebody comes.
    let _c = worker("c");
    keys.is_mended(&other, |value| records::read_member(&other, value).is_ok());
    assert_eq!(ask(), expected);
}
