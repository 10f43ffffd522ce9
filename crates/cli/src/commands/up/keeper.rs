//! Keeps one child process alive, and ends it.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child as Process, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::telemetry::LogFormat;
use crate::{Outcome, config};

/// A child that dies as often as this within [`WINDOW`] is given up.
const MAX_DEATHS: usize = 5;

/// See [`MAX_DEATHS`].
const WINDOW: Duration = Duration::from_secs(60);

/// First rest before a child is started again; doubles with each death within [`WINDOW`].
const FIRST_REST: Duration = Duration::from_millis(100);

/// How long a child may take to end after SIGTERM, beside the time for which it lets go on what runs.
const GRACE: Duration = Duration::from_secs(10);

/// The number of the signal that asks a process to end.
const SIGTERM: i32 = Signal::TERM.as_raw();

/// A process to keep alive.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    program: std::path::PathBuf,
    /// Says on its standard output where it listens; others print nothing.
    is_coordinator: bool,
    arguments: Vec<String>,
    /// Variables that would be settings of the child.
    not_inherited: Vec<String>,
    /// How long it may take to end after SIGTERM.
    grace: Duration,
}

impl Child {
    /// Describes a child that runs this very program with a command and `--flag value` pairs, and when
    /// it ends lets go on for `drain` what runs.
    pub(super) fn new(
        (name, command): (&str, &str),
        drain: Duration,
        format: LogFormat,
        arguments: &[(&str, String)],
    ) -> Result<Self, String> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| format!("cannot find this program: {error}"))?;
        let mut all = vec![command.to_owned(), "--with-parent".into()];
        all.extend(["--log-format".into(), format.to_string()]);
        all.extend(
            arguments
                .iter()
                .flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]),
        );
        Ok(Self {
            name: name.into(),
            program,
            is_coordinator: command == "coordinator",
            arguments: all,
            not_inherited: config::settings().variables(),
            grace: drain + GRACE,
        })
    }

    /// Returns the command line, with this program's name first.
    pub(super) fn command_line(&self) -> Vec<String> {
        let program = self.program.display().to_string();
        std::iter::once(program)
            .chain(self.arguments.iter().cloned())
            .collect()
    }

    /// Replaces the value of a flag.
    fn set(&mut self, flag: &str, value: &str) {
        let at = self.arguments.iter().position(|argument| argument == flag);
        if let Some(old) = at.and_then(|at| self.arguments.get_mut(at + 1)) {
            value.clone_into(old);
        }
    }

    fn start(&self) -> Result<Running, String> {
        let mut command = Command::new(&self.program);
        for variable in &self.not_inherited {
            command.env_remove(variable);
        }
        let mut process = command
            .args(&self.arguments)
            // Its end is the child's sign that we are gone; nothing is ever written.
            .stdin(Stdio::piped())
            .stdout(if self.is_coordinator {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            // Ctrl-C reaches a whole process group; the children end when we say so, in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.name))?;
        let stdin = process.stdin.take();
        Ok(Running {
            process,
            _stdin: stdin,
        })
    }
}

struct Running {
    process: Process,
    _stdin: Option<ChildStdin>,
}

impl Running {
    /// Reads the line in which a coordinator says where its internal service listens. What it
    /// prints later is read, too, and forgotten, so that it never waits for us.
    async fn internal_address(&mut self) -> Option<String> {
        let mut lines = BufReader::new(self.process.stdout.take()?).lines();
        let line = lines.next_line().await.ok()??;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let mut words = line.split_whitespace();
        words
            .find_map(|word| word.strip_prefix("internal="))
            .map(str::to_owned)
    }

    /// Asks the process to end, and after the grace kills it.
    async fn end(mut self, child: &Child) -> Outcome {
        let (name, grace) = (&child.name, child.grace);
        let pid = self
            .process
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // It may have just ended by itself; then there is nobody to tell.
            kill_process(pid, Signal::TERM).ok();
        }
        match tokio::time::timeout(grace, self.process.wait()).await {
            // A child that had not yet begun to listen for SIGTERM has simply ended by it.
            Ok(Ok(status)) if status.success() || status.signal() == Some(SIGTERM) => Ok(()),
            Ok(Ok(status)) => Err(format!("{name} ended with {status}")),
            Ok(Err(error)) => Err(format!("cannot wait for {name}: {error}")),
            Err(_) => {
                let killed = self.process.kill().await;
                let killed = killed.map_or_else(|error| format!(" ({error})"), |()| String::new());
                Err(format!(
                    "{name} did not end within {grace:?} and was killed{killed}"
                ))
            }
        }
    }
}

/// Runs a child until `end`; starts it again when it dies, after a rest.
///
/// # Errors
///
/// If it cannot be started, dies too often, or does not end in order. A child with `listens` must
/// live long enough to say where it listens; that is what it is for.
pub(super) async fn keep(
    mut child: Child,
    end: CancellationToken,
    mut listens: Option<oneshot::Sender<String>>,
) -> Outcome {
    let mut deaths: VecDeque<Instant> = VecDeque::new();
    loop {
        let mut running = child.start()?;
        if child.is_coordinator {
            let address = tokio::select! {
                address = running.internal_address() => address,
                () = end.cancelled() => return running.end(&child).await,
            };
            match (address, listens.take()) {
                (Some(address), first) => {
                    // After a restart its workers must find it where it was.
                    child.set("--internal", &address);
                    if let Some(first) = first {
                        drop(first.send(address));
                    }
                }
                (None, Some(_)) => {
                    let status = running.process.wait().await;
                    return Err(died(&child.name, status.ok()));
                }
                // A restart that failed is one death more.
                (None, None) => {}
            }
        }
        let status = tokio::select! {
            status = running.process.wait() => status.ok(),
            () = end.cancelled() => return running.end(&child).await,
        };
        let now = Instant::now();
        deaths.retain(|death| now.duration_since(*death) < WINDOW);
        deaths.push_back(now);
        if deaths.len() >= MAX_DEATHS {
            let why = died(&child.name, status);
            return Err(format!(
                "{why}, for the {}th time within {WINDOW:?}",
                deaths.len()
            ));
        }
        let rest = FIRST_REST * (1 << (deaths.len() - 1));
        tracing::warn!(child = %child.name, status = ?status, ?rest, "child died, starts again");
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = end.cancelled() => return Ok(()),
        }
    }
}

fn died(name: &str, status: Option<ExitStatus>) -> String {
    let how = status.map_or_else(|| "it is not known how".into(), |status| status.to_string());
    format!("{name} ended by itself ({how}); its last words are above")
}
