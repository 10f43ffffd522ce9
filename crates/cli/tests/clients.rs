//! `conclave generate` and `conclave chat` as processes, against a server that never answers.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// What is asked; it goes over the wire as it is.
const QUESTION: &str = "Is anybody there?";

/// Starts a client of a server that has only a socket; returns both once the question has come.
fn asked(command: &str, arguments: &[&str]) -> (Child, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}", server.local_addr().unwrap());
    let mut client = Command::new(env!("CARGO_BIN_EXE_conclave"));
    client.args([command, "--server", &uri]).args(arguments);
    client.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn().unwrap();
    let mut stdin = client.stdin.take().unwrap();
    writeln!(stdin, "{QUESTION}").unwrap();
    drop(stdin);
    let mut connection = server.accept().unwrap().0;
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    while !heard
        .windows(QUESTION.len())
        .any(|part| part == QUESTION.as_bytes())
    {
        let length = connection.read(&mut piece).unwrap();
        assert_ne!(length, 0, "it hung up without asking");
        heard.extend_from_slice(&piece[..length]);
    }
    (client, connection)
}

fn ended(client: Child) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = client.wait_with_output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn an_interrupted_generation_has_the_status_of_an_interruption() {
    let (client, _connection) = asked("generate", &["-"]);
    kill_process(Pid::from_child(&client), Signal::INT).unwrap();
    let (status, said) = ended(client);
    assert_eq!(status, Some(130), "{said}");
    assert!(said.contains("cancelled"), "{said}");
}

#[test]
fn a_question_from_a_pipe_without_an_answer_is_a_failure() {
    let (client, connection) = asked("chat", &[]);
    drop(connection);
    let (status, said) = ended(client);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("without an answer: 1"), "{said}");
}
