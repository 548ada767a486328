//! Rendering: walks the nodes with scopes of variables.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::expr::{Expr, Literal};
use super::nodes::{self, Arm, Code, Macro, Node, Parsed};
use super::ops::{self, Evaluated, Fault, too_large};
use super::val::{LoopState, MapCell, Val};
use super::{ITEMS_MAX, OUTPUT_MAX, ROUNDS_MAX, filters, methods};
use crate::dialect::Dialect;
use crate::java;
use crate::value::Ordered;
use crate::work::Work;

/// Deepest nesting of tags, macros and values that are rendered again, together.
const DEPTH_MAX: usize = 100;
/// How often the printed value of an expression may itself be a template.
const RENDER_DEPTH_MAX: usize = 10;
/// Variables that are passed by in a search for one unit of work.
const NAMES: usize = 8;

pub struct Interpreter<'t> {
    tree: &'t Ordered<Val>,
    /// What this render may still do.
    pub work: &'t Work,
    /// The outermost scope hides the tree even with null; inner scopes with null hide nothing.
    scopes: Vec<Vec<(Arc<str>, Val)>>,
    macros: BTreeMap<Arc<str>, Arc<Macro>>,
    running_macros: Vec<Arc<str>>,
    /// Images of the top nodes that are being rendered, to stop values that print themselves.
    images: Vec<Arc<str>>,
    pub dialect: Dialect,
    rounds: usize,
    depth: usize,
    render_depth: usize,
    line: u32,
    /// When asked for: template line and output offset of every expression that was printed.
    prints: Option<Vec<(u32, usize)>>,
    /// How many buffers besides the output are being written: offsets in those mean nothing.
    side: usize,
}

pub fn render(
    parsed: &Parsed,
    dialect: Dialect,
    (tree, work): (&Ordered<Val>, &Work),
    prints: Option<Vec<(u32, usize)>>,
) -> Result<(String, Vec<(u32, usize)>), super::Fault> {
    if let Some((line, message)) = &parsed.fault {
        return Err(super::Fault { line: *line, message: message.to_string() });
    }
    let mut interpreter = Interpreter {
        tree,
        work,
        scopes: vec![Vec::new()],
        macros: BTreeMap::new(),
        running_macros: Vec::new(),
        images: Vec::new(),
        dialect,
        rounds: 0,
        depth: 0,
        render_depth: 0,
        line: 0,
        prints,
        side: 0,
    };
    let mut out = String::new();
    match interpreter.root(parsed, &mut out) {
        Ok(()) => Ok((out, interpreter.prints.unwrap_or_default())),
        Err(Fault(message)) => {
            // Methods that do not exist and values that cannot be converted or compared.
            let is_named = dialect.names_exceptions() && message.starts_with("Cannot ");
            let message = if is_named { format!("TemplateSyntaxException: {message}") } else { message };
            Err(super::Fault { line: interpreter.line, message })
        }
    }
}

impl Interpreter<'_> {
    fn root(&mut self, parsed: &Parsed, out: &mut String) -> Evaluated<()> {
        for node in &parsed.nodes {
            if let Node::Print { image, .. } = node {
                if self.images.contains(image) {
                    out.push_str(image);
                    continue;
                }
                self.images.push(Arc::clone(image));
                let done = self.node(node, out);
                self.images.pop();
                done?;
            } else {
                self.node(node, out)?;
            }
        }
        Ok(())
    }

    fn nodes(&mut self, nodes: &[Node], out: &mut String) -> Evaluated<()> {
        if DEPTH_MAX <= self.depth {
            return Err(Fault(format!("the template nests deeper than {DEPTH_MAX}")));
        }
        self.depth += 1;
        let done = nodes.iter().try_for_each(|node| self.node(node, out));
        self.depth -= 1;
        done
    }

    fn node(&mut self, node: &Node, out: &mut String) -> Evaluated<()> {
        self.work.take(1)?;
        match node {
            Node::Text(text) => {
                self.work.take_bytes(text.len())?;
                out.push_str(text);
            }
            Node::Print { code, image } => self.print(code, image, out)?,
            Node::If(arms) => self.branches(arms, out)?,
            Node::For { variables, code, body } => self.for_loop(variables, code, body, out)?,
            Node::Set { names, line, values } => self.assign(names, *line, values)?,
            Node::SetBlock { name, body } => {
                let mut text = String::new();
                self.side += 1;
                if &**name == "__ignored__" {
                    self.nodes(body, &mut text)?;
                } else {
                    self.scoped(|this| this.nodes(body, &mut text))?;
                    self.set(name, Val::Text(Arc::from(text)))?;
                }
                self.side -= 1;
            }
            Node::Do(code) => {
                self.code(code)?;
            }
            Node::Macro(definition) => {
                self.macros.insert(Arc::clone(&definition.name), Arc::clone(definition));
            }
            Node::Fault { line, message } => {
                self.line = *line;
                return Err(Fault(message.to_string()));
            }
        }
        if OUTPUT_MAX < out.len() {
            return Err(Fault(format!("the output is longer than {OUTPUT_MAX} bytes")));
        }
        Ok(())
    }

    fn code(&mut self, code: &Code) -> Evaluated {
        self.line = code.line;
        match &code.parsed {
            Ok(Some(expr)) => self.eval(expr),
            Ok(None) => Ok(Val::Null),
            Err(message) => Err(Fault(message.to_string())),
        }
    }

    fn print(&mut self, code: &Code, image: &Arc<str>, out: &mut String) -> Evaluated<()> {
        let value = self.code(code)?;
        if value.is_null() {
            return Ok(());
        }
        let text = ops::print(&value, self.work)?;
        self.work.take_bytes(text.len())?;
        if self.side == 0
            && let Some(prints) = &mut self.prints
        {
            prints.push((code.line, out.len()));
        }
        // One pass for the brace: nearly no value has one.
        let again = text.contains('{') && *text != **image && (text.contains("{{") || text.contains("{%"));
        if !again || RENDER_DEPTH_MAX < self.render_depth {
            out.push_str(&text);
            return Ok(());
        }
        // A value that looks like a template is one. Parsing takes longer than copying.
        self.work.take(1 + text.len())?;
        let parsed = nodes::parse(&text, self.dialect);
        if let Some((_, message)) = parsed.fault {
            return Err(Fault(message.to_string()));
        }
        self.render_depth += 1;
        self.depth += 1;
        let done = if self.depth < DEPTH_MAX { self.root(&parsed, out) } else { Err(too_large()) };
        self.depth -= 1;
        self.render_depth -= 1;
        done
    }

    fn branches(&mut self, arms: &[Arm], out: &mut String) -> Evaluated<()> {
        for arm in arms {
            let chosen = match &arm.condition {
                Some(condition) => self.code(condition)?.truthy(),
                None => true,
            };
            if chosen {
                return self.nodes(&arm.body, out);
            }
        }
        Ok(())
    }

    fn for_loop(
        &mut self,
        variables: &[Arc<str>],
        code: &Code,
        body: &[Node],
        out: &mut String,
    ) -> Evaluated<()> {
        let items = self.code(code)?.loop_items(self.work)?;
        let length = items.len();
        self.scoped(|this| {
            for (index0, item) in items.into_iter().enumerate() {
                this.count_round()?;
                this.set("loop", Val::Loop(Rc::new(LoopState { index0, length })))?;
                this.bind(variables, item)?;
                this.nodes(body, out)?;
            }
            Ok(())
        })
    }

    pub fn count_round(&mut self) -> Evaluated<()> {
        self.rounds += 1;
        if ROUNDS_MAX < self.rounds {
            return Err(Fault(format!("the template's loops take more than {ROUNDS_MAX} rounds")));
        }
        Ok(())
    }

    /// Loop variables: one takes the item, several take an entry's key and value or a list's items.
    fn bind(&mut self, variables: &[Arc<str>], item: Val) -> Evaluated<()> {
        if let [variable] = variables {
            self.set(variable, item)?;
            return Ok(());
        }
        for (n, variable) in variables.iter().enumerate() {
            let value = match &item {
                Val::Pair(pair) if n == 0 => Val::Text(Arc::clone(&pair.0)),
                Val::Pair(pair) if n == 1 => pair.1.clone(),
                Val::Pair(_) => Val::Null,
                Val::List(cell) | Val::Array(cell) => match cell.0.borrow().get(n) {
                    Some(value) => value.clone(),
                    None => return Err(Fault("InterpretException: Error rendering tag".into())),
                },
                Val::Null if self.dialect.trims_around_comments() => Val::Null,
                Val::Null => return Err(Fault("InterpretException: Error rendering tag".into())),
                _ => continue,
            };
            self.set(variable, value)?;
        }
        Ok(())
    }

    fn assign(
        &mut self,
        names: &[Arc<str>],
        line: u32,
        values: &Result<Vec<Expr>, Arc<str>>,
    ) -> Evaluated<()> {
        self.line = line;
        let exprs = values.as_ref().map_err(|message| Fault(message.to_string()))?;
        let values = exprs.iter().map(|expr| self.eval(expr)).collect::<Evaluated<Vec<Val>>>()?;
        if let [name] = names {
            let value = values.into_iter().next().unwrap_or(Val::Null);
            if let Some((space, key)) = name.split_once('.')
                && let Val::Namespace(cell) = self.lookup(space)?
            {
                cell.0.borrow_mut().put(Arc::from(key), value);
                return Ok(());
            }
            self.set(name, value)?;
            return Ok(());
        }
        if names.len() != values.len() {
            let message = "Tag 'set' declares an uneven number of variables and assigned values";
            return Err(Fault(message.into()));
        }
        for (name, value) in names.iter().zip(values) {
            self.set(name, value)?;
        }
        Ok(())
    }

    fn scoped<T>(&mut self, run: impl FnOnce(&mut Self) -> Evaluated<T>) -> Evaluated<T> {
        self.scopes.push(Vec::new());
        let done = run(self);
        self.scopes.pop();
        done
    }

    fn set(&mut self, name: &str, value: Val) -> Evaluated<()> {
        let Some(scope) = self.scopes.last_mut() else { return Ok(()) };
        self.work.take(1 + scope.len() / NAMES)?;
        match scope.iter_mut().find(|(key, _)| **key == *name) {
            Some((_, old)) => *old = value,
            None => scope.push((Arc::from(name), value)),
        }
        Ok(())
    }

    fn lookup(&self, name: &str) -> Evaluated {
        self.work.take(1 + self.scopes.iter().map(Vec::len).sum::<usize>() / NAMES)?;
        for (n, scope) in self.scopes.iter().enumerate().rev() {
            if let Some((_, value)) = scope.iter().find(|(key, _)| **key == *name)
                && (n == 0 || !value.is_null())
            {
                return Ok(value.clone());
            }
        }
        Ok(self.tree.get(name).cloned().unwrap_or(Val::Null))
    }

    pub fn eval(&mut self, expr: &Expr) -> Evaluated {
        self.work.take(1)?;
        match expr {
            Expr::Literal(literal) => Ok(value_of(literal)),
            Expr::Name(name) => self.lookup(name),
            Expr::Attribute(base, name) => Ok(methods::attribute(&self.eval(base)?, name)),
            Expr::Index(base, index) => {
                let base = self.eval(base)?;
                if base.is_null() {
                    return Ok(Val::Null);
                }
                let index = self.eval(index)?;
                Ok(methods::attribute(&base, &ops::to_text(&index, self.work)?))
            }
            Expr::Slice(base, first, last) => self.slice(base, first.as_deref(), last.as_deref()),
            Expr::Call(name, arguments) => self.call(name, arguments),
            Expr::Method(base, name, arguments) => {
                let base = self.eval(base)?;
                if base.is_null() {
                    return Ok(Val::Null);
                }
                let arguments = self.all(arguments)?;
                methods::invoke(self, &base, name, &arguments)
            }
            Expr::Filter(input, name, arguments) => {
                let input = self.eval(input)?;
                let arguments = self.all(arguments)?;
                filters::apply(self, name, &input, &arguments)
            }
            Expr::Test { input, name, negated, argument } => {
                let input = self.eval(input)?;
                let argument = argument.as_ref().map(|argument| self.eval(argument)).transpose()?;
                let outcome = methods::test(name, &input, argument.as_ref(), self.work)?;
                Ok(outcome.map_or(Val::Null, |outcome| Val::Bool(outcome != *negated)))
            }
            Expr::List(items) => Ok(Val::list(self.all(items)?)),
            Expr::Dict(entries) => {
                let mut map = Ordered::default();
                for (key, value) in entries {
                    let value = self.eval(value)?;
                    map.put(Arc::clone(key), value);
                }
                Ok(Val::map(map))
            }
            Expr::Named(name, value) => Ok(Val::Named(Rc::new((Arc::clone(name), self.eval(value)?)))),
            _ => self.operation(expr),
        }
    }

    fn operation(&mut self, expr: &Expr) -> Evaluated {
        match expr {
            Expr::Not(operand) => Ok(Val::Bool(!self.eval(operand)?.truthy())),
            Expr::Negate(operand) => ops::negate(&self.eval(operand)?, self.work),
            Expr::Absolute(operand) => Ok(match self.eval(operand)? {
                Val::Long(value) => Val::Long(value.wrapping_abs()),
                Val::Int(value) => Val::Int(value.wrapping_abs()),
                Val::Double(value) => Val::Double(value.abs()),
                other => other,
            }),
            Expr::Empty(operand) => Ok(Val::Bool(match self.eval(operand)? {
                Val::Null => true,
                Val::Text(text) => text.is_empty(),
                Val::List(cell) | Val::Array(cell) => cell.0.borrow().is_empty(),
                Val::Map(cell) | Val::Namespace(cell) => cell.0.borrow().is_empty(),
                _ => false,
            })),
            // `and` gives a boolean, `or` gives one of its operands.
            Expr::And(left, right) => Ok(Val::Bool(self.eval(left)?.truthy() && self.eval(right)?.truthy())),
            Expr::Or(left, right) => {
                let left = self.eval(left)?;
                if left.truthy() { Ok(left) } else { self.eval(right) }
            }
            Expr::Choice(condition, then, otherwise) => {
                if self.eval(condition)?.truthy() {
                    return self.eval(then);
                }
                otherwise.as_ref().map_or(Ok(Val::Null), |otherwise| self.eval(otherwise))
            }
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                ops::apply(*operator, &left, &right, self.work)
            }
            _ => Ok(Val::Null),
        }
    }

    fn all(&mut self, exprs: &[Expr]) -> Evaluated<Vec<Val>> {
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    fn slice(&mut self, base: &Expr, first: Option<&Expr>, last: Option<&Expr>) -> Evaluated {
        let base = self.eval(base)?;
        let first = first.map(|first| self.eval(first)).transpose()?.unwrap_or(Val::Null);
        let last = last.map(|last| self.eval(last)).transpose()?.unwrap_or(Val::Null);
        methods::slice(&base, &first, &last, self.work)
    }

    fn call(&mut self, name: &Arc<str>, arguments: &[Expr]) -> Evaluated {
        let arguments = self.all(arguments)?;
        if let Some(definition) = self.macros.get(name).cloned() {
            return self.call_macro(&definition, arguments);
        }
        match &**name {
            "namespace" => {
                let mut entries = java::JavaHashMap::default();
                for argument in &arguments {
                    match argument {
                        Val::Named(pair) => entries.put(Arc::clone(&pair.0), pair.1.clone()),
                        Val::Map(cell) => {
                            // A hash map and then an ordered one.
                            self.work.take(16 * cell.0.borrow().len())?;
                            for (key, value) in cell.0.borrow().iter() {
                                entries.put(Arc::clone(key), value.clone());
                            }
                        }
                        _ => {}
                    }
                }
                let entries = entries.iter().map(|(key, value)| (Arc::clone(key), value.clone())).collect();
                Ok(Val::Namespace(Rc::new(MapCell(std::cell::RefCell::new(entries)))))
            }
            "range" => range(&arguments, self.work),
            other => Err(Fault(format!("Could not resolve function '{other}'"))),
        }
    }

    fn call_macro(&mut self, definition: &Arc<Macro>, arguments: Vec<Val>) -> Evaluated {
        // A macro that is already running gives nothing: jinjava allows no recursion.
        if self.running_macros.contains(&definition.name) {
            return Ok(Val::text(""));
        }
        self.running_macros.push(Arc::clone(&definition.name));
        self.side += 1;
        let mut out = String::new();
        let done = self.scoped(|this| {
            for (name, default) in &definition.parameters {
                let value = default.as_ref().map(|code| this.code(code)).transpose()?;
                this.set(name, value.unwrap_or(Val::Null))?;
            }
            let mut kwargs = Ordered::default();
            let mut varargs = Vec::new();
            for (n, argument) in arguments.into_iter().enumerate() {
                match argument {
                    Val::Named(pair) if definition.parameters.iter().any(|(name, _)| *name == pair.0) => {
                        this.set(&pair.0, pair.1.clone())?;
                    }
                    Val::Named(pair) => kwargs.put(Arc::clone(&pair.0), pair.1.clone()),
                    value => match definition.parameters.get(n) {
                        Some((name, _)) => this.set(name, value)?,
                        None => varargs.push(value),
                    },
                }
            }
            this.set("kwargs", Val::map(kwargs))?;
            this.set("varargs", Val::list(varargs))?;
            this.nodes(&definition.body, &mut out)
        });
        self.side -= 1;
        self.running_macros.pop();
        done?;
        Ok(Val::Text(Arc::from(out)))
    }
}

fn value_of(literal: &Literal) -> Val {
    match literal {
        Literal::Null => Val::Null,
        Literal::Bool(value) => Val::Bool(*value),
        Literal::Long(value) => Val::Long(*value),
        Literal::Double(value) => Val::Double(*value),
        Literal::Text(text) => Val::Text(Arc::clone(text)),
    }
}

/// jinjava stops ranges at a thousand items.
const RANGE_MAX: usize = 1000;

fn range(arguments: &[Val], work: &Work) -> Evaluated {
    let numbers =
        arguments.iter().map(|argument| ops::to_long(argument, work)).collect::<Evaluated<Vec<i64>>>()?;
    let (start, end, step) = match numbers[..] {
        [end] => (0, end, 1),
        [start, end] => (start, end, 1),
        [start, end, step, ..] => (start, end, step),
        [] => return Err(Fault("Invalid input for 'range': requires an argument".into())),
    };
    work.take(RANGE_MAX)?;
    let mut items = Vec::new();
    let mut at = start;
    while step != 0 && items.len() < RANGE_MAX.min(ITEMS_MAX) && if step > 0 { at < end } else { end < at } {
        items.push(Val::Int(at as i32));
        at = at.saturating_add(step);
    }
    Ok(Val::list(items))
}
