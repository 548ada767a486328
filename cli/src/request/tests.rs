use clap::Parser as _;

use super::*;
use crate::{args::Typed, exit::Exit};

#[test]
fn a_moment_is_a_time_or_how_long_ago() {
    let now = Timestamp(1_800_000_000_000);
    let at = |text| moment("--since", text).map(|moment| moment.at(now).0).ok();
    assert_eq!(at("2h"), Some(now.0 - 7_200_000));
    assert_eq!(at("2027-01-15T08:00:01Z"), Some(now.0 + 1_000));
    assert_eq!(at("2027-01-15T09:00:01+01:00"), Some(now.0 + 1_000));
    assert_eq!((at("yesterday"), at("2027-01-15")), (None, None));
}

fn meant(line: &str) -> Result<Request, Failure> {
    let words = std::iter::once("convoy").chain(line.split(' '));
    Request::meant(Typed::try_parse_from(words).expect("clap accepts it").command)
}

#[test]
fn what_is_typed_is_checked_before_anything_is_sent() {
    for (line, complaint) in [
        ("token create --node IS-1", "holds 'I'"),
        ("token create --node is-1 --valid 5", "is not a duration"),
        ("token create --node is-1 --valid 0s", "is not between 1s and a year"),
        ("apply d --wait --timeout soon", "--timeout: \"soon\" is not a duration"),
        ("drift restore is-1 ../etc/passwd", "leaves home"),
    ] {
        let failure = meant(line).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{line}");
        assert!(failure.what.contains(complaint), "{line}: {failure}");
    }
}

fn now_and_message(line: &str) -> (Option<String>, String) {
    match meant(line).unwrap() {
        Request::Remote(Remote::Apply(apply)) => {
            assert_eq!(apply.dir, PathBuf::from("d"));
            (apply.now, apply.message)
        }
        Request::Remote(Remote::Rollback(back)) => {
            assert_eq!(back.revision, Some(3));
            (back.now, back.message)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reason_has_one_name_and_its_old_names_still_work() {
    for line in [
        "apply d --now --reason outage",
        "apply --now d --reason outage",
        "apply d --now outage",
        "apply d --now --message outage",
        "apply d --now -m outage",
        "rollback 3 --now --reason outage",
        "rollback --now 3 --reason outage",
        "rollback 3 --now outage",
    ] {
        assert_eq!(now_and_message(line), (Some("outage".into()), "outage".into()), "{line}");
    }
    assert_eq!(now_and_message("apply d --now outage --reason pool"), (Some("outage".into()), "pool".into()));
    for line in ["rollout pause 3 --reason lunch", "rollout pause 3 --why lunch"] {
        assert!(
            matches!(meant(line).unwrap(), Request::Remote(Remote::Steer { why, .. }) if why == "lunch"),
            "{line}"
        );
    }
    for line in ["drift pause is-1 --reason lunch", "drift pause is-1 --why lunch"] {
        assert!(meant(line).is_ok(), "{line}");
    }
}

#[test]
fn whoever_overrides_a_guard_says_why() {
    for line in [
        "apply d --now",
        "rollback 3 --now",
        "rollback --now 3",
        "node restart is-1 --now",
        "node stop is-1 --now --yes",
    ] {
        let failure = meant(line).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{line}");
        assert!(failure.what.contains("needs a reason"), "{line}: {failure}");
    }
    assert!(meant("apply --now").unwrap_err().what.contains("no directory"));
}

#[test]
fn a_timeout_without_waiting_is_a_usage_error() {
    let typed = Typed::try_parse_from(["convoy", "apply", "d", "--timeout", "5m"]);
    assert_eq!(typed.unwrap_err().exit_code(), 2);
}

#[test]
fn starting_a_stopped_node_is_never_asked_about() {
    assert!(matches!(
        meant("node start is-1 --yes --reason disk").unwrap(),
        Request::Remote(Remote::Act { confirm: Confirm::Given, .. })
    ));
    assert!(matches!(
        meant("node stop is-1").unwrap(),
        Request::Remote(Remote::Act { confirm: Confirm::Ask, .. })
    ));
}

#[test]
fn a_role_is_said_and_a_token_is_never_repeated() {
    for (line, complaint) in [
        ("operator add bob", "which role bob gets"),
        ("operator add Bob --role viewer", "holds 'B'"),
        ("operator add bob --role root", "\"root\" is not a role"),
        ("operator add bob --role operator --again", "leaves the role as it is"),
        ("operator set bob --role viewer --group km", "a viewer sees the whole fleet"),
        ("operator set bob --role operator --group K", "holds 'K'"),
        ("join convoy-operator.v1.s3cret", "is cut off"),
        ("join - --name ../x", "cannot be the name of a context"),
        ("context use a/b", "cannot be the name of a context"),
        ("secret grant db --group K", "holds 'K'"),
    ] {
        let failure = meant(line).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{line}");
        assert!(failure.what.contains(complaint), "{line}: {failure}");
        assert!(!format!("{failure}{failure:?}").contains("s3cret"), "{failure:?}");
    }
    assert!(matches!(
        meant("operator add bob --role operator --group km,gateway").unwrap(),
        Request::Remote(Remote::Operator(OperatorAct::Add { grant: Some(grant), .. })) if grant.to_string() == "operator of groups gateway, km"
    ));
    assert!(matches!(
        meant("secret grant db --nobody").unwrap(),
        Request::Remote(Remote::Secret(SecretAct::Grant { groups, .. })) if groups.is_empty()
    ));
}
