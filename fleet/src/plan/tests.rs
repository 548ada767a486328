use std::fmt::Write as _;

use super::*;
use crate::ids::NodeName;
use crate::spec::{Sources, compose};

pub(super) fn node(layer: &str, files: &[(&str, &str)]) -> ComposedNode {
    let fleet = r#"
name = "one"
[groups.km]
product = "wso2is-7.2"
layers = ["common"]
[nodes.is-1]
group = "km"
host = "h1"
home = "/opt/is"
"#;
    let mut sources = Sources::default();
    sources.0.insert("fleet.toml".into(), fleet.into());
    sources.0.insert("config/common.toml".into(), layer.into());
    for (path, text) in files {
        sources.0.insert(format!("files/km/{path}"), (*text).into());
    }
    let composition = compose(&sources);
    let mut fleet = composition.fleet.unwrap_or_else(|| panic!("{:#?}", composition.findings));
    fleet.nodes.remove(&NodeName::parse("is-1").unwrap()).unwrap()
}

pub(super) fn stored(node: &ComposedNode) -> PlannedNode {
    PlannedNode { bundle: node.bundle.clone(), contents: node.contents.clone() }
}

fn assigned(node: &ComposedNode) -> Base {
    Base::assigned(Some(stored(node)), "its agent is not connected")
}

/// A plan as text that a reviewer can read.
fn show(plan: &NodePlan) -> String {
    let mut out = String::new();
    for file in &plan.files {
        writeln!(out, "{} {} {:?} {:?}", file.path, file.kind.as_str(), file.restart, file.settings).unwrap();
        match &file.diff {
            FileDiff::Unshown(why) => writeln!(out, "  {why:?}").unwrap(),
            FileDiff::Lines { lines, .. } => {
                for line in lines {
                    let mark = match line.kind {
                        LineKind::Hunk | LineKind::Same => ' ',
                        LineKind::Removed => '-',
                        LineKind::Added => '+',
                    };
                    writeln!(out, "  {mark}{}", line.text).unwrap();
                }
            }
        }
    }
    for key in &plan.keys {
        let place = key.place.as_ref().map(|place| format!("{}:{}", place.file, place.line));
        writeln!(out, "{}: {:?} -> {:?} {place:?}", key.key, key.old, key.new).unwrap();
    }
    for setting in &plan.settings {
        writeln!(out, "{}: {:?} -> {:?}", setting.setting, setting.old, setting.new).unwrap();
    }
    writeln!(out, "restart {:?}: {}", plan.restart.class, plan.restart.why.join("; ")).unwrap();
    out
}

fn plan(old: &ComposedNode, new: &ComposedNode) -> String {
    show(&compare(&assigned(old), new))
}

#[test]
fn equal_bundles_change_nothing() {
    let node = node("[server]\nhostname = \"a\"\n", &[]);
    let plan = compare(&assigned(&node), &node);
    assert!(plan.is_empty());
    assert_eq!(plan.restart.class, RestartClass::None);
}

#[test]
fn a_key_change_shows_its_place_and_restarts() {
    let old = node("[server]\nhostname = \"a\"\n\n[super_admin]\npassword = \"first\"\n", &[]);
    let new = node("[server]\nhostname = \"b\"\n\n[super_admin]\npassword = \"second\"\n", &[]);
    insta::assert_snapshot!(plan(&old, &new), @r#"
    repository/conf/deployment.toml changed Restart []
       @@ -1,7 +1,7 @@
       # Node is-1 of fleet one, composed by Convoy. Edits here are undone: change the fleet directory.
       
       [server]
      -hostname = "a"
      +hostname = "b"
       
       [super_admin]
      -password = "********"
      +password = "********"
    server.hostname: Some("\"a\"") -> Some("\"b\"") Some("config/common.toml:2")
    super_admin.password: Some("********") -> Some("********") Some("config/common.toml:5")
    restart Restart: repository/conf/deployment.toml changes
    "#);
}

#[test]
fn comments_and_order_change_bytes_but_restart_nothing() {
    let old = node("[server]\nhostname = \"a\"\nnode_ip = \"1\"\n", &[]);
    let new = node("# why\n[server]\nnode_ip = '1'\nhostname = \"a\"\n", &[]);
    let plan = compare(&assigned(&old), &new);
    assert_eq!(plan.files.len(), 1);
    assert_eq!(plan.files[0].restart, RestartClass::None);
    assert!(plan.keys.is_empty());
    assert_eq!((plan.restart.class, plan.restart.why.len()), (RestartClass::None, 0));
}

#[test]
fn log4j2_is_hot_and_keystores_are_never_shown() {
    let (log, store) = ("repository/conf/log4j2.properties", "repository/resources/security/a.jks");
    let old = node("", &[(log, "rootLogger.level = INFO\n"), (store, "one")]);
    let live = node("", &[(log, "rootLogger.level = DEBUG\n"), (store, "one")]);
    assert_eq!(compare(&assigned(&old), &live).restart.class, RestartClass::Hot);
    let phased = node("", &[(log, "rootLogger.level = INFO\n"), (store, "two")]);
    insta::assert_snapshot!(plan(&old, &phased), @r"
    repository/resources/security/a.jks changed Phased []
      Secret
    restart Phased: repository/resources/security/a.jks changes
    ");
}

#[test]
fn no_secret_survives_in_any_form() {
    let secret = "hunter2hunter2";
    let layer = |tail: &str| {
        format!(
            "[database.shared_db]\nurl = \"jdbc:mysql://root:{secret}@db/x?password={secret}\"\npassword = \"{secret}\"\n\
             [secrets]\n\"a.b\" = \"[{secret}]\"\n[x]\nclient_secret = \"\"\"\n{secret}\nmore{secret}\"\"\"\n\
             # password = \"{secret}\"\ninline = {{ key = \"{secret}\" }}\n[[y]]\n'api-token' = [\n  \"{secret}\",\n]\n{tail}"
        )
    };
    let xml = format!("<a>\n  <Password encoded=\"no\">{secret}</Password>\n</a>\n");
    let properties = format!("truststore.password={secret}\npassword: {secret}\n");
    let files: &[(&str, &str)] = &[("conf/a.xml", &xml), ("conf/b.properties", &properties)];
    let new = node(&layer("z = 1\n"), files);
    let changed = node(&layer("z = 2\n").replace(secret, "hunter3hunter3"), files);
    let nothing = Base::assigned(None, "no agent has joined");
    for plan in [compare(&nothing, &new), compare(&assigned(&new), &changed)] {
        let text = format!("{plan:?}");
        assert!(!text.contains("hunter"), "{text}");
        assert!(text.contains(MASK));
    }
}

#[test]
fn a_password_that_becomes_a_reference_shows_the_reference() {
    let old = node("[super_admin]\npassword = \"plain\"\n", &[]);
    let new = node("[super_admin]\npassword = \"$secret{admin}\"\n", &[]);
    let plan = compare(&assigned(&old), &new);
    assert_eq!(plan.keys[0].old.as_deref(), Some(MASK));
    assert_eq!(plan.keys[0].new.as_deref(), Some("\"$secret{admin}\""));
}

#[test]
fn a_diff_shows_400_lines_and_says_how_many_more_there_are() {
    let file = "repository/conf/log4j2.properties";
    let text =
        |word: &str| (0..500).map(|line| format!("logger.l{line}.level = {word}\n")).collect::<String>();
    let (old, new) = (text("INFO"), text("DEBUG"));
    let plan = compare(&assigned(&node("", &[(file, &old)])), &node("", &[(file, &new)]));
    let FileDiff::Lines { lines, omitted } = &plan.files[0].diff else { panic!("{}", show(&plan)) };
    // Each of 500 lines twice, and the line that says where they stand.
    assert_eq!((lines.len(), *omitted), (400, 601));
}
