//! What follows from what was found, as tables.

use std::path::PathBuf;

use fleet::ids::NodeName;

use super::{
    Form, SetupError, State, Teller,
    found::{Account, Found, FoundConfig, FoundHome, FoundIdentity, FoundServer, FoundUnit, Usable},
    plan::{ConfigStep, DropInStep, EnrolmentStep, Plan, Refusal, UnitStep, Wanted, plan},
};
use crate::config::Config;

fn account(user: &str, user_id: u32) -> Account {
    Account { user: user.to_owned(), user_id, group: None, group_id: user_id }
}

fn home(path: &str) -> FoundHome {
    FoundHome { path: path.to_owned(), owner: account("wso2carbon", 802), server: None, is_pack: true }
}

fn running(path: &str) -> FoundHome {
    let server = FoundServer { pid: 4711, jdk: Some("/opt/java21".into()), unit: None };
    FoundHome { server: Some(server), ..home(path) }
}

fn installed(enabled: bool, active: bool) -> FoundUnit {
    FoundUnit::Installed { enabled, active, user: "wso2carbon".to_owned(), group: String::new() }
}

/// A host on which the package was just installed.
fn fresh() -> Found {
    Found {
        homes: vec![home("/opt/wso2/is")],
        jdks: vec!["/usr/lib/jvm/java-17".into()],
        config: FoundConfig::Absent,
        identity: FoundIdentity::None,
        unit: installed(false, false),
        user: 0,
    }
}

/// The same host after a set-up.
fn set_up() -> Found {
    let usable = Usable {
        homes: vec!["/opt/wso2/is".to_owned()],
        data_dir: "/var/lib/convoy-agent".into(),
        java_home: Some("/usr/lib/jvm/java-17".into()),
        run_user: None,
    };
    Found {
        config: FoundConfig::Usable(usable),
        identity: FoundIdentity::Of { node: "is-1".to_owned() },
        unit: installed(true, true),
        ..fresh()
    }
}

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

fn wanted() -> Wanted {
    Wanted {
        homes: Vec::new(),
        java_home: None,
        data_dir: "/var/lib/convoy-agent".into(),
        token: Some(node("is-1")),
    }
}

fn planned(found: &Found) -> Plan {
    plan(&wanted(), found).unwrap()
}

#[test]
fn a_fresh_host_gets_everything() {
    let plan = planned(&fresh());
    let ConfigStep::Write(text) = &plan.config else { panic!("{plan:?}") };
    let config = Config::parse("agent.toml".as_ref(), text).unwrap();
    assert_eq!(config.homes, ["/opt/wso2/is"]);
    assert_eq!(config.java_home, Some(PathBuf::from("/usr/lib/jvm/java-17")));
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/convoy-agent"));
    assert_eq!(plan.enrolment, EnrolmentStep::Enrol { node: node("is-1") });
    assert_eq!((plan.drop_in.clone(), plan.unit.clone()), (DropInStep::Keep, UnitStep::Start));
    assert_eq!((plan.obstacle(0), plan.is_empty()), (None, false));
}

#[test]
fn a_host_that_was_set_up_has_nothing_to_be_done_whoever_asks() {
    let plan = super::plan::plan(&Wanted { token: None, ..wanted() }, &set_up()).unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!((plan.obstacle(0), plan.obstacle(1000), plan.notes), (None, None, Vec::new()));
    // A token that is not needed is not spent.
    let plan = planned(&set_up());
    assert!(plan.is_empty() && plan.notes[0].contains("the token was not used"), "{plan:?}");
}

#[test]
fn the_file_of_the_package_is_completed_and_keeps_its_comments() {
    let shipped = include_str!("../../../examples/agent.toml").replace("\nhomes =", "\n# homes =");
    let server =
        FoundServer { pid: 1, jdk: Some("/opt/java21".into()), unit: Some("wso2is.service".to_owned()) };
    let homes = vec![FoundHome { server: Some(server), ..home("/opt/wso2/is") }];
    let found = Found { homes, config: FoundConfig::Unfinished { text: shipped.clone() }, ..fresh() };
    let plan = planned(&found);
    let ConfigStep::Complete(text) = &plan.config else { panic!("{plan:?}") };
    let config = Config::parse("agent.toml".as_ref(), text).unwrap();
    assert_eq!(
        (config.homes.as_slice(), config.java_home),
        (["/opt/wso2/is".to_owned()].as_slice(), Some("/opt/java21".into()))
    );
    assert_eq!(config.units.get("/opt/wso2/is").map(String::as_str), Some("wso2is.service"));
    let comments = |text: &str| text.lines().filter(|line| line.starts_with("# ")).count();
    assert_eq!(comments(text), comments(&shipped) - 2, "the two that stood for what is known now");
    // One that says less: what is missing comes before any table.
    let config =
        FoundConfig::Unfinished { text: "data_dir = '/var/lib/x'\n[log]\nlevel = 'warn'\n".to_owned() };
    let ConfigStep::Complete(text) = planned(&Found { config, ..fresh() }).config else { panic!() };
    let config = Config::parse("agent.toml".as_ref(), &text).unwrap();
    assert_eq!((config.homes.len(), config.log.level.as_str()), (1, "warn"));
}

#[test]
fn the_home_is_the_named_one_or_the_running_one_or_the_only_one() {
    let (a, b) = ("/opt/wso2/a", "/opt/wso2/b");
    for (homes, chosen) in [
        (vec![home(a)], Ok(a)),
        (vec![home(a), running(b)], Ok(b)),
        (vec![running(a), running(b)], Err(Refusal::ManyHomes(vec![a.into(), b.into()]))),
        (vec![home(a), home(b)], Err(Refusal::ManyHomes(vec![a.into(), b.into()]))),
        (vec![], Err(Refusal::NoHome)),
        (vec![FoundHome { is_pack: false, ..home(a) }], Err(Refusal::NoPack(a.into()))),
    ] {
        let told = plan(&wanted(), &Found { homes, ..fresh() }).map(|plan| plan.home.path);
        assert_eq!(told, chosen.map(str::to_owned));
    }
    let named = Wanted { homes: vec![a.into(), b.into()], ..wanted() };
    let found = Found { homes: vec![home(a), home(b)], ..fresh() };
    let ConfigStep::Write(text) = plan(&named, &found).unwrap().config else { panic!() };
    assert_eq!(Config::parse("x".as_ref(), &text).unwrap().homes, [a, b]);
    let relative = Wanted { homes: vec!["opt".to_owned()], ..wanted() };
    assert_eq!(plan(&relative, &fresh()), Err(Refusal::Relative("opt".to_owned())));
}

#[test]
fn the_jdk_is_the_named_one_or_that_of_the_running_server_or_one_that_lies_there() {
    let java = |wanted: &Wanted, found: &Found| {
        let ConfigStep::Write(text) = plan(wanted, found).unwrap().config else { panic!() };
        Config::parse("x".as_ref(), &text).unwrap().java_home.map(|path| path.display().to_string())
    };
    let named = Wanted { java_home: Some("/opt/java11".into()), ..wanted() };
    let runs = Found { homes: vec![running("/opt/wso2/is")], ..fresh() };
    let bare = Found { jdks: Vec::new(), ..fresh() };
    assert_eq!(java(&named, &runs).as_deref(), Some("/opt/java11"));
    assert_eq!(java(&wanted(), &runs).as_deref(), Some("/opt/java21"));
    assert_eq!(java(&wanted(), &fresh()).as_deref(), Some("/usr/lib/jvm/java-17"));
    assert_eq!(java(&wanted(), &bare), None);
    assert!(planned(&bare).notes[0].contains("no JDK was found"));
}

#[test]
fn the_unit_runs_as_the_owner_of_the_home() {
    let owned = |owner: Account| Found { homes: vec![FoundHome { owner, ..home("/opt/is") }], ..fresh() };
    let written = |found: &Found| match planned(found).drop_in {
        DropInStep::Write(text) => text.lines().skip(2).collect::<Vec<_>>().join(" "),
        DropInStep::Keep => String::new(),
    };
    assert_eq!(written(&owned(account("wso2carbon", 802))), "");
    assert_eq!(written(&owned(account("tomcat", 91))), "User=tomcat");
    let in_group = Account { group: Some("wso2".to_owned()), ..account("tomcat", 91) };
    assert_eq!(written(&owned(in_group.clone())), "User=tomcat Group=wso2");
    // As it was left by the set-up before.
    let (user, group) = ("tomcat".to_owned(), "wso2".to_owned());
    let unit = FoundUnit::Installed { enabled: true, active: true, user, group };
    assert_eq!(written(&Found { unit, ..owned(in_group) }), "");
    let root = planned(&owned(account("root", 0)));
    assert!(root.notes[0].contains("run as root"), "{:?}", root.notes);
    // A server that another user runs is started by root.
    let mut found = set_up();
    let FoundConfig::Usable(usable) = &mut found.config else { panic!() };
    usable.run_user = Some("wso2carbon".to_owned());
    assert_eq!(written(&found), "User=root");
    assert_eq!(written(&Found { unit: FoundUnit::NoSystemd, ..owned(account("tomcat", 91)) }), "");
}

#[test]
fn a_token_is_spent_only_where_it_helps() {
    let spent = || FoundIdentity::Spent { why: "the certificate of node is-1 expired".to_owned() };
    let of = |node: &str| FoundIdentity::Of { node: node.to_owned() };
    let join = || Ok(EnrolmentStep::Enrol { node: node("is-1") });
    let needs = |why: &str| Ok(EnrolmentStep::NeedsToken { why: why.to_owned() });
    let keeps = |node: &str| Ok(EnrolmentStep::Keep { node: node.to_owned() });
    let other = || Err(Refusal::OtherNode { is: "is-2".to_owned(), token: node("is-1") });
    for (identity, has_token, expected) in [
        (FoundIdentity::None, true, join()),
        (spent(), true, join()),
        (of("is-1"), true, keeps("is-1")),
        (of("is-2"), true, other()),
        (of("is-2"), false, keeps("is-2")),
        (FoundIdentity::None, false, needs("this host has not joined and needs a token")),
        (spent(), false, needs("the certificate of node is-1 expired")),
    ] {
        let token = has_token.then(|| node("is-1"));
        let told = plan(&Wanted { token, ..wanted() }, &Found { identity, ..set_up() });
        assert_eq!(told.map(|plan| plan.enrolment), expected);
    }
}

#[test]
fn the_units_are_started_or_restarted_or_left_alone() {
    let changed = |unit: FoundUnit| Found { unit, identity: FoundIdentity::None, ..set_up() };
    let same = |unit: FoundUnit| Found { unit, ..set_up() };
    for (found, step) in [
        (same(installed(true, true)), Ok(UnitStep::Keep)),
        (same(installed(true, false)), Ok(UnitStep::Start)),
        (same(installed(false, true)), Ok(UnitStep::Start)),
        (changed(installed(true, true)), Ok(UnitStep::Restart)),
        (changed(installed(false, false)), Ok(UnitStep::Start)),
        (changed(FoundUnit::NoSystemd), Ok(UnitStep::NoSystemd)),
        (changed(FoundUnit::NotInstalled), Err(Refusal::NotInstalled)),
    ] {
        assert_eq!(plan(&wanted(), &found).map(|plan| plan.unit), step);
    }
}

#[test]
fn what_needs_root_or_a_token_is_said_before_anything_is_done() {
    let plan = planned(&fresh());
    assert!(matches!(plan.obstacle(1000), Some(Refusal::NotRoot(_))));
    let bare = planned(&Found { unit: FoundUnit::NoSystemd, ..fresh() });
    assert!(matches!(bare.obstacle(1000), Some(Refusal::NotRoot(_))), "files of another user");
    assert_eq!(bare.obstacle(802), None, "the owner needs nobody");
    let without = super::plan::plan(&Wanted { token: None, ..wanted() }, &fresh()).unwrap();
    assert!(matches!(without.obstacle(0), Some(Refusal::NoToken(_))));
}

#[test]
fn a_configuration_that_was_written_before_is_kept_and_differences_are_told() {
    let asked = Wanted {
        homes: vec!["/opt/wso2/is/".to_owned(), "/opt/wso2/am".to_owned()],
        java_home: Some("/opt/java21".into()),
        ..wanted()
    };
    let plan = plan(&asked, &set_up()).unwrap();
    assert_eq!(plan.config, ConfigStep::Keep);
    assert!(plan.notes[0].ends_with("do not name /opt/wso2/am"), "{:?}", plan.notes);
    assert!(plan.notes[1].ends_with("is not /opt/java21"), "{:?}", plan.notes);
    let broken = FoundConfig::Broken { why: "agent.toml is no configuration".to_owned() };
    let refused = super::plan::plan(&wanted(), &Found { config: broken, ..fresh() }).unwrap_err();
    assert!(refused.to_string().starts_with("agent.toml is no configuration; correct"), "{refused}");
}

#[test]
fn a_home_of_somebody_elses_process_does_nothing_to_a_terminal() {
    let hostile = "/opt/\u{1b}]0;owned\u{7}is";
    let mut out = Vec::new();
    let mut teller = Teller { out: &mut out, form: Form::Lines, lines: Vec::new() };
    teller.tell(State::Kept, "home", hostile).unwrap();
    let refused = SetupError::from(Refusal::ManyHomes(vec![hostile.to_owned(), "/opt/b".to_owned()]));
    for text in [String::from_utf8(out).unwrap(), refused.to_string()] {
        assert!(text.contains("owned"), "{text:?}");
        assert!(text.chars().all(|c| !c.is_control() || c == '\n'), "{text:?}");
    }
}
