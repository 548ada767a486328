use super::*;
use crate::{ids::NodeName, spec::SecretName};

fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

fn operator(name: &str) -> OperatorName {
    OperatorName::parse(name).unwrap()
}

/// `fleet`, names of groups, or nothing.
fn rules(text: &str) -> ApprovalRules {
    let groups = text.split_whitespace().filter(|word| *word != "fleet").map(group).collect();
    ApprovalRules { fleet: text.contains("fleet"), groups, expires: EXPIRES }
}

/// Names of groups, and `*` for the whole fleet.
fn targets(text: &str) -> Targets {
    let target = |word| if word == "*" { Target::Fleet } else { Target::Group(group(word)) };
    text.split_whitespace().map(target).collect()
}

#[test]
fn a_change_needs_approval_if_what_it_reaches_asks_before_or_after() {
    // (in force, new, reached, why); "-": nothing was applied.
    let table = [
        ("-", "", "km", ""),
        ("-", "fleet", "*", "the fleet asks for approval"),
        ("-", "km", "*", "group km asks for approval"),
        ("", "", "km gateway *", ""),
        ("", "km", "gateway", ""),
        ("km", "km", "gateway", ""),
        ("km", "km", "km", "group km asks for approval"),
        ("km", "km", "gateway km", "group km asks for approval"),
        ("km gateway", "km gateway", "gateway km", "groups gateway, km ask for approval"),
        ("km", "km", "*", "group km asks for approval"),
        ("fleet", "fleet", "gateway", "the fleet asks for approval"),
        // The rule itself begins, moves, and ends.
        ("", "km", "km", "group km asks for approval"),
        ("km", "gateway", "gateway km", "groups gateway, km ask for approval"),
        ("km", "", "km", "group km asks for approval, also for the change that ends this rule"),
        ("fleet", "", "*", "the fleet asks for approval, also for the change that ends this rule"),
        ("fleet", "km", "* km", "the fleet asks for approval"),
        // A change that brings no node and no rule further.
        ("km", "km", "", ""),
        ("fleet", "fleet", "", "the fleet asks for approval"),
    ];
    for (running, next, reached, why) in table {
        let before = (running != "-").then(|| rules(running));
        let found = asked(before.as_ref(), &rules(next), &targets(reached));
        let found = found.map(|asked| asked.to_string()).unwrap_or_default();
        assert_eq!(found, why, "{running:?} to {next:?}, reaching {reached:?}");
    }
}

#[test]
fn what_is_in_no_group_and_foreign_secrets_count_for_groups_that_ask() {
    let of = |target: Target| asked(Some(&rules("km")), &rules("km"), &[target].into()).is_some();
    let secret = SecretName::parse("db").unwrap();
    assert!(of(Target::NoGroup(NodeName::parse("is-9").unwrap())));
    assert!(of(Target::Secret(secret.clone())));
    assert!(of(Target::ForeignSecret { secret: secret.clone(), group: group("km") }));
    assert!(!of(Target::ForeignSecret { secret, group: group("gateway") }));
}

#[test]
fn a_change_of_the_rules_reaches_whom_they_are_about() {
    let table = [
        ("", "", ""),
        ("km", "km", ""),
        ("km", "gateway", "gateway km"),
        ("km", "km fleet", "*"),
        ("fleet", "", "*"),
    ];
    for (before, after, reached) in table {
        assert_eq!(rules(before).reached_by(&rules(after)), targets(reached), "{before:?} to {after:?}");
    }
    let longer = ApprovalRules { expires: 2 * EXPIRES, ..rules("km") };
    assert_eq!(rules("km").reached_by(&longer), targets("*"));
}

const NOW: Timestamp = Timestamp(1_000_000);

fn decided(state: &ProposalState, base: u64, expires: i64) -> [String; 4] {
    let author = operator("alice");
    let expires = Timestamp(NOW.0 + expires);
    let proposed = Proposed { id: ProposalId(3), author: &author, base: Revision(base), expires, state };
    let said =
        |result: Result<(), Undecidable>| result.map_or_else(|why| why.to_string(), |()| "may".to_owned());
    [
        proposed.standing(NOW, Revision(7)).as_str().to_owned(),
        said(proposed.may_approve(&operator("bob"), NOW, Revision(7))),
        said(proposed.may_approve(&author, NOW, Revision(7))),
        said(proposed.may_reject(NOW)),
    ]
}

#[test]
fn only_somebody_else_approves_and_only_what_is_open_and_still_fits() {
    let open = ProposalState::Open;
    let own = "proposal 3 is by alice, and nobody approves their own; somebody else has to";
    assert_eq!(decided(&open, 7, 1), ["open", "may", own, "may"]);
    let outdated = "proposal 3 was made on revision 6, and the newest is 7";
    assert_eq!(decided(&open, 6, 1), ["outdated", outdated, own, "may"]);
    let expired = "proposal 3 has expired; its author can propose it again";
    assert_eq!(decided(&open, 7, 0), ["expired", expired, expired, expired]);
    // What is recorded as expired stays so, whatever a clock says.
    assert_eq!(decided(&ProposalState::Expired, 6, 1), ["expired", expired, expired, expired]);
    let approved = ProposalState::Approved { by: operator("bob"), at: NOW, revision: Revision(7) };
    let done = "proposal 3 was approved by bob already, and is revision 7";
    assert_eq!(decided(&approved, 6, 0), ["approved", done, done, done]);
    let rejected = ProposalState::Rejected { by: operator("bob"), at: NOW, reason: "no".to_owned() };
    let over = "proposal 3 was rejected by bob: no; its author can propose it again";
    assert_eq!(decided(&rejected, 7, 1), ["rejected", over, over, over]);
}
