//! `convoy trust`: who must trust whom in a fleet, from the TLS connections of every node, and truststores for them.
//! Nobody is asked.

mod stores;

use std::{collections::BTreeMap, path::Path};

use fleet::{
    spec::{Absent, Fleet, Secrets},
    time::Timestamp,
    trust::{self, Store, Truster, Whom},
};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    render_config::composed_with,
    request::Trust,
    screen::Screen,
    secrets,
};
use stores::{Beside, Made};

/// Output is laid out for terminals of this many columns.
const WIDTH: usize = 80;

/// Output of `trust`.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    nodes: Vec<Node<'a>>,
    /// Members that others connect to, with the store that holds what they show.
    shown: BTreeMap<&'a str, File>,
    /// With `--out`: the store of each node.
    #[serde(skip_serializing_if = "Option::is_none")]
    stores: Option<Vec<Made>>,
}

#[derive(Debug, Serialize)]
struct Node<'a> {
    node: &'a str,
    truststore: File,
    trusts: Vec<Trusts<'a>>,
}

/// A store as a node names it.
#[derive(Debug, Serialize)]
struct File {
    /// Below home, or absolute; absent if deployment.toml names none.
    file: Option<String>,
    /// Whether the fleet directory brings it.
    in_fleet: bool,
}

#[derive(Debug, Serialize)]
struct Trusts<'a> {
    /// `itself`, `node`, `balancer`, `in-front-of`, `outside`.
    kind: &'static str,
    /// The node or balancer; the nodes that are behind a name.
    whom: Vec<&'a str>,
    host: &'a str,
    port: u16,
    keys: &'a [String],
}

/// Prints the connections of a fleet, and makes truststores if that was asked for.
///
/// # Errors
/// The directory has errors, or a file cannot be read or written.
pub fn run(request: &Trust, screen: &mut Screen) -> Result<Exit, Failure> {
    let secrets = match &request.secrets {
        Some(file) => Secrets::new(secrets::read(file)?, Absent::Placeholder),
        None => Secrets::new(BTreeMap::new(), Absent::Placeholder),
    };
    let fleet = composed_with(&request.dir, &secrets)?;
    let trusters = trust::trusters(&fleet);
    let mut outcome = outcome(&fleet, &trusters);
    let Some(out) = &request.out else {
        screen.people(&text(&trusters, &outcome.shown));
        screen.programs(&outcome);
        return Ok(Exit::Done);
    };
    let beside = Beside::read(request.base.as_deref(), &request.add)?;
    let now = Timestamp(jiff::Timestamp::now().as_millisecond());
    let made = stores::make(&fleet, &trusters, &beside, now);
    for store in &made {
        store.write(out)?;
    }
    screen.people(&of_stores(&made, out));
    let exit = if made.iter().any(|store| store.file.is_none()) { Exit::Failed } else { Exit::Done };
    outcome.stores = Some(made);
    screen.programs(&outcome);
    Ok(exit)
}

fn of_stores(made: &[Made], out: &Path) -> String {
    let mut lines = Vec::new();
    for store in made {
        lines.push(match (&store.file, store.is_new()) {
            (None, _) => format!("{}: no truststore", store.node),
            (Some(file), false) => format!("{}: {file} stays as it is", store.node),
            (Some(file), true) => format!("{}: {}", store.node, out.join(&store.node).join(file).display()),
        });
        let Made { added, removed, kept, missing, .. } = store;
        lines.extend(
            added.iter().map(|one| format!("  + {}: {}, until {}", one.alias, one.subject, day(one.until))),
        );
        lines.extend(removed.iter().map(|alias| format!("  - {alias}")));
        if store.file.is_some() {
            lines.push(format!("  {kept} kept"));
        }
        lines.extend(missing.iter().map(|why| format!("  missing: {why}")));
    }
    lines.push(String::new());
    if made.iter().any(Made::is_new) {
        lines.push(phases(made));
    }
    lines.join("\n")
}

/// Where a change of keys stands, as far as these stores tell.
fn phases(made: &[Made]) -> String {
    let is_last = made.iter().any(|store| !store.removed.is_empty()) && !made.iter().any(Made::is_given);
    let mark = |is_now: bool| if is_now { '>' } else { ' ' };
    let (first, last) = (mark(!is_last), mark(is_last));
    format!(
        "Keys change in three phases, each applied before the next is begun:\n\
         {first} 1. these stores: everybody trusts the old and, by --add, the new certificates\n  \
         2. the new keystores, as files of the fleet\n\
         {last} 3. what this command makes then without --add: without what nobody shows\n"
    )
}

fn day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.to_zoned(jiff::tz::TimeZone::UTC).date().to_string())
        .unwrap_or_default()
}

fn outcome<'a>(fleet: &'a Fleet, trusters: &'a [Truster]) -> Outcome<'a> {
    let node = |truster: &'a Truster| Node {
        node: truster.node.as_str(),
        truststore: file(&truster.truststore),
        trusts: truster.connections.iter().map(trusts).collect(),
    };
    let mut shown = BTreeMap::new();
    for connection in trusters.iter().flat_map(|truster| &truster.connections) {
        let Whom::Node(name) = &connection.whom else { continue };
        let node = fleet.nodes.get(name).map(|node| file(&trust::shown(node)));
        shown.extend(node.map(|file| (name.as_str(), file)));
    }
    Outcome { nodes: trusters.iter().map(node).collect(), shown, stores: None }
}

fn trusts(connection: &trust::Connection) -> Trusts<'_> {
    let (kind, whom) = match &connection.whom {
        Whom::Itself => ("itself", Vec::new()),
        Whom::Node(name) => ("node", vec![name.as_str()]),
        Whom::Balancer(name) => ("balancer", vec![name.as_str()]),
        Whom::InFrontOf(nodes) => ("in-front-of", nodes.iter().map(|name| name.as_str()).collect()),
        Whom::Outside => ("outside", Vec::new()),
    };
    let (host, port) = (connection.address.host.as_str(), connection.address.port);
    Trusts { kind, whom, host, port, keys: &connection.keys }
}

fn file(store: &Store) -> File {
    File { file: store.file.clone(), in_fleet: store.is_in_fleet }
}

fn text(trusters: &[Truster], shown: &BTreeMap<&str, File>) -> String {
    if trusters.is_empty() {
        return "No node of this fleet connects to anybody by TLS.\n".to_owned();
    }
    let rows = trusters.iter().flat_map(|truster| &truster.connections);
    let room = rows.map(|connection| connection.whom.to_string().chars().count()).max().unwrap_or(0).min(36);
    let mut lines = Vec::new();
    for truster in trusters {
        lines.push(format!(
            "{} must trust, by {}",
            truster.node,
            words(&file(&truster.truststore), "truststore")
        ));
        for connection in &truster.connections {
            lines.push(format!("  {:<room$}  {}", connection.whom.to_string(), connection.address));
            for key in &connection.keys {
                lines.push(format!("      {}", cut(key, WIDTH - 6)));
            }
        }
        lines.push(String::new());
    }
    for (node, file) in shown {
        lines.push(format!("{node} shows the certificate of {}", words(file, "keystore")));
    }
    if !shown.is_empty() {
        lines.push(String::new());
    }
    lines.join("\n")
}

fn words(file: &File, what: &str) -> String {
    match (&file.file, file.in_fleet) {
        (None, _) => format!("the product's own {what}"),
        (Some(file), true) => format!("{}, of the fleet", cut_front(file, 40)),
        (Some(file), false) => format!("{}, of its host", cut_front(file, 40)),
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(most - 1).collect::<String>())
}

/// The end of a path says more than its beginning.
fn cut_front(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    format!("…{}", text.chars().skip(count - most + 1).collect::<String>())
}

#[cfg(test)]
mod tests {
    use fleet::{ids::NodeName, preflight::needs::Address, trust::Connection};

    use super::*;

    #[test]
    fn the_phase_of_a_change_of_keys_is_marked() {
        let made = |aliases: &[&str], removed: &[&str]| {
            let added = aliases.iter().map(|alias| stores::Added {
                alias: (*alias).to_owned(),
                subject: "CN=is".to_owned(),
                until: 0,
            });
            let mut made = Made::of("am-1".to_owned());
            made.added = added.collect();
            made.removed = removed.iter().map(|alias| (*alias).to_owned()).collect();
            vec![made]
        };
        let marked = |made: &[Made]| {
            let text = phases(made);
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
            let now: Vec<&str> = text.lines().filter(|line| line.starts_with('>')).collect();
            now.iter().map(|line| line.chars().nth(2).unwrap_or_default()).collect::<String>()
        };
        assert_eq!(marked(&made(&["convoy-added.0"], &[])), "1");
        assert_eq!(marked(&made(&["convoy-is-1"], &[])), "1");
        // One change follows the other: what is to come counts.
        assert_eq!(marked(&made(&["convoy-added.0"], &["convoy-is-1"])), "1");
        assert_eq!(marked(&made(&["convoy-is-1"], &["convoy-added.0"])), "3");
    }

    #[test]
    fn people_read_who_trusts_whom_within_80_columns() {
        let name = |text: &str| NodeName::parse(text).unwrap();
        let connection = |whom: Whom, host: &str, key: &str| Connection {
            whom,
            address: Address { host: host.to_owned(), port: 9443 },
            keys: vec![key.to_owned()],
        };
        let long = format!("apim.gateway.environment[0].{}.service_url", "x".repeat(80));
        let truster = Truster {
            node: name("am-1"),
            truststore: Store { file: Some(format!("/{}/trust.p12", "y".repeat(80))), is_in_fleet: false },
            connections: vec![
                connection(Whom::Node(name("is-1")), "is1.acme", "apim.key_manager.service_url"),
                connection(Whom::Outside, "far.away", &long),
            ],
        };
        let shown = BTreeMap::from([("is-1", File { file: None, in_fleet: false })]);
        let said = text(&[truster], &shown);
        let expected = "am-1 must trust, by …yyyyyyyyyyyyyyyyyyyyyyyyyyyyy/trust.p12, of its host\n  is-1     \
                        is1.acme:9443\n      apim.key_manager.service_url\n  outside  far.away:9443\n      \
                        apim.gateway.environment[0].xxx";
        assert!(said.starts_with(expected), "{said}");
        assert!(said.ends_with("\n\nis-1 shows the certificate of the product's own keystore\n"), "{said}");
        assert!(said.lines().all(|line| line.chars().count() <= WIDTH), "{said}");
        assert_eq!(text(&[], &BTreeMap::new()), "No node of this fleet connects to anybody by TLS.\n");
    }
}
