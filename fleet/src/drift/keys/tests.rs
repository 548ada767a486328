use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> KeyPattern {
    KeyPattern::parse(text).unwrap()
}

fn rules(typed: &[(&str, DriftPolicy)]) -> KeyRules {
    let rule = |(text, policy): &(&str, DriftPolicy)| KeyRule { pattern: pattern(text), policy: *policy };
    KeyRules::of_scopes([typed.iter().map(rule).collect()])
}

#[test]
fn a_pattern_fits_its_key_and_everything_below_it() {
    for (text, fits, fits_not) in [
        ("server.hostname", "server.hostname", "server.hostname2"),
        ("database", "database.shared_db.url", "databases.url"),
        ("database.*.url", "database.shared_db.url", "database.shared_db.pool.url"),
        ("user_store.connection_*", "user_store.connection_url", "user_store.type"),
        ("*.password", "keystore.password", "keystore.primary.password"),
        ("*store.*.pass*rd", "keystore.primary.password", "keystore.primary.alias"),
        ("event_listener", "event_listener[0].id", "event_listeners[0].id"),
        ("event_listener[*].enable", "event_listener[12].enable", "event_listener[12].id"),
        ("event_listener[1]", "event_listener[1].id", "event_listener[11].id"),
        ("'a.b'.c", "'a.b'.c", "a.b.c"),
        ("'a.*'.c", "'a.b.x'.c", "a.b.x.c"),
    ] {
        assert!(pattern(text).fits(fits), "{text} fits {fits}");
        assert!(!pattern(text).fits(fits_not), "{text} does not fit {fits_not}");
    }
}

#[test]
fn what_is_no_pattern_is_said() {
    for (text, why) in [
        ("", "empty"),
        ("a..b", "empty"),
        (".a", "empty"),
        ("a.", "empty"),
        ("*", "every key"),
        ("*.**", "every key"),
        ("a\nb", "control"),
        (&"x".repeat(301), "longer"),
    ] {
        let error = KeyPattern::parse(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text:?}: {error}");
    }
}

#[test]
fn the_nearest_scope_decides_and_in_it_the_most_exact_pattern() {
    let rule = |(text, policy): (&str, DriftPolicy)| KeyRule { pattern: pattern(text), policy };
    let node =
        [("database.*.url", DriftPolicy::Enforce), ("database.shared_db", DriftPolicy::Report)].map(rule);
    let fleet =
        [("database", DriftPolicy::Ignore), ("database.shared_db.url", DriftPolicy::Report)].map(rule);
    let rules = KeyRules::of_scopes([node.to_vec(), fleet.to_vec()]);
    let said = ["database.shared_db.url", "database.shared_db.type", "database.own.type", "server.offset"]
        .map(|key| format!("{key}: {:?}", rules.policy(key)))
        .join("\n");
    let expected = "database.shared_db.url: Some(Enforce)\ndatabase.shared_db.type: Some(Report)\n\
                    database.own.type: Some(Ignore)\nserver.offset: None";
    assert_eq!(said, expected);
}

/// What is written over an edit.
fn written(desired: &str, disk: &str, before: Option<&str>, rules: &KeyRules) -> String {
    keep_edits(desired, disk, before, |key| rules.leaves(key))
}

#[test]
fn an_edit_of_a_key_that_belongs_to_the_host_outlives_what_is_written_over_it() {
    let before = "# ours\n[server]\nhostname = \"a\" # public\noffset = 1\n[cache]\nsize = 10\nttl = 5\n";
    let desired = before.replace("offset = 1", "offset = 2").replace("size = 10", "size = 20");
    let disk =
        "[server]\nhostname='theirs'\noffset=1\n[cache]\nsize = 99\n[cache.more]\nx = 1\n[other]\ny = 1\n";
    let rules = rules(&[("cache", DriftPolicy::Ignore), ("server.hostname", DriftPolicy::Ignore)]);
    let expected = "# ours\n[server]\nhostname = 'theirs' # public\noffset = 2\n[cache]\nsize = 99\n[cache.more]\nx = 1\n";
    assert_eq!(written(&desired, disk, Some(before), &rules).replace("\n\n", "\n"), expected);
}

#[test]
fn what_the_host_has_not_touched_follows_the_fleet_directory() {
    let rules = rules(&[("cache", DriftPolicy::Ignore)]);
    let (before, desired) = ("[cache]\nsize = 10\n", "[cache]\nsize = 20\nttl = 5\n");
    assert_eq!(written(desired, before, Some(before), &rules), desired);
    // Nobody knows what a host was like before: what it has counts, what it lacks is new.
    assert_eq!(written(desired, "[cache]\nsize = 7\n", None, &rules), "[cache]\nsize = 7\nttl = 5\n");
}

#[test]
fn keys_of_lists_are_kept_one_by_one_while_the_list_is_as_long() {
    let desired = "[[listener]]\nid = \"a\"\non = true\n[[listener]]\nid = \"b\"\non = true\n";
    let one = rules(&[("listener[*].on", DriftPolicy::Ignore)]);
    let all = rules(&[("listener", DriftPolicy::Ignore)]);
    let toggled = "[[listener]]\nid = \"x\"\non = true\n[[listener]]\nid = \"b\"\non = false\n";
    let kept = written(desired, toggled, Some(desired), &one);
    assert_eq!(kept, "[[listener]]\nid = \"a\"\non = true\n[[listener]]\nid = \"b\"\non = false\n");
    // Which element is which cannot be told once one is gone: only a rule for the list itself keeps that.
    let shorter = "[[listener]]\nid = \"b\"\non = false\n";
    assert_eq!(written(desired, shorter, Some(desired), &one), desired);
    assert_eq!(
        canonical::flatten(&written(desired, shorter, Some(desired), &all)),
        canonical::flatten(shorter)
    );
    let inline = "listener = [{ id = \"a\", on = false }, { id = \"b\", on = true }]\n";
    let kept = written(desired, inline, Some(desired), &one);
    assert_eq!(kept, desired.replacen("true", "false", 1));
}

#[test]
fn a_table_that_is_kept_never_stands_where_the_server_dies_of_it() {
    // The kept [a.b] may not come before [a], which toml_edit prints where it stood.
    let desired = "[z]\nq = 1\n[a]\nx = 1\n";
    let disk = "[z]\nq = 1\n[a]\nx = 1\n[a.b]\ny = 2\n[a.b.c]\nv = 3\n[n.m]\nw = 4\n";
    let rules = rules(&[("a.b", DriftPolicy::Ignore), ("n", DriftPolicy::Ignore)]);
    let kept = written(desired, disk, Some(desired), &rules);
    assert_eq!(canonical::flatten(&kept), canonical::flatten(disk), "{kept}");
}

#[test]
fn what_is_no_toml_keeps_nothing() {
    let rules = rules(&[("a", DriftPolicy::Ignore)]);
    assert_eq!(written("[a]\nx = 1\n", "[a", None, &rules), "[a]\nx = 1\n");
    assert_eq!(written("[a", "[a]\nx = 1\n", None, &rules), "[a");
}

/// A text with some of a handful of keys that go together.
fn text() -> impl Strategy<Value = String> {
    let keys = ["top", "a.x", "a.y", "a.b.z", "a.b.c.w", "'q.r'.s", "m.n.o"];
    let entries = proptest::collection::vec((0..keys.len(), 0..3u8), 0..8);
    let list = proptest::collection::vec((0..3u8, proptest::option::of(0..3u8)), 0..3);
    (entries, list, any::<bool>()).prop_map(move |(entries, list, headed)| {
        let mut tables: BTreeMap<&str, BTreeMap<&str, u8>> = BTreeMap::new();
        for (at, value) in entries {
            let (table, key) = keys[at].rsplit_once('.').unwrap_or(("", keys[at]));
            tables.entry(table).or_default().insert(key, value);
        }
        let mut out = String::new();
        // In the order of their names no table is opened after one inside it.
        for (table, keys) in tables {
            let headed = headed && !table.is_empty();
            let prefix = if headed || table.is_empty() { String::new() } else { format!("{table}.") };
            out.push_str(&if headed { format!("\n# about\n[{table}]\n") } else { String::new() });
            keys.iter().for_each(|(key, value)| out.push_str(&format!("{prefix}{key} = {value} # {key}\n")));
        }
        for (id, on) in list {
            out.push_str(&format!("[[l.list]]\nid = {id}\n"));
            out.push_str(&on.map_or(String::new(), |on| format!("[l.list.deep]\non = {on}\n")));
        }
        out
    })
}

proptest! {
    #[test]
    fn exactly_what_a_rule_leaves_to_the_host_outlives_a_restore(
        (desired, disk) in (text(), text()),
        left in proptest::sample::subsequence(vec!["top", "a.x", "a.b", "'q.r'", "m", "l.list", "l.list[*].deep"], 0..7),
    ) {
        let rules = rules(&left.iter().map(|text| (*text, DriftPolicy::Ignore)).collect::<Vec<_>>());
        let written = written(&desired, &disk, Some(&desired), &rules);
        let flat = |text: &str| canonical::flatten(text).unwrap();
        let (desired, disk, written) = (flat(&desired), flat(&disk), flat(&written));
        let leaves = |key: &str| rules.leaves(&judged_as(key, (&desired, &disk)));
        let expected: Flat = desired
            .iter().filter(|(key, _)| !leaves(key))
            .chain(disk.iter().filter(|(key, _)| leaves(key)))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        prop_assert_eq!(written, expected);
    }
}
