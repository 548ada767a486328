//! `[[groups.NAME.key_managers]]` as typed, and for one node of the group with expressions and secrets put in
//! (docs/decisions/0067-key-managers-are-registered-by-one-agent.md). The first node of the group by name keeps them.

use std::time::Duration;

use super::{
    call_text::{self, Named, Scope, read_certificate, read_secret, required_text},
    compose::Draft,
    manifest::Manifest,
    reader::{Reader, Typed},
    report::{Report, suggest},
    service::text,
    tree::At,
};
use crate::{
    bundle::DriftPolicy,
    ids::{Digest, GroupName, NodeName},
    key_manager::{
        Account, AdminApi, CHECK_MAX, CHECK_MIN, Connector, Elsewhere, KEY_MANAGERS_MAX, KeyManagers,
        Registration,
    },
};

/// Between two looks where nothing is typed.
const CHECK_INTERVAL: Duration = Duration::from_secs(600);
/// Offered to applications where nothing is typed.
const GRANT_TYPES: [&str; 4] = ["authorization_code", "client_credentials", "password", "refresh_token"];
/// Where the balancer of a `host_name` listens if nothing is typed.
const BALANCER_PORT: u16 = 443;

/// One, as typed.
#[derive(Debug, Clone)]
pub(super) struct KeyManagerText {
    at: At,
    name: Typed<String>,
    connector: Connector,
    behind: Behind,
    display_name: Option<Typed<String>>,
    grant_types: Vec<String>,
    role_creation: Option<bool>,
    account: AccountText,
    admin: AccountText,
    certificate: Option<Digest>,
    drift: DriftPolicy,
    check_interval: Duration,
}

#[derive(Debug, Clone)]
struct AccountText {
    user: Typed<String>,
    password: Named,
}

/// What the API Manager talks to.
#[derive(Debug, Clone)]
enum Behind {
    Url(Typed<String>),
    /// The balancer in front of a group.
    HostName {
        group: Typed<String>,
        host: Typed<String>,
        port: u16,
    },
    /// The only node of a group.
    Group(Typed<String>),
}

impl Behind {
    fn group(&self) -> Option<&Typed<String>> {
        match self {
            Behind::Url(_) => None,
            Behind::HostName { group, .. } | Behind::Group(group) => Some(group),
        }
    }
}

impl KeyManagerText {
    /// All of a group.
    pub(super) fn read_all(group: &mut Reader<'_>, report: &mut Report) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for table in group.tables("key_managers", report) {
            let Some(one) = Self::read(table, report) else { continue };
            let problem = if all.iter().any(|known| known.name.value == one.name.value) {
                Some((
                    format!("there are two Key Managers {:?}", one.name.value),
                    "the Admin API tells them apart by name: give each a name of its own",
                ))
            } else if KEY_MANAGERS_MAX <= all.len() {
                Some((
                    format!("a group has at most {KEY_MANAGERS_MAX} Key Managers"),
                    "register the others by hand",
                ))
            } else {
                None
            };
            match problem {
                Some((text, remedy)) => report.error("CV570", Some(one.name.at.value_place()), text, remedy),
                None => all.push(one),
            }
        }
        all
    }

    fn read(mut table: Reader<'_>, report: &mut Report) -> Option<Self> {
        let at = table.at().clone();
        let name = required_text(&mut table, "name", "\"WSO2-IS\"", report);
        let connector = table.choice("type", &Connector::ALL, report);
        let connector = table.required("type", connector, "\"WSO2-IS-7\"", report);
        let behind = read_behind(&mut table, report);
        let display_name = table.text("display_name", report);
        let grant_types = match table.texts("grant_types", report) {
            Some(typed) => typed.value,
            None => GRANT_TYPES.map(str::to_owned).to_vec(),
        };
        let role_creation = table.flag("role_creation", report);
        let account = read_account(&mut table, ("username", "password"), report);
        let admin = read_account(&mut table, ("admin_user", "admin_password"), report);
        let certificate = read_certificate(&mut table, "admin_certificate_sha256", report);
        let policies = [
            (DriftPolicy::Enforce, "enforce"),
            (DriftPolicy::Report, "report"),
            (DriftPolicy::Ignore, "ignore"),
        ];
        let drift = table.choice("drift", &policies, report).unwrap_or_default();
        let check_interval = table.duration("check_interval", report).unwrap_or(CHECK_INTERVAL);
        table.finish(report);
        Some(Self {
            at,
            name: name?,
            connector: connector?,
            behind: behind?,
            display_name,
            grant_types,
            role_creation,
            account: account?,
            admin: admin?,
            certificate,
            drift,
            check_interval: check_interval.clamp(CHECK_MIN, CHECK_MAX),
        })
    }

    fn resolve(&self, draft: &Draft<'_>, scope: &Scope<'_>, report: &mut Report) -> Option<Registration> {
        let put =
            |typed: &Typed<String>, report: &mut Report| text(typed, scope.expressions, scope.names, report);
        let account = |typed: &AccountText, report: &mut Report| {
            let password = call_text::secret_value(&typed.password, scope, report)?;
            Some(Account { user: put(&typed.user, report)?, password })
        };
        let https = draft.facts.product.ports.iter().find(|port| port.name == "https");
        let port = https.and_then(|port| draft.facts.number(port));
        let mut grant_types = self.grant_types.clone();
        grant_types.sort_unstable();
        grant_types.dedup();
        let registration = Registration {
            name: self.name.value.clone(),
            connector: self.connector,
            server: self.server(scope, report)?,
            display_name: match &self.display_name {
                Some(typed) => put(typed, report)?,
                None => self.name.value.clone(),
            },
            grant_types,
            role_creation: self.role_creation,
            account: account(&self.account, report)?,
            drift: self.drift,
            check_interval: self.check_interval,
            admin: AdminApi {
                url: format!("https://localhost:{}", port.unwrap_or(9443)),
                account: account(&self.admin, report)?,
                certificate: self.certificate,
            },
        };
        if let Some((key, why)) = registration.problem() {
            report.error(
                "CV573",
                Some(self.at.key_place()),
                format!("`{key}` of Key Manager {:?} {why}", registration.name),
                "correct the value, or the expression in it",
            );
            return None;
        }
        Some(registration)
    }

    fn server(&self, scope: &Scope<'_>, report: &mut Report) -> Option<String> {
        let put =
            |typed: &Typed<String>, report: &mut Report| text(typed, scope.expressions, scope.names, report);
        let url = match &self.behind {
            Behind::Url(url) => put(url, report)?,
            Behind::HostName { host, port, .. } => {
                let host = put(host, report)?;
                if *port == BALANCER_PORT {
                    format!("https://{host}")
                } else {
                    format!("https://{host}:{port}")
                }
            }
            Behind::Group(group) => {
                let value = format!("{{{{ nodes('{}')[0].url('https', 'https') }}}}", group.value);
                put(&Typed { value, at: group.at.clone() }, report)?
            }
        };
        Some(url.trim_end_matches('/').to_owned())
    }

    /// Whether the group behind it can be meant, and whether the products fit.
    fn check(&self, (own, product): (&GroupName, &str), manifest: &Manifest<'_>, report: &mut Report) {
        let refuse = |at: &At, report: &mut Report, code, (text, remedy): (String, String)| {
            report.error(code, Some(at.value_place()), text, remedy);
        };
        if let Some(why) = no_admin_api(product, self.connector) {
            let text =
                format!("group {own} cannot have Key Managers of type {}: {why}", self.connector.as_str());
            let remedy =
                "move key_managers to the group of the control plane (or the all-in-one API Manager)";
            report.error("CV571", Some(self.at.key_place()), text, remedy);
        }
        let Some(group) = self.behind.group() else { return };
        let Some((_, behind)) = manifest.groups.iter().find(|(name, _)| name.as_str() == group.value) else {
            let known = manifest.groups.keys().map(GroupName::as_str);
            let text =
                format!("Key Manager {:?} is group {:?}, which does not exist", self.name.value, group.value);
            return refuse(&group.at, report, "CV572", (text, suggest(&group.value, known)));
        };
        if let Some(why) = not_behind(&behind.product.value, self.connector) {
            return refuse(&group.at, report, "CV571", why);
        }
        let count = manifest.nodes.values().filter(|node| node.group.as_str() == group.value).count();
        if matches!(self.behind, Behind::Group(_)) && count != 1 {
            let text = format!(
                "Key Manager {:?} is group {}, which has {count} nodes, and it needs one address",
                self.name.value, group.value
            );
            let remedy = "add host_name = \"...\", the name of the load balancer in front of them";
            refuse(&group.at, report, "CV572", (text, remedy.to_owned()));
        }
    }
}

fn read_behind(table: &mut Reader<'_>, report: &mut Report) -> Option<Behind> {
    let url = table.text("url", report);
    let group = table.text("group", report);
    let host = table.text("host_name", report);
    let port = table.number("port", (1, 65_535), report);
    let port_at = port.as_ref().map(|port| port.at.clone());
    let port = port.and_then(|port| u16::try_from(port.value).ok());
    let mut refuse = |at: &At, text: &str, remedy: &str| {
        report.error("CV572", Some(at.key_place()), text, remedy);
        None
    };
    match (url, group, host) {
        (Some(url), None, None) if port.is_none() => Some(Behind::Url(url)),
        (None, Some(group), Some(host)) => {
            Some(Behind::HostName { group, host, port: port.unwrap_or(BALANCER_PORT) })
        }
        (None, Some(group), None) if port.is_none() => Some(Behind::Group(group)),
        (Some(url), Some(_), _) => {
            refuse(&url.at, "both `url` and `group` are given", "keep the one that is meant")
        }
        (Some(url), None, _) => refuse(
            &url.at,
            "`host_name` and `port` belong to `group`, not to `url`",
            "write host and port into url, as in \"https://km.example.org:9443\"",
        ),
        (None, Some(group), None) => refuse(
            &port_at.unwrap_or(group.at),
            "`port` is that of `host_name`, which is missing",
            "add host_name, or remove port: the port of the node is known",
        ),
        (None, None, _) => refuse(
            &table.at().clone(),
            "a Key Manager needs `group` or `url`",
            "add group = \"key-manager\" and host_name = \"km.example.org\", or url = \"https://km.example.org\"",
        ),
    }
}

fn read_account(
    table: &mut Reader<'_>,
    (user_key, password_key): (&'static str, &'static str),
    report: &mut Report,
) -> Option<AccountText> {
    let user = required_text(table, user_key, "\"admin\"", report);
    let password = read_secret(table, password_key, report);
    let password = table.required(password_key, password, "\"{{ secret('NAME') }}\"", report);
    Some(AccountText { user: user?, password: password? })
}

/// What of a product's id is a version, as far as it is one of WSO2's.
fn version(product: &str) -> Option<(u32, u32)> {
    product.split('-').find_map(|part| {
        let (major, minor) = part.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    })
}

/// Why a product has no Admin API that knows such a connector. A profile of the fleet's own is believed.
fn no_admin_api(product: &str, connector: Connector) -> Option<&'static str> {
    if product.starts_with("wso2is") {
        return Some("it is no API Manager");
    }
    if !product.starts_with("wso2am-") {
        return None;
    }
    let is_role = |role: &str| product.contains(role);
    if ["universal-gw", "gateway-worker", "-tm-", "traffic-manager", "key-manager", "devportal"]
        .into_iter()
        .any(is_role)
    {
        return Some("the Admin API is a part of the control plane");
    }
    match connector {
        _ if version(product)? < (4, 0) => Some("the Admin API v4 is there from API Manager 4.0 on"),
        Connector::Is7 if version(product)? < (4, 3) => {
            Some("that connector is there from API Manager 4.3 on")
        }
        Connector::Is7 | Connector::Is => None,
    }
}

/// Why a product is not what a connector speaks to.
fn not_behind(product: &str, connector: Connector) -> Option<(String, String)> {
    if product.starts_with("wso2am-") && !product.contains("key-manager") {
        let text = format!("its product is {product}, which is no Identity Server");
        return Some((text, "name the group of the Identity Servers".to_owned()));
    }
    let (major, _) = version(product).filter(|_| product.starts_with("wso2is-"))?;
    let fits = if major < 7 { Connector::Is } else { Connector::Is7 };
    (fits != connector).then(|| {
        let text = format!("type {} does not speak to {product}", connector.as_str());
        (text, format!("write type = {:?}", fits.as_str()))
    })
}

/// Checks those of all groups against the fleet.
pub(super) fn check(manifest: &Manifest<'_>, report: &mut Report) {
    for (name, group) in &manifest.groups {
        for one in &group.key_managers {
            one.check((name, &group.product.value), manifest, report);
        }
    }
}

/// For one node: registrations if it is the first of its group, or who keeps them.
pub(super) fn resolve(
    draft: &Draft<'_>,
    manifest: &Manifest<'_>,
    scope: &Scope<'_>,
    report: &mut Report,
) -> KeyManagers {
    let all = &draft.group.key_managers;
    let keeper = keeper(manifest, &draft.text.group);
    match keeper.filter(|keeper| *keeper != draft.name) {
        Some(keeper) => {
            let elsewhere =
                all.iter().map(|one| Elsewhere { name: one.name.value.clone(), keeper: keeper.clone() });
            KeyManagers { kept: Vec::new(), elsewhere: elsewhere.collect() }
        }
        None => {
            let kept = all.iter().filter_map(|one| one.resolve(draft, scope, report)).collect();
            KeyManagers { kept, elsewhere: Vec::new() }
        }
    }
}

/// The first node of a group by name.
fn keeper<'a>(manifest: &'a Manifest<'_>, group: &GroupName) -> Option<&'a NodeName> {
    manifest.nodes.iter().find(|(_, node)| node.group == *group).map(|(name, _)| name)
}

#[cfg(test)]
mod tests;
