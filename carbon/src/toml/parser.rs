//! Grammar of deployment.toml over the lexer's tokens. Stops at the first syntax error: the library goes on and
//! logs more, but the outcome for the server is the same.

use std::sync::Arc;

use super::lexer::{Kind, Token};
use super::{Position, TomlError};

/// One line of meaning.
pub(super) enum Expression {
    KeyValue { path: Key, value: Raw, position: Position },
    Table { path: Key, position: Position },
    ArrayTable { path: Key, position: Position },
}

/// A key path, or what the library says when the key's text is looked at.
pub(super) type Key = Result<Vec<Arc<str>>, TomlError>;

/// A value as written.
pub(super) enum Raw {
    Text(Result<String, TomlError>),
    Integer { digits: String, radix: u32, position: Position },
    Float { text: String, position: Position },
    Bool(bool),
    Time { parts: Vec<(Kind, String)>, position: Position },
    Array(Vec<(Raw, Position)>),
    Inline(Vec<(Key, Raw, Position)>),
}

/// Deepest nesting of arrays and inline tables.
const DEPTH_MAX: usize = 32;
/// Most segments of one dotted key.
const SEGMENTS_MAX: usize = 32;

struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
}

type Parsed<T> = Result<T, TomlError>;

const KEY_START: &str = "a-z, A-Z, 0-9, ', or \"";
const VALUE_START: &str = "', \", ''', \"\"\", a number, a boolean, a date/time, an array, or a table";

pub(super) fn parse(tokens: &[Token]) -> Parsed<Vec<Expression>> {
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let mut expressions = Vec::new();
    parser.skip_newlines();
    while parser.kind() != Kind::End {
        expressions.push(parser.expression()?);
        if parser.kind() != Kind::NewLine && parser.kind() != Kind::End {
            return Err(parser.unexpected("a newline or end-of-input"));
        }
        parser.skip_newlines();
    }
    Ok(expressions)
}

pub(super) fn parse_key(tokens: &[Token]) -> Key {
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let key = parser.key()?;
    if parser.kind() != Kind::End {
        return Err(parser.unexpected(". or end-of-input"));
    }
    key
}

impl Parser<'_> {
    fn kind(&self) -> Kind {
        self.tokens[self.at].kind
    }

    fn position(&self) -> Position {
        self.tokens[self.at].position
    }

    fn take(&mut self) -> &Token {
        let token = &self.tokens[self.at];
        // The last token is `End` and stays.
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn skip_newlines(&mut self) {
        while self.kind() == Kind::NewLine {
            self.take();
        }
    }

    fn unexpected(&self, expected: &str) -> TomlError {
        let token = &self.tokens[self.at];
        let found = match token.kind {
            Kind::NewLine => "end of line".to_owned(),
            Kind::End => "end of input".to_owned(),
            _ => format!("'{}'", super::table::escape(&token.text)),
        };
        TomlError::new(format!("Unexpected {found}, expected {expected}"), token.position)
    }

    fn expect(&mut self, kind: Kind, expected: &str) -> Parsed<()> {
        if self.kind() != kind {
            return Err(self.unexpected(expected));
        }
        self.take();
        Ok(())
    }

    fn expression(&mut self) -> Parsed<Expression> {
        let position = self.position();
        match self.kind() {
            Kind::TableStart => {
                self.take();
                let path = self.table_key(Kind::TableEnd, "]", position)?;
                Ok(Expression::Table { path, position })
            }
            Kind::ArrayTableStart => {
                self.take();
                let path = self.table_key(Kind::ArrayTableEnd, "]]", position)?;
                Ok(Expression::ArrayTable { path, position })
            }
            _ => {
                let (path, value) = self.key_value("a table key, a newline, or end-of-input")?;
                Ok(Expression::KeyValue { path, value, position })
            }
        }
    }

    fn table_key(&mut self, end: Kind, bracket: &str, position: Position) -> Parsed<Key> {
        if self.kind() == end {
            self.take();
            return Ok(Err(TomlError::new("Empty table key", position)));
        }
        // A bad escape in a table's name is thrown, not collected: that check sits outside the library's handler.
        let path = self.key()?.map_err(|error| TomlError { thrown: true, ..error });
        self.expect(end, &format!(". or {bracket}"))?;
        Ok(path)
    }

    fn key_value(&mut self, also_expected: &str) -> Parsed<(Key, Raw)> {
        if !matches!(self.kind(), Kind::UnquotedKey | Kind::QuotationMark | Kind::Apostrophe) {
            return Err(self.unexpected(&format!("{}, {also_expected}", KEY_START.replace(" or", ""))));
        }
        let path = self.key()?;
        self.expect(Kind::Equals, ". or =")?;
        Ok((path, self.value()?))
    }

    fn key(&mut self) -> Parsed<Key> {
        let mut path = Vec::new();
        let mut problem = None;
        loop {
            if SEGMENTS_MAX <= path.len() {
                return Err(TomlError::new(
                    format!("a key has more than {SEGMENTS_MAX} segments"),
                    self.position(),
                ));
            }
            match self.kind() {
                Kind::UnquotedKey => path.push(Arc::from(self.take().text.as_str())),
                Kind::QuotationMark | Kind::Apostrophe => match self.string()? {
                    Ok(text) => path.push(Arc::from(text)),
                    Err(error) => problem = problem.or(Some(error)),
                },
                _ => return Err(self.unexpected(KEY_START)),
            }
            if self.kind() != Kind::Dot {
                return Ok(problem.map_or(Ok(path), Err));
            }
            self.take();
        }
    }

    fn value(&mut self) -> Parsed<Raw> {
        let position = self.position();
        let integer = |parser: &mut Self, skip: usize, radix: u32| {
            let digits = parser.take().text[skip..].replace('_', "");
            Ok(Raw::Integer { digits, radix, position })
        };
        match self.kind() {
            Kind::QuotationMark | Kind::Apostrophe | Kind::TripleQuotationMark | Kind::TripleApostrophe => {
                Ok(Raw::Text(self.string()?))
            }
            Kind::Decimal => integer(self, 0, 10),
            Kind::Hex => integer(self, 2, 16),
            Kind::Octal => integer(self, 2, 8),
            Kind::Binary => integer(self, 2, 2),
            Kind::Float | Kind::Infinity | Kind::NotANumber => {
                Ok(Raw::Float { text: self.take().text.replace('_', ""), position })
            }
            Kind::True | Kind::False => Ok(Raw::Bool(self.take().kind == Kind::True)),
            Kind::DateDigits => self.time(position),
            Kind::ArrayStart => self.nested(Self::array),
            Kind::InlineStart => self.nested(Self::inline_table),
            _ => Err(self.unexpected(VALUE_START)),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Parsed<Raw>) -> Parsed<Raw> {
        if DEPTH_MAX <= self.depth {
            return Err(TomlError::new(format!("values nest deeper than {DEPTH_MAX}"), self.position()));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn array(&mut self) -> Parsed<Raw> {
        self.take();
        let mut items = Vec::new();
        loop {
            let position = self.position();
            self.skip_newlines();
            if self.kind() == Kind::ArrayEnd {
                self.take();
                return Ok(Raw::Array(items));
            }
            items.push((self.value()?, position));
            let newlines = self.kind() == Kind::NewLine;
            self.skip_newlines();
            match self.kind() {
                // The grammar has no newline between a value and its comma.
                Kind::Comma if !newlines => {
                    self.take();
                }
                Kind::ArrayEnd => {}
                _ => return Err(self.unexpected("] or a comma")),
            }
        }
    }

    fn inline_table(&mut self) -> Parsed<Raw> {
        self.take();
        let mut entries = Vec::new();
        if self.kind() == Kind::InlineEnd {
            self.take();
            return Ok(Raw::Inline(entries));
        }
        loop {
            let position = self.position();
            let (path, value) = self.key_value("or }")?;
            entries.push((path, value, position));
            match self.kind() {
                Kind::Comma => {
                    self.take();
                }
                Kind::InlineEnd => {
                    self.take();
                    return Ok(Raw::Inline(entries));
                }
                _ => return Err(self.unexpected("} or a comma")),
            }
        }
    }

    fn string(&mut self) -> Parsed<Result<String, TomlError>> {
        let end = self.take().kind;
        let multiline = matches!(end, Kind::TripleQuotationMark | Kind::TripleApostrophe);
        let mut text = String::new();
        let mut problem = None;
        loop {
            let token = &self.tokens[self.at];
            match token.kind {
                kind if kind == end => {
                    self.take();
                    return Ok(problem.map_or(Ok(text), Err));
                }
                Kind::StringChar => text.push_str(&token.text),
                Kind::NewLine if multiline => text.push('\n'),
                Kind::Escape => match unescape(token) {
                    Ok(c) => text.push(c),
                    Err(error) => problem = problem.or(Some(error)),
                },
                _ => {
                    let mark = match end {
                        Kind::QuotationMark => "\"",
                        Kind::Apostrophe => "'",
                        Kind::TripleQuotationMark => "\"\"\"",
                        _ => "'''",
                    };
                    return Err(self.unexpected(&format!("{mark} or a character")));
                }
            }
            self.take();
        }
    }

    /// Dates and times: the tokens are gathered here and weighed when the value is built.
    fn time(&mut self, position: Position) -> Parsed<Raw> {
        let mut parts = Vec::new();
        while matches!(
            self.kind(),
            Kind::DateDigits
                | Kind::Dash
                | Kind::Plus
                | Kind::Colon
                | Kind::Dot
                | Kind::Zulu
                | Kind::TimeDelimiter
        ) {
            let token = self.take();
            parts.push((token.kind, token.text.clone()));
        }
        let shape: String = parts.iter().map(|(kind, _)| symbol(*kind)).collect();
        if !is_time_shape(&shape) {
            return Err(self.unexpected("a date/time"));
        }
        Ok(Raw::Time { parts, position })
    }
}

fn symbol(kind: Kind) -> char {
    match kind {
        Kind::DateDigits => '0',
        Kind::Dash => '-',
        Kind::Plus => '+',
        Kind::Colon => ':',
        Kind::Dot => '.',
        Kind::Zulu => 'Z',
        _ => 'T',
    }
}

fn is_time_shape(shape: &str) -> bool {
    let is_time = |text: &str| text == "0:0:0" || text == "0:0:0.0";
    let rest = match shape.strip_prefix("0-0-0") {
        None => return is_time(shape),
        Some("") => return true,
        Some(rest) => rest,
    };
    let Some(time) = rest.strip_prefix('T') else { return false };
    let without_offset =
        time.strip_suffix('Z').or_else(|| time.strip_suffix("+0:0")).or_else(|| time.strip_suffix("-0:0"));
    is_time(without_offset.unwrap_or(time))
}

fn unescape(token: &Token) -> Result<char, TomlError> {
    let mut chars = token.text.chars();
    chars.next();
    let c = match chars.next() {
        Some('"') => '"',
        Some('\\') => '\\',
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u' | 'U') => {
            let code = u32::from_str_radix(chars.as_str(), 16).ok().and_then(char::from_u32);
            return code.ok_or_else(|| TomlError::new("Invalid unicode escape sequence", token.position));
        }
        _ => {
            return Err(TomlError::new(format!("Invalid escape sequence '{}'", token.text), token.position));
        }
    };
    Ok(c)
}
