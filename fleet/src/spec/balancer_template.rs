//! `[balancers.NAME] template`: the configuration of a load balancer as the user writes it, with the expressions of all
//! files of a fleet, and what the generated one is made of (docs/decisions/0087-templates-of-balancers.md).

use std::{collections::BTreeMap, sync::Arc};

use minijinja::Value;

use super::{
    ComposedNode, Sources,
    balancers_text::BalancerText,
    compose::{Draft, evaluate_node},
    expression::{Expressions, Names, Origin},
    files::whole_file,
    manifest::Manifest,
    report::{Report, suggest},
    tree::{At, Source},
};
use crate::{
    balancer::{Balancer, Member, Service},
    bundle::FILE_SIZE_MAX,
    ids::NodeName,
};

/// Where templates stand in the fleet directory.
const DIRECTORY: &str = "balancers/";

/// A template, and where mistakes in it are.
pub(super) struct Template {
    source: Arc<Source>,
    text: String,
}

/// By the name of the balancer.
pub(super) type Templates = BTreeMap<String, Template>;

/// The templates that balancers name. One that cannot be had is told.
pub(super) fn find(texts: &[BalancerText], sources: &Sources, report: &mut Report) -> Templates {
    texts.iter().filter_map(|text| Some((text.name.clone(), template(text, sources, report)?))).collect()
}

fn template(text: &BalancerText, sources: &Sources, report: &mut Report) -> Option<Template> {
    let typed = text.template.as_ref()?;
    let path = typed.value.as_str();
    let Some(content) = sources.0.get(path).filter(|_| path.starts_with(DIRECTORY)) else {
        let there = sources.0.keys().map(String::as_str).filter(|path| path.starts_with(DIRECTORY));
        let remedy = if path.starts_with(DIRECTORY) {
            suggest(path, there)
        } else {
            format!(
                "keep it below {DIRECTORY} of the fleet directory, and write template = \"{DIRECTORY}{}.tmpl\"",
                text.name
            )
        };
        let message = format!("the template {path:?} of balancer {} is not there", text.name);
        report.error("CV566", Some(typed.at.value_place()), message, remedy);
        return None;
    };
    if FILE_SIZE_MAX < content.len() as u64 {
        let message = format!("{path} has {} bytes; a file may have {FILE_SIZE_MAX}", content.len());
        report.error("CV402", Some(whole_file(path)), message, "write a loop over `services` instead");
        return None;
    }
    match std::str::from_utf8(content) {
        Ok(content) => Some(Template { source: Source::new(path, content), text: content.to_owned() }),
        Err(_) => {
            let message = format!("{path} is a template but not UTF-8 text");
            report.error("CV003", Some(whole_file(path)), message, "save it as UTF-8");
            None
        }
    }
}

impl Template {
    /// The configuration on a node of the balancer, whose own names are known as in its other files.
    pub(super) fn on_node(
        &self,
        (balancer, fleet): (&Balancer, &str),
        draft: &Draft<'_>,
        expressions: &Expressions,
        report: &mut Report,
    ) -> Option<String> {
        let mut names = expressions.names(&draft.facts);
        names.extend(own_names(balancer, fleet, Some(&draft.facts.home)));
        self.render(&names, expressions, report)
    }

    fn render(&self, names: &Names, expressions: &Expressions, report: &mut Report) -> Option<String> {
        let at = At::start_of(&self.source);
        expressions.render(&self.text, names, &Origin { at: &at, start: Some(0) }, report)
    }
}

/// Gives balancers with a template the text that `convoy render` writes: that of their first node, or what the fleet
/// alone makes of it.
pub(super) fn write(
    balancers: &mut BTreeMap<String, Balancer>,
    (manifest, nodes): (&Manifest<'_>, &BTreeMap<NodeName, ComposedNode>),
    (templates, expressions): (&Templates, &Expressions),
    report: &mut Report,
) {
    for (name, template) in templates {
        let Some(balancer) = balancers.get_mut(name) else { continue };
        let is_of = |group| manifest.groups.get(group).and_then(|group| group.balancer.as_ref());
        if manifest.groups.keys().any(|group| is_of(group).is_some_and(|of| of.value == *name)) {
            let node = nodes.values().find(|node| is_of(&node.group).is_some_and(|of| of.value == *name));
            // What is wrong with it has been told of its nodes.
            balancer.written = node.and_then(|node| text_of(node, balancer));
            continue;
        }
        let mut names = fleet_names(manifest, expressions);
        names.extend(own_names(balancer, manifest.name.as_str(), None));
        balancer.written = template.render(&names, expressions, report);
    }
}

fn text_of(node: &ComposedNode, balancer: &Balancer) -> Option<String> {
    let entry = node.bundle.files.get(&balancer.kind.file())?;
    String::from_utf8(node.contents.get(&entry.digest)?.to_vec()).ok()
}

/// Without a node there are the fleet and those of its values that need none.
fn fleet_names(manifest: &Manifest<'_>, expressions: &Expressions) -> Names {
    let fleet = Value::from(BTreeMap::from([("name", manifest.name.as_str().to_owned())]));
    let alone = Names::from([("fleet", fleet.clone())]);
    let mut scratch = Report::default();
    let values: BTreeMap<String, Value> = manifest
        .values
        .iter()
        .flat_map(|table| table.iter())
        .filter_map(|(key, node)| {
            Some((key.to_owned(), evaluate_node(node, expressions, &alone, &mut scratch)?))
        })
        .collect();
    Names::from([("fleet", fleet), ("values", Value::from(values))])
}

/// What a template has beside the names of all files.
fn own_names(balancer: &Balancer, fleet: &str, home: Option<&str>) -> Names {
    let text = |text: &Option<String>| text.as_deref().map_or(Value::from(()), Value::from);
    let facts = BTreeMap::from([
        ("name", Value::from(balancer.name.as_str())),
        ("kind", Value::from(balancer.kind.as_str())),
        ("home", Value::from(home.unwrap_or(balancer.kind.usual_home()))),
        ("certificate", text(&balancer.certificate)),
        ("certificate_key", text(&balancer.certificate_key)),
        ("server_ca", text(&balancer.server_ca)),
        ("socket", text(&balancer.socket)),
        ("address", text(&balancer.address.map(|address| address.to_string()))),
    ]);
    let services: Vec<Value> = balancer.services.iter().map(|one| service(one, home)).collect();
    Names::from([
        ("balancer", Value::from(facts)),
        ("services", Value::from(services)),
        ("generated", Value::from(balancer.generated(fleet, home))),
    ])
}

fn service(service: &Service, home: Option<&str>) -> Value {
    let members: Vec<Value> = service.members.iter().map(member).collect();
    Value::from(BTreeMap::from([
        ("name", Value::from(service.name.as_str())),
        ("listen", Value::from(service.listen)),
        ("tls", Value::from(service.transport.is_tls())),
        ("hosts", Value::from(service.hosts.clone())),
        ("sticky", Value::from(service.sticky.as_str())),
        ("timeout", Value::from(service.timeout.as_secs())),
        ("members", Value::from(members)),
        ("upstream", Value::from(service.nginx_upstream(home))),
        ("pool", Value::from(service.nginx_pool(home))),
    ]))
}

fn member(member: &Member) -> Value {
    let health = member.health.as_ref().map_or(Value::from(()), |health| {
        Value::from(BTreeMap::from([
            ("path", Value::from(health.path.as_str())),
            ("port", Value::from(health.port)),
            ("tls", Value::from(health.tls)),
            ("status", Value::from(health.status)),
        ]))
    });
    Value::from(BTreeMap::from([
        ("name", Value::from(member.name.as_str())),
        ("host", Value::from(member.host.as_str())),
        ("port", Value::from(member.port)),
        ("address", Value::from(member.address())),
        ("health", health),
    ]))
}
