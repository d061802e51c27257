//! Who consumes at one broker: the members of each group as their heartbeats say (protocol.md E.4, E.11).
//!
//! What a group subscribes to and how is kept once per group: the last heartbeat wins, so members that differ take each
//! other's topics away, as on Apache.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::content::Millis;
use crate::model::Filter;

/// The number of a connection to a broker. It is never used again.
pub(crate) type ConnectionId = u64;

/// What a member is told when its group has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notify {
    pub(crate) connection: ConnectionId,
    pub(crate) group: Arc<str>,
}

/// One topic of a group's subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubscriptionData {
    pub(crate) topic: Arc<str>,
    pub(crate) filter: Filter,
    /// When its client made it, in milliseconds.
    pub(crate) version: i64,
}

/// How a group consumes, as one heartbeat says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerData {
    pub(crate) group: Arc<str>,
    /// `CONSUME_ACTIVELY` (pull), `CONSUME_PASSIVELY` (push) or `CONSUME_POP`.
    pub(crate) consume_type: String,
    /// `CLUSTERING` or `BROADCASTING`.
    pub(crate) message_model: String,
    pub(crate) from_where: String,
    pub(crate) subscriptions: Vec<SubscriptionData>,
}

/// One client, by its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) client_id: Arc<str>,
    pub(crate) address: String,
    pub(crate) language: String,
    pub(crate) version: i32,
    pub(crate) seen: Millis,
}

/// One group at one broker.
#[derive(Debug, Default)]
pub(crate) struct GroupMembers {
    pub(crate) consume_type: String,
    pub(crate) message_model: String,
    pub(crate) from_where: String,
    pub(crate) subscriptions: BTreeMap<Arc<str>, SubscriptionData>,
    pub(crate) members: BTreeMap<ConnectionId, Member>,
}

impl GroupMembers {
    /// The topics of a heartbeat replace those that were; `true`: one came or went.
    fn subscribe(&mut self, wanted: Vec<SubscriptionData>) -> bool {
        let before = self.subscriptions.len();
        self.subscriptions.retain(|topic, _| wanted.iter().any(|subscription| subscription.topic == *topic));
        let mut changed = self.subscriptions.len() < before;
        for subscription in wanted {
            let topic = Arc::clone(&subscription.topic);
            let known = self.subscriptions.get(&topic);
            changed |= known.is_none();
            if known.is_none_or(|known| known.version < subscription.version) {
                self.subscriptions.insert(topic, subscription);
            }
        }
        changed
    }

    /// Members of a broadcasting group read every queue and need not hear of each other.
    fn notices(&self, group: &Arc<str>) -> Vec<Notify> {
        if self.message_model == "BROADCASTING" {
            return Vec::new();
        }
        self.members.keys().map(|connection| Notify { connection: *connection, group: Arc::clone(group) }).collect()
    }
}

/// The groups of one broker.
#[derive(Debug, Default)]
pub(crate) struct Members {
    groups: BTreeMap<Arc<str>, GroupMembers>,
}

impl Members {
    /// A member is there. Everyone of the group hears of a connection that is new, the new one too, and of topics that
    /// came or went. A connection has one client id in a group: another one takes its place, and nobody hears of it.
    pub(crate) fn heartbeat(&mut self, connection: ConnectionId, member: Member, data: ConsumerData) -> Vec<Notify> {
        let group = self.groups.entry(Arc::clone(&data.group)).or_default();
        (group.consume_type, group.message_model) = (data.consume_type, data.message_model);
        group.from_where = data.from_where;
        let joined = group.members.insert(connection, member).is_none();
        let changed = group.subscribe(data.subscriptions);
        if joined || changed { group.notices(&data.group) } else { Vec::new() }
    }

    /// Goodbye of one group on one connection.
    pub(crate) fn unregister(&mut self, connection: ConnectionId, group: &str) -> Vec<Notify> {
        self.remove(|name, its_connection, _| **name == *group && its_connection == connection)
    }

    /// The connection is gone.
    pub(crate) fn close(&mut self, connection: ConnectionId) -> Vec<Notify> {
        self.remove(|_, its_connection, _| its_connection == connection)
    }

    /// Forgets members that were silent since before `since`.
    pub(crate) fn sweep(&mut self, since: Millis) -> Vec<Notify> {
        self.remove(|_, _, member| member.seen < since)
    }

    /// Removes members; those that stay hear of it, and a group without members is forgotten.
    fn remove(&mut self, gone: impl Fn(&Arc<str>, ConnectionId, &Member) -> bool) -> Vec<Notify> {
        let mut notices = Vec::new();
        self.groups.retain(|name, group| {
            let before = group.members.len();
            group.members.retain(|connection, member| !gone(name, *connection, member));
            if group.members.len() < before {
                notices.extend(group.notices(name));
            }
            !group.members.is_empty()
        });
        notices
    }

    pub(crate) fn group(&self, group: &str) -> Option<&GroupMembers> {
        self.groups.get(group)
    }

    /// The client ids of a group, by age of their connections; one id may be there twice. `None`: nobody.
    pub(crate) fn ids(&self, group: &str) -> Option<Vec<Arc<str>>> {
        let members = &self.groups.get(group)?.members;
        Some(members.values().map(|member| Arc::clone(&member.client_id)).collect())
    }

    /// The newest connection of a client.
    pub(crate) fn connection(&self, group: &str, client_id: &str) -> Option<ConnectionId> {
        let members = &self.groups.get(group)?.members;
        members.iter().rev().find(|(_, member)| *member.client_id == *client_id).map(|(connection, _)| *connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, seen: Millis) -> Member {
        Member { client_id: id.into(), address: "127.0.0.1:1".into(), language: "RUST".into(), version: 479, seen }
    }

    fn data(group: &str, topics: &[(&str, i64)]) -> ConsumerData {
        let subscription = |(topic, version): &(&str, i64)| SubscriptionData {
            topic: (*topic).into(),
            filter: Filter::all(),
            version: *version,
        };
        ConsumerData {
            group: group.into(),
            consume_type: "CONSUME_ACTIVELY".into(),
            message_model: "CLUSTERING".into(),
            from_where: "CONSUME_FROM_LAST_OFFSET".into(),
            subscriptions: topics.iter().map(subscription).collect(),
        }
    }

    fn told(notices: &[Notify]) -> Vec<ConnectionId> {
        notices.iter().map(|notice| notice.connection).collect()
    }

    #[test]
    fn all_members_hear_of_a_join_and_of_a_leave_but_not_of_a_repeated_heartbeat() {
        let mut members = Members::default();
        assert_eq!(told(&members.heartbeat(1, member("a", 0), data("g", &[("t", 1)]))), [1]);
        assert_eq!(told(&members.heartbeat(2, member("b", 0), data("g", &[("t", 1)]))), [1, 2]);
        assert!(members.heartbeat(2, member("b", 5), data("g", &[("t", 1)])).is_empty());
        assert_eq!(members.ids("g").unwrap(), ["a".into(), "b".into()]);
        assert!(members.unregister(1, "other").is_empty());
        assert_eq!(told(&members.unregister(1, "g")), [2]);
        assert!(members.close(2).is_empty());
        assert!(members.ids("g").is_none() && members.group("g").is_none(), "the group is forgotten");
    }

    #[test]
    fn p28_a_connection_has_one_client_id_and_the_last_one_wins_in_silence() {
        let mut members = Members::default();
        members.heartbeat(1, member("first", 0), data("g", &[("t", 1)]));
        assert!(members.heartbeat(1, member("second", 0), data("g", &[("t", 1)])).is_empty());
        assert_eq!(members.ids("g").unwrap(), ["second".into()]);
    }

    #[test]
    fn one_id_on_two_connections_is_listed_twice_and_reached_on_the_newer() {
        let mut members = Members::default();
        members.heartbeat(1, member("a", 0), data("g", &[]));
        members.heartbeat(2, member("a", 0), data("g", &[]));
        assert_eq!(members.ids("g").unwrap(), ["a".into(), "a".into()]);
        assert_eq!((members.connection("g", "a"), members.connection("g", "b")), (Some(2), None));
    }

    #[test]
    fn members_that_subscribe_differently_take_each_others_topics_away() {
        let mut members = Members::default();
        members.heartbeat(1, member("a", 0), data("g", &[("t", 1)]));
        assert_eq!(told(&members.heartbeat(1, member("a", 0), data("g", &[("t", 1), ("u", 1)]))), [1]);
        assert_eq!(told(&members.heartbeat(1, member("a", 0), data("g", &[("u", 1)]))), [1], "one went");
        assert_eq!(told(&members.heartbeat(1, member("a", 0), data("g", &[("t", 1)]))), [1], "one went, one came");
        members.heartbeat(2, member("b", 0), data("g", &[("v", 1)]));
        let topics: Vec<_> = members.group("g").unwrap().subscriptions.keys().cloned().collect();
        assert_eq!(topics, ["v".into()]);
    }

    #[test]
    fn a_newer_version_of_a_subscription_replaces_it_without_a_notice() {
        let mut members = Members::default();
        members.heartbeat(1, member("a", 0), data("g", &[("t", 5)]));
        let with = |expression: &str, version| {
            let mut data = data("g", &[("t", version)]);
            data.subscriptions[0].filter = Filter::tag(expression);
            data
        };
        assert!(members.heartbeat(1, member("a", 0), with("old", 4)).is_empty());
        assert!(members.heartbeat(1, member("a", 0), with("same", 5)).is_empty());
        assert_eq!(members.group("g").unwrap().subscriptions["t"].filter.expression(), "*");
        assert!(members.heartbeat(1, member("a", 0), with("new", 6)).is_empty());
        assert_eq!(members.group("g").unwrap().subscriptions["t"].filter.expression(), "new");
    }

    #[test]
    fn a_silent_member_is_forgotten_and_the_others_hear_of_it() {
        let mut members = Members::default();
        members.heartbeat(1, member("a", 10), data("g", &[]));
        members.heartbeat(2, member("b", 20), data("g", &[]));
        assert!(members.sweep(10).is_empty());
        assert_eq!(told(&members.sweep(11)), [2]);
    }

    #[test]
    fn a_closed_connection_leaves_all_its_groups() {
        let mut members = Members::default();
        for group in ["g", "h"] {
            members.heartbeat(1, member("a", 0), data(group, &[]));
            members.heartbeat(2, member("b", 0), data(group, &[]));
        }
        let notices = members.close(1);
        assert_eq!(told(&notices), [2, 2]);
        assert_eq!((&*notices[0].group, &*notices[1].group), ("g", "h"));
    }

    #[test]
    fn members_of_a_broadcasting_group_hear_nothing() {
        let mut members = Members::default();
        let data = ConsumerData { message_model: "BROADCASTING".into(), ..data("g", &[]) };
        assert!(members.heartbeat(1, member("a", 0), data).is_empty());
    }
}
