//! Mistakes that no server can see in its own file: nodes that name each other wrongly, or differ where they must not.
//!
//! Values are compared as the server will have them: as typed, else by the pack's default, else by the documented one,
//! with references followed. What only the server's surroundings tell (variables, secrets) is never guessed: nothing is
//! said of it. All of these are warnings, except where a server certainly fails. Facts: the project's notes on
//! configuration, sections 3 and 4.

mod clusters;
mod credentials;
mod databases;
mod endpoints;
mod events;
mod gateways;
mod keys;
mod listeners;
mod pools;
mod ports;
mod published;
mod server;

use std::collections::BTreeMap;

use self::server::{PackOf, Server, Setting};
use crate::{
    finding::names,
    ids::{GroupName, NodeName},
    preflight::databases::DatabaseLimits,
    spec::{Fleet, report::Report},
};

pub(super) fn check<'f>(
    fleet: &'f Fleet,
    (pack_of, limits): (&PackOf<'_, 'f>, &DatabaseLimits),
    report: &mut Report,
) {
    let servers = server::all(fleet, pack_of);
    listeners::check(&servers, report);
    endpoints::check(&servers, report);
    keys::check(&servers, report);
    credentials::check(&servers, report);
    databases::check(&servers, report);
    pools::check(&servers, (&fleet.databases, limits), report);
    events::check(&servers, report);
    gateways::check(&servers, report);
    clusters::check(&servers, report);
    ports::check(&servers, report);
    published::check(&servers, fleet.default_credentials, report);
}

/// Tells where `key` differs from the first server that has it. Values are never shown: they may be secret.
fn equal<'s>(
    servers: impl IntoIterator<Item = &'s Server<'s>> + Clone,
    (code, key): (&'static str, &str),
    (why, remedy): (&str, &str),
    report: &mut Report,
) -> bool {
    // The default of a pack is nothing to hold against a node whose pack is not known.
    let all_known = servers.clone().into_iter().all(Server::has_pack);
    let value = |server: &Server<'_>| if all_known { server.text(key) } else { server.without_pack(key) };
    same(servers, (code, key), value, (why, remedy), report)
}

/// The same for anything that a server has.
fn same<'s>(
    servers: impl IntoIterator<Item = &'s Server<'s>>,
    (code, key): (&'static str, &str),
    value: impl Fn(&Server<'_>) -> Setting,
    (why, remedy): (&str, &str),
    report: &mut Report,
) -> bool {
    let mut first: Option<(&Server<'_>, Setting)> = None;
    let mut different: BTreeMap<&GroupName, Vec<Different<'_>>> = BTreeMap::new();
    for server in servers {
        let value = value(server);
        if value == Setting::Unknown {
            continue;
        }
        match &first {
            None => first = Some((server, value)),
            Some((other, expected)) if *expected != value => {
                // The place is where it was typed: on either of the two.
                let at = if value == Setting::Absent { *other } else { server };
                different.entry(&server.node.group).or_default().push(Different { name: server.name, at });
            }
            Some(_) => {}
        }
    }
    let is_equal = different.is_empty();
    let other = first.map(|(other, _)| other.name.as_str()).unwrap_or_default();
    for servers in different.into_values() {
        let Some(Different { at, .. }) = servers.first() else { continue };
        let names = names(servers.iter().map(|different| different.name.as_str()));
        let what = format!("{key} of {names} is not that of {other}: {why}");
        at.warn(report, (code, key), (what, remedy.to_owned()));
    }
    is_equal
}

/// A server whose value is not that of the first one.
struct Different<'s> {
    name: &'s NodeName,
    /// Where to show it.
    at: &'s Server<'s>,
}

/// Servers by their group, in order.
fn groups<'s, 'f>(servers: &'s [Server<'f>]) -> Vec<Vec<&'s Server<'f>>> {
    let mut groups: BTreeMap<&GroupName, Vec<&Server<'f>>> = BTreeMap::new();
    for server in servers {
        groups.entry(&server.node.group).or_default().push(server);
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests;
