//! Whether a pull consumer may use a group, by what the brokers know of the group.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Filter, FilterKind, Subscription};
use crate::transport::{ConsumeKind, GroupProfile};

/// Who asks to use a group.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) group: Arc<str>,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Whether it enters the group's list and shares its queues; `assign` and `share` do not (trap P27).
    pub(crate) joins: bool,
    /// Whether it looks for topics: its members may know of different ones for a while.
    pub(crate) looks: bool,
}

/// What one broker told; `None` means that nobody of the group is connected there.
pub(super) type Told = (Arc<str>, Result<Option<GroupProfile>>);

/// What may be wrong, and cannot be told for sure.
#[derive(Debug, Clone)]
pub(crate) enum GroupWarning {
    /// Consumers by lease have used the group: this topic of theirs is there. Those behind a proxy show in no list.
    UsedByLease { group: Arc<str>, retry_topic: Arc<str> },
    /// Consumers that share the group's queues commit the offsets that this one commits too.
    Beside { group: Arc<str>, members: usize },
    /// A broker could not be asked.
    Unchecked { broker: Arc<str>, error: Error },
}

/// Judges what all brokers of the topics told: a group has one way to consume, and one set of subscriptions.
///
/// # Errors
/// `Precondition` when the group is used in another way: joining would take messages from its members, or they from us
/// (traps P21, R22). What no broker could tell is the last transient error, which may pass.
pub(super) fn judge(candidate: &Candidate, told: &[Told]) -> Result<Vec<GroupWarning>> {
    let mut warnings = Vec::new();
    let mut beside: BTreeSet<&str> = BTreeSet::new();
    for (broker, answer) in told {
        match answer {
            Ok(None) => {}
            Ok(Some(profile)) => {
                one_kind(candidate, broker, profile)?;
                if candidate.joins {
                    same_subscriptions(candidate, broker, profile)?;
                } else {
                    beside.extend(profile.members.iter().map(|id| &**id));
                }
            }
            Err(error) => warnings.push(GroupWarning::Unchecked { broker: Arc::clone(broker), error: error.clone() }),
        }
    }
    if !beside.is_empty() {
        warnings.push(GroupWarning::Beside { group: Arc::clone(&candidate.group), members: beside.len() });
    }
    nobody_told(told).map_or(Ok(warnings), Err)
}

/// A broker that is away at the start is passed over: members tell every broker. But one at least has to answer, unless
/// what stands in the way will not pass (no right to ask).
fn nobody_told(told: &[Told]) -> Option<Error> {
    let failures: Option<Vec<&Error>> = told.iter().map(|(_, answer)| answer.as_ref().err()).collect();
    failures?.into_iter().rfind(|error| error.kind().is_transient()).cloned()
}

fn one_kind(candidate: &Candidate, broker: &str, profile: &GroupProfile) -> Result<()> {
    let (theirs, harm) = match profile.consume_kind {
        ConsumeKind::Pull => return Ok(()),
        ConsumeKind::Push => ("a PushConsumer (remoting)", "each would move the offsets that the other reads from"),
        ConsumeKind::Pop => ("a consumer by lease (POP)", "each would skip what the other was given"),
        ConsumeKind::Unknown => ("a consumer of a kind unknown to this version", "it is not known how it reads"),
    };
    let text = format!(
        "a PullConsumer cannot join group {}, which {theirs} uses ({}, seen at {broker}): {harm}; a group has one kind of \
         consumer, so choose a group of its own",
        candidate.group,
        some_of(&profile.members)
    );
    Err(refusal(candidate, text))
}

/// What somebody subscribes to: each topic, with its filter.
type Subscribed<'a> = BTreeSet<(&'a str, String)>;

/// Whether one subscribes to what the other does not; where topics are looked for, which one finds before the other: whether
/// both filter a topic that both know, and not alike.
fn disagree(mine: &Subscribed<'_>, theirs: &Subscribed<'_>, looks: bool) -> bool {
    let know = |them: &Subscribed<'_>, topic: &str| them.iter().any(|(known, _)| *known == topic);
    mine.symmetric_difference(theirs).any(|(topic, _)| !looks || (know(mine, topic) && know(theirs, topic)))
}

fn same_subscriptions(candidate: &Candidate, broker: &str, profile: &GroupProfile) -> Result<()> {
    let mine: Subscribed<'_> =
        candidate.subscriptions.iter().map(|one| (&*one.topic, canonical(&one.filter))).collect();
    // Java's consumers add the topic of their retries by themselves.
    let theirs = profile.subscriptions.iter().filter(|(topic, _)| !topic.starts_with("%RETRY%"));
    let theirs: Subscribed<'_> = theirs.map(|(topic, filter)| (&**topic, canonical(filter))).collect();
    let reads_for_nobody = theirs.is_empty() && !mine.is_empty();
    if !reads_for_nobody && !disagree(&mine, &theirs, candidate.looks) {
        return Ok(());
    }
    let harm = if theirs.is_empty() {
        "they subscribe to nothing (they assign queues by hand), so queues given to them would be read by nobody"
    } else {
        "the broker keeps one set of subscriptions for a group, so members would take messages from each other"
    };
    let text = format!(
        "group {} has members ({}, seen at {broker}) that subscribe to {}, and this consumer subscribes to {}: {harm}; \
         subscribe to the same topics by the same filters, or choose another group",
        candidate.group,
        some_of(&profile.members),
        listed(&theirs),
        listed(&mine)
    );
    Err(refusal(candidate, text))
}

fn refusal(candidate: &Candidate, text: String) -> Error {
    Error::new(ErrorKind::Precondition, text).during(Operation::QueryGroup).in_group(Arc::clone(&candidate.group))
}

/// Filters that mean the same are written the same.
fn canonical(filter: &Filter) -> String {
    let expression = filter.expression().trim();
    match filter.kind() {
        FilterKind::Sql92 => format!("SQL92 `{expression}`"),
        FilterKind::Tag => {
            let tags: BTreeSet<&str> = filter.tags().collect();
            if tags.is_empty() { "*".to_owned() } else { tags.into_iter().collect::<Vec<_>>().join(" || ") }
        }
    }
}

fn listed(subscriptions: &Subscribed<'_>) -> String {
    let shown: Vec<String> = subscriptions.iter().map(|(topic, filter)| format!("{topic} ({filter})")).collect();
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
}

/// Enough ids to find the programs.
fn some_of(members: &[Arc<str>]) -> String {
    const SHOWN: usize = 3;
    let shown = members.iter().take(SHOWN).map(|id| &**id).collect::<Vec<_>>().join(", ");
    match members.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The topics in which Apache's brokers keep what consumers by lease have not settled, in the old and in the new naming.
pub(super) fn lease_topics(group: &str, topic: &str) -> [Arc<str>; 2] {
    [format!("%RETRY%{group}_{topic}").into(), format!("%RETRY%{group}+{topic}").into()]
}

impl fmt::Display for GroupWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UsedByLease { group, retry_topic } => write!(
                f,
                "topic {retry_topic} exists: SimpleConsumers or PushConsumers have used group {group}; if they still do \
                 (a proxy does not show them), they and this PullConsumer skip what the other was given"
            ),
            Self::Beside { group, members } => write!(
                f,
                "{members} members of group {group} share its queues, and commit the offsets that this consumer commits too; \
                 queues that are assigned by hand want a group of their own"
            ),
            Self::Unchecked { broker, error } => {
                write!(f, "who else uses the group could not be asked at {broker}: {error}")
            }
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
