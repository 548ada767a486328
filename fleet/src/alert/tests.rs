//! What is told, when, and what never is. Time is in seconds from the start of a test.

use std::{collections::BTreeSet, fmt::Write as _};

use super::*;
use crate::{
    ids::{ChannelName, GroupName, NodeName, RolloutId},
    observed::ConcernKind,
    time::Timestamp,
};

fn at(seconds: i64) -> Timestamp {
    // A day that shows in texts.
    Timestamp(1_795_910_400_000 + seconds * 1000)
}

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

fn of(rule: Rule, name: &str) -> AlertId {
    AlertId { rule, subject: Subject::Node(node(name)) }
}

fn group(name: &str) -> Place {
    Place::Group(GroupName::parse(name).unwrap())
}

fn held(place: &str, reason: &str) -> Held {
    Held { place: group(place), reason: reason.to_owned() }
}

fn channel(name: &str, least: Severity) -> ChannelRules {
    ChannelRules { name: ChannelName::parse(name).unwrap(), least, first_after: FIRST_AFTER }
}

/// Alerts with one channel that takes every message at once, looked at every second.
struct Bench {
    alerts: Alerts,
    looks: Looks,
    silences: Vec<Silence>,
    channel: ChannelRules,
    reachable: bool,
    now: i64,
    heard: String,
}

impl Bench {
    fn new() -> Self {
        Self {
            alerts: Alerts::default(),
            looks: Looks::default(),
            silences: Vec::new(),
            channel: channel("ops", Severity::Info),
            reachable: true,
            now: 0,
            heard: String::new(),
        }
    }

    /// From now on this is what every look finds.
    fn finds(&mut self, fill: impl FnOnce(&mut Looks)) {
        self.looks = Looks::default();
        fill(&mut self.looks);
    }

    fn until(&mut self, second: i64) {
        while self.now < second {
            self.now += 1;
            self.alerts.look(at(self.now), &self.looks, &self.silences);
            if self.reachable {
                self.deliver();
            }
        }
    }

    fn deliver(&mut self) {
        for message in self.alerts.messages(at(self.now), std::slice::from_ref(&self.channel)).due {
            writeln!(self.heard, "{}s {}", self.now, message.headline("acme")).unwrap();
            self.alerts.told(&message, at(self.now));
        }
    }

    fn heard(&self, expected: &[&str]) {
        assert_eq!(self.heard.lines().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn an_alert_waits_for_its_hold_is_told_once_and_resolved_once() {
    let mut bench = Bench::new();
    bench.finds(|looks| looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited with 1")));
    bench.until(200);
    bench.finds(|_| ());
    bench.until(1_000);
    // 30 s hold and 10 s for what belongs with it; over once it has been over for 60 s, and again 10 s.
    bench.heard(&[
        "41s [critical] acme: Server down: gw-1 (gateway)",
        "271s [over] acme: Server down: gw-1 (gateway)",
    ]);
    assert_eq!(bench.alerts.all().count(), 1, "it is remembered for an hour, since it may flap");
    bench.until(5_000);
    assert_eq!(bench.alerts.all().count(), 0);
}

#[test]
fn a_fleet_says_how_long_something_must_last_and_who_hears_of_it() {
    let mut bench = Bench::new();
    let tuning = Tuning { hold: Some(std::time::Duration::from_secs(120)), severity: Some(Severity::Info) };
    bench.alerts.policy.tuned.insert(Rule::ServerDown, tuning);
    let route = |rule| Route {
        channels: [ChannelName::parse("ops").unwrap()].into(),
        groups: BTreeSet::new(),
        rules: [rule].into(),
        least: Severity::Info,
    };
    bench.alerts.policy.routes = vec![route(Rule::ServerDown)];
    bench.finds(|looks| {
        looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited with 1"));
        looks.hold(of(Rule::DiskLow, "gw-1"), held("gateway", "1 MiB is free"));
    });
    bench.until(400);
    // The route is given up while it lasts: whoever heard of the beginning hears of the end.
    bench.alerts.policy.routes = vec![route(Rule::KeyManager)];
    bench.until(500);
    bench.finds(|_| ());
    bench.until(1_000);
    bench.finds(|looks| looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited with 1")));
    bench.until(2_000);
    bench.heard(&[
        "131s [info] acme: Server down: gw-1 (gateway)",
        "571s [over] acme: Server down: gw-1 (gateway)",
    ]);
}

#[test]
fn what_ends_before_anybody_was_told_is_never_told() {
    let mut bench = Bench::new();
    bench.finds(|looks| looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited with 1")));
    bench.until(25);
    bench.finds(|_| ());
    bench.until(300);
    bench.heard(&[]);
    assert_eq!(bench.alerts.all().count(), 0);
}

#[test]
fn what_is_not_known_neither_begins_nor_ends() {
    let mut bench = Bench::new();
    bench.finds(|looks| looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited with 1")));
    bench.until(100);
    // The node is cut off while its server is down.
    bench.finds(|looks| {
        looks.blind(node("gw-1"), Blindness::Report);
        looks.hold(of(Rule::NodeSilent, "gw-1"), held("gateway", "not heard"));
    });
    bench.until(1_000);
    bench.finds(|_| ());
    bench.until(2_000);
    bench.heard(&[
        "41s [critical] acme: Server down: gw-1 (gateway)",
        "131s [critical] acme: Node silent: gw-1 (gateway)",
        "1071s [over] acme: Server down: gw-1 (gateway)",
        "1071s [over] acme: Node silent: gw-1 (gateway)",
    ]);
}

#[test]
fn what_is_out_of_sight_is_not_raised_when_its_explanation_is_out_of_sight_as_well() {
    let mut bench = Bench::new();
    let down = |looks: &mut Looks| looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "stopped"));
    bench.finds(|looks| {
        down(looks);
        looks.expect(node("gw-1"), Expected { until: at(9_000), why: "a rollout".to_owned() });
    });
    bench.until(100);
    // The coordinator has started again and has heard neither of the node nor of what is being done to it.
    bench.finds(|looks| looks.blind(node("gw-1"), Blindness::Everything));
    bench.until(200);
    bench.heard(&[]);
    bench.finds(down);
    bench.until(300);
    bench.heard(&["211s [critical] acme: Server down: gw-1 (gateway)"]);
}

#[test]
fn what_explains_hides_from_its_first_sign() {
    let mut bench = Bench::new();
    bench.finds(|looks| {
        looks.hold(of(Rule::Unhealthy, "gw-1"), held("gateway", "no port"));
        looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited"));
        looks.hold(of(Rule::CrashLoop, "gw-1"), held("gateway", "5 exits"));
        looks.hold(of(Rule::Unhealthy, "gw-2"), held("gateway", "no port"));
    });
    bench.until(100);
    bench.heard(&[
        "11s [critical] acme: Server keeps ending and is not started any more: gw-1 (gateway)",
        "41s [critical] acme: Server unhealthy: gw-2 (gateway)",
    ]);
}

#[test]
fn a_rollout_that_failed_is_one_message() {
    let mut bench = Bench::new();
    let step = Subject::Step { rollout: RolloutId(12), node: node("is-1") };
    bench.finds(|looks| {
        looks.hold(AlertId { rule: Rule::StepFailed, subject: step }, held("key-manager", "start-failed"));
        looks.hold(of(Rule::AssignmentRefused, "is-1"), held("key-manager", "start-failed"));
        let rollout = AlertId { rule: Rule::RolledBack, subject: Subject::Rollout(RolloutId(12)) };
        looks.hold(rollout, Held { place: Place::Fleet, reason: "is-1 failed".to_owned() });
    });
    bench.until(600);
    bench.heard(&["11s [critical] acme: Rollout rolled back: rollout 12"]);
}

#[test]
fn own_acts_are_expected_until_their_deadline() {
    let mut bench = Bench::new();
    bench.finds(|looks| {
        looks.hold(of(Rule::ServerDown, "is-1"), held("key-manager", "stopped"));
        looks.hold(of(Rule::NodeSilent, "is-2"), held("key-manager", "not heard"));
        for name in ["is-1", "is-2"] {
            looks.expect(node(name), Expected { until: at(300), why: "rollout 3 restarts it".to_owned() });
        }
    });
    bench.until(299);
    bench.heard(&["31s [critical] acme: Node silent: is-2 (key-manager)"]);
    bench.until(400);
    bench.heard(&[
        "31s [critical] acme: Node silent: is-2 (key-manager)",
        "310s [critical] acme: Server down: is-1 (key-manager)",
    ]);
}

#[test]
fn additions_wait_and_only_what_is_critical_is_repeated() {
    let mut bench = Bench::new();
    let both = |looks: &mut Looks| {
        looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited"));
        looks.hold(of(Rule::SecretResidue, "gw-1"), held("gateway", "a password"));
    };
    bench.finds(both);
    bench.until(60);
    bench.finds(|looks| {
        both(looks);
        looks.hold(of(Rule::ServerDown, "gw-2"), held("gateway", "exited"));
    });
    bench.until(20_000);
    bench.heard(&[
        "11s [warning] acme: A secret stands where it should not: gw-1 (gateway)",
        "41s [critical] acme: Server down: gw-1 (gateway)",
        "341s [critical] acme: Server down: gw-2 (gateway)",
        "14741s [critical] acme: still: Server down: gw-1, gw-2 (gateway)",
    ]);
}

#[test]
fn what_is_silenced_or_explained_is_not_repeated() {
    let mut bench = Bench::new();
    bench.finds(|looks| looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited")));
    bench.until(60);
    let reach = Reach::Node(node("gw-1"));
    let (reason, by) = ("disk swap".to_owned(), "alice".to_owned());
    bench.silences.push(Silence { id: 1, reach, rule: None, from: at(60), until: at(20_000), reason, by });
    bench.until(19_999);
    bench.heard(&["41s [critical] acme: Server down: gw-1 (gateway)"]);
    bench.until(20_010);
    bench.heard(&[
        "41s [critical] acme: Server down: gw-1 (gateway)",
        "20000s [critical] acme: still: Server down: gw-1 (gateway)",
    ]);
}

#[test]
fn many_at_once_are_one_message_and_one_end() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..100).map(|number| format!("n-{number}")).collect();
    let places: Vec<String> = (0..8).map(|number| format!("g-{number}")).collect();
    bench.finds(|looks| {
        for (number, name) in names.iter().enumerate() {
            looks.hold(of(Rule::NodeSilent, name), held(&places[number % 8], "not heard"));
        }
    });
    bench.until(600);
    // They come back over two minutes, group by group.
    for returned in 0..8 {
        bench.finds(|looks| {
            for (number, name) in names.iter().enumerate().filter(|(number, _)| returned < number % 8) {
                looks.hold(of(Rule::NodeSilent, name), held(&places[number % 8], "not heard"));
            }
        });
        bench.until(600 + 15 * (i64::try_from(returned).unwrap() + 1));
    }
    bench.until(2_000);
    let places = "g-0, g-1, g-2, g-3, g-4, g-5, g-6, g-7";
    bench.heard(&[
        &format!("31s [critical] acme: 100 alerts: Node silent in {places}"),
        &format!("766s [over] acme: 100 alerts: Node silent in {places}"),
    ]);
}

#[test]
fn a_receiver_that_was_away_gets_one_message_that_is_true_now() {
    let mut bench = Bench::new();
    bench.reachable = false;
    for turn in 0..30 {
        let name = format!("gw-{turn}");
        bench.finds(|looks| looks.hold(of(Rule::ServerDown, &name), held("gateway", "exited")));
        bench.until(240 * (turn + 1));
    }
    bench.reachable = true;
    bench.until(7_400);
    bench.heard(&["7201s [critical] acme: Server down: gw-29 (gateway)"]);
    bench.finds(|_| ());
    bench.until(9_000);
    assert_eq!(bench.heard.lines().count(), 2, "{}", bench.heard);
}

#[test]
fn an_end_that_a_channel_missed_is_told_after_it_began_and_ended_again() {
    let mut bench = Bench::new();
    let down = |looks: &mut Looks| looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited"));
    bench.finds(down);
    bench.until(100);
    bench.reachable = false;
    for turn in 0..2 {
        bench.finds(|_| ());
        bench.until(300 + 400 * turn);
        bench.finds(down);
        bench.until(500 + 400 * turn);
    }
    // It was told that it is down, and it is.
    bench.reachable = true;
    bench.until(1_000);
    bench.reachable = false;
    bench.finds(|_| ());
    bench.until(1_200);
    bench.reachable = true;
    bench.until(2_500);
    let heard: Vec<&str> = bench.heard.lines().collect();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[1].contains("[over]"), "{heard:?}");
}

#[test]
fn a_channel_that_owes_a_message_for_a_day_is_undelivered_and_hears_nothing_of_it() {
    let mut bench = Bench::new();
    bench.reachable = false;
    bench.finds(|looks| looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited")));
    bench.until(60);
    let channels = [bench.channel.clone()];
    assert!(bench.alerts.undelivered(at(86_000), &channels).is_empty());
    let since = bench.alerts.undelivered(at(86_500), &channels);
    assert_eq!(since.get(&bench.channel.name), Some(&at(41)));
    bench.finds(|looks| {
        let subject = Subject::Channel(ChannelName::parse("ops").unwrap());
        let held = Held { place: Place::Fleet, reason: "since yesterday".to_owned() };
        looks.hold(AlertId { rule: Rule::AlertsUndelivered, subject }, held);
    });
    bench.until(120);
    let heard = |name| {
        let due = bench.alerts.messages(at(200), &[channel(name, Severity::Info)]).due;
        due.iter().flat_map(|message| &message.parts).any(|part| part.rule == Rule::AlertsUndelivered)
    };
    assert!(!heard("ops"));
    assert!(heard("mail"));
}

#[test]
fn what_flaps_is_one_alert_until_it_has_settled() {
    // Health that changes every 20 s for an hour.
    let mut bench = Bench::new();
    for turn in 0..90 {
        bench.finds(|looks| looks.hold(of(Rule::Unhealthy, "gw-1"), held("gateway", "no answer")));
        bench.until(40 * turn + 20);
        bench.finds(|_| ());
        bench.until(40 * turn + 40);
    }
    bench.until(6_000);
    assert!(bench.heard.lines().count() <= 3, "{}", bench.heard);
    assert!(bench.heard.lines().count() == 2, "told, and told that it is over: {}", bench.heard);

    // One that lasts for three minutes and is over for three.
    let mut bench = Bench::new();
    for turn in 0..10 {
        bench.finds(|looks| looks.hold(of(Rule::Unhealthy, "gw-1"), held("gateway", "no answer")));
        bench.until(360 * turn + 180);
        bench.finds(|_| ());
        bench.until(360 * turn + 360);
    }
    assert_eq!(bench.heard.lines().count(), 5, "{}", bench.heard);
    bench.until(6_000);
    assert_eq!(bench.heard.lines().count(), 6, "{}", bench.heard);
    assert!(bench.heard.lines().last().unwrap().contains("[over]"), "{}", bench.heard);
}

#[test]
fn an_occurrence_has_no_end_and_several_are_one_message() {
    let mut bench = Bench::new();
    let path = crate::bundle::HomePath::parse("repository/conf/deployment.toml").unwrap();
    let id = AlertId { rule: Rule::DriftRestored, subject: Subject::File { node: node("is-1"), path } };
    for second in [0, 3, 100, 200] {
        bench.until(second);
        bench.finds(|looks| looks.happen(id.clone(), held("key-manager", "edited, restored")));
        bench.until(second + 1);
        bench.finds(|_| ());
    }
    bench.until(30_000);
    let text = "[info] acme: Edited files were restored: is-1 repository/conf/deployment.toml (key-manager)";
    bench.heard(&[&format!("11s {text}"), &format!("311s {text}")]);
    assert_eq!(bench.alerts.all().count(), 0);
}

#[test]
fn a_silence_hides_and_what_outlasts_it_is_told_with_its_age() {
    let mut bench = Bench::new();
    bench.silences.push(Silence {
        id: 7,
        reach: Reach::Node(node("gw-1")),
        rule: None,
        from: at(0),
        until: at(3_600),
        reason: "new disk".to_owned(),
        by: "alice".to_owned(),
    });
    bench.finds(|looks| {
        looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "stopped"));
        looks.hold(of(Rule::ServerDown, "gw-2"), held("gateway", "exited"));
    });
    bench.until(3_599);
    bench.heard(&["41s [critical] acme: Server down: gw-2 (gateway)"]);
    bench.now = 3_600;
    bench.alerts.look(at(3_600), &bench.looks, &bench.silences);
    let message = bench.alerts.messages(at(3_700), &[bench.channel.clone()]).due.remove(0);
    assert!(message.text().contains("gw-1: stopped (since 2026-11-29"), "{}", message.text());
    assert!(message.text().contains("next: convoy node show gw-1"), "{}", message.text());
}

#[test]
fn a_clock_that_jumps_back_delays_nothing_for_long() {
    let mut bench = Bench::new();
    bench.finds(|looks| looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited")));
    bench.until(35);
    bench.now -= 30_000;
    let jumped = bench.now;
    bench.until(jumped + 60);
    assert_eq!(bench.heard.lines().count(), 1, "{}", bench.heard);
    bench.finds(|_| ());
    bench.until(jumped + 60 + 200);
    assert_eq!(bench.heard.lines().count(), 2, "{}", bench.heard);
}

#[test]
fn the_same_state_makes_the_same_delivery_and_another_one_another() {
    let mut bench = Bench::new();
    bench.reachable = false;
    bench.finds(|looks| looks.hold(of(Rule::ServerDown, "gw-1"), held("gateway", "exited")));
    bench.until(60);
    let channels = [bench.channel.clone(), channel("mail", Severity::Warning)];
    let first = bench.alerts.messages(at(60), &channels).due;
    bench.until(90);
    let again = bench.alerts.messages(at(90), &channels).due;
    let ids = |messages: &[Message]| messages.iter().map(|it| it.delivery.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first), ids(&again));
    assert_ne!(first[0].delivery, first[1].delivery);
    bench.finds(|looks| {
        for name in ["gw-1", "gw-2"] {
            looks.hold(of(Rule::ServerDown, name), held("gateway", "exited"));
        }
    });
    bench.until(200);
    let more = bench.alerts.messages(at(200), &channels).due;
    assert_ne!(ids(&first), ids(&more));
}

#[test]
fn a_message_names_ten_and_counts_the_rest() {
    let mut bench = Bench::new();
    bench.reachable = false;
    bench.finds(|looks| {
        for number in 10..25 {
            looks.hold(of(Rule::CrashLoop, &format!("gw-{number}")), held("gateway", "5 exits"));
        }
    });
    bench.until(20);
    let message = bench.alerts.messages(at(20), &[bench.channel.clone()]).due.remove(0);
    assert!(message.headline("acme").ends_with("gw-18, gw-19 and 5 more (gateway)"));
    assert!(message.text().contains("\nand 5 more\n"), "{}", message.text());
    assert_eq!(message.text().lines().count(), 12);
}

#[test]
fn every_rule_has_a_word_a_title_and_terms_that_make_sense() {
    let words: std::collections::BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    assert_eq!(words.len(), Rule::ALL.len());
    for rule in Rule::ALL {
        assert_eq!(Rule::parse(rule.as_str()), Some(rule));
        assert!(!rule.hidden_by().contains(&rule), "{rule} would hide itself");
        assert!(rule.remedy(&Subject::Node(node("is-1"))).starts_with("convoy "), "{rule}");
        for hider in rule.hidden_by() {
            assert!(!hider.hidden_by().contains(&rule), "{rule} and {hider} would hide each other");
            assert_eq!(hider.nature(), Nature::Condition);
        }
    }
}

#[test]
fn every_concern_that_agents_tell_has_a_rule() {
    for (kind, word) in ConcernKind::ALL {
        let rule = Rule::of_concern(&kind).unwrap_or_else(|| panic!("{word}"));
        assert!(rule.as_str() == word || kind == ConcernKind::RestartHeld, "{word} is told by {rule}");
        assert_eq!((ConcernKind::of(word), kind.as_str()), (kind.clone(), word));
    }
    let later = ConcernKind::of("of-a-later-version");
    assert_eq!((Rule::of_concern(&later), later.as_str()), (None, "of-a-later-version"));
}
