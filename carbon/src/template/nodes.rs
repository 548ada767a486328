//! The tree of a template: tags with their bodies, whitespace already decided, expressions already parsed.
//!
//! Built as jinjava builds it, including what it forgives: end tags without a beginning at the top are skipped.
//! What it does not forgive is kept as the template's first fault and raised when the template is rendered.

use std::sync::Arc;

use super::expr::{self, Expr};
use super::scan::{Token, TokenKind, scan, tag_helpers, tag_name};
use crate::dialect::Dialect;

/// An expression with its source. A syntax error counts only when the expression is evaluated.
#[derive(Debug, Clone)]
pub struct Code {
    pub line: u32,
    /// `None` for blank sources, which are null.
    pub parsed: Result<Option<Expr>, Arc<str>>,
}

#[derive(Debug, Clone)]
pub enum Node {
    Text(Arc<str>),
    Print {
        code: Code,
        image: Arc<str>,
    },
    If(Vec<Arm>),
    For {
        variables: Vec<Arc<str>>,
        code: Code,
        body: Vec<Node>,
    },
    Set {
        names: Vec<Arc<str>>,
        line: u32,
        values: Result<Vec<Expr>, Arc<str>>,
    },
    SetBlock {
        name: Arc<str>,
        body: Vec<Node>,
    },
    Do(Code),
    Macro(Arc<Macro>),
    /// A tag that ends the rendering when it is reached.
    Fault {
        line: u32,
        message: Arc<str>,
    },
}

/// One branch of an `if`.
#[derive(Debug, Clone)]
pub struct Arm {
    /// `None` for `else`.
    pub condition: Option<Code>,
    pub body: Vec<Node>,
}

#[derive(Debug, Clone)]
pub struct Macro {
    pub name: Arc<str>,
    pub parameters: Vec<(Arc<str>, Option<Code>)>,
    pub body: Vec<Node>,
}

/// A parsed template text.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub nodes: Vec<Node>,
    /// The first fault of the structure, with its line.
    pub fault: Option<(u32, Arc<str>)>,
}

/// Deepest nesting of tags.
const DEPTH_MAX: usize = 60;

/// A node while trimming may still change it.
enum Raw<'t> {
    Text { text: String, left: bool, right: bool },
    Print { token: Token<'t> },
    Tag(RawTag<'t>),
}

struct RawTag<'t> {
    token: Token<'t>,
    name: String,
    helpers: &'t str,
    end: Option<&'static str>,
    right_trim_after_end: bool,
    children: Vec<Raw<'t>>,
}

struct Builder<'t> {
    dialect: Dialect,
    /// Open tags, innermost last, and what stands at the top.
    open: Vec<RawTag<'t>>,
    top: Vec<Raw<'t>>,
    fault: Option<(u32, Arc<str>)>,
}

pub fn parse(text: &str, dialect: Dialect) -> Parsed {
    let tokens = scan(text, dialect);
    let mut builder = Builder { dialect, open: Vec::new(), top: Vec::new(), fault: None };
    for (n, token) in tokens.iter().enumerate() {
        builder.add(token, tokens.get(n + 1).map(|next| next.kind));
    }
    while let Some(tag) = builder.open.pop() {
        let end = tag.end.unwrap_or_default();
        let image = abbreviate(tag.token.image);
        builder.fail(
            tag.token.line,
            format!(
                "Syntax error in '{}': Missing end tag: {end} for tag defined as: {image}",
                tag.token.image
            ),
        );
        builder.siblings().push(Raw::Tag(tag));
    }
    let nodes = finish(builder.top);
    Parsed { nodes, fault: builder.fault }
}

fn abbreviate(text: &str) -> String {
    if text.chars().count() <= 255 {
        return text.to_owned();
    }
    text.chars().take(252).chain("...".chars()).collect()
}

fn image(raw: &Raw<'_>) -> Arc<str> {
    match raw {
        Raw::Text { text, .. } => Arc::from(text.as_str()),
        Raw::Print { token } => Arc::from(token.image),
        Raw::Tag(tag) => Arc::from(tag.token.image),
    }
}

/// The end tag that a tag needs; `None` for tags without body. Unknown tags have no entry.
fn end_of(name: &str, helpers: &str) -> Option<Option<&'static str>> {
    match name {
        "if" => Some(Some("endif")),
        "for" => Some(Some("endfor")),
        "macro" => Some(Some("endmacro")),
        "raw" => Some(Some("endraw")),
        "unless" => Some(Some("endunless")),
        "set" => Some((!helpers.contains('=')).then_some("endset")),
        "do" => Some(helpers.trim().is_empty().then_some("enddo")),
        "else" | "elif" => Some(None),
        _ => None,
    }
}

const END_TAGS: [&str; 7] = ["endif", "endfor", "endmacro", "endraw", "endunless", "endset", "enddo"];

impl<'t> Builder<'t> {
    fn siblings(&mut self) -> &mut Vec<Raw<'t>> {
        match self.open.last_mut() {
            Some(tag) => &mut tag.children,
            None => &mut self.top,
        }
    }

    fn fail(&mut self, line: u32, message: String) {
        if self.fault.is_none() {
            self.fault = Some((line, Arc::from(message)));
        }
    }

    fn add(&mut self, token: &Token<'t>, next: Option<TokenKind>) {
        match token.kind {
            TokenKind::Text => self.text(token, next),
            TokenKind::Expression => self.siblings().push(Raw::Print { token: token.clone() }),
            TokenKind::Comment => {}
            TokenKind::Tag => self.tag(token),
        }
    }

    fn text(&mut self, token: &Token<'t>, next: Option<TokenKind>) {
        let strips = match next {
            Some(TokenKind::Tag) => true,
            Some(TokenKind::Comment) => self.dialect.trims_around_comments(),
            _ => false,
        };
        let text = if strips { token.image.trim_end_matches(['\t', ' ']) } else { token.image };
        let after_bodiless = self.dialect.trims_after_bodiless_tags();
        let first_in_trimming_tag = self.open.last().is_some_and(|tag| tag.token.right_trim);
        let siblings = self.siblings();
        let left = match siblings.last() {
            Some(Raw::Tag(tag)) if after_bodiless && tag.end.is_none() => tag.token.right_trim,
            Some(Raw::Tag(tag)) => tag.right_trim_after_end,
            Some(Raw::Text { right, .. }) => after_bodiless && *right,
            Some(Raw::Print { .. }) => false,
            None => first_in_trimming_tag,
        };
        if let Some(Raw::Text { text: previous, left: l, right: r, .. }) = siblings.last_mut() {
            // Texts on both sides of something that leaves no node become one.
            let joined = format!("{}{}", trimmed(previous, *l, *r), trimmed(text, left, false));
            *previous = joined;
            return;
        }
        siblings.push(Raw::Text { text: text.to_owned(), left, right: false });
    }

    fn tag(&mut self, token: &Token<'t>) {
        if token.left_trim
            && let Some(Raw::Text { right, .. }) = self.siblings().last_mut()
        {
            *right = true;
        }
        if token.image.len() < 4 {
            self.fail(token.line, format!("Syntax error in '{}': Malformed tag token", token.image));
            return;
        }
        let name = tag_name(token.content).to_lowercase();
        let helpers = tag_helpers(token.content);
        if let Some(end) = END_TAGS.iter().find(|end| **end == name) {
            self.end_tag(token, end);
            return;
        }
        let Some(end) = end_of(&name, helpers) else {
            self.fail(token.line, format!("Syntax error in '{}': Unknown tag: {name}", token.image));
            return;
        };
        let tag = RawTag {
            token: token.clone(),
            name,
            helpers,
            end,
            right_trim_after_end: false,
            children: Vec::new(),
        };
        if end.is_none() {
            self.siblings().push(Raw::Tag(tag));
        } else if self.open.len() < DEPTH_MAX {
            self.open.push(tag);
        } else {
            self.fail(token.line, format!("tags nest deeper than {DEPTH_MAX}"));
        }
    }

    fn end_tag(&mut self, token: &Token<'t>, end: &str) {
        if let Some(tag) = self.open.last_mut() {
            tag.right_trim_after_end = token.right_trim;
        }
        while let Some(tag) = self.open.pop() {
            let expected = tag.end.unwrap_or_default();
            self.siblings().push(Raw::Tag(tag));
            if expected == end {
                return;
            }
            let message =
                format!("Syntax error in '{}': Mismatched end tag, expected: {expected}", token.image);
            self.fail(token.line, message);
        }
        // Nothing was open: the engine only warns.
    }
}

fn trimmed(text: &str, left: bool, right: bool) -> &str {
    match (left, right) {
        // Java's `trim` takes every control character, `strip` takes whitespace.
        (true, true) => text.trim_matches(|c: char| c <= ' '),
        (true, false) => text.trim_start(),
        (false, true) => text.trim_end(),
        (false, false) => text,
    }
}

fn finish(raw: Vec<Raw<'_>>) -> Vec<Node> {
    let mut nodes = Vec::with_capacity(raw.len());
    for raw in raw {
        match raw {
            Raw::Text { text, left, right } => {
                let text = trimmed(&text, left, right);
                if !text.is_empty() {
                    nodes.push(Node::Text(Arc::from(text)));
                }
            }
            Raw::Print { token } => {
                nodes.push(Node::Print {
                    code: code(token.content, token.line),
                    image: Arc::from(token.image),
                });
            }
            Raw::Tag(tag) => nodes.extend(tag.finish()),
        }
    }
    nodes
}

pub fn code(source: &str, line: u32) -> Code {
    let source = source.trim();
    let parsed = if source.is_empty() {
        Ok(None)
    } else {
        expr::parse(source).map(Some).map_err(|error| Arc::from(format!("Error parsing '{source}': {error}")))
    };
    Code { line, parsed }
}

impl RawTag<'_> {
    fn finish(self) -> Option<Node> {
        let line = self.token.line;
        Some(match self.name.as_str() {
            "if" | "unless" => self.branches(),
            "for" => self.for_loop(),
            "set" if self.end.is_none() => self.assignment(),
            "set" => {
                let name = self.helpers.split('|').next().unwrap_or_default().trim();
                Node::SetBlock { name: Arc::from(name), body: finish(self.children) }
            }
            "do" if self.end.is_none() => Node::Do(code(self.helpers, line)),
            "do" => Node::SetBlock { name: Arc::from("__ignored__"), body: finish(self.children) },
            "macro" => self.macro_definition(),
            "raw" => Node::Text(Arc::from(
                self.children.iter().map(|raw| image(raw).to_string()).collect::<String>(),
            )),
            // `else` and `elif` outside of an `if` do nothing.
            _ => return None,
        })
    }

    fn fault(&self, message: String) -> Node {
        Node::Fault { line: self.token.line, message: Arc::from(message) }
    }

    fn branches(self) -> Node {
        if self.helpers.trim().is_empty() {
            let message = format!("Syntax error in '{}': Tag 'if' expects expression", self.token.image);
            return self.fault(message);
        }
        let mut condition = Some(code(self.helpers, self.token.line));
        if self.name == "unless" {
            condition = Some(code(&format!("not ({})", self.helpers), self.token.line));
        }
        let mut arms = Vec::new();
        let mut body = Vec::new();
        for child in self.children {
            match child {
                Raw::Tag(tag) if tag.name == "elif" || tag.name == "else" => {
                    arms.push(Arm { condition, body: finish(std::mem::take(&mut body)) });
                    condition = (tag.name == "elif").then(|| code(tag.helpers, tag.token.line));
                }
                other => body.push(other),
            }
        }
        arms.push(Arm { condition, body: finish(body) });
        Node::If(arms)
    }

    fn for_loop(self) -> Node {
        let words = helper_words(self.helpers);
        let variables: Vec<Arc<str>> =
            words.iter().take_while(|word| **word != "in").map(|word| Arc::from(*word)).collect();
        let expression = loop_expression(self.helpers);
        let Some(expression) = expression.filter(|_| variables.len() < words.len()) else {
            let helpers = self.helpers;
            let message = format!(
                "Syntax error in '{}': Tag 'for' expects valid 'in' clause, got: {helpers}",
                helpers.trim()
            );
            return self.fault(message);
        };
        let code = code(expression, self.token.line);
        Node::For { variables, code, body: finish(self.children) }
    }

    fn assignment(self) -> Node {
        let (names, source) = self.helpers.split_once('=').unwrap_or((self.helpers, ""));
        let image = self.token.image;
        if names.trim().is_empty() {
            return self
                .fault(format!("Syntax error in '{image}': Tag 'set' requires a var name to assign to"));
        }
        if source.trim().is_empty() {
            let message =
                format!("Syntax error in '{image}': Tag 'set' requires an expression to assign to a var");
            return self.fault(message);
        }
        let names = names.trim().split(',').map(|name| Arc::from(name.trim())).collect();
        let values = expr::parse_list(source)
            .map_err(|error| Arc::from(format!("Error parsing '[{}]': {error}", source.trim_end())));
        Node::Set { names, line: self.token.line, values }
    }

    fn macro_definition(self) -> Node {
        let parsed = self.helpers.split_once('(').and_then(|(name, rest)| {
            let name: String =
                name.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            rest.split_once(')').filter(|_| !name.is_empty()).map(|(arguments, _)| (name, arguments))
        });
        let Some((name, arguments)) = parsed else {
            let message = format!(
                "Syntax error in '{}': Unable to parse macro definition: {}",
                self.token.image, self.helpers
            );
            return self.fault(message);
        };
        let line = self.token.line;
        let parameters = arguments.split(',').map(str::trim).filter(|argument| !argument.is_empty());
        let parameters = parameters.map(|argument| match argument.split_once('=') {
            Some((name, default)) => (Arc::from(name.trim()), Some(code(default, line))),
            None => (Arc::from(argument), None),
        });
        let parameters = parameters.collect();
        Node::Macro(Arc::new(Macro { name: Arc::from(name), parameters, body: finish(self.children) }))
    }
}

/// Words of a tag's text, cut at blanks and commas outside quotes.
fn helper_words(helpers: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quote) = (0, None);
    for (at, c) in helpers.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == ',' || c.is_whitespace() => {
                if start < at {
                    words.push(&helpers[start..at]);
                }
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    if start < helpers.len() {
        words.push(&helpers[start..]);
    }
    words
}

/// What follows the first ` in `.
fn loop_expression(helpers: &str) -> Option<&str> {
    let bytes = helpers.as_bytes();
    let blank = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_whitespace);
    (0..bytes.len())
        .find(|&at| blank(at) && bytes[at + 1..].starts_with(b"in") && blank(at + 3))
        .map(|at| helpers[at + 4..].trim())
}
