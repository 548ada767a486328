//! What the programs say and keep on their hosts, read for the agent.

use std::collections::BTreeMap;

use super::Kind;
use crate::foreign::printable;

/// Of what a program says about a configuration, this much is told, bytes.
const WORDS_MAX: usize = 600;
/// Sentences of a program that are told.
const SENTENCES_MAX: usize = 3;

/// Why a program refuses a configuration, in its own words: its log in `said` without what surrounds them. Where it
/// names `candidate`, the file that it was shown, `target` is named, where that content goes.
pub fn refusal(kind: Kind, said: &str, (candidate, target): (&str, &str)) -> String {
    let is_error = |line: &&str| match kind {
        Kind::Haproxy => line.starts_with("[ALERT]"),
        Kind::Nginx => line.contains("[emerg]") || line.contains("[alert]") || line.contains("[crit]"),
    };
    // HAProxy ends with sentences that say only that there were errors.
    let is_sum = |line: &&str| line.contains("Error(s) found in") || line.contains("Fatal errors found in");
    let mut sentences: Vec<String> = said
        .lines()
        .map(str::trim)
        .filter(is_error)
        .filter(|line| !is_sum(line))
        .map(|line| bare(kind, line).replace(candidate, target))
        .collect();
    if sentences.is_empty() {
        sentences.extend(said.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    told(sentences)
}

/// What a program has against a configuration that it takes, in its own words; `None`: nothing.
pub fn doubts(kind: Kind, said: &str, (candidate, target): (&str, &str)) -> Option<String> {
    let is_doubt = |line: &&str| match kind {
        Kind::Haproxy => line.starts_with("[WARNING]"),
        Kind::Nginx => line.contains("[warn]"),
    };
    let lines = said.lines().map(str::trim).filter(is_doubt);
    let sentences: Vec<String> = lines.map(|line| bare(kind, line).replace(candidate, target)).collect();
    (!sentences.is_empty()).then(|| told(sentences))
}

/// Some sentences of a program, in bounds and printable.
fn told(mut sentences: Vec<String>) -> String {
    sentences.dedup();
    let more = sentences.len().saturating_sub(SENTENCES_MAX);
    sentences.truncate(SENTENCES_MAX);
    let mut text = printable(&sentences.join("; ")).into_owned();
    if text.is_empty() {
        "it said nothing".clone_into(&mut text);
    }
    if WORDS_MAX < text.len() {
        let end = (0..=WORDS_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" ...");
    }
    if 0 < more { format!("{text}; and {more} more") } else { text }
}

/// `[ALERT] (123) : config : parsing ...` and `nginx: [emerg] unknown ...` without their heads.
fn bare(kind: Kind, line: &str) -> &str {
    let rest = match kind {
        Kind::Haproxy => line.split_once(") : ").map_or(line, |(_, rest)| rest),
        Kind::Nginx => line.split_once("] ").map_or(line, |(_, rest)| rest),
    };
    rest.strip_prefix("config : ").unwrap_or(rest)
}

/// What new workers of HAProxy shall know of its servers: of `states`, its answer to `show servers state`, the servers
/// that stand at the same port in the new configuration. For one that moved it would keep the old port.
pub fn states(states: &str, config: &str) -> String {
    let ports = ports(config);
    let mut kept = String::new();
    for line in states.lines() {
        // HAProxy's management guide, 9.3: be_name is the second field, srv_name the fourth, srv_port the nineteenth.
        let fields: Vec<&str> = line.split(' ').collect();
        let is_head = line == "1" || line.starts_with('#');
        let is_same = matches!(
            (fields.get(1), fields.get(3), fields.get(18)),
            (Some(backend), Some(server), Some(port)) if ports.get(&(*backend, *server)) == Some(port)
        );
        if is_head || is_same {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The ports of all servers of a configuration that [`super::Balancer::text`] made, by backend and name.
fn ports(config: &str) -> BTreeMap<(&str, &str), &str> {
    let mut ports = BTreeMap::new();
    let mut backend = "";
    for line in config.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("backend"), Some(name), _) => backend = name,
            (Some("server"), Some(name), Some(address)) => {
                let port = address.rsplit_once(':').map_or("", |(_, port)| port);
                ports.insert((backend, name), port);
            }
            _ => {}
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_what_the_program_says_of_the_file_that_will_be() {
        let haproxy = "[NOTICE]   (99) : haproxy version is 2.6.12\n[ALERT]    (99) : config : parsing \
                       [/var/lib/x/ab12:15] : unknown keyword 'balanse' in 'backend' section; did you mean 'balance' \
                       maybe ?\n[ALERT]    (99) : config : Error(s) found in configuration file : \
                       /var/lib/x/ab12\n[ALERT]    (99) : config : Fatal errors found in configuration.\n";
        let nginx = "nginx: [warn] something\nnginx: [emerg] unknown directive \"servr\" in /var/lib/x/ab12:3\nnginx: \
                     configuration file /tmp/a test failed\n";
        let of = ("/var/lib/x/ab12", "/etc/x/here");
        for (kind, said, told) in [
            (
                Kind::Haproxy,
                haproxy,
                "parsing [/etc/x/here:15] : unknown keyword 'balanse' in 'backend' section; did you mean 'balance' \
                 maybe ?",
            ),
            (Kind::Nginx, nginx, "unknown directive \"servr\" in /etc/x/here:3"),
            (Kind::Haproxy, "", "it said nothing"),
            // It may repeat what somebody has put into the file.
            (Kind::Nginx, "nginx: [emerg] unknown \u{1b}[2J", "unknown \\u001b[2J"),
            (Kind::Haproxy, "Segmentation fault\n", "Segmentation fault"),
            (
                Kind::Haproxy,
                "[ALERT] (1) : a\n[ALERT] (1) : b\n[ALERT] (1) : c\n[ALERT] (1) : d\n",
                "a; b; c; and 1 more",
            ),
        ] {
            assert_eq!(refusal(kind, said, of), told);
        }
        let long = refusal(Kind::Nginx, &format!("nginx: [emerg] {}", "ä".repeat(700)), of);
        assert!(long.len() < WORDS_MAX + 10 && long.ends_with(" ..."), "{long}");
    }

    #[test]
    fn what_a_program_warns_of_is_told_although_it_takes_the_file() {
        let haproxy = "[NOTICE]   (34) : haproxy version is 2.6.12-1+deb12u4\n[WARNING]  (34) : config : \
                       [/var/lib/x/ab12:36] : 'server identity/is-1' : could not resolve address 'is1', disabling \
                       server.\nConfiguration file is valid\n";
        let of = ("/var/lib/x/ab12", "/etc/haproxy/haproxy.cfg");
        let told = "[/etc/haproxy/haproxy.cfg:36] : 'server identity/is-1' : could not resolve address 'is1', disabling \
                    server.";
        assert_eq!(doubts(Kind::Haproxy, haproxy, of).as_deref(), Some(told));
        let nginx = "nginx: [warn] conflicting server name \"a\" on 0.0.0.0:80, ignored\nnginx: the configuration file \
                     /tmp/a syntax is ok\n";
        let told = "conflicting server name \"a\" on 0.0.0.0:80, ignored";
        assert_eq!(doubts(Kind::Nginx, nginx, of).as_deref(), Some(told));
        for said in
            ["", "Configuration file is valid\n", "nginx: the configuration file /tmp/a syntax is ok\n"]
        {
            assert_eq!((doubts(Kind::Haproxy, said, of), doubts(Kind::Nginx, said, of)), (None, None));
        }
    }

    #[test]
    fn states_of_servers_that_moved_are_not_kept() {
        let head = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n";
        let line = |backend: &str, server: &str, port: u16| {
            format!("3 {backend} 1 {server} 127.0.0.1 0 8 1 1 1 8 2 0 6 0 0 0 - {port} - 0 0 - - 0\n")
        };
        let config = "backend b\n    server s1 127.0.0.1:1001 check\n    server s2 [::1]:1002 check\nbackend c\n    \
                      server s1 h:1003\n";
        let states_now =
            format!("{head}{}{}{}", line("b", "s1", 1001), line("b", "s2", 9), line("c", "s1", 1003));
        let gone = line("d", "s1", 1001);
        assert_eq!(
            states(&format!("{states_now}{gone}\n"), config),
            format!("{head}{}{}", line("b", "s1", 1001), line("c", "s1", 1003))
        );
    }
}
