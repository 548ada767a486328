//! Jars and web applications that a configuration asks for and the product does not ship: the JDBC driver of each data
//! source, and what makes an Identity Server a Key Manager.
//!
//! Facts: the project's notes on configuration, section 2, and on surroundings, sections 1 and 3; the classes by type
//! are those of the products' infer.json.

use std::collections::BTreeSet;

use super::{Check, Outcome, needs::Typed};
use crate::observed::RefusalReason;

/// Where the server loads jars from, in the order in which a person would look.
pub const JAR_DIRS: [&str; 3] =
    ["repository/components/lib", "repository/components/dropins", "repository/components/plugins"];
/// Where web applications lie, as a file or unpacked.
pub const WEBAPPS: &str = "repository/deployment/server/webapps";

/// The listener that tells API Manager of revoked tokens.
const LISTENER: &str = "org.wso2.is.notification.ApimOauthEventInterceptor";
/// The operations that API Manager calls on a Key Manager of the older generation.
const OPERATIONS: &str = "keymanager-operations";

/// Something that must lie in the home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Component {
    /// The key or table that asks for it.
    pub key: String,
    /// What it is.
    pub wanted: Wanted,
}

/// What must lie in the home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// A jar with one of these JDBC drivers, by their class.
    Driver(Vec<String>),
    /// A jar with this class, which runs beside the server.
    Handler(String),
    /// A jar whose file name begins so.
    Connector(&'static str),
    /// A web application.
    Webapp(&'static str),
}

/// What was found of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentFact {
    /// Here, below home.
    Found(String),
    /// Nowhere.
    Absent,
    /// Nowhere where one can look. It may be in one of these, which hold jars themselves or cannot be read.
    Unsure(Vec<String>),
    /// Nowhere, although a server runs whose deployment.toml asks for it: it may have it from a place that is not looked
    /// at.
    InUse,
    /// Nobody looked: why.
    NotLooked(String),
}

/// What the configuration of this product asks for, each with the first key that does.
pub(super) fn wanted(typed: &Typed<'_>, product: &str) -> Vec<Component> {
    let mut found = drivers(typed);
    // The prepackaged Key Manager has all of it.
    if product.starts_with("wso2is-") && !product.starts_with("wso2is-km-") {
        found.extend(key_manager(typed, product));
    }
    let mut seen = BTreeSet::new();
    found.retain(|component| seen.insert(component.wanted.clone()));
    found
}

fn drivers(typed: &Typed<'_>) -> Vec<Component> {
    let of_table = |key: &str| {
        let (table, part) = key.rsplit_once('.')?;
        let is_one = ["url", "hostname", "driver"].contains(&part)
            && (table.starts_with("database.") || table.starts_with("datasource"));
        is_one.then(|| table.to_owned())
    };
    let tables: BTreeSet<String> = typed.keys().filter_map(of_table).collect();
    tables.into_iter().filter_map(|table| driver(typed, &table)).collect()
}

/// `driver` if it is typed, else what the product infers from `type`. H2 comes with every pack.
fn driver(typed: &Typed<'_>, table: &str) -> Option<Component> {
    let key = |part: &str| format!("{table}.{part}");
    let (names, key) = match (typed.text(&key("driver")), typed.text(&key("type"))) {
        (Some(driver), _) => (vec![driver.ok()?], key("driver")),
        (None, Some(kind)) => (inferred(&kind.ok()?)?, key("type")),
        (None, None) => return None,
    };
    let is_class = |name: &String| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._$".contains(&byte)) && name.contains('.')
    };
    let is_shipped = names.iter().any(|name| name == "org.h2.Driver");
    (names.iter().all(is_class) && !is_shipped).then_some(Component { key, wanted: Wanted::Driver(names) })
}

/// infer.json names the first; a driver of another version may have only the second.
fn inferred(kind: &str) -> Option<Vec<String>> {
    let names: &[&str] = match kind {
        "mysql" => &["com.mysql.jdbc.Driver", "com.mysql.cj.jdbc.Driver"],
        "mariadb" => &["org.mariadb.jdbc.Driver"],
        "postgre" => &["org.postgresql.Driver"],
        "mssql" => &["com.microsoft.sqlserver.jdbc.SQLServerDriver"],
        "oracle" => &["oracle.jdbc.OracleDriver", "oracle.jdbc.driver.OracleDriver"],
        "db2" => &["com.ibm.db2.jcc.DB2Driver"],
        _ => return None,
    };
    Some(names.iter().copied().map(str::to_owned).collect())
}

fn key_manager(typed: &Typed<'_>, product: &str) -> Vec<Component> {
    let mut found = Vec::new();
    let listener = typed
        .keys()
        .find(|key| key.starts_with("event_listener") && key.ends_with(".name") && typed.is(key, LISTENER));
    if let Some(key) = listener {
        found.push(Component { key: key.to_owned(), wanted: Wanted::Handler(LISTENER.to_owned()) });
    }
    let operations = typed.keys().find(|key| {
        (key.starts_with("tenant_context.rewrite.custom_webapps")
            || key.starts_with("resource.access_control"))
            && typed.raw(key).is_some_and(|text| text.contains(OPERATIONS))
    });
    if let Some(key) = operations {
        found.push(Component { key: key.to_owned(), wanted: Wanted::Webapp(OPERATIONS) });
        // Identity Server 7 registers applications by itself.
        if !product.starts_with("wso2is-7") {
            let wanted = Wanted::Connector("wso2is.key.manager.core");
            found.push(Component { key: key.to_owned(), wanted });
        }
    }
    found
}

/// One check per component.
pub(super) fn check(components: &[(Component, ComponentFact)]) -> Vec<Check> {
    let one = |(component, fact): &(Component, ComponentFact)| Check {
        name: match component.wanted {
            Wanted::Driver(_) => "driver",
            Wanted::Handler(_) | Wanted::Connector(_) | Wanted::Webapp(_) => "component",
        },
        subject: component.key.clone(),
        outcome: outcome(&component.wanted, fact),
    };
    components.iter().map(one).collect()
}

fn outcome(wanted: &Wanted, fact: &ComponentFact) -> Outcome {
    let remedy = remedy(wanted);
    match (fact, wanted) {
        (ComponentFact::Found(path), _) => Outcome::Pass(format!("{} is in {path}", what(wanted))),
        (ComponentFact::NotLooked(why), _) => Outcome::Skipped(why.clone()),
        (ComponentFact::Unsure(where_), _) => Outcome::Warn {
            why: format!(
                "{} was not found; it may be in {}, which cannot be looked into",
                what(wanted),
                crate::finding::names(where_.iter().map(String::as_str))
            ),
            remedy,
        },
        (ComponentFact::InUse, _) => Outcome::Warn {
            why: format!(
                "no jar of components/lib, dropins and plugins holds {}; the server that runs is configured with it, so it \
                 may have it from elsewhere",
                what(wanted)
            ),
            remedy,
        },
        (ComponentFact::Absent, Wanted::Driver(_)) => Outcome::Fail {
            why: format!("no jar of components/lib, dropins and plugins holds {}", what(wanted)),
            remedy,
            reason: RefusalReason::PreflightFailed,
        },
        (ComponentFact::Absent, Wanted::Handler(_)) => Outcome::Warn {
            why: format!(
                "no jar of components/lib, dropins and plugins holds {}: gateways are not told of revoked tokens",
                what(wanted)
            ),
            remedy,
        },
        (ComponentFact::Absent, Wanted::Connector(_) | Wanted::Webapp(_)) => Outcome::Warn {
            why: format!("{} is not there: API Manager cannot use this server as Key Manager", what(wanted)),
            remedy,
        },
    }
}

fn what(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Driver(names) => format!("the JDBC driver {}", names.join(" or ")),
        Wanted::Handler(name) => format!("the event handler {name}"),
        Wanted::Connector(name) => format!("{name}-*.jar"),
        Wanted::Webapp(name) => format!("{name}.war"),
    }
}

fn remedy(wanted: &Wanted) -> String {
    let [lib, dropins, _] = JAR_DIRS;
    match wanted {
        Wanted::Driver(_) => {
            format!("put the driver's jar into {lib}, or into files/<group>/{lib} of the fleet directory")
        }
        Wanted::Handler(_) => {
            format!("put wso2is.notification.event.handlers-*.jar of the connector into {dropins}")
        }
        Wanted::Connector(_) => format!("put the jars of the connector into {dropins}"),
        Wanted::Webapp(_) => format!("put the war of the connector into {WEBAPPS}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::preflight::needs;

    fn asked(text: &str, product: &str) -> Vec<String> {
        let needs = needs::read(text, product, &BTreeMap::new()).unwrap();
        needs.components.iter().map(|one| format!("{}: {}", one.key, what(&one.wanted))).collect()
    }

    #[test]
    fn each_data_source_asks_for_the_class_that_the_product_will_load() {
        let cases = [
            ("type = 'mysql'", "the JDBC driver com.mysql.jdbc.Driver or com.mysql.cj.jdbc.Driver"),
            ("type = 'postgre'", "the JDBC driver org.postgresql.Driver"),
            ("type = 'mssql'", "the JDBC driver com.microsoft.sqlserver.jdbc.SQLServerDriver"),
            ("type = 'db2'", "the JDBC driver com.ibm.db2.jcc.DB2Driver"),
            ("type = 'mariadb'", "the JDBC driver org.mariadb.jdbc.Driver"),
            (
                "type = 'oracle'",
                "the JDBC driver oracle.jdbc.OracleDriver or oracle.jdbc.driver.OracleDriver",
            ),
        ];
        for (typed, class) in cases {
            let text = format!("[database.shared_db]\nhostname = 'db'\n{typed}\n");
            assert_eq!(asked(&text, "wso2am-4.5"), [format!("database.shared_db.type: {class}")]);
            let own = format!("{text}driver = 'acme.jdbc.Driver'\n");
            assert_eq!(
                asked(&own, "wso2am-4.5"),
                ["database.shared_db.driver: the JDBC driver acme.jdbc.Driver"]
            );
        }
        for nothing in ["type = 'h2'", "type = 'x'", "driver = 'org.h2.Driver'", "driver = '$secret{a}'", ""]
        {
            let text = format!("[database.shared_db]\nhostname = 'db'\n{nothing}\n");
            assert_eq!(asked(&text, "wso2am-4.5"), [""; 0], "{nothing}");
        }
        let own = "[[datasource]]\nid = 'A'\nurl = 'jdbc:x://y'\ndriver = 'a.B'\n";
        assert_eq!(asked(own, "wso2am-4.5"), ["datasource[0].driver: the JDBC driver a.B"]);
        let named = "[datasource.C]\nid = 'C'\nurl = 'jdbc:x://y'\ndriver = 'a.B'\n";
        assert_eq!(asked(named, "wso2am-4.5"), ["datasource.C.driver: the JDBC driver a.B"]);
    }

    #[test]
    fn one_driver_for_several_data_sources_is_looked_for_once() {
        let text =
            "[database.a]\ntype = 'mysql'\nhostname = 'x'\n[database.b]\ntype = 'mysql'\nhostname = 'y'\n";
        assert_eq!(asked(text, "wso2am-4.5").len(), 1);
    }

    #[test]
    fn a_key_manager_asks_for_what_its_generation_needs() {
        let listener = "[[event_listener]]\nid = 'other'\nname = 'x.Y'\n[[event_listener]]\nid = 'token_revocation'\n\
                        name = 'org.wso2.is.notification.ApimOauthEventInterceptor'\n";
        let handler = "event_listener[1].name: the event handler \
                       org.wso2.is.notification.ApimOauthEventInterceptor";
        assert_eq!(asked(listener, "wso2is-7.2"), [handler]);
        // API Manager and the prepackaged Key Manager ship it.
        assert_eq!(asked(listener, "wso2am-4.5"), [""; 0]);
        assert_eq!(asked(listener, "wso2is-km-5.10"), [""; 0]);
        let old =
            format!("{listener}[tenant_context.rewrite]\ncustom_webapps = ['/keymanager-operations/']\n");
        assert_eq!(
            asked(&old, "wso2is-6.0"),
            [
                handler,
                "tenant_context.rewrite.custom_webapps: keymanager-operations.war",
                "tenant_context.rewrite.custom_webapps: wso2is.key.manager.core-*.jar",
            ]
        );
        assert_eq!(asked(&old, "wso2is-7.2").len(), 2);
    }

    #[test]
    fn only_a_missing_driver_keeps_the_server_from_its_start() {
        let driver = Wanted::Driver(vec!["a.B".to_owned()]);
        let handler = Wanted::Handler(LISTENER.to_owned());
        let said = |wanted: &Wanted, fact: ComponentFact| outcome(wanted, &fact).as_str();
        for (fact, of_driver, of_others) in [
            (ComponentFact::Found("x.jar".to_owned()), "pass", "pass"),
            (ComponentFact::Absent, "fail", "warn"),
            (ComponentFact::InUse, "warn", "warn"),
            (ComponentFact::Unsure(vec!["y.jar".to_owned()]), "warn", "warn"),
            (ComponentFact::NotLooked("no".to_owned()), "skipped", "skipped"),
        ] {
            assert_eq!(said(&driver, fact.clone()), of_driver);
            for other in [&handler, &Wanted::Connector("x"), &Wanted::Webapp("y")] {
                assert_eq!(said(other, fact.clone()), of_others);
            }
        }
    }
}
