//! Product definitions from TOML. Built-in ones are read by the same code as those of a fleet, so the format is one.

use std::{collections::BTreeMap, time::Duration};

use super::{BUILT_IN, Catalogue, FileRule, Product, ProductPort, ProductProbe};
use crate::{
    bundle::{BodyRule, DriftPolicy, HomePath, ProbeRole, RestartClass},
    spec::{
        reader::{Reader, Typed, as_leaf},
        report::{Report, suggest},
        tree::{self, At, Source, Table},
    },
};

/// How long a chain of `extends` may be.
const EXTENDS_MAX: usize = 8;

/// Every field may be absent: it then comes from the product that is extended.
#[derive(Clone, Default)]
struct Draft {
    extends: Option<Typed<String>>,
    at: Option<At>,
    is_abstract: bool,
    title: Option<String>,
    script_unix: Option<HomePath>,
    script_windows: Option<HomePath>,
    config_path: Option<HomePath>,
    args: Option<Vec<String>>,
    jdk: Option<(u32, Option<u32>)>,
    owned_keys: Option<Vec<String>>,
    merge_keys: BTreeMap<String, String>,
    ready_lines: Option<Vec<String>>,
    start_deadline: Option<Duration>,
    stop_deadline: Option<Duration>,
    ports: Option<Vec<ProductPort>>,
    probes: Option<Vec<ProductProbe>>,
    files: Files,
}

/// Rules for files; a product's own come after those it inherits, and later rules win.
#[derive(Clone, Default)]
struct Files {
    rules: Vec<FileRule>,
    /// `files = []`: nothing is inherited.
    clears: bool,
}

pub(super) fn built_in() -> Catalogue {
    let mut report = Report::default();
    // A mistake in the embedded files is found by this module's tests, which see the report empty.
    from_drafts(&built_in_drafts(&mut report), &mut report)
}

fn built_in_drafts(report: &mut Report) -> BTreeMap<String, Draft> {
    let mut drafts = BTreeMap::new();
    for (name, text) in BUILT_IN {
        match tree::parse(&Source::new(name, text)) {
            Ok(parsed) => read_file(&parsed.root, &mut drafts, report),
            Err(error) => report.error("CV004", None, format!("{name}: {error}"), "repair the embedded file"),
        }
    }
    drafts
}

#[cfg(test)]
pub(super) fn built_in_report() -> Report {
    let mut report = Report::default();
    from_drafts(&built_in_drafts(&mut report), &mut report);
    report
}

/// The built-in profiles with those of a fleet's `products/*.toml` added or put in their place.
pub(crate) fn read_products(files: &[&Table], report: &mut Report) -> Catalogue {
    if files.is_empty() {
        return super::built_in().clone();
    }
    let mut drafts = built_in_drafts(report);
    for file in files {
        read_file(file, &mut drafts, report);
    }
    from_drafts(&drafts, report)
}

fn read_file(root: &Table, drafts: &mut BTreeMap<String, Draft>, report: &mut Report) {
    let mut reader = Reader::new(root, "");
    for mut entry in reader.tables("product", report) {
        let id = entry.text("id", report);
        let id = entry.required("id", id, "\"wso2is-7.2-ours\"", report);
        let draft = read_draft(&mut entry, report);
        entry.finish(report);
        if let Some(id) = id {
            drafts.insert(id.value, draft);
        }
    }
    reader.finish(report);
}

fn read_draft(entry: &mut Reader<'_>, report: &mut Report) -> Draft {
    Draft {
        extends: entry.text("extends", report),
        at: Some(entry.at().clone()),
        is_abstract: entry.flag("abstract", report).unwrap_or(false),
        title: entry.text("title", report).map(|typed| typed.value),
        script_unix: home_path(entry, "script_unix", report),
        script_windows: home_path(entry, "script_windows", report),
        config_path: home_path(entry, "config_path", report),
        args: entry.texts("args", report).map(|typed| typed.value),
        jdk: read_jdk(entry, report),
        owned_keys: entry.texts("owned_keys", report).map(|typed| typed.value),
        merge_keys: read_merge_keys(entry, report),
        ready_lines: entry.texts("ready_lines", report).map(|typed| typed.value),
        start_deadline: entry.duration("start_deadline", report),
        stop_deadline: entry.duration("stop_deadline", report),
        ports: read_list(entry, "ports", read_port, report),
        probes: read_list(entry, "probes", read_probe, report),
        files: read_files(entry, report),
    }
}

fn read_files(entry: &mut Reader<'_>, report: &mut Report) -> Files {
    let rules = entry.tables("files", report);
    Files {
        clears: rules.is_empty() && entry.raw().get("files").is_some(),
        rules: rules
            .into_iter()
            .filter_map(|mut rule| file_rule(&mut rule, report).and_then(|rule| rule.literal(report)))
            .collect(),
    }
}

fn read_list<T>(
    entry: &mut Reader<'_>,
    key: &'static str,
    read: impl Fn(&mut Reader<'_>, &mut Report) -> Option<T>,
    report: &mut Report,
) -> Option<Vec<T>> {
    let items = entry.tables(key, report);
    // A list that is typed and empty clears what would be inherited.
    if items.is_empty() && entry.raw().get(key).is_none() {
        return None;
    }
    Some(
        items
            .into_iter()
            .filter_map(|mut item| {
                let read = read(&mut item, report);
                item.finish(report);
                read
            })
            .collect(),
    )
}

fn home_path(entry: &mut Reader<'_>, key: &'static str, report: &mut Report) -> Option<HomePath> {
    let typed = entry.text(key, report)?;
    match HomePath::parse(&typed.value) {
        Ok(path) => Some(path),
        Err(error) => {
            report.error(
                "CV401",
                Some(typed.at.value_place()),
                error.to_string(),
                "write a path below the server's home with '/' between its parts",
            );
            None
        }
    }
}

fn read_jdk(entry: &mut Reader<'_>, report: &mut Report) -> Option<(u32, Option<u32>)> {
    let typed = entry.numbers("jdk", report)?;
    let versions: Option<Vec<u32>> = typed.value.iter().map(|number| u32::try_from(*number).ok()).collect();
    match versions.as_deref() {
        Some([from]) => Some((*from, None)),
        Some([from, to]) if from <= to => Some((*from, Some(*to))),
        _ => {
            report.error(
                "CV110",
                Some(typed.at.value_place()),
                "`jdk` must name the oldest and the newest JDK, or only the oldest",
                "write for example jdk = [11, 21]",
            );
            None
        }
    }
}

fn read_merge_keys(entry: &mut Reader<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let Some(table) = entry.table("merge_keys", report) else { return BTreeMap::new() };
    let mut keys = BTreeMap::new();
    for (path, node) in table.entries() {
        match as_leaf(node).and_then(|leaf| leaf.value.as_str()) {
            Some(key) => {
                keys.insert(path.to_owned(), key.to_owned());
            }
            None => report.error(
                "CV110",
                node.at().map(At::key_place),
                format!("the merge key of {path:?} must be a string"),
                "quote the whole path and name the key, as in \"apim.jwt.issuer\" = \"name\"",
            ),
        }
    }
    keys
}

fn read_port(item: &mut Reader<'_>, report: &mut Report) -> Option<ProductPort> {
    let name = item.text("name", report);
    let number = item.number("number", (1, 65_535), report);
    let port = (
        item.required("name", name, "\"https\"", report),
        item.required("number", number, "9443", report),
        item.flag("required", report).unwrap_or(false),
        item.flag("offset", report).unwrap_or(true),
        item.flag("open", report).unwrap_or(true),
    );
    let (Some(name), Some(number), required, offset, open) = port else { return None };
    let number = u16::try_from(number.value).ok()?;
    Some(ProductPort { name: name.value, number, required, offset, open })
}

fn read_probe(item: &mut Reader<'_>, report: &mut Report) -> Option<ProductProbe> {
    let name = item.text("name", report);
    let name = item.required("name", name, "\"version\"", report);
    let port = item.text("port", report);
    let port = item.required("port", port, "\"https\"", report);
    let role = [(ProbeRole::Liveness, "liveness"), (ProbeRole::Readiness, "readiness")];
    let role = item.choice("role", &role, report).unwrap_or(ProbeRole::Readiness);
    let body = match item.text("body", report).map(|typed| typed.value) {
        None => BodyRule::Any,
        Some(word) if word == "health-api" => BodyRule::HealthApi,
        Some(text) => BodyRule::Contains(text),
    };
    let tls = item.flag("tls", report).unwrap_or(false);
    let path = item.text("path", report).map(|typed| typed.value);
    let status = item.number("status", (100, 599), report).map_or(200, |typed| typed.value);
    let timeout = item.duration("timeout", report).unwrap_or(Duration::from_secs(5));
    let when = item.text("when", report).map(|typed| typed.value);
    Some(ProductProbe {
        name: name?.value,
        role,
        port: port?.value,
        tls,
        path,
        status: u16::try_from(status).unwrap_or(200),
        body,
        timeout,
        when,
    })
}

/// A `[[files]]` rule as typed; fleet.toml's may name their path by an expression.
pub(crate) struct FileRuleText {
    pub(crate) path: Typed<String>,
    pub(crate) mode: Option<u32>,
    pub(crate) drift: Option<DriftPolicy>,
    pub(crate) restart: Option<RestartClass>,
    pub(crate) secret: Option<bool>,
}

impl FileRuleText {
    pub(crate) fn literal(&self, report: &mut Report) -> Option<FileRule> {
        if let Some(why) = super::pattern::problem(&self.path.value) {
            report.error(
                "CV409",
                Some(self.path.at.value_place()),
                format!("{:?} is not a pattern of paths below home: {why}", self.path.value),
                "write a path below home; * matches within a part, ** any number of parts",
            );
            return None;
        }
        Some(FileRule {
            path: self.path.value.clone(),
            mode: self.mode,
            drift: self.drift,
            restart: self.restart,
            secret: self.secret,
        })
    }
}

const DRIFT: [(DriftPolicy, &str); 3] =
    [(DriftPolicy::Enforce, "enforce"), (DriftPolicy::Report, "report"), (DriftPolicy::Ignore, "ignore")];
const RESTART: [(RestartClass, &str); 4] = [
    (RestartClass::None, "none"),
    (RestartClass::Hot, "hot"),
    (RestartClass::Restart, "restart"),
    (RestartClass::Phased, "phased"),
];

/// Reads one `[[files]]` rule, of a product or of fleet.toml.
pub(crate) fn file_rule(rule: &mut Reader<'_>, report: &mut Report) -> Option<FileRuleText> {
    let path = rule.text("path", report);
    let path = rule.required("path", path, "\"repository/conf/log4j2.properties\"", report);
    let mode = read_mode(rule, report);
    let drift = rule.choice("drift", &DRIFT, report);
    let restart = rule.choice("restart", &RESTART, report);
    let secret = rule.flag("secret", report);
    rule.finish(report);
    Some(FileRuleText { path: path?, mode, drift, restart, secret })
}

fn read_mode(rule: &mut Reader<'_>, report: &mut Report) -> Option<u32> {
    let typed = rule.text("mode", report)?;
    match u32::from_str_radix(&typed.value, 8) {
        // Owner read is needed by the server itself; set-user-id and the like have no place here.
        Ok(mode) if mode <= 0o777 && mode & 0o400 != 0 => Some(mode),
        _ => {
            report.error(
                "CV410",
                Some(typed.at.value_place()),
                format!("{:?} is not a file mode", typed.value),
                "write three octal digits in quotes with read for the owner, as in \"0640\"",
            );
            None
        }
    }
}

fn from_drafts(drafts: &BTreeMap<String, Draft>, report: &mut Report) -> Catalogue {
    let mut catalogue = Catalogue::new();
    for (id, draft) in drafts {
        if draft.is_abstract {
            continue;
        }
        let Some(whole) = inherit(id, drafts, report) else { continue };
        match finish(id, whole) {
            Ok(product) => {
                catalogue.insert(id.clone(), product);
            }
            Err(missing) => report.error(
                "CV110",
                draft.at.as_ref().map(At::key_place),
                format!("product {id:?} does not say `{missing}`, and extends nothing that does"),
                format!("add `{missing}`, or extends = \"wso2is\" or \"wso2am\""),
            ),
        }
    }
    catalogue
}

/// The draft with everything that it does not say taken from what it extends.
fn inherit(id: &str, drafts: &BTreeMap<String, Draft>, report: &mut Report) -> Option<Draft> {
    let mut whole = drafts.get(id)?.clone();
    let mut next = whole.extends.take();
    for _ in 0..EXTENDS_MAX {
        let Some(parent_id) = next.take() else { return Some(whole) };
        let Some(parent) = drafts.get(&parent_id.value) else {
            report.error(
                "CV110",
                Some(parent_id.at.value_place()),
                format!("product {id:?} extends {:?}, which does not exist", parent_id.value),
                suggest(&parent_id.value, drafts.keys().map(String::as_str)),
            );
            return None;
        };
        fill_from(&mut whole, parent);
        next.clone_from(&parent.extends);
    }
    report.error(
        "CV110",
        whole.at.as_ref().map(At::key_place),
        format!("product {id:?} extends itself, or by more than {EXTENDS_MAX} steps"),
        "cut the chain of `extends`",
    );
    None
}

fn fill_from(whole: &mut Draft, parent: &Draft) {
    fn fill<T: Clone>(own: &mut Option<T>, inherited: &Option<T>) {
        if own.is_none() {
            own.clone_from(inherited);
        }
    }
    fill(&mut whole.title, &parent.title);
    fill(&mut whole.script_unix, &parent.script_unix);
    fill(&mut whole.script_windows, &parent.script_windows);
    fill(&mut whole.config_path, &parent.config_path);
    fill(&mut whole.args, &parent.args);
    fill(&mut whole.jdk, &parent.jdk);
    fill(&mut whole.owned_keys, &parent.owned_keys);
    fill(&mut whole.ready_lines, &parent.ready_lines);
    fill(&mut whole.start_deadline, &parent.start_deadline);
    fill(&mut whole.stop_deadline, &parent.stop_deadline);
    fill(&mut whole.ports, &parent.ports);
    fill(&mut whole.probes, &parent.probes);
    for (path, key) in &parent.merge_keys {
        whole.merge_keys.entry(path.clone()).or_insert_with(|| key.clone());
    }
    if !whole.files.clears {
        whole.files.rules.splice(0..0, parent.files.rules.iter().cloned());
        whole.files.clears = parent.files.clears;
    }
}

fn finish(id: &str, draft: Draft) -> Result<Product, &'static str> {
    Ok(Product {
        id: id.to_owned(),
        title: draft.title.unwrap_or_else(|| id.to_owned()),
        script_unix: draft.script_unix.ok_or("script_unix")?,
        script_windows: draft.script_windows.ok_or("script_windows")?,
        config_path: draft.config_path.ok_or("config_path")?,
        args: draft.args.unwrap_or_default(),
        jdk: draft.jdk.ok_or("jdk")?,
        owned_keys: draft.owned_keys.unwrap_or_default(),
        merge_keys: draft.merge_keys,
        ready_lines: draft.ready_lines.ok_or("ready_lines")?,
        start_deadline: draft.start_deadline.ok_or("start_deadline")?,
        stop_deadline: draft.stop_deadline.ok_or("stop_deadline")?,
        ports: draft.ports.ok_or("ports")?,
        probes: draft.probes.unwrap_or_default(),
        files: draft.files.rules,
    })
}
