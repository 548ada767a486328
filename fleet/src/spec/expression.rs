//! `{{ }}` expressions: what names they may use, and where in the typed file a mistake stands.
//!
//! Names: `values`, `node`, `group`, `fleet`, `peers` (the other nodes of the group) and `nodes("group")`; filters
//! `urls(scheme, port)` and `addresses(port)` on lists of nodes. An unknown name is an error, never an empty text.
//! WSO2's own `$ref{}`, `$env{}`, `$sys{}`, `$secret{}` and `${}` hold no `{{` and pass through untouched.

use std::{collections::BTreeMap, error::Error as _, sync::Arc};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value,
    syntax::SyntaxConfig,
    value::{Enumerator, Object, ValueKind},
};

use super::{
    report::{Report, suggest},
    tree::At,
};
use crate::{
    bundle::FILE_SIZE_MAX,
    finding::Place,
    product::{Product, ProductPort},
};

/// Steps that one expression or template may take: far above any real one, far below what would be noticed.
const FUEL: u64 = 200_000;

/// What expressions may know of one node.
#[derive(Debug)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) host: String,
    pub(crate) home: String,
    pub(crate) offset: u16,
    pub(crate) product: Arc<Product>,
    /// Ports that fleet.toml puts elsewhere.
    pub(crate) ports: BTreeMap<String, u16>,
    pub(crate) values: BTreeMap<String, Value>,
}

impl NodeFacts {
    /// Where this node opens a port of its product; `None` beyond 65535.
    pub(crate) fn number(&self, port: &ProductPort) -> Option<u16> {
        self.ports.get(&port.name).copied().or_else(|| port.at(self.offset))
    }

    /// The ports that this node opens: those of the product, and those that fleet.toml names.
    pub(crate) fn open_ports(&self) -> impl Iterator<Item = &ProductPort> {
        self.product.ports.iter().filter(|port| port.open || self.ports.contains_key(&port.name))
    }

    fn port(&self, name: &str) -> Result<u16, Error> {
        let ports = &self.product.ports;
        let Some(port) = ports.iter().find(|port| port.name == name) else {
            return Err(unknown(
                format!("{} has no port called {name:?}", self.product.title),
                suggest(name, ports.iter().map(|port| port.name.as_str())),
            ));
        };
        self.number(port).ok_or_else(|| {
            unknown(
                format!("port {name:?} of node {} is beyond 65535", self.name),
                "lower the node's offset".to_owned(),
            )
        })
    }
}

/// A node as expressions see it.
#[derive(Debug)]
struct NodeView(Arc<NodeFacts>);

const NODE_FIELDS: [&str; 7] = ["name", "group", "host", "home", "offset", "product", "values"];

impl Object for NodeView {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let facts = &self.0;
        Some(match key.as_str()? {
            "name" => Value::from(facts.name.as_str()),
            "group" => Value::from(facts.group.as_str()),
            "host" => Value::from(facts.host.as_str()),
            "home" => Value::from(facts.home.as_str()),
            "offset" => Value::from(facts.offset),
            "product" => Value::from(facts.product.id.as_str()),
            "values" => Value::from(facts.values.clone()),
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&NODE_FIELDS)
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "port" => {
                let (name,): (&str,) = minijinja::value::from_args(args)?;
                Ok(Value::from(self.0.port(name)?))
            }
            "address" => {
                let (port,): (&str,) = minijinja::value::from_args(args)?;
                Ok(Value::from(format!("{}:{}", self.0.host, self.0.port(port)?)))
            }
            "url" => {
                let (scheme, port): (&str, &str) = minijinja::value::from_args(args)?;
                Ok(Value::from(format!("{scheme}://{}:{}", self.0.host, self.0.port(port)?)))
            }
            _ => Err(unknown(
                format!("a node has no method {method:?}"),
                suggest(method, ["port", "address", "url"]),
            )),
        }
    }
}

/// A name that does not exist, found by one of our own functions.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Unknown {
    code: &'static str,
    message: String,
    remedy: String,
}

fn unknown(message: String, remedy: String) -> Error {
    coded("CV303", message, remedy)
}

/// A secret that cannot be had.
pub(super) fn no_secret(message: String, remedy: String) -> Error {
    coded("CV307", message, remedy)
}

fn coded(code: &'static str, message: String, remedy: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Unknown { code, message, remedy })
}

/// Evaluates expressions for all nodes of one fleet.
pub(crate) struct Expressions {
    environment: Environment<'static>,
    groups: Arc<BTreeMap<String, Vec<Arc<NodeFacts>>>>,
    fleet: String,
}

/// The names that one node's expressions may use.
pub(crate) type Names = BTreeMap<&'static str, Value>;

impl Expressions {
    /// `groups` is empty while the nodes themselves are still being read.
    pub(crate) fn new(fleet: &str, groups: BTreeMap<String, Vec<Arc<NodeFacts>>>) -> Self {
        let groups = Arc::new(groups);
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(64);
        let mut syntax = SyntaxConfig::builder();
        if let Ok(syntax) = syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build() {
            environment.set_syntax(syntax);
        }
        let known = Arc::clone(&groups);
        environment.add_function("nodes", move |name: &str| match known.get(name) {
            Some(nodes) => Ok(node_list(nodes)),
            None => Err(unknown(
                format!("there is no group called {name:?}"),
                suggest(name, known.keys().map(String::as_str)),
            )),
        });
        // Where secrets may be used, the names hold a function that stands before this one.
        environment.add_function("secret", |_name: &str| -> Result<Value, Error> {
            Err(no_secret(
                "a secret cannot be used here, where it would be shown".to_owned(),
                "use secret() in layers and in files/**/*.tmpl".to_owned(),
            ))
        });
        environment.add_filter("urls", |nodes: Value, scheme: &str, port: &str| {
            each_node(&nodes, |node| Ok(format!("{scheme}://{}:{}", node.host, node.port(port)?)))
        });
        environment.add_filter("addresses", |nodes: Value, port: &str| {
            each_node(&nodes, |node| Ok(format!("{}:{}", node.host, node.port(port)?)))
        });
        Self { environment, groups, fleet: fleet.to_owned() }
    }

    /// The names for one node.
    pub(crate) fn names(&self, node: &Arc<NodeFacts>) -> Names {
        let peers = self.groups.get(&node.group).map(Vec::as_slice).unwrap_or_default();
        let others: Vec<_> = peers.iter().filter(|peer| peer.name != node.name).cloned().collect();
        let group = BTreeMap::from([
            ("name", Value::from(node.group.as_str())),
            ("product", Value::from(node.product.id.as_str())),
            ("nodes", node_list(peers)),
        ]);
        BTreeMap::from([
            ("fleet", Value::from(BTreeMap::from([("name", self.fleet.clone())]))),
            ("group", Value::from(group)),
            ("node", Value::from_object(NodeView(Arc::clone(node)))),
            ("peers", node_list(&others)),
            ("values", Value::from(node.values.clone())),
        ])
    }

    /// The names that `[values]` and a node's own settings may use, before the nodes are known to each other.
    pub(crate) fn early_names(
        &self,
        (node, group, offset): (&str, &str, u16),
        values: &BTreeMap<String, Value>,
    ) -> Names {
        let facts: BTreeMap<&str, Value> = BTreeMap::from([
            ("name", Value::from(node)),
            ("group", Value::from(group)),
            ("offset", Value::from(offset)),
        ]);
        BTreeMap::from([
            ("fleet", Value::from(BTreeMap::from([("name", self.fleet.clone())]))),
            ("group", Value::from(BTreeMap::from([("name", group.to_owned())]))),
            ("node", Value::from(facts)),
            ("values", Value::from(values.clone())),
        ])
    }

    /// The value of a string that holds expressions: typed if the whole string is one expression, else text. `None`
    /// after a finding at the mistake's place.
    pub(crate) fn evaluate(
        &self,
        text: &str,
        names: &Names,
        origin: &Origin<'_>,
        report: &mut Report,
    ) -> Option<Value> {
        if let Some(inner) = whole_expression(text)
            && let Ok(expression) = self.environment.compile_expression(inner)
        {
            return match expression.eval(Value::from(names.clone())) {
                Ok(value) if value.is_undefined() => {
                    let missing = sorted(expression.undeclared_variables(true));
                    origin.undefined((inner, 2), &missing, names, report);
                    None
                }
                Ok(value) => Some(value),
                Err(error) => {
                    let missing = sorted(expression.undeclared_variables(true));
                    origin.failed(&error, (inner, 2), (&missing, names), report);
                    None
                }
            };
        }
        self.render(text, names, origin, report).map(Value::from)
    }

    /// A text with its expressions replaced.
    pub(crate) fn render(
        &self,
        text: &str,
        names: &Names,
        origin: &Origin<'_>,
        report: &mut Report,
    ) -> Option<String> {
        let template = match self.environment.template_from_str(text) {
            Ok(template) => template,
            Err(error) => {
                origin.failed(&error, (text, 0), (&[], names), report);
                return None;
            }
        };
        let mut out = Bounded::default();
        match template.render_captured_to(Value::from(names.clone()), &mut out) {
            Ok(_) => String::from_utf8(out.bytes).ok(),
            Err(error) => {
                let missing = sorted(template.undeclared_variables(true));
                origin.failed(&error, (text, 0), (&missing, names), report);
                None
            }
        }
    }
}

/// Refuses to grow beyond the size that a file may have.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if FILE_SIZE_MAX < (self.bytes.len() + bytes.len()) as u64 {
            return Err(std::io::Error::other("the result is larger than a file may be"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn sorted(names: std::collections::HashSet<String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort();
    names
}

fn node_list(nodes: &[Arc<NodeFacts>]) -> Value {
    nodes.iter().map(|node| Value::from_object(NodeView(Arc::clone(node)))).collect()
}

fn each_node(nodes: &Value, text: impl Fn(&NodeFacts) -> Result<String, Error>) -> Result<Value, Error> {
    let mut texts = Vec::new();
    for node in nodes.try_iter()? {
        let Some(view) = node.downcast_object_ref::<NodeView>() else {
            return Err(unknown(
                "this filter takes a list of nodes".to_owned(),
                "use it as in nodes(\"group\") | urls(\"tcp\", \"amqp\")".to_owned(),
            ));
        };
        texts.push(Value::from(text(&view.0)?));
    }
    Ok(Value::from(texts))
}

/// Whether a text holds anything to evaluate.
pub(crate) fn has_expression(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// The inside of a text that is one `{{ }}` and nothing else.
fn whole_expression(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
    (!inner.contains("{{")).then_some(inner)
}

/// Where the text of an expression was typed.
pub(crate) struct Origin<'a> {
    pub(crate) at: &'a At,
    /// Byte offset in the file of the text's first byte; `None` if escapes keep text and file from lining up.
    pub(crate) start: Option<usize>,
}

impl<'a> Origin<'a> {
    /// The origin of a TOML string value `text` that begins at byte `value_at` of its file.
    pub(crate) fn of_string(at: &'a At, value_at: usize, text: &str) -> Self {
        let rest = at.source.text.get(value_at..).unwrap_or("");
        let quotes = if rest.starts_with("\"\"\"") || rest.starts_with("'''") { 3 } else { 1 };
        let mut start = value_at + quotes;
        if quotes == 3 {
            let inner = at.source.text.get(start..).unwrap_or("");
            start += if inner.starts_with("\r\n") { 2 } else { usize::from(inner.starts_with('\n')) };
        }
        let lines_up = at.source.text.get(start..).is_some_and(|inner| inner.starts_with(text));
        Self { at, start: lines_up.then_some(start) }
    }

    fn place(&self, offset: usize) -> Place {
        match self.start {
            Some(start) => self.at.place_of(start + offset),
            None => self.at.value_place(),
        }
    }

    fn failed(
        &self,
        error: &Error,
        typed: (&str, usize),
        (used, names): (&[String], &Names),
        report: &mut Report,
    ) {
        let range = error.range().unwrap_or(0..0);
        let place = Some(self.place(typed.1 + range.start));
        if let Some(unknown) = error.source().and_then(|source| source.downcast_ref::<Unknown>()) {
            report.error(unknown.code, place, unknown.message.clone(), unknown.remedy.clone());
            return;
        }
        let detail = error.detail().unwrap_or("it cannot be evaluated").to_owned();
        match error.kind() {
            ErrorKind::UndefinedError if used.iter().all(|path| first_missing(path, names).is_none()) => {
                // A field of something that only the template itself has, such as the variable of a loop.
                let field = typed.0.get(range).map(str::trim).unwrap_or_default();
                let field = if field.is_empty() || field.contains('\n') { "a name" } else { field };
                report.error("CV302", place, format!("{field} is not known here"), UNDEFINED_REMEDY);
            }
            ErrorKind::UndefinedError => self.undefined(typed, used, names, report),
            ErrorKind::SyntaxError | ErrorKind::BadEscape | ErrorKind::InvalidDelimiter => report.error(
                "CV301",
                place,
                format!("an expression does not read: {detail}"),
                "write {{ name }}; literal braces are written {{ '{{' }}",
            ),
            ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction => report.error(
                "CV302",
                place,
                detail,
                "there are nodes(\"group\"), secret(\"name\"), the filters urls and addresses, and those of Jinja",
            ),
            ErrorKind::OutOfFuel => report.error(
                "CV304",
                place,
                "an expression does not come to an end",
                "loop over nodes or lists only",
            ),
            _ => report.error(
                "CV304",
                place,
                format!("an expression fails: {detail}"),
                "correct the expression",
            ),
        }
    }

    /// Names the first of `used` that does not exist, at its own place, with the nearest that does.
    fn undefined(&self, (text, skipped): (&str, usize), used: &[String], names: &Names, report: &mut Report) {
        for path in used {
            let Some((missing, known)) = first_missing(path, names) else { continue };
            let offset =
                text.find(path.as_str()).map_or(0, |at| at + missing.len() - last_part(&missing).len());
            report.error(
                "CV302",
                Some(self.place(skipped + offset)),
                format!("{missing} is not known here"),
                suggest(last_part(&missing), known.iter().map(String::as_str)),
            );
            return;
        }
        report.error(
            "CV302",
            Some(self.place(skipped)),
            "an expression uses a name that is not known here",
            UNDEFINED_REMEDY,
        );
    }
}

const UNDEFINED_REMEDY: &str =
    "check the names; a missing value may be given as {{ values.x | default(\"y\") }}";

fn last_part(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The shortest beginning of `path` that does not exist, and the names there are instead.
fn first_missing(path: &str, names: &Names) -> Option<(String, Vec<String>)> {
    let mut parts = path.split('.');
    let first = parts.next()?;
    if ["nodes", "secret"].contains(&first) {
        return None;
    }
    let mut so_far = first.to_owned();
    let Some(mut value) = names.get(first).cloned() else {
        let known = names.keys().map(|name| (*name).to_owned()).chain(["nodes".to_owned()]).collect();
        return Some((so_far, known));
    };
    for part in parts {
        let next = value.get_attr(part).ok()?;
        so_far = format!("{so_far}.{part}");
        if next.is_undefined() {
            let known = value.try_iter().map(|keys| keys.map(|key| key.to_string()).collect());
            return Some((so_far, known.unwrap_or_default()));
        }
        value = next;
    }
    None
}

/// A TOML value as expressions see it.
pub(crate) fn from_toml(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::from(text.value().as_str()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::from(*number.value()),
        toml_edit::Value::Boolean(flag) => Value::from(*flag.value()),
        toml_edit::Value::Datetime(moment) => Value::from(moment.value().to_string()),
        toml_edit::Value::Array(array) => array.iter().map(from_toml).collect(),
        toml_edit::Value::InlineTable(table) => Value::from(
            table.iter().map(|(key, value)| (key.to_owned(), from_toml(value))).collect::<BTreeMap<_, _>>(),
        ),
    }
}

/// The TOML form of a result; `None` if it has none (nothing, a function, a node).
pub(crate) fn to_toml(value: &Value) -> Option<toml_edit::Value> {
    Some(match value.kind() {
        ValueKind::Bool => toml_edit::Value::from(value.is_true()),
        ValueKind::Number if value.is_integer() => toml_edit::Value::from(i64::try_from(value.clone()).ok()?),
        ValueKind::Number => toml_edit::Value::from(f64::try_from(value.clone()).ok()?),
        ValueKind::String => toml_edit::Value::from(value.as_str()?),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Option<Vec<toml_edit::Value>> =
                value.try_iter().ok()?.map(|item| to_toml(&item)).collect();
            toml_edit::Value::Array(items?.into_iter().collect())
        }
        ValueKind::Map if value.downcast_object_ref::<NodeView>().is_none() => {
            let mut table = toml_edit::InlineTable::new();
            for key in value.try_iter().ok()? {
                table.insert(key.as_str()?, to_toml(&value.get_item(&key).ok()?)?);
            }
            toml_edit::Value::InlineTable(table)
        }
        _ => return None,
    })
}
