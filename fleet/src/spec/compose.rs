//! The steps from sources to fleet: parse, read fleet.toml, check references, then compose node by node.

use std::{collections::BTreeMap, sync::Arc};

use minijinja::Value;

use super::{
    ComposedNode, Composition, Fleet, Group, SOURCES_MAX, SOURCES_SIZE_MAX, Sources, TOML_SIZE_MAX,
    balancer_nodes, balancer_template, balancers_text,
    call_text::{self, SecretUse},
    check, config,
    expression::{Expressions, NodeFacts, Origin, from_toml, has_expression, to_toml},
    files::{self, Extras, whole_file},
    key_manager_text,
    manifest::{self, GroupText, Manifest, NodeText},
    merge::{MergeKeys, merge},
    origins::KeyNames,
    reader::Typed,
    report::{Report, suggest, suggest_product},
    rollout_check,
    secret::{self, Absent, Resolver, Secrets},
    service,
    tree::{self, Node, Parsed, Shape, Source, Table},
    vault,
};
use crate::{
    approval::ApprovalRules,
    balancer::Kind,
    bundle::Bundle,
    call::{Check, Hooks},
    drift::keys::KeyRules,
    finding::names_at_most,
    ids::{Digest, GroupName, NodeName},
    key_manager::KeyManagers,
    product::{self, Catalogue, FileRule, Product},
    rollout::order::Order,
};

/// Composes a fleet directory that has no secrets: one that is asked for is an error.
pub fn compose(sources: &Sources) -> Composition {
    compose_with(sources, &Secrets::new(BTreeMap::new(), Absent::Refuse))
}

/// Composes a fleet directory. Pure: the same sources and secrets give the same bytes and findings.
pub fn compose_with(sources: &Sources, secrets: &Secrets) -> Composition {
    let mut report = Report::default();
    let resolver = Resolver::new(secrets);
    let fleet = compose_into(sources, &resolver, &mut report);
    resolver.report(&mut report);
    let fleet = fleet.filter(|_| !report.has_errors());
    Composition { fleet, findings: report.into_findings() }
}

/// The TOML files of the directory, parsed.
pub(super) type Documents = BTreeMap<String, Parsed>;

fn compose_into(sources: &Sources, secrets: &Resolver, report: &mut Report) -> Option<Fleet> {
    if !check_size(sources, report) {
        return None;
    }
    let documents = parse_all(sources, report);
    let Some(fleet_toml) = documents.get("fleet.toml") else {
        if !sources.0.contains_key("fleet.toml") {
            report.error(
                "CV001",
                None,
                "there is no fleet.toml in this directory",
                "name the directory that holds fleet.toml, or write one (docs/fleet-format.md)",
            );
        }
        return None;
    };
    let mut root = fleet_toml.root.clone();
    if let Some(overrides) = documents.get("overrides.toml") {
        merge(&mut root, overrides.root.clone(), "", &MergeKeys::new(), report);
        announce(overrides, report);
    }
    let products: Vec<&Table> = documents
        .iter()
        .filter(|(path, _)| path.starts_with("products/"))
        .map(|(_, parsed)| &parsed.root)
        .collect();
    let catalogue = product::read_products(&products, report);
    let manifest = manifest::read(&root, report)?;
    check::references(&manifest, report);
    check::layers(&manifest, &documents, report);
    key_manager_text::check(&manifest, report);
    balancer_nodes::check(&manifest, report);
    let owners: Vec<&str> = manifest
        .groups
        .keys()
        .map(GroupName::as_str)
        .chain(manifest.nodes.keys().map(NodeName::as_str))
        .collect();
    let extras = files::find(sources, &owners, report);
    let composer = Composer {
        sources,
        manifest: &manifest,
        documents: &documents,
        catalogue: &catalogue,
        extras,
        secrets,
        key_names: KeyNames::default(),
    };
    composer.fleet(report)
}

fn check_size(sources: &Sources, report: &mut Report) -> bool {
    let size: usize = sources.0.values().map(Vec::len).sum();
    if sources.0.len() <= SOURCES_MAX && size <= SOURCES_SIZE_MAX {
        return true;
    }
    report.error(
        "CV002",
        None,
        format!(
            "the fleet directory has {} files of {size} bytes; at most {SOURCES_MAX} files of {SOURCES_SIZE_MAX} \
             bytes together are possible",
            sources.0.len()
        ),
        "keep packs and builds out of the fleet directory",
    );
    false
}

fn parse_all(sources: &Sources, report: &mut Report) -> Documents {
    let mut documents = Documents::new();
    for (path, content) in &sources.0 {
        let is_text = path.starts_with("files/") || path.starts_with("balancers/");
        if is_text || !Sources::wants(path) {
            continue;
        }
        if TOML_SIZE_MAX < content.len() {
            report.error(
                "CV402",
                Some(whole_file(path)),
                format!("{path} has {} bytes; a TOML file may have {TOML_SIZE_MAX}", content.len()),
                "split it into layers",
            );
            continue;
        }
        let Ok(text) = std::str::from_utf8(content) else {
            report.error(
                "CV003",
                Some(whole_file(path)),
                format!("{path} is not UTF-8 text"),
                "save it as UTF-8",
            );
            continue;
        };
        let source = Source::new(path, text);
        match tree::parse(&source) {
            Ok(parsed) => {
                if path.starts_with("config/") {
                    config::check_lists(&parsed.root, "", report);
                }
                documents.insert(path.clone(), parsed);
            }
            Err(error) => {
                let place = tree::At::start_of(&source).place_of(error.offset);
                let remedy = if has_expression(&place.line_text) {
                    "inside \"...\" write the names of an expression in single quotes, as in nodes('gateway')"
                } else {
                    "correct the line; often it is a missing quote or bracket, or a table that is there twice"
                };
                let first = first_of(text, error.offset, &error.message);
                let first =
                    first.map(|line| format!("; it stands in line {line} already")).unwrap_or_default();
                let message = format!("this is not TOML: {}{first}", error.message);
                report.error("CV004", Some(place), message, remedy);
            }
        }
    }
    documents
}

/// The line of the first definition of what is defined a second time at `offset`.
fn first_of(text: &str, offset: usize, message: &str) -> Option<usize> {
    if !message.contains("duplicate") {
        return None;
    }
    let key = |line: &str| line.split(['=', '#']).next().unwrap_or_default().trim().to_owned();
    let lines: Vec<&str> = text.lines().collect();
    let second = text.get(..offset)?.matches('\n').count();
    let wanted = key(lines.get(second)?);
    let is_header = wanted.starts_with('[');
    // A key is looked for in its own table only, a table's heading everywhere.
    let from = lines[..second].iter().rposition(|line| !is_header && line.trim_start().starts_with('['));
    let above = lines.iter().enumerate().take(second).skip(from.unwrap_or(0));
    above.filter(|(_, line)| key(line) == wanted).map(|(at, _)| at + 1).next()
}

/// Keys of overrides.toml that are named; its number is told as well.
const OVERRIDES_NAMED: usize = 8;

/// What stands in no repository and changes what is composed is said each time.
fn announce(overrides: &Parsed, report: &mut Report) {
    let mut keys = Vec::new();
    leaves(&overrides.root, "", &mut keys);
    if keys.is_empty() {
        return;
    }
    let named = names_at_most(OVERRIDES_NAMED, keys.iter().map(String::as_str));
    report.info(
        "CV116",
        Some(overrides.root.at.key_place()),
        format!("overrides.toml is merged over fleet.toml: it sets {named}"),
        "move what everybody shall have into fleet.toml; delete the file where it is not meant",
    );
}

fn leaves(table: &Table, prefix: &str, keys: &mut Vec<String>) {
    for (key, node) in table.iter() {
        let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        match node {
            Node::Table(inner) => leaves(inner, &path, keys),
            Node::Leaf(_) | Node::Tables(_) => keys.push(path),
        }
    }
}

struct Composer<'a> {
    sources: &'a Sources,
    manifest: &'a Manifest<'a>,
    documents: &'a Documents,
    catalogue: &'a Catalogue,
    extras: Extras<'a>,
    secrets: &'a Resolver,
    key_names: KeyNames,
}

/// A node on its way.
pub(super) struct Draft<'a> {
    pub(super) name: &'a NodeName,
    pub(super) text: &'a NodeText<'a>,
    pub(super) group: &'a GroupText<'a>,
    /// Its layers merged, from when it is composed on; empty before.
    pub(super) config: Table,
    pub(super) trailing: Vec<String>,
    pub(super) facts: Arc<NodeFacts>,
    /// What this node asks for.
    pub(super) secrets: Resolver,
}

/// The keys of a composed deployment.toml.
fn flattened(text: &str, report: &mut Report) -> Option<super::canonical::Flat> {
    match super::canonical::flatten(text) {
        Ok(flat) => Some(flat),
        Err(error) => {
            // Never expected: what is printed comes from a parsed tree.
            let message = format!("the composed deployment.toml is {error}");
            report.error("CV209", None, message, "report this");
            None
        }
    }
}

/// File rules of a node's group and of the node.
fn own_rules(draft: &Draft<'_>, report: &mut Report) -> Vec<FileRule> {
    let typed = draft.group.files.iter().chain(&draft.text.files);
    typed.filter_map(|rule| rule.literal(report)).collect()
}

impl<'a> Composer<'a> {
    fn fleet(&self, report: &mut Report) -> Option<Fleet> {
        let products = self.products(report);
        let mut drafts = Vec::new();
        let early = Expressions::new(self.manifest.name.as_str(), BTreeMap::new());
        for (name, text) in &self.manifest.nodes {
            let Some(group) = self.manifest.groups.get(&text.group) else { continue };
            let Some(product) = products.get(&text.group) else { continue };
            report.node = Some(name.clone());
            drafts.extend(self.draft((name, text, group), product, &early, report));
            report.node = None;
        }
        check::hosts(&drafts, report);
        check::zones(self.manifest, report);
        let mut groups: BTreeMap<String, Vec<Arc<NodeFacts>>> =
            self.manifest.groups.keys().map(|name| (name.to_string(), Vec::new())).collect();
        for draft in &drafts {
            groups.entry(draft.facts.group.clone()).or_default().push(Arc::clone(&draft.facts));
        }
        let expressions = Expressions::new(self.manifest.name.as_str(), groups);
        let rules = self.fleet_rules(report);
        let facts: Vec<Arc<NodeFacts>> = drafts.iter().map(|draft| Arc::clone(&draft.facts)).collect();
        let mut nodes = BTreeMap::new();
        let (of_balancers, drafts): (Vec<_>, Vec<_>) =
            drafts.into_iter().partition(|draft| draft.group.balancer.is_some());
        for draft in drafts {
            report.node = Some(draft.name.clone());
            let (name, secrets) = (draft.name.clone(), draft.secrets.clone());
            if let Some(node) = self.node(draft, &expressions, &rules, report) {
                nodes.insert(name, node);
            }
            self.secrets.take_up(&secrets);
            report.node = None;
        }
        let mut balancers = balancers_text::resolve(&self.manifest.balancers, &nodes, report);
        let templates = balancer_template::find(&self.manifest.balancers, self.sources, report);
        balancer_nodes::tell_hooks(self.manifest, &balancers, &mut nodes);
        for draft in &of_balancers {
            report.node = Some(draft.name.clone());
            let texts = balancer_nodes::Texts {
                balancers: &balancers,
                templates: &templates,
                expressions: &expressions,
            };
            let node = balancer_nodes::compose(draft, self.manifest, &texts, &rules, report);
            nodes.extend(node.map(|node| (draft.name.clone(), node)));
            report.node = None;
        }
        balancer_template::write(&mut balancers, (self.manifest, &nodes), (&templates, &expressions), report);
        balancer_nodes::ports(&of_balancers, &nodes, report);
        let order = check::order(self.manifest, &nodes, &facts, report);
        let groups = self.groups(&nodes, &order);
        rollout_check::policies(self.manifest, &groups, &nodes, report);
        Some(Fleet {
            name: self.manifest.name.clone(),
            default_credentials: self.manifest.default_credentials,
            databases: self.manifest.databases.clone(),
            balancers,
            rollout: self.manifest.rollout.clone(),
            approval: self.approval(),
            alerts: self.manifest.alerts.alerts.clone(),
            signatures: self.manifest.signatures.clone(),
            groups,
            order_reasons: order.reasons,
            nodes,
        })
    }

    fn approval(&self) -> ApprovalRules {
        let groups = self.manifest.groups.iter().filter(|(_, group)| group.needs_approval);
        ApprovalRules {
            fleet: self.manifest.approval.required,
            groups: groups.map(|(name, _)| name.clone()).collect(),
            expires: self.manifest.approval.expires,
        }
    }

    fn products(&self, report: &mut Report) -> BTreeMap<GroupName, Arc<Product>> {
        let mut products = BTreeMap::new();
        for (name, group) in &self.manifest.groups {
            if group.balancer.is_some() {
                let kind = Kind::parse(&group.product.value).unwrap_or(Kind::Haproxy);
                products.insert(name.clone(), Arc::new(balancer_nodes::product(kind)));
                continue;
            }
            match self.catalogue.get(&group.product.value) {
                Some(product) => {
                    products.insert(name.clone(), Arc::new(product.clone()));
                }
                None => report.error(
                    "CV109",
                    Some(group.product.at.value_place()),
                    format!("there is no product {:?}", group.product.value),
                    suggest_product(&group.product.value, self.catalogue.keys().map(String::as_str)),
                ),
            }
        }
        products
    }

    fn groups(&self, nodes: &BTreeMap<NodeName, ComposedNode>, order: &Order) -> BTreeMap<GroupName, Group> {
        let member = |group: &GroupName| {
            nodes.iter().filter(|(_, node)| node.group == *group).map(|(name, _)| name.clone()).collect()
        };
        self.manifest
            .groups
            .iter()
            .map(|(name, group)| {
                let composed = Group {
                    product: group.product.value.clone(),
                    after: order.after.get(name).cloned().unwrap_or_default(),
                    rollout: rollout_check::effective(
                        &group.rollout,
                        nodes.values().filter(|node| node.group == *name),
                    ),
                    gates: group.gates.iter().map(|gate| gate.gate().clone()).collect(),
                    nodes: member(name),
                };
                (name.clone(), composed)
            })
            .collect()
    }

    /// Merges the layers of one node and evaluates what its expressions will need of it.
    fn draft(
        &self,
        (name, text, group): (&'a NodeName, &'a NodeText<'a>, &'a GroupText<'a>),
        product: &Arc<Product>,
        early: &Expressions,
        report: &mut Report,
    ) -> Option<Draft<'a>> {
        // Merged again when its turn comes: what all nodes of a large fleet have merged takes more memory than the fleet.
        let (config, _) = self.merged(name, (text, group), product, report);
        let offset = match &text.offset {
            Some(offset) => offset.value,
            None => config::literal_offset(&config, report)?,
        };
        let config = Table::empty(config.at, Shape::Implicit);
        let id = (name.as_str(), text.group.as_str(), offset);
        let mut values = BTreeMap::new();
        for scope in [self.manifest.values, group.values, text.values].into_iter().flatten() {
            let names = early.early_names(id, &values);
            let mut nearer = BTreeMap::new();
            for (key, node) in scope.iter() {
                if let Some(value) = evaluate_node(node, early, &names, report) {
                    nearer.insert(key.to_owned(), value);
                }
            }
            values.append(&mut nearer);
        }
        let names = early.early_names(id, &values);
        let host = service::text(&text.host, early, &names, report);
        let home = service::home(&text.home, early, &names, report);
        let facts = NodeFacts {
            name: name.to_string(),
            group: text.group.to_string(),
            host: host?,
            home: home?,
            offset,
            product: Arc::clone(product),
            ports: node_ports((text, group), product, report),
            values,
        };
        let secrets = self.secrets.apart();
        Some(Draft { name, text, group, config, trailing: Vec::new(), facts: Arc::new(facts), secrets })
    }

    /// The layers of a node, in order: those of its group, its own, then `config/nodes/<node>.toml` if there is one.
    fn merged(
        &self,
        name: &NodeName,
        (text, group): (&NodeText<'_>, &GroupText<'_>),
        product: &Product,
        report: &mut Report,
    ) -> (Table, Vec<String>) {
        let mut paths: Vec<String> = group.layers.iter().chain(&text.layers).map(layer_path).collect();
        let own = format!("config/nodes/{name}.toml");
        if !paths.contains(&own) {
            paths.push(own);
        }
        let start = tree::At::start_of(&text.at.source);
        let mut config = Table::empty(start, Shape::Implicit);
        let mut trailing = Vec::new();
        for parsed in paths.iter().filter_map(|path| self.documents.get(path)) {
            merge(&mut config, parsed.root.clone(), "", &product.merge_keys, report);
            trailing.extend(parsed.trailing.iter().cloned());
        }
        (config, trailing)
    }

    fn fleet_rules(&self, report: &mut Report) -> Vec<FileRule> {
        self.manifest.files.iter().filter_map(|rule| rule.literal(report)).collect()
    }

    fn node(
        &self,
        mut draft: Draft<'_>,
        expressions: &Expressions,
        fleet_rules: &[FileRule],
        report: &mut Report,
    ) -> Option<ComposedNode> {
        // What is wrong with the layers was told when the draft was made.
        let layers = (draft.text, draft.group);
        (draft.config, draft.trailing) =
            self.merged(draft.name, layers, &draft.facts.product, &mut Report::default());
        let names = expressions.names(&draft.facts);
        let mut open_names = names.clone();
        open_names.insert("secret", draft.secrets.function());
        // Layers and files may hold secrets; service settings, which are shown, may not.
        let open_scope = (expressions, &open_names);
        let scope = (expressions, &names);
        secret::check_places(&draft.config, "", report);
        let asks = secret::asks(&tree::print(&draft.config, &[]));
        let secret_keys = secret::keys(&draft.config);
        config::evaluate(&mut draft.config, open_scope, report);
        config::set_offset(&mut draft, report);
        config::secrets_last(&mut draft);
        let text = config::print(&draft, &draft.trailing, self.manifest.name.as_str());
        let flat = flattened(&text, report)?;
        let own: Vec<FileRule> = own_rules(&draft, report);
        let product = Arc::clone(&draft.facts.product);
        let rules: Vec<&FileRule> = product.files.iter().chain(fleet_rules).chain(&own).collect();
        let mut files = BTreeMap::new();
        let mut contents: BTreeMap<Digest, Arc<[u8]>> = BTreeMap::new();
        for rendered in self.extra_files(&draft, open_scope, &rules, report) {
            contents.insert(rendered.entry.digest, rendered.content);
            files.insert(rendered.path, rendered.entry);
        }
        let text: Arc<str> = text.into();
        let content: Arc<[u8]> = Arc::clone(&text).into();
        let mut entry = files::settings(&product.config_path, &rules);
        entry.digest = Digest::of(&content);
        entry.meaning = super::canonical::meaning_of(&flat);
        entry.size = content.len() as u64;
        if asks {
            entry.mode &= 0o700;
        }
        contents.insert(entry.digest, content);
        files.insert(product.config_path.clone(), entry);
        for rendered in vault::files(&draft, &draft.secrets, report) {
            contents.insert(rendered.entry.digest, rendered.content);
            files.insert(rendered.path, rendered.entry);
        }
        files::check_bundle(&files, report);
        let service = service::settings(&draft, &self.manifest.service, scope, &flat, report)?;
        let (hooks, gates) = self.calls(&draft, scope, report);
        let key_managers = self.key_managers(&draft, scope, report);
        let (drift_keys, unnamed_editors) = self.drift(&draft);
        let (origin, balancer) = (None, None);
        Some(ComposedNode {
            group: draft.text.group.clone(),
            host: draft.facts.host.clone(),
            zone: draft.text.zone.clone(),
            bundle: Bundle {
                files,
                service,
                hooks,
                origin,
                drift_keys,
                unnamed_editors,
                key_managers,
                balancer,
            },
            gates,
            contents,
            config_text: text,
            origins: self.key_names.origins(&draft.config, flat.keys(), &draft.text.at),
            secret_keys,
            secrets: draft.secrets.asked(),
        })
    }

    /// What is done around a stop, and what is asked after a wave.
    fn calls(
        &self,
        draft: &Draft<'_>,
        (expressions, names): (&Expressions, &super::expression::Names),
        report: &mut Report,
    ) -> (Hooks, Vec<Check>) {
        let scope = |use_of| call_text::Scope {
            expressions,
            names,
            node: draft.name.as_str(),
            secrets: &draft.secrets,
            use_of,
        };
        let hooks = draft.group.hooks.resolve(&scope(SecretUse::Value), report);
        let scope = scope(SecretUse::Name);
        let gates = draft.group.gates.iter().filter_map(|gate| gate.resolve(&scope, report)).collect();
        (hooks, gates)
    }

    /// Whose edits of which keys are left alone, and whether it is not asked who made an edit.
    fn drift(&self, draft: &Draft<'_>) -> (KeyRules, bool) {
        let scopes = [&draft.text.drift, &draft.group.drift, &self.manifest.drift];
        let unnamed = scopes.iter().find_map(|scope| scope.name_editors) == Some(false);
        (KeyRules::of_scopes(scopes.map(|scope| scope.keys.clone())), unnamed)
    }

    fn key_managers(
        &self,
        draft: &Draft<'_>,
        (expressions, names): (&Expressions, &super::expression::Names),
        report: &mut Report,
    ) -> KeyManagers {
        let scope = call_text::Scope {
            expressions,
            names,
            node: draft.name.as_str(),
            secrets: &draft.secrets,
            use_of: SecretUse::Value,
        };
        key_manager_text::resolve(draft, self.manifest, &scope, report)
    }

    /// The group's files, with the node's own in their place.
    fn extra_files(
        &self,
        draft: &Draft<'_>,
        scope: (&Expressions, &super::expression::Names),
        rules: &[&FileRule],
        report: &mut Report,
    ) -> Vec<files::Rendered> {
        let mut chosen = BTreeMap::new();
        for owner in [draft.text.group.as_str(), draft.name.as_str()] {
            for (path, extra) in self.extras.get(owner).into_iter().flatten() {
                if *path == draft.facts.product.config_path {
                    report.error(
                        "CV405",
                        Some(whole_file(&format!("files/{owner}/{path}"))),
                        format!("{path} is composed from layers and cannot be given as a file"),
                        "move it to config/ and name it as a layer",
                    );
                    continue;
                }
                chosen.insert(path, extra);
            }
        }
        chosen.into_iter().filter_map(|(path, extra)| extra.render(path, scope, rules, report)).collect()
    }
}

pub(super) fn layer_path(layer: &Typed<String>) -> String {
    format!("config/{}.toml", layer.value)
}

/// The ports that fleet.toml moves for a node, the node's own before those of its group.
fn node_ports(
    (text, group): (&NodeText<'_>, &GroupText<'_>),
    product: &Product,
    report: &mut Report,
) -> BTreeMap<String, u16> {
    let mut ports = BTreeMap::new();
    for (name, number) in group.ports.iter().chain(&text.ports) {
        if product.ports.iter().any(|port| port.name == *name) {
            ports.insert(name.clone(), number.value);
        } else {
            report.error(
                "CV303",
                Some(number.at.key_place()),
                format!("{} has no port called {name:?}", product.title),
                suggest(name, product.ports.iter().map(|port| port.name.as_str())),
            );
        }
    }
    ports
}

/// A value of `[values]`: its strings may hold expressions over wider scopes.
pub(super) fn evaluate_node(
    node: &Node,
    expressions: &Expressions,
    names: &super::expression::Names,
    report: &mut Report,
) -> Option<Value> {
    match node {
        Node::Leaf(leaf) => match leaf.value.as_str() {
            Some(text) if has_expression(text) => {
                let origin = Origin::of_string(&leaf.at, leaf.at.value, text);
                let value = expressions.evaluate(text, names, &origin, report)?;
                // What has no TOML form is no value either.
                to_toml(&value).map(|_| value)
            }
            _ => Some(from_toml(&leaf.value)),
        },
        Node::Table(table) => {
            let mut fields = BTreeMap::new();
            for (key, node) in table.iter() {
                fields.insert(key.to_owned(), evaluate_node(node, expressions, names, report)?);
            }
            Some(Value::from(fields))
        }
        Node::Tables(tables) => tables
            .iter()
            .map(|table| evaluate_node(&Node::Table(table.clone()), expressions, names, report))
            .collect(),
    }
}
