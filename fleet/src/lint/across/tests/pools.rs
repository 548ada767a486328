//! The pools of all nodes against the limit of the database server.

use super::*;
use crate::preflight::{
    databases::{DatabaseLimits, SaidLimit},
    needs::Address,
};

const REMOTE: &str = "[database.identity_db]\nurl = 'jdbc:mysql://db:3306/identity'\n\
                      [database.shared_db]\ntype = 'mysql'\nhostname = 'DB'\nport = 3306\nname = 's'\n\
                      [database.shared_db.pool_options]\nmax_active = 30\n";

/// What is said of pools: code, message, line of the place.
fn told(nodes: &[Node<'_>], databases: &str) -> Vec<String> {
    told_with(nodes, databases, &DatabaseLimits::new())
}

/// The same where the database servers say what they allow.
fn told_with(nodes: &[Node<'_>], databases: &str, limits: &DatabaseLimits) -> Vec<String> {
    let fleet = composed(nodes, &[("fleet.toml", databases)]);
    let found = crate::lint::nodes(&fleet, |_, _| None, (ClearText::Unknown, limits));
    let of_pools = found.into_iter().filter(|finding| ["CV561", "CV562"].contains(&finding.code));
    of_pools
        .map(|finding| {
            let at = finding.place.map_or_else(String::new, |place| format!("{}:{}", place.file, place.line));
            format!("{} {at} {}", finding.code, finding.message)
        })
        .collect()
}

#[test]
fn the_pools_of_all_nodes_are_counted_against_one_database_server() {
    let two = [("is-1", "is", IS7, 0, REMOTE), ("is-2", "is", IS7, 0, REMOTE)];
    assert_eq!(
        told(&two, ""),
        [
            "CV561 config/nodes/is-1.toml:3 the pools of this fleet may open 160 connections to db:3306, more than the \
          151 that MySQL and MariaDB allow by default: is-1 80 (identity_db 50, shared_db 30), is-2 80 (identity_db \
          50, shared_db 30)"
        ]
    );
    assert_eq!(told(&two[..1], ""), [""; 0]);
    let declared =
        |most: u32| format!("[databases.main]\nhost = 'Db'\nport = 3306\nmax_connections = {most}\n");
    assert_eq!(told(&two, &declared(160)), [""; 0]);
    let less = told(&two, &declared(159));
    assert!(less.len() == 1 && less[0].contains("more than the 159 that fleet.toml says"), "{less:?}");
}

#[test]
fn each_way_to_write_a_data_source_is_counted_as_the_product_takes_it() {
    // What stands in [database.X] of a node, and how many connections one node may open.
    let cases = [
        ("url = 'jdbc:postgresql://db:5432/x'\npool_options.maxActive = '101'", Some("101")),
        ("url = 'jdbc:postgresql://db:5432/x'\npool_options.maxActive = 100", None),
        // Only the mapping of shared_db knows this spelling: the pool ignores it, and has the product's 50.
        ("url = 'jdbc:postgresql://db:5432/x'\npool_options.max_active = 400", None),
        ("type = 'postgre'\nhostname = 'db'\nport = 5432\npool_options.maxActive = 101", Some("101")),
        ("url = 'jdbc:mariadb://db/x'\npool_options.maxActive = 152", Some("152")),
        ("url = 'jdbc:h2:./x'\npool_options.maxActive = 1000", None),
        ("url = 'jdbc:h2:tcp://db/x'\npool_options.maxActive = 1000", None),
        ("url = 'jdbc:oracle:thin:@db:1521/x'\npool_options.maxActive = 1000", None),
        ("url = '$env{NOBODY}'\npool_options.maxActive = 1000", None),
        ("url = 'jdbc:mysql://db/x'\npool_options.maxActive = '$env{NOBODY}'", None),
    ];
    for (layer, sum) in cases {
        let layer = format!("[database.apim_db]\n{layer}\n");
        let found = told(&[("am", "am", AM, 0, &layer)], "");
        match sum {
            None => assert!(found.is_empty(), "{layer}: {found:?}"),
            Some(sum) => {
                assert!(
                    found.len() == 1 && found[0].contains(&format!("open {sum} conn")),
                    "{layer}: {found:?}"
                );
            }
        }
    }
    // The pool's own default counts for data sources of one's own, in both of their forms.
    let own = "[[datasource]]\nid = 'A'\nurl = 'jdbc:postgresql://db/a'\n";
    let named = "[datasource.B]\nid = 'B'\nurl = 'jdbc:postgresql://db/b'\n";
    let found = told(&[("a", "am", AM, 0, own), ("b", "am", AM, 0, named)], "");
    assert!(found.len() == 1 && found[0].ends_with(": a 100 (A 100), b 100 (B 100)"), "{found:?}");
}

#[test]
fn localhost_is_another_server_on_every_host() {
    let local =
        "[database.identity_db]\nurl = 'jdbc:postgresql://localhost/x'\npool_options.maxActive = 60\n";
    assert_eq!(told(&[("a", "is", IS7, 0, local), ("b", "is", IS7, 0, local)], ""), [""; 0]);
    let by_name = local.replace("localhost", "a");
    let found = told(&[("a", "is", IS7, 0, local), ("b", "is", IS7, 0, &by_name)], "");
    assert!(found.len() == 1 && found[0].contains("open 120 connections to a:5432"), "{found:?}");
}

#[test]
fn what_the_server_says_counts_unless_the_fleet_may_have_less() {
    let two = [("is-1", "is", IS7, 0, REMOTE), ("is-2", "is", IS7, 0, REMOTE)];
    let place = Address::place(vec![Address { host: "Db".to_owned(), port: 3306 }], "is-1");
    let of = |most: u64| {
        let said = SaidLimit { connections_max: most, to: "is-2".parse().unwrap() };
        DatabaseLimits::from([(place.clone(), said)])
    };
    let declared =
        |most: u32| format!("[databases.main]\nhost = 'db'\nport = 3306\nmax_connections = {most}\n");
    let server = Some("the 159 that it allows, as is-2 was told");
    let fleet = Some("the 158 that fleet.toml says");
    // The server says, fleet.toml says, whose word counts; the fleet wants 160.
    let cases = [
        (of(160), String::new(), None),
        (of(159), String::new(), server),
        (of(159), declared(500), server),
        (of(500), declared(158), fleet),
        (of(159), declared(158), fleet),
        (DatabaseLimits::new(), declared(158), fleet),
    ];
    for (limits, declared, expected) in cases {
        let found = told_with(&two, &declared, &limits);
        match expected {
            Some(words) => assert!(found.len() == 1 && found[0].contains(words), "{declared}: {found:?}"),
            None => assert!(found.is_empty(), "{found:?}"),
        }
    }
    // The loopback is the host's own.
    let local = Address { host: "localhost".to_owned(), port: 3306 };
    assert_eq!(Address::place(vec![local], "DB"), place);
}

#[test]
fn a_pool_that_only_a_variable_tells_makes_the_sum_a_lower_bound() {
    let open = "[database.identity_db]\nurl = 'jdbc:postgresql://db/x'\npool_options.maxActive = '$env{NOBODY}'\n\
                [database.shared_db]\nurl = 'jdbc:postgresql://db/y'\npool_options.maxActive = 101\n";
    let found = told(&[("a", "is", IS7, 0, open)], "");
    assert!(found.len() == 1 && found[0].contains("may open at least 101"), "{found:?}");
    assert!(found[0].ends_with(": a 101 (identity_db unknown, shared_db 101)"), "{found:?}");
}

#[test]
fn a_limit_that_nobody_is_held_against_is_told() {
    let found = told(
        &[("a", "is", IS7, 0, REMOTE)],
        "[databases.main]\nhost = 'db'\nport = 3307\nmax_connections = 1000\n",
    );
    assert!(found.len() == 1 && found[0].starts_with("CV562 fleet.toml:"), "{found:?}");
    assert!(found[0].ends_with("no data source of this fleet leads to db:3307"), "{found:?}");
}
