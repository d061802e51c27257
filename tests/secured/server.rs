//! The server, its users, and what each of them may.

use std::sync::OnceLock;
use std::thread;

use rocketmq_stream::{Client, ClientBuilder, Credentials, OutboundMessage};

use crate::cluster_sh;
use crate::support::{numbered, send_all, unique};

/// What the user of the tests knows by heart.
pub(crate) const SECRET: &str = "the right one";
/// Messages in the topic.
pub(crate) const STORED: usize = 20;

/// One topic with messages, and users who may different things.
#[derive(Debug)]
pub(crate) struct Server {
    access_point: String,
    name_server: String,
    pub(crate) authority: String,
    pub(crate) topic: String,
    /// With what the names of all groups begin.
    groups: String,
    /// May read the topic, with any of the groups.
    pub(crate) reader: String,
    /// The same, until that is taken away.
    pub(crate) former: String,
    /// May receive what it may not pull.
    pub(crate) receiver: String,
    /// May send to the topic.
    pub(crate) writer: String,
    /// Is known, and may nothing.
    pub(crate) stranger: String,
}

impl Server {
    /// Made once for all tests.
    pub(crate) fn from_env() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        SERVER.get_or_init(Self::prepare).as_ref()
    }

    fn prepare() -> Option<Self> {
        let start = "ACL=1 TLS=1 tests/apache/cluster.sh";
        let [_, authority] = cluster_sh::from_env(["ADMIN_ACCESS_KEY", "TLS_CA"], start)?;
        let server = Self {
            access_point: cluster_sh::variable("ACCESS_POINT"),
            name_server: cluster_sh::variable("NAME_SERVER"),
            authority: std::fs::read_to_string(authority).expect("the authority's certificate"),
            topic: unique("topic"),
            groups: unique("group"),
            reader: unique("reader"),
            former: unique("former"),
            receiver: unique("receiver"),
            writer: unique("writer"),
            stranger: unique("stranger"),
        };
        server.create();
        Some(server)
    }

    /// As an administrator types it.
    fn create(&self) {
        let Self { topic, groups, reader, former, receiver, writer, stranger, .. } = self;
        let user = |name: &str| words(&["createUser", "-u", name, "-p", SECRET, "-t", "Normal"]);
        mqadmin(vec![
            user(reader),
            user(former),
            user(receiver),
            user(writer),
            user(stranger),
            words(&["updateTopic", "-t", topic, "-r", "2", "-w", "2", "-a", "+message.type=NORMAL"]),
        ]);
        let right = |name: &str, resources: &str, actions: &str| {
            let subject = format!("User:{name}");
            words(&["createAcl", "-s", &subject, "-r", resources, "-a", actions, "-d", "Allow"])
        };
        let reading = format!("Topic:{topic},Group:{groups}*");
        // A right can be given only to somebody who is there.
        mqadmin(vec![
            right(reader, &reading, "Sub,Get"),
            right(former, &reading, "Sub,Get"),
            right(receiver, &reading, "Sub"),
            right(writer, &format!("Topic:{topic}"), "Pub"),
        ]);
    }

    /// A group of one test's own; brokers make it when they first hear of it.
    pub(crate) fn group(&self, name: &str) -> String {
        format!("{}-{name}", self.groups)
    }

    /// Takes away what `former` may.
    pub(crate) async fn take_away(&self) {
        let command = words(&["deleteAcl", "-s", &format!("User:{}", self.former)]);
        tokio::task::spawn_blocking(|| mqadmin(vec![command])).await.expect("no panic");
    }

    /// Of somebody who says that he is `name`.
    pub(crate) fn client_of(&self, name: &str, secret: &str) -> Client {
        self.client(|client| client.credentials(Credentials::new(name, secret)))
    }

    pub(crate) fn client(&self, change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
        let client = Client::builder().access_point(&self.access_point).name_server(&self.name_server);
        change(client).build().expect("a client")
    }

    /// Over TLS, by the name that the certificate is for.
    pub(crate) fn tls_client(&self, change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
        let name_server = format!("https://{}", self.name_server.replace("127.0.0.1", "localhost"));
        let access_point = format!("https://{}", self.access_point.replace("127.0.0.1", "localhost"));
        let client = Client::builder().access_point(access_point).name_server(name_server);
        change(client.credentials(Credentials::new(&self.reader, SECRET))).build().expect("a client")
    }

    /// Sends once for all tests.
    pub(crate) async fn filled(&self) {
        static FILLED: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
        let fill = async || {
            let producer = self.client_of(&self.writer, SECRET).producer().build().await.expect("build");
            send_all(&producer, &self.topic, numbered(STORED)).await;
        };
        FILLED.get_or_init(fill).await;
    }

    pub(crate) fn message(&self) -> OutboundMessage {
        OutboundMessage::new(&self.topic, "m")
    }
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs the server's own mqadmin, several at once: each takes seconds.
fn mqadmin(commands: Vec<Vec<String>>) {
    thread::scope(|scope| {
        for command in &commands {
            scope.spawn(move || {
                let (verb, options) = command.split_first().expect("a verb");
                let mut arguments = vec!["admin", verb, "-c", "DefaultCluster"];
                arguments.extend(options.iter().map(String::as_str));
                cluster_sh::run(&arguments);
            });
        }
    });
}
