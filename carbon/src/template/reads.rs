//! Which keys a template reads, told from its tree: names are followed through loops, assignments and filters.
//!
//! Used for explaining keys and for finding unknown ones. It sees every branch, also those that never run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::expr::{Expr, Literal};
use super::nodes::{Code, Node};

/// One step of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A named sub-key.
    Key(Arc<str>),
    /// An element of an array, or any value of a table that is looped over like one: `[]`.
    Element,
    /// Any sub-key of an open map: `.*`.
    Any,
}

/// A key with holes: `apim.gateway.environment[].name`, `transport.http.properties.*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct KeyPath(pub Vec<Step>);

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Element => f.write_str("[]")?,
                Step::Key(_) | Step::Any if n > 0 => f.write_str(".")?,
                Step::Key(_) | Step::Any => {}
            }
            match step {
                Step::Key(key) if key.contains('.') => write!(f, "'{key}'")?,
                Step::Key(key) => f.write_str(key)?,
                Step::Any => f.write_str("*")?,
                Step::Element => {}
            }
        }
        Ok(())
    }
}

impl KeyPath {
    /// Reads `a.b[].'c.d'.*`. Empty segments are dropped, as the mapper does.
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("[]") {
                steps.push(Step::Element);
                rest = after;
            } else if let Some(after) = rest.strip_prefix('.') {
                rest = after;
            } else if let Some((quoted, after)) =
                rest.strip_prefix('\'').and_then(|inner| inner.split_once('\''))
            {
                steps.push(Step::Key(Arc::from(quoted)));
                rest = after;
            } else {
                // At least one character, so that the loop ends.
                let mut boundaries = rest.char_indices().skip(1);
                let end =
                    boundaries.find(|(_, c)| matches!(c, '.' | '[' | '\'')).map_or(rest.len(), |(at, _)| at);
                let key = &rest[..end];
                steps.push(if key == "*" { Step::Any } else { Step::Key(Arc::from(key)) });
                rest = &rest[end..];
            }
        }
        Self(steps)
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        // `{% set a = a.b %}` over and over makes no key that exists.
        if steps.len() < crate::tree::SEGMENTS_MAX {
            steps.push(step);
        }
        Self(steps)
    }
}

/// What a template does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadKind {
    /// Its value is printed.
    Printed,
    /// It decides a condition, or goes into an operator or filter.
    Tested,
    /// Compared by identity (`is sameas true`): the text `"true"` does not count as true.
    Identity,
    /// Looped over.
    Looped,
    /// Its keys and values are looped over: an open map.
    Items,
    /// Printed with everything below.
    Whole,
}

/// One place where a template reads a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The key.
    pub path: KeyPath,
    /// How it is used.
    pub kind: ReadKind,
    /// Line of the template.
    pub line: u32,
}

/// What a name stands for.
#[derive(Clone)]
enum Meaning {
    Path(KeyPath),
    /// A loop's key, a number, a new list: no key.
    Other,
}

/// What a method that alters a value is called on.
enum Altered {
    Name(Arc<str>),
    /// A key, or something inside one.
    Key(KeyPath),
    /// It cannot be told.
    Anything,
}

struct Reader {
    reads: Vec<Read>,
    scopes: Vec<BTreeMap<Arc<str>, Meaning>>,
    line: u32,
    /// Names that are bound anywhere, and whether nothing but a new list or table is ever bound to them.
    bound: BTreeMap<Arc<str>, bool>,
    /// What methods that alter a value are called on.
    altered: Vec<Altered>,
}

pub fn of(nodes: &[Node]) -> Vec<Read> {
    Reader::through(nodes).reads
}

/// What decides what a template prints, as far as that can be told without running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependencies {
    /// The named steps that each read begins with: a change of anything at, above or below one of them counts.
    pub keys: BTreeSet<Vec<Arc<str>>>,
    /// The named steps of what it may alter for the templates after it, if it is there; none at all: anything.
    pub alters: BTreeSet<Vec<Arc<str>>>,
}

pub fn dependencies(nodes: &[Node]) -> Dependencies {
    let reader = Reader::through(nodes);
    let named = |path: &KeyPath| {
        let steps = path.0.iter().map_while(|step| match step {
            Step::Key(key) => Some(Arc::clone(key)),
            Step::Element | Step::Any => None,
        });
        steps.collect::<Vec<Arc<str>>>()
    };
    let mut keys: BTreeSet<Vec<Arc<str>>> = reader.reads.iter().map(|read| named(&read.path)).collect();
    // A name that only one branch binds is a key of the same name in the other.
    keys.extend(reader.bound.keys().map(|name| vec![Arc::clone(name)]));
    let alters = reader.altered.iter().filter_map(|altered| match altered {
        Altered::Name(name) => match reader.bound.get(name) {
            // A list of the template's own.
            Some(true) => None,
            Some(false) => Some(Vec::new()),
            None => Some(vec![Arc::clone(name)]),
        },
        Altered::Key(path) => Some(named(path)),
        Altered::Anything => Some(Vec::new()),
    });
    Dependencies { keys, alters: alters.collect() }
}

/// Methods that alter what they are called on.
const ALTERING: [&str; 12] = [
    "append", "add", "insert", "extend", "addAll", "pop", "remove", "clear", "reverse", "put", "putAll",
    "update",
];

impl Reader {
    fn through(nodes: &[Node]) -> Self {
        let mut reader = Self {
            reads: Vec::new(),
            scopes: vec![BTreeMap::new()],
            line: 0,
            bound: BTreeMap::new(),
            altered: Vec::new(),
        };
        reader.nodes(nodes);
        reader
    }

    fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Text(_) | Node::Fault { .. } => {}
                Node::Print { code, .. } => self.code(code, ReadKind::Printed),
                Node::If(arms) => {
                    for arm in arms {
                        if let Some(condition) = &arm.condition {
                            self.code(condition, ReadKind::Tested);
                        }
                        self.nodes(&arm.body);
                    }
                }
                Node::For { variables, code, body } => self.for_loop(variables, code, body),
                Node::Set { names, line, values } => {
                    self.line = *line;
                    let Ok(values) = values else { continue };
                    for (n, value) in values.iter().enumerate() {
                        let meaning = self.expr(value, ReadKind::Tested);
                        if let Some(name) = names.get(n) {
                            let is_new = matches!(value, Expr::List(_) | Expr::Dict(_));
                            self.bind_as(name, meaning, is_new);
                        }
                    }
                }
                Node::SetBlock { name, body } => {
                    self.nodes(body);
                    self.bind(name, Meaning::Other);
                }
                Node::Do(code) => self.code(code, ReadKind::Tested),
                Node::Macro(definition) => {
                    self.scopes.push(BTreeMap::new());
                    for (name, _) in &definition.parameters {
                        self.bind(name, Meaning::Other);
                    }
                    self.nodes(&definition.body);
                    self.scopes.pop();
                }
            }
        }
    }

    fn code(&mut self, code: &Code, kind: ReadKind) {
        self.line = code.line;
        if let Ok(Some(expr)) = &code.parsed {
            self.expr(expr, kind);
        }
    }

    fn for_loop(&mut self, variables: &[Arc<str>], code: &Code, body: &[Node]) {
        self.line = code.line;
        let mut meanings = vec![Meaning::Other; variables.len()];
        if let Ok(Some(expr)) = &code.parsed {
            if let (Expr::Method(base, name, _), [_, value, ..]) = (expr, &mut meanings[..])
                && matches!(&**name, "items" | "entrySet")
            {
                if let Meaning::Path(path) = self.expr(base, ReadKind::Items) {
                    *value = Meaning::Path(path.with(Step::Any));
                }
            } else if let Meaning::Path(path) = self.expr(expr, ReadKind::Looped)
                && let [item] = &mut meanings[..]
            {
                *item = Meaning::Path(path.with(Step::Element));
            }
        }
        self.scopes.push(BTreeMap::from([(Arc::from("loop"), Meaning::Other)]));
        for (variable, meaning) in variables.iter().zip(meanings) {
            self.bind(variable, meaning);
        }
        self.nodes(body);
        self.scopes.pop();
    }

    fn bind(&mut self, name: &Arc<str>, meaning: Meaning) {
        self.bind_as(name, meaning, false);
    }

    fn bind_as(&mut self, name: &Arc<str>, meaning: Meaning, is_new: bool) {
        *self.bound.entry(Arc::clone(name)).or_insert(true) &= is_new;
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(Arc::clone(name), meaning);
        }
    }

    fn name(&self, name: &Arc<str>) -> Meaning {
        match self.scopes.iter().rev().find_map(|scope| scope.get(name)) {
            Some(meaning) => meaning.clone(),
            None => Meaning::Path(KeyPath(vec![Step::Key(Arc::clone(name))])),
        }
    }

    /// The path that an expression is, without counting it as read.
    fn path(&mut self, expr: &Expr) -> Meaning {
        match expr {
            Expr::Name(name) => self.name(name),
            Expr::Attribute(base, name) => match self.path(base) {
                Meaning::Path(path) => Meaning::Path(path.with(Step::Key(Arc::clone(name)))),
                Meaning::Other => Meaning::Other,
            },
            Expr::Index(base, index) => {
                let base = self.path(base);
                let Meaning::Path(path) = base else {
                    self.expr(index, ReadKind::Tested);
                    return Meaning::Other;
                };
                Meaning::Path(match &**index {
                    Expr::Literal(Literal::Text(key)) => path.with(Step::Key(Arc::clone(key))),
                    Expr::Literal(Literal::Long(_)) => path.with(Step::Element),
                    other => {
                        self.expr(other, ReadKind::Tested);
                        path.with(Step::Any)
                    }
                })
            }
            _ => Meaning::Other,
        }
    }

    fn expr(&mut self, expr: &Expr, kind: ReadKind) -> Meaning {
        match expr {
            Expr::Name(_) | Expr::Attribute(..) | Expr::Index(..) => {
                let meaning = self.path(expr);
                if let Meaning::Path(path) = &meaning {
                    self.reads.push(Read { path: path.clone(), kind, line: self.line });
                } else if let Expr::Attribute(base, _) | Expr::Index(base, _) = expr
                    && !matches!(**base, Expr::Name(_) | Expr::Attribute(..) | Expr::Index(..))
                {
                    self.expr(base, ReadKind::Tested);
                }
                meaning
            }
            Expr::Method(base, name, arguments) => {
                self.all(arguments);
                let (kind, same) = match &**name {
                    "items" | "entrySet" | "keys" | "values" => (ReadKind::Items, false),
                    "toList" | "copy" => (kind, true),
                    _ => (ReadKind::Tested, false),
                };
                let meaning = self.expr(base, kind);
                if ALTERING.contains(&&**name) {
                    self.altered.push(match (&**base, &meaning) {
                        (Expr::Name(name), _) => Altered::Name(Arc::clone(name)),
                        (_, Meaning::Path(path)) => Altered::Key(path.clone()),
                        (_, Meaning::Other) => Altered::Anything,
                    });
                }
                if same { meaning } else { Meaning::Other }
            }
            Expr::Filter(input, name, arguments) => {
                self.all(arguments);
                let (kind, same) = match &**name {
                    "default" | "d" | "list" | "safe" => (kind, true),
                    "tojson" => (ReadKind::Whole, false),
                    "join" => (ReadKind::Looped, false),
                    "map" => (ReadKind::Looped, false),
                    "string" | "lower" | "upper" | "trim" | "replace" => (kind, false),
                    _ => (ReadKind::Tested, false),
                };
                let meaning = self.expr(input, kind);
                self.mapped(name, arguments, &meaning);
                if same { meaning } else { Meaning::Other }
            }
            Expr::Test { input, name, argument, .. } => {
                if let Some(argument) = argument {
                    self.expr(argument, ReadKind::Tested);
                }
                self.expr(input, if &**name == "sameas" { ReadKind::Identity } else { ReadKind::Tested });
                Meaning::Other
            }
            Expr::Choice(condition, then, otherwise) => {
                self.expr(condition, ReadKind::Tested);
                self.expr(then, kind);
                if let Some(otherwise) = otherwise {
                    self.expr(otherwise, kind);
                }
                Meaning::Other
            }
            Expr::Or(left, right) => {
                self.expr(left, kind);
                self.expr(right, kind);
                Meaning::Other
            }
            Expr::Binary(super::expr::Operator::Add | super::expr::Operator::Concat, left, right) => {
                self.expr(left, kind);
                self.expr(right, kind);
                Meaning::Other
            }
            _ => self.parts(expr),
        }
    }

    /// `|map(attribute="x")` reads a field of every element.
    fn mapped(&mut self, filter: &str, arguments: &[Expr], input: &Meaning) {
        let ("map", [Expr::Named(name, value)], Meaning::Path(path)) = (filter, arguments, input) else {
            return;
        };
        if let ("attribute", Expr::Literal(Literal::Text(field))) = (&**name, &**value) {
            let path = path.with(Step::Element).with(Step::Key(Arc::clone(field)));
            self.reads.push(Read { path, kind: ReadKind::Printed, line: self.line });
        }
    }

    fn parts(&mut self, expr: &Expr) -> Meaning {
        match expr {
            Expr::List(items) | Expr::Call(_, items) => self.all(items),
            Expr::Dict(entries) => entries.iter().for_each(|(_, value)| {
                self.expr(value, ReadKind::Tested);
            }),
            Expr::Not(operand) | Expr::Negate(operand) | Expr::Absolute(operand) | Expr::Empty(operand) => {
                self.expr(operand, ReadKind::Tested);
            }
            Expr::And(left, right) | Expr::Binary(_, left, right) => {
                self.expr(left, ReadKind::Tested);
                self.expr(right, ReadKind::Tested);
            }
            Expr::Slice(base, first, last) => {
                self.expr(base, ReadKind::Tested);
                for bound in [first, last].into_iter().flatten() {
                    self.expr(bound, ReadKind::Tested);
                }
            }
            Expr::Named(_, value) => {
                self.expr(value, ReadKind::Tested);
            }
            _ => {}
        }
        Meaning::Other
    }

    fn all(&mut self, exprs: &[Expr]) {
        for expr in exprs {
            self.expr(expr, ReadKind::Tested);
        }
    }
}
