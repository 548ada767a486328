//! Tokens of deployment.toml. A port of the library's modes, not of its code: which characters are legal depends
//! on a stack of modes that keys, values, arrays, inline tables, strings and dates push and pop.

use super::Position;

/// What a token is. Names follow the library's grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dot,
    Equals,
    Comma,
    QuotationMark,
    Apostrophe,
    TripleQuotationMark,
    TripleApostrophe,
    StringChar,
    Escape,
    TableStart,
    TableEnd,
    ArrayTableStart,
    ArrayTableEnd,
    UnquotedKey,
    Decimal,
    Hex,
    Octal,
    Binary,
    Float,
    Infinity,
    NotANumber,
    True,
    False,
    ArrayStart,
    ArrayEnd,
    InlineStart,
    InlineEnd,
    DateDigits,
    Dash,
    Plus,
    Colon,
    Zulu,
    TimeDelimiter,
    NewLine,
    Error,
    End,
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) position: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Default,
    Key,
    Value,
    Basic,
    MultilineBasic,
    Literal,
    MultilineLiteral,
    Date,
    Inline,
}

enum Move {
    Stay,
    Push(Mode),
    Switch(Mode),
    Pop,
}

/// What was recognised: kind (`None` for blanks and comments), length in characters, what happens to the modes.
struct Match(Option<Kind>, usize, Move);

struct Lexer<'t> {
    rest: &'t [char],
    position: Position,
    modes: Vec<Mode>,
    array_depth: i32,
    saved_depths: Vec<i32>,
}

pub(super) fn tokens(text: &str) -> Vec<Token> {
    run(text, Mode::Default)
}

pub(super) fn key_tokens(text: &str) -> Vec<Token> {
    run(text, Mode::Key)
}

fn run(text: &str, mode: Mode) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut lexer = Lexer {
        rest: &chars,
        position: Position { line: 1, column: 1 },
        modes: vec![mode],
        array_depth: 0,
        saved_depths: Vec::new(),
    };
    let mut tokens = Vec::new();
    while !lexer.rest.is_empty() {
        if let Some(token) = lexer.next() {
            tokens.push(token);
        }
    }
    tokens.push(Token { kind: Kind::End, text: String::new(), position: lexer.position });
    tokens
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<Token> {
        let Match(kind, length, motion) = match self.mode() {
            Mode::Default => self.default_mode(),
            Mode::Key => self.key_mode(),
            Mode::Value => self.value_mode(),
            Mode::Basic => self.basic_mode(),
            Mode::MultilineBasic => self.multiline_basic_mode(),
            Mode::Literal => self.literal_mode(),
            Mode::MultilineLiteral => self.multiline_literal_mode(),
            Mode::Date => self.date_mode(),
            Mode::Inline => self.inline_mode(),
        };
        match motion {
            Move::Stay => {}
            Move::Push(mode) => self.modes.push(mode),
            Move::Switch(mode) => {
                self.modes.pop();
                self.modes.push(mode);
            }
            Move::Pop => {
                self.modes.pop();
            }
        }
        let position = self.position;
        // Every rule takes at least one character, so the loop ends.
        let length = length.max(1);
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        for &c in taken {
            if c == '\n' {
                self.position = Position { line: self.position.line + 1, column: 1 };
            } else {
                self.position.column += 1;
            }
        }
        self.rest = rest;
        let text = if kind == Some(Kind::NewLine) { "\n".into() } else { taken.iter().collect() };
        kind.map(|kind| Token { kind, text, position })
    }

    fn mode(&self) -> Mode {
        self.modes.last().copied().unwrap_or(Mode::Default)
    }

    fn starts(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(n, c)| self.rest.get(n) == Some(&c))
    }

    fn count(&self, from: usize, test: impl Fn(char) -> bool) -> usize {
        self.rest[from.min(self.rest.len())..].iter().take_while(|&&c| test(c)).count()
    }

    /// Length of a line end at `from`, 0 if there is none.
    fn line_end(&self, from: usize) -> usize {
        match (self.rest.get(from), self.rest.get(from + 1)) {
            (Some('\n'), _) => 1,
            (Some('\r'), Some('\n')) => 2,
            _ => 0,
        }
    }

    /// Blanks and comments, the same in most modes.
    fn hidden(&self, motion: Move) -> Option<Match> {
        let blanks = self.count(0, |c| c == ' ' || c == '\t');
        if blanks > 0 {
            return Some(Match(None, blanks, motion));
        }
        if self.starts("#") {
            return Some(Match(None, self.count(0, |c| c != '\n'), motion));
        }
        None
    }

    fn default_mode(&mut self) -> Match {
        if let Some(hidden) = self.hidden(Move::Stay) {
            return hidden;
        }
        if self.line_end(0) > 0 {
            return Match(Some(Kind::NewLine), self.line_end(0), Move::Stay);
        }
        if self.starts("[[") {
            return Match(Some(Kind::ArrayTableStart), 2, Move::Stay);
        }
        if self.starts("]]") {
            return Match(Some(Kind::ArrayTableEnd), 2, Move::Stay);
        }
        match self.rest[0] {
            '[' => Match(Some(Kind::TableStart), 1, Move::Stay),
            ']' => Match(Some(Kind::TableEnd), 1, Move::Stay),
            '=' => {
                self.saved_depths.clear();
                self.array_depth = 0;
                Match(Some(Kind::Equals), 1, Move::Push(Mode::Value))
            }
            _ => self.key_part(),
        }
    }

    fn key_mode(&self) -> Match {
        let blanks = self.count(0, |c| c == ' ' || c == '\t');
        if blanks > 0 { Match(None, blanks, Move::Stay) } else { self.key_part() }
    }

    fn key_part(&self) -> Match {
        let key = self.count(0, |c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if key > 0 {
            return Match(Some(Kind::UnquotedKey), key, Move::Stay);
        }
        match self.rest[0] {
            '.' => Match(Some(Kind::Dot), 1, Move::Stay),
            '"' => Match(Some(Kind::QuotationMark), 1, Move::Push(Mode::Basic)),
            '\'' => Match(Some(Kind::Apostrophe), 1, Move::Push(Mode::Literal)),
            _ => Match(Some(Kind::Error), 1, Move::Stay),
        }
    }

    fn value_mode(&mut self) -> Match {
        if let Some(hidden) = self.hidden(Move::Stay) {
            return hidden;
        }
        let end = self.line_end(0);
        if end > 0 {
            let motion = if self.array_depth == 0 { Move::Pop } else { Move::Stay };
            // With a negative depth neither of the library's two rules fits; it cannot happen after `=` reset it.
            return Match(Some(Kind::NewLine), end, motion);
        }
        if self.starts("\"\"\"") {
            return Match(
                Some(Kind::TripleQuotationMark),
                3 + self.line_end(3),
                Move::Switch(Mode::MultilineBasic),
            );
        }
        if self.starts("'''") {
            return Match(
                Some(Kind::TripleApostrophe),
                3 + self.line_end(3),
                Move::Switch(Mode::MultilineLiteral),
            );
        }
        match self.rest[0] {
            '"' => Match(Some(Kind::QuotationMark), 1, Move::Switch(Mode::Basic)),
            '\'' => Match(Some(Kind::Apostrophe), 1, Move::Switch(Mode::Literal)),
            '[' => {
                self.array_depth += 1;
                Match(Some(Kind::ArrayStart), 1, Move::Push(Mode::Value))
            }
            ']' => {
                self.array_depth -= 1;
                Match(Some(Kind::ArrayEnd), 1, Move::Pop)
            }
            ',' if self.array_depth > 0 => Match(Some(Kind::Comma), 1, Move::Push(Mode::Value)),
            '{' => {
                self.saved_depths.push(self.array_depth);
                self.array_depth = 0;
                Match(Some(Kind::InlineStart), 1, Move::Switch(Mode::Inline))
            }
            _ => self.scalar(),
        }
    }

    /// Numbers, booleans and the start of dates: the longest match wins, the earlier rule among equals.
    fn scalar(&self) -> Match {
        let integer = self.decimal(0);
        let allowed = |length: usize| length > 0 && !matches!(self.rest.get(length), Some('-' | ':'));
        let digits = self.count(0, |c| c.is_ascii_digit());
        let date = digits > 0 && matches!(self.rest.get(digits), Some('-' | ':'));
        let shorter = integer.saturating_sub(1);
        let decimal = if allowed(integer) { integer } else { shorter };
        let sign = usize::from(matches!(self.rest.first(), Some('+' | '-')));
        let word = |text: &str| {
            if text.chars().enumerate().all(|(n, c)| self.rest.get(sign + n) == Some(&c)) {
                sign + text.len()
            } else {
                0
            }
        };
        let candidates = [
            (Kind::Decimal, decimal),
            (Kind::Hex, self.radix("0x", |c| c.is_ascii_hexdigit())),
            (Kind::Octal, self.radix("0o", |c| matches!(c, '0'..='7'))),
            (Kind::Binary, self.radix("0b", |c| matches!(c, '0' | '1'))),
            (Kind::Float, self.float(integer)),
            (Kind::Infinity, word("inf")),
            (Kind::NotANumber, word("nan")),
            (Kind::True, if self.starts("true") { 4 } else { 0 }),
            (Kind::False, if self.starts("false") { 5 } else { 0 }),
            (Kind::DateDigits, if date { digits } else { 0 }),
        ];
        let mut best = (Kind::Error, 0);
        for candidate in candidates {
            if best.1 < candidate.1 {
                best = candidate;
            }
        }
        match best {
            (Kind::DateDigits, length) => Match(Some(Kind::DateDigits), length, Move::Switch(Mode::Date)),
            (kind, length) => Match(Some(kind), length.max(1), Move::Pop),
        }
    }

    /// Length of `[-+]? (digit | 1-9 ('_'? digit)+)` at `from`.
    fn decimal(&self, from: usize) -> usize {
        let sign = usize::from(matches!(self.rest.get(from), Some('+' | '-')));
        match self.rest.get(from + sign) {
            Some('0') => sign + 1,
            Some('1'..='9') => sign + 1 + self.grouped(from + sign + 1, |c| c.is_ascii_digit()),
            _ => 0,
        }
    }

    /// Length of `('_'? digit)*` at `from`.
    fn grouped(&self, from: usize, digit: impl Fn(char) -> bool) -> usize {
        let mut at = from;
        loop {
            let skip = usize::from(self.rest.get(at) == Some(&'_'));
            match self.rest.get(at + skip) {
                Some(&c) if digit(c) => at += skip + 1,
                _ => return at - from,
            }
        }
    }

    fn radix(&self, prefix: &str, digit: impl Fn(char) -> bool) -> usize {
        if !self.starts(prefix) || !self.rest.get(2).is_some_and(|&c| digit(c)) {
            return 0;
        }
        3 + self.grouped(3, digit)
    }

    fn float(&self, integer: usize) -> usize {
        if integer == 0 {
            return 0;
        }
        let mut at = integer;
        if self.rest.get(at) == Some(&'.') && self.rest.get(at + 1).is_some_and(char::is_ascii_digit) {
            at += 2 + self.grouped(at + 2, |c| c.is_ascii_digit());
        }
        if matches!(self.rest.get(at), Some('e' | 'E')) {
            let exponent = self.decimal(at + 1);
            if exponent > 0 {
                return at + 1 + exponent;
            }
        }
        if at > integer { at } else { 0 }
    }

    fn basic_mode(&self) -> Match {
        if self.line_end(0) > 0 {
            return Match(Some(Kind::NewLine), self.line_end(0), Move::Pop);
        }
        match self.rest[0] {
            '"' => Match(Some(Kind::QuotationMark), 1, Move::Pop),
            '\\' if self.rest.len() > 1 && self.rest[1] != '\n' => {
                Match(Some(Kind::Escape), self.escape(), Move::Stay)
            }
            '\\' | '\0'..='\u{1f}' | '\u{7f}' => Match(Some(Kind::Error), 1, Move::Pop),
            _ => self.plain("\"\\", false),
        }
    }

    fn multiline_basic_mode(&self) -> Match {
        if self.line_end(0) > 0 {
            return Match(Some(Kind::NewLine), self.line_end(0), Move::Stay);
        }
        if self.starts("\"\"\"") {
            return Match(Some(Kind::TripleQuotationMark), 3, Move::Pop);
        }
        match self.rest[0] {
            '\\' => {
                let blanks = self.count(1, |c| c == ' ' || c == '\t');
                let end = self.line_end(1 + blanks);
                if end > 0 {
                    // The library keeps the line end that a backslash should have removed.
                    return Match(Some(Kind::NewLine), 1 + blanks + end, Move::Stay);
                }
                if self.rest.len() > 1 {
                    return Match(Some(Kind::Escape), self.escape(), Move::Stay);
                }
                Match(Some(Kind::Error), 1, Move::Pop)
            }
            '\0'..='\u{1f}' | '\u{7f}' => Match(Some(Kind::Error), 1, Move::Pop),
            _ => self.plain("\"\\", false),
        }
    }

    /// A run of characters that mean themselves, at least one: the library has a token for each.
    fn plain(&self, special: &str, tab: bool) -> Match {
        let run = self.count(1, |c| {
            !special.contains(c) && (tab && c == '\t' || !matches!(c, '\0'..='\u{1f}' | '\u{7f}'))
        });
        Match(Some(Kind::StringChar), 1 + run, Move::Stay)
    }

    fn escape(&self) -> usize {
        let digits = match self.rest.get(1) {
            Some('u') => 4,
            Some('U') => 8,
            _ => return 2,
        };
        if self.rest.len() >= 2 + digits && self.rest[2..2 + digits].iter().all(char::is_ascii_hexdigit) {
            return 2 + digits;
        }
        2
    }

    fn literal_mode(&self) -> Match {
        if self.line_end(0) > 0 {
            return Match(Some(Kind::NewLine), self.line_end(0), Move::Pop);
        }
        match self.rest[0] {
            '\'' => Match(Some(Kind::Apostrophe), 1, Move::Pop),
            '\0'..='\u{8}' | '\n'..='\u{1f}' | '\u{7f}' => Match(Some(Kind::Error), 1, Move::Pop),
            _ => self.plain("'", true),
        }
    }

    fn multiline_literal_mode(&self) -> Match {
        if self.line_end(0) > 0 {
            return Match(Some(Kind::NewLine), self.line_end(0), Move::Stay);
        }
        if self.starts("'''") {
            return Match(Some(Kind::TripleApostrophe), 3, Move::Pop);
        }
        match self.rest[0] {
            '\0'..='\u{8}' | '\n'..='\u{1f}' | '\u{7f}' => Match(Some(Kind::Error), 1, Move::Pop),
            _ => self.plain("'", true),
        }
    }

    fn date_mode(&self) -> Match {
        let digits = self.count(0, |c| c.is_ascii_digit());
        if digits > 0 {
            return Match(Some(Kind::DateDigits), digits, Move::Stay);
        }
        if self.line_end(0) > 0 {
            return Match(Some(Kind::NewLine), self.line_end(0), Move::Pop);
        }
        let next_is_digit = self.rest.get(1).is_some_and(char::is_ascii_digit);
        match self.rest[0] {
            '-' => Match(Some(Kind::Dash), 1, Move::Stay),
            '+' => Match(Some(Kind::Plus), 1, Move::Stay),
            ':' => Match(Some(Kind::Colon), 1, Move::Stay),
            '.' => Match(Some(Kind::Dot), 1, Move::Stay),
            'Z' => Match(Some(Kind::Zulu), 1, Move::Stay),
            'T' | 't' => Match(Some(Kind::TimeDelimiter), 1, Move::Stay),
            ' ' if next_is_digit => Match(Some(Kind::TimeDelimiter), 1, Move::Stay),
            ',' => Match(Some(Kind::Comma), 1, Move::Pop),
            _ => self.hidden(Move::Pop).unwrap_or(Match(Some(Kind::Error), 1, Move::Pop)),
        }
    }

    fn inline_mode(&mut self) -> Match {
        let blanks = self.count(0, |c| c == ' ' || c == '\t');
        if blanks > 0 {
            return Match(None, blanks, Move::Stay);
        }
        if self.line_end(0) > 0 {
            return Match(Some(Kind::NewLine), self.line_end(0), Move::Pop);
        }
        match self.rest[0] {
            '}' => {
                self.array_depth = self.saved_depths.pop().unwrap_or(0);
                Match(Some(Kind::InlineEnd), 1, Move::Pop)
            }
            '=' => Match(Some(Kind::Equals), 1, Move::Push(Mode::Value)),
            ',' => Match(Some(Kind::Comma), 1, Move::Stay),
            '#' => Match(None, self.count(0, |c| c != '\n'), Move::Pop),
            _ => match self.key_part() {
                Match(Some(Kind::Error), length, _) => Match(Some(Kind::Error), length, Move::Pop),
                part => part,
            },
        }
    }
}
