//! The official clients as commands; see README.md here.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Starting a virtual machine on a busy machine takes its time; so does building it the first time.
const PATIENCE: Duration = Duration::from_secs(400);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Java,
    Python,
}

/// An official client of one server.
#[derive(Debug, Clone)]
pub(crate) struct Official {
    language: Language,
    access_point: String,
    name_server: Option<String>,
}

impl Official {
    pub(crate) fn new(language: Language, access_point: &str, name_server: Option<&str>) -> Self {
        Self { language, access_point: access_point.to_owned(), name_server: name_server.map(str::to_owned) }
    }

    /// Runs a command to its end, which must be a good one; its lines.
    pub(crate) async fn run(&self, command: &str, arguments: &[&str]) -> Vec<Value> {
        self.start(command, arguments).await
    }

    /// Runs an administrator's command to its end; what it prints.
    pub(crate) async fn mqadmin(&self, command: &str, arguments: &[&str]) -> String {
        let name_server = self.name_server.as_deref().expect("mqadmin needs a name server");
        let mut run = self.script();
        run.args(["mqadmin", command, "-n", name_server]).args(arguments).stdin(Stdio::null());
        let output = tokio::time::timeout(PATIENCE, run.output()).await;
        let output = output.unwrap_or_else(|_| panic!("mqadmin {command}: too slow")).expect("mqadmin");
        let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "mqadmin {command} {arguments:?}: {}\n{errors}\n{out}", output.status);
        format!("{out}{errors}")
    }

    /// As `run`, not waited for yet; dropping the future ends the process.
    pub(crate) fn start(&self, command: &str, arguments: &[&str]) -> impl Future<Output = Vec<Value>> + Send + use<> {
        let what = format!("{:?} {command} {arguments:?}", self.language);
        let output = self.command(command, arguments).stdin(Stdio::null()).output();
        async move {
            let output = tokio::time::timeout(PATIENCE, output).await.unwrap_or_else(|_| panic!("{what}: too slow"));
            lines(&what, &output.unwrap_or_else(|error| panic!("{what}: {error}")))
        }
    }

    /// Starts a member of a group; dropping it ends the process as a crash would.
    pub(crate) fn join(&self, command: &str, arguments: &[&str]) -> Member {
        let what = format!("{:?} {command} {arguments:?}", self.language);
        let spawned = self.command(command, arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{what}: {error}"));
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Member { what, child, lines }
    }

    fn command(&self, command: &str, arguments: &[&str]) -> Command {
        let mut run = self.script();
        run.arg(command).args(arguments);
        let is_remoting = ["remoting-send", "send-compressed", "pull-receive", "pull-member", "push-member"];
        match &self.name_server {
            Some(name_server) if is_remoting.contains(&command) => run.args(["--name-server", name_server]),
            _ => run.args(["--endpoint", &self.access_point]),
        };
        run
    }

    fn script(&self) -> Command {
        let folder = match self.language {
            Language::Java => "java",
            Language::Python => "python",
        };
        let script = format!("{}/tests/interop/{folder}/run.sh", env!("CARGO_MANIFEST_DIR"));
        let mut run = Command::new("bash");
        run.arg(script).kill_on_drop(true);
        run
    }
}

/// An official client that is in a group.
pub(crate) struct Member {
    what: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Member {
    /// What it tells next; `None` when it has left.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("{}: too slow", self.what)).expect("its output")?;
            if line.starts_with('{') {
                return Some(
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{}: {error}: {line}", self.what)),
                );
            }
        }
    }

    /// Tells it to leave; what it tells until it has left.
    pub(crate) async fn leave(&mut self) -> Vec<Value> {
        let mut stdin = self.child.stdin.take().expect("it leaves once");
        stdin.write_all(b"leave\n").await.expect("it reads");
        let mut told = Vec::new();
        while let Some(line) = self.next().await {
            told.push(line);
        }
        let status = self.child.wait().await.expect("an end");
        assert!(status.success(), "{}: {status}", self.what);
        told
    }
}

fn lines(what: &str, output: &Output) -> Vec<Value> {
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{errors}\n{out}", output.status);
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{what}: {error}: {line}"));
    out.lines().filter(|line| line.starts_with('{')).map(parse).collect()
}
