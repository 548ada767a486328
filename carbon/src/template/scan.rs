//! Cuts a template into text, expressions, tags and comments, as jinjava's scanner does.
//!
//! Its oddities are kept because real templates meet them: a broken opening such as `% if x %}` is text, quotes hide
//! the end of a tag, and a dash next to a bracket counts as whitespace control even with blanks between.

use crate::dialect::Dialect;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Text,
    Expression,
    Tag,
    Comment,
}

#[derive(Debug, Clone)]
pub struct Token<'t> {
    pub kind: TokenKind,
    /// The token with its brackets.
    pub image: &'t str,
    /// What is between the brackets, without dashes.
    pub content: &'t str,
    pub left_trim: bool,
    pub right_trim: bool,
    /// Line on which the token ends, from 1.
    pub line: u32,
}

struct Scanner<'t> {
    text: &'t str,
    bytes: &'t [u8],
    dialect: Dialect,
    at: usize,
    start: usize,
    last_start: usize,
    length: usize,
    kind: Option<u8>,
    in_comment: bool,
    in_raw: bool,
    in_block: u32,
    quote: u8,
    line: u32,
}

/// `kind` of plain text; brackets use their second character.
const TEXT: u8 = 0;

pub fn scan(text: &str, dialect: Dialect) -> Vec<Token<'_>> {
    let mut scanner = Scanner {
        text,
        bytes: text.as_bytes(),
        dialect,
        at: 0,
        start: 0,
        last_start: 0,
        length: 0,
        kind: None,
        in_comment: false,
        in_raw: false,
        in_block: 0,
        quote: 0,
        line: 1,
    };
    let mut tokens = Vec::new();
    while let Some(token) = scanner.next() {
        tokens.push(token);
    }
    tokens
}

/// What one character led to.
enum Step<'t> {
    Token(Token<'t>),
    More,
}

impl<'t> Scanner<'t> {
    fn next(&mut self) -> Option<Token<'t>> {
        while self.at < self.bytes.len() {
            let c = self.bytes[self.at];
            self.at += 1;
            if self.at == self.bytes.len() {
                return Some(self.end_token());
            }
            if self.in_block > 0 && self.inside_quotes(c) {
                continue;
            }
            let step = match c {
                b'{' => self.open(),
                b'%' | b'}' => self.close(c),
                b'#' => self.close_comment(),
                b'\n' => {
                    self.line += 1;
                    if !self.in_comment && self.in_block == 0 {
                        self.kind = Some(TEXT);
                    }
                    Step::More
                }
                _ => {
                    if self.kind.is_none() {
                        self.kind = Some(TEXT);
                    }
                    Step::More
                }
            };
            match step {
                Step::Token(token) => return Some(token),
                Step::More => {}
            }
        }
        None
    }

    /// Whether the character is hidden by a backslash or by quotes.
    fn inside_quotes(&mut self, c: u8) -> bool {
        let escapes = self.quote != 0 || self.dialect.escapes_outside_quotes();
        // The older scanner looks for the closing quote first; with a backslash both come to the same.
        if c == b'\\' && escapes {
            self.at += 1;
            return true;
        }
        if self.quote != 0 {
            if self.quote == c {
                self.quote = 0;
            }
            return true;
        }
        if c == b'\'' || c == b'"' {
            self.quote = c;
            return true;
        }
        false
    }

    fn open(&mut self) -> Step<'t> {
        let c = self.bytes[self.at];
        match c {
            b'#' => {
                if self.in_comment || self.in_raw {
                    return Step::More;
                }
                self.in_comment = true;
                if self.split_text(c) {
                    self.in_comment = false;
                    return Step::Token(self.token(TEXT));
                }
                Step::More
            }
            b'%' | b'{' => {
                if self.in_comment || (self.in_raw && (c == b'{' || !self.ends_raw())) {
                    return Step::More;
                }
                if !self.matches(c) && self.kind.is_some_and(|kind| kind != TEXT) {
                    return Step::More;
                }
                self.in_block += 1;
                if self.in_block > 1 {
                    return Step::More;
                }
                if self.split_text(c) { Step::Token(self.token(TEXT)) } else { Step::More }
            }
            _ => Step::More,
        }
    }

    /// Ends the text before an opening bracket, if there is any.
    fn split_text(&mut self, c: u8) -> bool {
        self.length = self.at - self.start - 1;
        self.kind = Some(c);
        if self.length == 0 {
            return false;
        }
        self.last_start = self.start;
        self.at -= 1;
        self.start = self.at;
        true
    }

    fn close(&mut self, c: u8) -> Step<'t> {
        if self.in_comment || !self.matches(c) || self.bytes[self.at] != b'}' {
            return Step::More;
        }
        self.in_block = 0;
        self.finish(c)
    }

    fn close_comment(&mut self) -> Step<'t> {
        if !self.matches(b'#') || self.bytes[self.at] != b'}' {
            return Step::More;
        }
        self.in_comment = false;
        self.finish(b'#')
    }

    fn finish(&mut self, c: u8) -> Step<'t> {
        self.length = self.at + 1 - self.start;
        self.last_start = self.start;
        self.at += 1;
        self.start = self.at;
        let kind = if c == b'#' { b'#' } else { self.kind.unwrap_or(TEXT) };
        self.kind = Some(TEXT);
        Step::Token(self.token(kind))
    }

    /// Whether `c` opens or closes the kind of token that is being read.
    fn matches(&self, c: u8) -> bool {
        let wanted = match c {
            b'{' => b'}',
            b'}' => b'{',
            other => other,
        };
        self.kind == Some(wanted)
    }

    fn ends_raw(&self) -> bool {
        self.text.get(self.at + 1..).is_some_and(|rest| rest.trim_start().starts_with("endraw"))
    }

    fn end_token(&mut self) -> Token<'t> {
        let image = &self.text[self.start..];
        let kind = if self.in_comment { TokenKind::Comment } else { TokenKind::Text };
        Token { kind, image, content: image, left_trim: false, right_trim: false, line: self.line }
    }

    fn token(&mut self, kind: u8) -> Token<'t> {
        let line = self.line;
        let image = &self.text[self.last_start..self.last_start + self.length];
        let mut token = build(kind, image, line);
        let trims = token.kind == TokenKind::Tag
            || (token.kind == TokenKind::Comment && self.dialect.trims_around_comments());
        if trims && self.bytes.get(self.at) == Some(&b'\n') {
            self.line += 1;
            self.at += 1;
            self.start += 1;
        }
        if token.kind == TokenKind::Tag {
            match tag_name(token.content).to_ascii_lowercase().as_str() {
                "raw" => {
                    self.in_raw = true;
                    return token;
                }
                "endraw" => {
                    self.in_raw = false;
                    return token;
                }
                _ => {}
            }
        }
        if self.in_raw && token.kind != TokenKind::Text {
            token = build(TEXT, image, line);
        }
        token
    }
}

fn build(kind: u8, image: &str, line: u32) -> Token<'_> {
    let kind = match kind {
        b'%' => TokenKind::Tag,
        b'{' => TokenKind::Expression,
        b'#' => TokenKind::Comment,
        _ => TokenKind::Text,
    };
    let mut token = Token { kind, image, content: image, left_trim: false, right_trim: false, line };
    if kind != TokenKind::Text && image.len() >= 4 {
        token.content = &image[2..image.len() - 2];
        if let Some(rest) = token.content.trim_start().strip_prefix('-') {
            token.left_trim = true;
            token.content = rest.trim_end();
        }
        if let Some(rest) = token.content.trim_end().strip_suffix('-') {
            token.right_trim = true;
            token.content = rest.trim_start();
        }
    }
    token
}

/// The name of a tag: the first run of identifier characters.
pub fn tag_name(content: &str) -> &str {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let Some(start) = content.find(|c: char| c.is_alphabetic() || c == '_' || c == '$') else {
        return content.trim();
    };
    let rest = &content[start..];
    &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]
}

/// What follows the name of a tag.
pub fn tag_helpers(content: &str) -> &str {
    let name = tag_name(content);
    let Some(start) = content.find(name) else { return "" };
    &content[start + name.len()..]
}
