//! Whether this host's load balancer takes what is to come.

use super::{
    Check, Outcome,
    facts::{BalancerFact, Judged},
};
use crate::observed::RefusalReason;

/// The one check of a load balancer's node.
pub fn check(fact: &BalancerFact) -> Check {
    Check { name: "balancer", subject: fact.wanted.title().to_owned(), outcome: outcome(fact) }
}

fn outcome(fact: &BalancerFact) -> Outcome {
    let (wanted, fail) =
        (fact.wanted, |reason, why: String, remedy: String| Outcome::Fail { why, remedy, reason });
    match fact.looked_after {
        Some(kind) if kind == wanted => {}
        Some(kind) => {
            let why = format!("the agent of this host looks after {}", kind.title());
            let remedy = format!(
                "correct `kind` of the balancer in fleet.toml, or [balancer] of agent.toml to {wanted}"
            );
            return fail(RefusalReason::CommandNotAllowed, why, remedy);
        }
        None => {
            let why = "the agent of this host looks after no load balancer at this home".to_owned();
            let remedy = format!(
                "add balancer = {{ kind = \"{wanted}\", home = ..., unit = \"{wanted}.service\" }} to agent.toml"
            );
            return fail(RefusalReason::CommandNotAllowed, why, remedy);
        }
    }
    match &fact.config {
        Ok(Judged::Takes) => Outcome::Pass("takes the configuration".to_owned()),
        Ok(Judged::Doubts(words)) => Outcome::Warn {
            why: format!("takes the configuration, and warns: {words}"),
            remedy: "see to what it names; a server whose name is not resolved gets no requests before the next reload"
                .to_owned(),
        },
        Ok(Judged::Refuses(words)) => fail(
            RefusalReason::ConfigInvalid,
            format!("refuses the configuration: {words}"),
            "correct [balancers] in fleet.toml, or the file on this host that it names; `convoy render DIR --balancer \
             NAME` shows the text with these lines"
                .to_owned(),
        ),
        Err(why) => fail(
            RefusalReason::PreflightFailed,
            format!("could not be asked about the configuration: {why}"),
            "install it, or correct `program` in [balancer] of agent.toml".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::Kind;

    #[test]
    fn what_the_program_says_is_told_and_a_host_without_one_refuses() {
        let fact = |looked_after, config| BalancerFact { wanted: Kind::Haproxy, looked_after, config };
        let own = Some(Kind::Haproxy);
        for (fact, told) in [
            (fact(own, Ok(Judged::Takes)), "pass: balancer HAProxy: takes the configuration"),
            (
                fact(
                    own,
                    Ok(Judged::Doubts("could not resolve address 'is1', disabling server.".to_owned())),
                ),
                "warn: balancer HAProxy: takes the configuration, and warns: could not resolve address 'is1'",
            ),
            (
                fact(own, Ok(Judged::Refuses("parsing [/etc/haproxy/haproxy.cfg:7] : no".to_owned()))),
                "fail: balancer HAProxy: refuses the configuration: parsing [/etc/haproxy/haproxy.cfg:7] : no; correct",
            ),
            (fact(own, Err("no such file".to_owned())), "fail: balancer HAProxy: could not be asked"),
            (
                fact(Some(Kind::Nginx), Ok(Judged::Takes)),
                "fail: balancer HAProxy: the agent of this host looks after NGINX;",
            ),
            (
                fact(None, Ok(Judged::Takes)),
                "fail: balancer HAProxy: the agent of this host looks after no load balancer",
            ),
        ] {
            let check = check(&fact);
            let line = format!("{}: {check}", check.outcome.as_str());
            assert!(line.starts_with(told), "{line}");
        }
    }
}
