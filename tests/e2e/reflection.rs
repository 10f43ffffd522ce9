//! Clients that know nothing of us but an address: old ones and new ones ask the server what it is, and
//! whether it serves.

use std::ffi::OsStr;
use std::process::Command;

/// The services of ours that reflection shows; the internal ones are nobody's business.
const SERVICES: [&str; 4] = [
    "conclave.v1.GenerationService",
    "conclave.v1.ModelService",
    "conclave.v1.TokenizerService",
    "grpc.health.v1.Health",
];

/// Runs a program to its end; returns whether it went well, and what it said on both its outputs.
fn said(program: &OsStr, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// As [`said`], and demands that it went well.
fn answered(program: &OsStr, arguments: &[&str]) -> String {
    let (went_well, said) = said(program, arguments);
    assert!(went_well, "{arguments:?}: {said}");
    said
}

/// The lines of a list of services, without those of reflection itself, of which a list names one.
fn services(list: &str) -> Vec<&str> {
    let mut services: Vec<&str> = list.lines().collect();
    services.retain(|name| !name.starts_with("grpc.reflection."));
    services
}

/// grpcurl 1.8.6, of 2022: it knows grpc.reflection.v1alpha alone.
mod old_clients {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use e2e::{Cluster, Setup, signal, tool};
    use rustix::process::Signal;

    use super::{SERVICES, answered, said, services};

    const GRPCURL: &str = "CONCLAVE_TEST_GRPCURL";

    /// Longest wait for a change of health; a stopped worker is given up after some seconds.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn generate<'a>(address: &'a str, body: &'a str) -> Vec<&'a str> {
        let method = "conclave.v1.GenerationService/Generate";
        let options = ["-plaintext", "-max-time", "30", "-d", body];
        [&options[..], &[address, method]].concat()
    }

    #[test]
    fn an_old_client_learns_the_api_from_the_server() {
        let Some(grpcurl) = tool(GRPCURL, "the old client") else {
            return;
        };
        let cluster = Cluster::start(&Setup::mini(1));
        let address = cluster.grpc().trim_start_matches("http://");
        let list = answered(&grpcurl, &["-plaintext", address, "list"]);
        assert_eq!(services(&list), SERVICES);
        let described = [
            "-plaintext",
            address,
            "describe",
            "conclave.v1.StreamParams",
        ];
        let described = answered(&grpcurl, &described);
        assert!(
            described.contains("uint64 resume_after = 6")
                && described.contains("// What happens when"),
            "the fields come with their comments: {described}"
        );
        let body = r#"{"text": "x", "stop": {"max_output_tokens": 2, "ignore_eos": true}}"#;
        let events = answered(&grpcurl, &generate(address, body));
        assert!(events.contains(r#""outputTokens": 2"#), "{events}");
        // The details of an error are messages that only reflection can explain.
        let wrong = r#"{"text": "x", "sampling": {"top_p": 7}}"#;
        let (went_well, error) = said(&grpcurl, &generate(address, wrong));
        assert!(!went_well, "{error}");
        for words in [
            "Code: InvalidArgument",
            r#""domain":"conclave","reason":"FIELD_INVALID""#,
            r#""field":"sampling.top_p""#,
        ] {
            assert!(error.contains(words), "not '{words}': {error}");
        }
    }

    /// A watch of the health, ended when dropped.
    struct Watch {
        child: Child,
        statuses: Receiver<String>,
    }

    impl Watch {
        fn start(cluster: &Cluster, grpcurl: &std::ffi::OsStr, service: &str) -> Self {
            let address = cluster.grpc().trim_start_matches("http://");
            let body = format!(r#"{{"service": "{service}"}}"#);
            let mut watch = Command::new(grpcurl);
            watch.args(["-plaintext", "-d", &body, address]);
            watch.arg("grpc.health.v1.Health/Watch");
            let mut child = watch.stdout(Stdio::piped()).spawn().unwrap();
            let output = BufReader::new(child.stdout.take().unwrap());
            let (sender, statuses) = channel();
            std::thread::spawn(move || {
                for line in output.lines().map_while(Result::ok) {
                    let status = line.trim().strip_prefix("\"status\": \"");
                    let status = status.map(|status| status.trim_end_matches('"').to_owned());
                    drop(status.map(|status| sender.send(status)));
                }
            });
            Self { child, statuses }
        }

        fn next(&self) -> String {
            let next = self.statuses.recv_timeout(PATIENCE);
            next.expect("the health is told")
        }
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }

    #[test]
    fn whoever_watches_the_health_is_told_of_each_change() {
        let Some(grpcurl) = tool(GRPCURL, "the watch of the health") else {
            return;
        };
        let cluster = Cluster::start(&Setup::mini(2));
        let watches = ["", "conclave.v1.GenerationService"]
            .map(|service| Watch::start(&cluster, &grpcurl, service));
        let all = |expected: &str| {
            let heard = watches.each_ref().map(Watch::next);
            assert_eq!(heard, [expected, expected]);
        };
        all("SERVING");
        let worker = cluster.workers()[0];
        signal(worker, Signal::STOP);
        all("NOT_SERVING");
        signal(worker, Signal::CONT);
        all("SERVING");
        let unknown = Watch::start(&cluster, &grpcurl, "conclave.v1.NoService");
        assert_eq!(unknown.next(), "SERVICE_UNKNOWN");
    }
}

/// buf's client, which asks for grpc.reflection.v1 and can be kept from asking for anything older.
mod new_clients {
    use e2e::{Cluster, Setup, tool};

    use super::{SERVICES, answered, said, services};

    const BUF: &str = "CONCLAVE_TEST_BUF";

    /// Its client, speaking gRPC without TLS.
    const CURL: [&str; 4] = ["curl", "--protocol", "grpc", "--http2-prior-knowledge"];

    fn call<'a>(url: &'a str, reflection: &'a str, body: &'a str) -> Vec<&'a str> {
        let rest = ["--reflect-protocol", reflection, "--data", body, url];
        [&CURL[..], &rest].concat()
    }

    #[test]
    fn a_new_client_learns_the_api_from_the_server() {
        let Some(buf) = tool(BUF, "the new client") else {
            return;
        };
        let cluster = Cluster::start(&Setup::mini(1));
        let list = [&CURL[..], &["--list-services", cluster.grpc()]].concat();
        assert_eq!(services(&answered(&buf, &list)), SERVICES);
        let url = format!("{}/conclave.v1.GenerationService/Generate", cluster.grpc());
        let body = r#"{"text": "x", "stop": {"max_output_tokens": 2, "ignore_eos": true}}"#;
        for reflection in ["grpc-v1", "grpc-v1alpha"] {
            let events = answered(&buf, &call(&url, reflection, body));
            assert!(events.contains(r#""outputTokens": 2"#), "{events}");
        }
        let wrong = r#"{"text": "x", "sampling": {"top_p": 7}}"#;
        let (went_well, error) = said(&buf, &call(&url, "grpc-v1", wrong));
        assert!(!went_well && error.contains("invalid_argument"), "{error}");
        assert!(error.contains("google.rpc.BadRequest"), "{error}");
    }
}
