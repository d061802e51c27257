//! Sessions whose brokers enrol their clients, over a wire that is played.

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::*;
use crate::model::{ClientKind, Filter, Permission, RouteQueue, Subscription};
use crate::transport::{Call, ClientReply, Presence, PresenceLink, Reply, Routing, ServerCommand};

/// A broker's name and its members.
type Broker = (&'static str, Vec<(u64, Endpoint)>);

/// Name server and brokers.
#[derive(Debug, Default)]
struct Played {
    route: Mutex<Vec<Broker>>,
    joined: Mutex<Vec<Endpoint>>,
    left: Mutex<Vec<Endpoint>>,
    forgotten: Mutex<Vec<Endpoint>>,
    /// How long a broker takes to answer who comes.
    slowness: Duration,
    /// The groups that were told after the handshake.
    told: Arc<Mutex<Vec<Option<Arc<str>>>>>,
    /// Says something to the client at each broker that it has joined.
    says: Mutex<Vec<mpsc::Sender<ServerCommand>>>,
}

impl Routing for Played {
    fn query_route<'a>(&'a self, _: &'a Endpoint, topic: &'a Arc<str>) -> Call<'a, Route> {
        let queue = |(broker, members): &Broker| RouteQueue {
            broker: (*broker).into(),
            id: 0,
            permission: Permission::ReadWrite,
            endpoints: vec![members[0].1.clone()].into(),
            replicas: members.as_slice().into(),
            accepts: Vec::new(),
        };
        let queues = self.route.lock().unwrap().iter().map(queue).collect();
        Box::pin(async move { Ok(Route { topic: Arc::clone(topic), queues }) })
    }
}

impl Presence for Played {
    fn open<'a>(&'a self, at: &'a Endpoint, _: &'a ClientSettings) -> Call<'a, PresenceLink> {
        if at.port() == 1 {
            return Box::pin(async { Err(Error::new(ErrorKind::Unavailable, "nobody is there")) });
        }
        self.joined.lock().unwrap().push(at.clone());
        let (say, said) = mpsc::channel(4);
        self.says.lock().unwrap().push(say);
        let first = stream::iter([Ok(ServerCommand::Settings(ServerSettings::default()))]);
        let later = stream::unfold(said, async |mut said| Some((Ok(said.recv().await?), said)));
        let (replies, replied) = mpsc::channel(1);
        let heard = (replied, Arc::clone(&self.told));
        let answers = stream::unfold(heard, async |(mut replied, told)| {
            if let ClientReply::Settings(settings) = replied.recv().await? {
                told.lock().unwrap().push(settings.group);
            }
            Some((Ok(ServerCommand::Settings(ServerSettings::default())), (replied, told)))
        });
        let commands = Box::pin(first.chain(stream::select(later, answers)));
        Box::pin(async move {
            clock::sleep(self.slowness).await;
            Ok(PresenceLink { commands, replies })
        })
    }

    fn heartbeat<'a>(&'a self, _: &'a Endpoint, _: &'a ClientSettings) -> Call<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn goodbye<'a>(&'a self, at: &'a Endpoint, _: Option<&'a Arc<str>>) -> Call<'a, ()> {
        self.left.lock().unwrap().push(at.clone());
        Box::pin(async { Ok(()) })
    }

    fn forget(&self, at: &Endpoint) {
        self.forgotten.lock().unwrap().push(at.clone());
    }
}

impl Played {
    fn say(&self, command: ServerCommand) {
        self.says.lock().unwrap()[0].try_send(command).unwrap();
    }

    fn joined(&self) -> Vec<String> {
        let mut joined: Vec<_> = self.joined.lock().unwrap().iter().map(ToString::to_string).collect();
        joined.sort_unstable();
        joined
    }
}

fn at(text: &str) -> Endpoint {
    Endpoint::parse(text).unwrap()
}

fn name_server() -> Endpoint {
    at("host:9876")
}

/// Two brokers, one with a slave. The first lives on the host of the name server.
fn played() -> Arc<Played> {
    let played = Played::default();
    *played.route.lock().unwrap() =
        vec![("a", vec![(0, at("host:10911")), (1, at("slave:10911"))]), ("b", vec![(0, at("other:10911"))])];
    Arc::new(played)
}

async fn session(
    wire: &Arc<Played>,
    route_endpoints: RouteEndpoints,
    requests: Option<mpsc::Sender<GroupRequest>>,
) -> Session {
    let subscriptions = vec![Subscription { topic: "t".into(), filter: Filter::all() }];
    let config = SessionConfig {
        wire: Arc::clone(wire) as _,
        access_point: vec![name_server()],
        settings: ClientSettings {
            kind: ClientKind::PullConsumer,
            request_timeout: Duration::from_secs(3),
            group: Some("g".into()),
            subscriptions,
            await_duration: None,
            topics: Vec::new(),
        },
        route_endpoints,
        enrolment: Enrolment::Brokers,
        requests,
        build_timeout: Duration::from_secs(3),
    };
    Session::open(config).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_becomes_known_to_every_member_of_every_broker_and_to_no_name_server() {
    let wire = played();
    let session = session(&wire, RouteEndpoints::Server, None).await;
    assert_eq!(*session.health().borrow(), Health::Connecting);
    clock::sleep(Duration::from_secs(1)).await;
    assert_eq!(wire.joined(), [""; 0], "nothing is known yet");
    let route = session.route(&"t".into()).await.unwrap();
    clock::sleep(Duration::from_secs(1)).await;
    assert_eq!(wire.joined(), ["host:10911", "other:10911", "slave:10911"], "of its own accord");
    session.enrolled(&route).await;
    assert!(session.is_ready(&at("slave:10911")));
    assert!(session.close(Duration::from_secs(5)).await);
    assert_eq!(wire.left.lock().unwrap().len(), 3, "and says goodbye to each");
}

#[tokio::test(start_paused = true)]
async fn what_changes_while_hands_are_shaken_is_told_right_after() {
    let route = played().route.lock().unwrap().clone();
    let wire = Arc::new(Played { route: Mutex::new(route), slowness: Duration::from_secs(1), ..Played::default() });
    let session = session(&wire, RouteEndpoints::Server, None).await;
    session.route(&"t".into()).await.unwrap();
    clock::sleep(Duration::from_millis(500)).await;
    session.update(|settings| settings.group = Some("later".into()));
    clock::sleep(Duration::from_secs(1)).await;
    assert_eq!(*wire.told.lock().unwrap(), vec![Some(Arc::from("later")); 3], "each of three brokers");
}

#[tokio::test(start_paused = true)]
async fn behind_a_proxy_it_becomes_known_once() {
    let wire = played();
    let session = session(&wire, RouteEndpoints::AccessPoint, None).await;
    let route = session.route(&"t".into()).await.unwrap();
    session.enrolled(&route).await;
    assert_eq!(wire.joined(), ["host:9876"]);
    assert_eq!(session.choose(&route.queues[0].endpoints), name_server());
}

#[tokio::test(start_paused = true)]
async fn a_name_server_stands_in_for_no_broker() {
    let wire = played();
    let session = session(&wire, RouteEndpoints::Server, None).await;
    let lost = at("host:1");
    assert!(session.ready(&lost).await.is_err());
    assert_eq!(session.choose(std::slice::from_ref(&lost)), lost, "though both are on one host");
}

#[tokio::test(start_paused = true)]
async fn p17_a_broker_that_moves_is_followed_and_the_old_place_forgotten() {
    let wire = played();
    let session = session(&wire, RouteEndpoints::Server, None).await;
    let topic = "t".into();
    session.enrolled(&session.route(&topic).await.unwrap()).await;
    wire.route.lock().unwrap()[1] = ("b", vec![(0, at("moved:10911"))]);
    session.report(&at("other:10911"), &Error::new(ErrorKind::Unavailable, "gone"));
    clock::sleep(Duration::from_secs(5)).await;
    let route = session.route(&topic).await.unwrap();
    session.enrolled(&route).await;
    assert!(session.is_ready(&at("moved:10911")));
    assert!(!session.is_ready(&at("other:10911")));
    assert!(wire.forgotten.lock().unwrap().contains(&at("other:10911")));
    assert!(!wire.forgotten.lock().unwrap().contains(&at("slave:10911")), "slaves are in use");
}

#[tokio::test(start_paused = true)]
async fn members_that_change_are_told_of() {
    let wire = played();
    let session = session(&wire, RouteEndpoints::Server, None).await;
    let mut changes = session.member_changes();
    session.enrolled(&session.route(&"t".into()).await.unwrap()).await;
    changes.changed().await.unwrap(); // we are one of them now
    clock::sleep(Duration::from_secs(1)).await;
    changes.mark_unchanged();
    wire.say(ServerCommand::MembersChanged);
    changes.changed().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_has_joined_a_group_later_looks_at_its_members() {
    let wire = played();
    let session = session(&wire, RouteEndpoints::Server, None).await;
    session.enrolled(&session.route(&"t".into()).await.unwrap()).await;
    let mut changes = session.member_changes();
    clock::sleep(Duration::from_secs(1)).await;
    changes.mark_unchanged();
    session.update(|settings| settings.group = Some("another".into()));
    assert!(
        clock::timeout(Duration::from_secs(1), changes.changed()).await.is_some(),
        "not every server says so itself"
    );
}

/// A request, and what becomes of it: answered, or refused.
fn positions() -> (GroupRequest, tokio::sync::oneshot::Receiver<bool>) {
    let (tell, told) = tokio::sync::oneshot::channel();
    let reply = Reply::new(move |answer: Option<Vec<_>>| tell.send(answer.is_some()).expect("it is waited for"));
    (GroupRequest::Positions { topic: "t".into(), reply }, told)
}

#[tokio::test(start_paused = true)]
async fn what_a_broker_asks_goes_to_the_consumer_and_is_refused_when_it_cannot_take_it() {
    let wire = played();
    let (sender, mut requests) = mpsc::channel(1);
    let answering = session(&wire, RouteEndpoints::Server, Some(sender)).await;
    answering.enrolled(&answering.route(&"t".into()).await.unwrap()).await;
    let ((first, answered), (second, too_many)) = (positions(), positions());
    wire.say(ServerCommand::Ask(first));
    wire.say(ServerCommand::Ask(second));
    assert!(!too_many.await.unwrap(), "one at a time fits here");
    match requests.recv().await {
        Some(GroupRequest::Positions { reply, .. }) => reply.send(Vec::new()),
        other => panic!("{other:?}"),
    }
    assert!(answered.await.unwrap());

    let silent = played();
    let session = session(&silent, RouteEndpoints::Server, None).await;
    session.enrolled(&session.route(&"t".into()).await.unwrap()).await;
    let (request, refused) = positions();
    silent.say(ServerCommand::Ask(request));
    assert!(!refused.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_dropped_ends_and_says_goodbye() {
    let wire = played();
    let session = session(&wire, RouteEndpoints::Server, None).await;
    session.enrolled(&session.route(&"t".into()).await.unwrap()).await;
    drop(session);
    clock::sleep(Duration::from_secs(1)).await;
    assert_eq!(wire.left.lock().unwrap().len(), 3);
    assert!(wire.says.lock().unwrap().iter().all(mpsc::Sender::is_closed), "no link lives on");
}
