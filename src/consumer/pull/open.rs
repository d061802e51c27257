//! From a checked plan to a consumer that stands where it shall begin.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use tokio::sync::mpsc;

use crate::assignment::{Candidate, Directory, Rule, SessionDirectory, Watch, check_queues};
use crate::checkpoint::{CheckpointEvent, Committer, CommitterOptions, Ledger, Reach, load_positions};
use crate::clock;
use crate::consumer::hub::Hub;
use crate::consumer::pull::asked;
use crate::consumer::pull::brokers::Brokers;
use crate::consumer::pull::builder::{Plan, PullConsumerBuilder};
use crate::consumer::pull::desk::Desk;
use crate::consumer::pull::events::PullEvent;
use crate::consumer::pull::mailbox::Mailbox;
use crate::consumer::pull::over_session::OverSession;
use crate::consumer::pull::reader::Reader;
use crate::consumer::pull::shared::{CommitAtBrokers, Ends, Shared};
use crate::consumer::pull::start::check_stored;
use crate::consumer::pull::steward::Steward;
use crate::consumer::pull::vigil;
use crate::consumer::pull::{PullConsumer, PullControl};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{
    AccessPoint, Checkpoint, ClientKind, ClientSettings, Endpoint, Filter, FilterKind, MessageQueue, Route,
};
use crate::retry::Backoff;
use crate::session::Connector;
use crate::transport::GroupRequest;

/// A session as the consumer needs it: to the brokers, and to the group.
pub(super) struct Way {
    pub(super) brokers: Arc<dyn Brokers>,
    pub(super) directory: Arc<dyn Directory>,
    /// This client's id in the group's member list.
    pub(super) me: Arc<str>,
    /// The way into the group, past its guard.
    pub(super) gate: Option<Arc<SessionDirectory>>,
    /// What brokers ask of a member.
    pub(super) requests: mpsc::Receiver<GroupRequest>,
}

/// How long the goodbye after a build that failed may take. Nobody waits for an answer longer than 2 s.
const GOODBYE: Duration = Duration::from_secs(3);

/// Requests of brokers that may wait; an administrator asks again.
const ASKED_AT_ONCE: usize = 16;

/// Opens a session and builds the consumer over it: remoting when a name server is set, else gRPC.
pub(super) async fn connect(builder: PullConsumerBuilder, plan: Plan) -> Result<PullConsumer> {
    let connector = Arc::clone(&builder.connector);
    let entrance = |point: &Option<AccessPoint>| point.as_ref().and_then(|point| point.endpoints.first().cloned());
    let way = match (entrance(&connector.name_server), entrance(&connector.access_point)) {
        (Some(name_server), _) => over_remoting(&connector, name_server, &plan, builder.build_timeout).await?,
        (None, Some(_)) if plan.options.is_group => {
            let text = "queues are shared out within a group over remoting only: set `name_server` on the client, e.g. \
                        `localhost:9876`, or choose the queues by `share` or `assign`";
            return Err(unsupported(text, &plan.group));
        }
        (None, Some(access_point)) => over_grpc(&connector, access_point, &plan, builder.build_timeout).await?,
        (None, None) => return Err(Error::config("name_server", "", "is needed here, e.g. `localhost:9876`")),
    };
    let brokers = Arc::clone(&way.brokers);
    let built = builder.build_over(way, plan).await;
    if built.is_err() {
        // It may be a member by now: others would give it queues until the brokers forget it.
        brokers.close(GOODBYE).await;
    }
    built
}

fn settings(connector: &Connector, plan: &Plan, group: Option<Arc<str>>) -> ClientSettings {
    ClientSettings {
        kind: ClientKind::PullConsumer,
        request_timeout: connector.request_timeout(),
        group,
        subscriptions: plan.topics.subscriptions(),
        await_duration: None,
        topics: Vec::new(),
    }
}

/// It enters the group only after it has looked who is in it.
async fn over_remoting(connector: &Connector, name_server: Endpoint, plan: &Plan, limit: Duration) -> Result<Way> {
    let kept = connector.groups.enter(&plan.group, ClientKind::PullConsumer)?;
    let (asks, requests) = mpsc::channel(ASKED_AT_ONCE);
    let (session, wire) = connector.open_remoting(settings(connector, plan, None), Some(asks), limit).await?;
    session.keep(kept);
    let gate = Arc::new(SessionDirectory::new(session.clone(), &wire, name_server));
    Ok(Way {
        me: Arc::clone(wire.client_id()),
        directory: Arc::clone(&gate) as _,
        brokers: Arc::new(OverSession::new(session, wire)),
        gate: Some(gate),
        requests,
    })
}

/// Nobody can be asked who is in the group, and there is no list of members to join.
async fn over_grpc(connector: &Connector, access_point: Endpoint, plan: &Plan, limit: Duration) -> Result<Way> {
    let settings = settings(connector, plan, Some(Arc::clone(&plan.group)));
    let opened = connector.open(settings, limit).await;
    let (session, wire) = opened.map_err(|error| explain_refusal(error, &plan.group))?;
    Ok(Way {
        me: Arc::default(),
        directory: Arc::new(SessionDirectory::new(session.clone(), &wire, access_point)),
        brokers: Arc::new(OverSession::new(session, wire)),
        gate: None,
        requests: mpsc::channel(1).1,
    })
}

/// Apache's proxy knows no pulling clients, and says so in the handshake (protocol.md D.2).
fn explain_refusal(error: Error, group: &Arc<str>) -> Error {
    let texts = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    if !texts.into_iter().any(|error| error.to_string().contains("PULL_CONSUMER")) {
        return error;
    }
    let text = "this server does not serve pulls over gRPC, as Apache RocketMQ's proxy does not: set `name_server` on the \
                client, e.g. `localhost:9876`";
    unsupported(text, group).with_source(error)
}

/// A proxy forwards no question for the names of topics, on either of its ports.
fn no_list(error: Error, group: &Arc<str>) -> Error {
    if error.kind() != ErrorKind::Unsupported {
        return error.in_group(Arc::clone(group));
    }
    let text = "this server does not list topics, as proxies do not: subscribe to each by its name, or set `name_server` \
                to the cluster's own name servers";
    unsupported(text, group).with_source(error)
}

fn unsupported(text: &str, group: &Arc<str>) -> Error {
    Error::new(ErrorKind::Unsupported, text).during(Operation::Pull).in_group(Arc::clone(group))
}

impl PullConsumerBuilder {
    /// The consumer over any session, whatever its wire.
    pub(super) async fn build_over(self, way: Way, plan: Plan) -> Result<PullConsumer> {
        let until = clock::now() + self.build_timeout;
        let left = || until.saturating_duration_since(clock::now());
        let looks = plan.topics.refresh().is_some();
        if looks {
            plan.topics.learn(&way.directory.topics().await.map_err(|error| no_list(error, &plan.group))?);
            way.directory.subscribe(plan.topics.subscriptions());
        }
        let routes = find_topics(&*way.brokers, &plan, self.assigned.as_deref(), left()).await?;
        check_filters(&*way.brokers, &plan, &routes).await?;
        // Before the group is entered: a store that cannot be read makes no stir in it.
        let stored = self.load(&plan, left()).await?;
        if let Some(gate) = &way.gate {
            let (group, subscriptions) = (Arc::clone(&plan.group), plan.topics.subscriptions());
            let candidate = Candidate { group, subscriptions, joins: plan.options.is_group, looks };
            gate.enter_group(&candidate, &routes, left()).await?;
        }
        let watch = self.watch(&way, &plan);
        let shared = self.shared(&way, plan, stored);
        let mailbox = shared.desk.reader();
        let mut steward = Steward::new(Arc::clone(&shared), watch.clone());
        steward.first(left()).await.map_err(|error| error.in_group(Arc::clone(&shared.group)))?;
        way.brokers.tasks().spawn("pull steward", steward.run());
        way.brokers.tasks().spawn("asked by brokers", asked::answer(Arc::downgrade(&shared), way.requests));
        let changes = way.brokers.changes();
        way.brokers.tasks().spawn("pull vigil", vigil::keep(Arc::downgrade(&shared), changes));
        let control = PullControl::new(Arc::clone(&shared), watch);
        Ok(PullConsumer::new(Reader::new(shared, mailbox), control))
    }

    async fn load(&self, plan: &Plan, limit: Duration) -> Result<Checkpoint> {
        let Some(store) = &self.store else { return Ok(Checkpoint::new()) };
        let stored = load_positions(&**store, &plan.group, limit).await?;
        let checked = check_stored(&stored, &plan.options.start, |topic| plan.topics.wants(topic));
        checked.map(|()| stored).map_err(|error| error.in_group(Arc::clone(&plan.group)))
    }

    fn watch(&self, way: &Way, plan: &Plan) -> Watch {
        let rule = match (&self.assigned, plan.share) {
            (Some(queues), _) => return Watch::fixed(queues),
            (None, Some(share)) => Rule::Share(share),
            (None, None) => Rule::Group {
                group: Arc::clone(&plan.group),
                me: Arc::clone(&way.me),
                strategy: Arc::clone(&self.strategy),
            },
        };
        Watch::spawn(way.brokers.tasks(), Arc::clone(&way.directory), Arc::clone(&plan.topics), rule)
    }

    fn shared(&self, way: &Way, plan: Plan, stored: Checkpoint) -> Arc<Shared> {
        let hub: Arc<Hub<PullEvent>> = Arc::default();
        let ledger = Ledger::new(checkpoint_events(&hub));
        let own = stored.iter().map(|(queue, next)| (queue.clone(), next)).collect();
        let target = CommitAtBrokers { group: Arc::clone(&plan.group), brokers: Arc::clone(&way.brokers) };
        let has_mirror = self.store.is_none() || self.mirror;
        let options = CommitterOptions {
            mode: self.mode,
            interval: self.commit_interval,
            store: self.store.clone(),
            target: if has_mirror { Some(Arc::new(target)) } else { None },
            found: stored,
            before: if plan.options.is_once_in_group() { Reach::Everywhere } else { Reach::Durable },
            ..CommitterOptions::new(Arc::clone(&plan.group))
        };
        let committer = Committer::start(way.brokers.tasks(), &ledger, options);
        Arc::new(Shared {
            desk: Desk::new(ledger.clone(), plan.topics, Arc::new(Mailbox::default())),
            group: plan.group,
            brokers: Arc::clone(&way.brokers),
            options: plan.options,
            ledger,
            committer,
            hub,
            ends: Ends::default(),
            own: Mutex::new(own),
            closing: CancellationToken::new(),
            finished: CancellationToken::new(),
        })
    }
}

fn checkpoint_events(hub: &Arc<Hub<PullEvent>>) -> crate::checkpoint::EventHandler {
    let hub = Arc::downgrade(hub);
    Box::new(move |event: CheckpointEvent| {
        if let Some(hub) = hub.upgrade() {
            tracing::debug!(?event, "checkpoint");
            hub.publish(&PullEvent::Checkpoint(event));
        }
    })
}

/// The routes of all topics; a topic that is not there may be there soon, so it is asked for until the time is over.
async fn find_topics(
    brokers: &dyn Brokers,
    plan: &Plan,
    assigned: Option<&[MessageQueue]>,
    limit: Duration,
) -> Result<Vec<Arc<Route>>> {
    let until = clock::now() + limit;
    let mut routes = Vec::new();
    for one in plan.topics.subscriptions() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        loop {
            let found = brokers.route(&one.topic).await.and_then(|route| {
                check_queues(assigned.unwrap_or_default(), &route)?;
                Ok(route)
            });
            let error = match found {
                Ok(route) => break routes.push(route),
                Err(error) => error,
            };
            if error.kind() == ErrorKind::NotFound && !plan.topics.is_named(&one.topic) {
                // It matched, and is read when its broker is there again.
                break;
            }
            let wait = backoff.next(fastrand::f64());
            let may_pass = error.kind().is_transient() || error.kind() == ErrorKind::NotFound;
            if !may_pass || clock::now() + wait > until {
                return Err(error.in_group(Arc::clone(&plan.group)));
            }
            clock::sleep(wait).await;
        }
    }
    Ok(routes)
}

/// An SQL92 filter that does not parse returns everything, so one broker is asked to parse it (trap P22).
async fn check_filters(brokers: &dyn Brokers, plan: &Plan, routes: &[Arc<Route>]) -> Result<()> {
    for route in routes {
        let filter = plan.topics.filter(&route.topic);
        if filter.kind() != FilterKind::Sql92 {
            continue;
        }
        let mut last = Error::new(ErrorKind::Unavailable, "no broker of the topic can be asked to check the filter");
        let mut is_checked = false;
        for (_, endpoints) in route.brokers(|permission| permission.readable()) {
            let at = brokers.choose(&endpoints);
            match brokers.wire().check_filter(&at, &plan.group, &route.topic, &filter).await {
                Ok(()) => is_checked = true,
                Err(error) if error.kind().is_transient() => last = error,
                Err(error) => return Err(about_filter(&error, &route.topic, &filter)),
            }
            if is_checked {
                break;
            }
        }
        if !is_checked {
            return Err(about_filter(&last, &route.topic, &filter).in_group(Arc::clone(&plan.group)));
        }
    }
    Ok(())
}

/// Servers say where in an expression they stumbled, and not always which one it was.
fn about_filter(error: &Error, topic: &Arc<str>, filter: &Filter) -> Error {
    let text = format!("the SQL92 filter `{}` cannot be used: {}", filter.expression(), error.text());
    error.clone().on_topic(Arc::clone(topic)).with_text(text)
}
