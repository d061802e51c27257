//! Which endpoint to talk to: a function of what is known about each.

use crate::model::Endpoint;
use crate::session::RouteEndpoints;

/// What is known about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It answers.
    Ready,
    /// Not tried yet, or the first try is under way.
    Untried,
    /// It did not answer the last time.
    Lost,
}

/// The one to use of several: one that answers before one that was not tried, that before one that is lost.
pub(crate) fn best(candidates: &[Endpoint], reach: impl Fn(&Endpoint) -> Reach) -> Option<Endpoint> {
    candidates.iter().min_by_key(|at| rank(reach(at))).cloned()
}

/// The best endpoint for a broker that is reached at `offered`.
///
/// A proxy behind a port mapping hands out its inner port: when nothing that was offered answers, an access point
/// that differs from it only by the port stands in.
pub(crate) fn choose(
    policy: RouteEndpoints,
    offered: &[Endpoint],
    access_point: &[Endpoint],
    reach: impl Fn(&Endpoint) -> Reach,
) -> Endpoint {
    let offered = match policy {
        RouteEndpoints::Server if !offered.is_empty() => offered,
        _ => access_point,
    };
    let first = best(offered, &reach).unwrap_or_else(|| access_point[0].clone());
    if reach(&first) != Reach::Lost {
        return first;
    }
    let stand_ins: Vec<_> =
        access_point.iter().filter(|at| offered.iter().any(|other| other.host() == at.host())).cloned().collect();
    match best(&stand_ins, &reach) {
        Some(stand_in) if reach(&stand_in) != Reach::Lost => stand_in,
        _ => first,
    }
}

const fn rank(reach: Reach) -> u8 {
    match reach {
        Reach::Ready => 0,
        Reach::Untried => 1,
        Reach::Lost => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Endpoint {
        let (host, port) = text.split_once(':').expect("host:port");
        Endpoint::new(host, port.parse().expect("a port"))
    }

    fn chosen(policy: RouteEndpoints, offered: &[&str], known: &[(&str, Reach)]) -> String {
        let offered: Vec<_> = offered.iter().map(|text| at(text)).collect();
        let access = [at("proxy:30081"), at("other:30081")];
        let reach = |wanted: &Endpoint| {
            known.iter().find(|(text, _)| at(text) == *wanted).map_or(Reach::Untried, |(_, reach)| *reach)
        };
        choose(policy, &offered, &access, reach).to_string()
    }

    #[test]
    fn an_endpoint_that_answers_comes_first() {
        use Reach::{Lost, Ready};
        let server = RouteEndpoints::Server;
        assert_eq!(chosen(server, &["a:1", "b:1"], &[]), "a:1");
        assert_eq!(chosen(server, &["a:1", "b:1"], &[("b:1", Ready)]), "b:1");
        assert_eq!(chosen(server, &["a:1", "b:1"], &[("a:1", Lost)]), "b:1");
        assert_eq!(chosen(server, &["a:1", "b:1"], &[("a:1", Lost), ("b:1", Lost)]), "a:1");
        assert_eq!(chosen(server, &[], &[]), "proxy:30081", "a server that names none is reached where it was reached");
        assert_eq!(
            chosen(server, &[], &[("other:30081", Ready)]),
            "other:30081",
            "by whichever of its addresses answers"
        );
        assert_eq!(chosen(RouteEndpoints::AccessPoint, &["a:1"], &[]), "proxy:30081");
    }

    #[test]
    fn a_wrong_port_of_a_mapped_proxy_falls_back_to_the_access_point() {
        use Reach::{Lost, Ready};
        let server = RouteEndpoints::Server;
        assert_eq!(chosen(server, &["proxy:8081"], &[("proxy:30081", Ready)]), "proxy:8081", "it is tried first");
        assert_eq!(chosen(server, &["proxy:8081"], &[("proxy:8081", Lost), ("proxy:30081", Ready)]), "proxy:30081");
        assert_eq!(
            chosen(server, &["elsewhere:8081"], &[("elsewhere:8081", Lost)]),
            "elsewhere:8081",
            "only by the port"
        );
        assert_eq!(chosen(server, &["proxy:8081"], &[("proxy:8081", Lost), ("proxy:30081", Lost)]), "proxy:8081");
    }
}
