//! Tokens of expressions.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    Identifier,
    Text,
    Integer,
    Float,
    True,
    False,
    Null,
    And,
    Or,
    Not,
    Empty,
    In,
    If,
    Else,
    Question,
    Colon,
    Comma,
    Dot,
    Pipe,
    Tilde,
    Assign,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Plus,
    Minus,
    Absolute,
    Star,
    DoubleStar,
    Slash,
    DoubleSlash,
    Percent,
    LeftParen,
    RightParen,
    LeftBracket,
    RightBracket,
    LeftBrace,
    RightBrace,
    Keyword,
    End,
}

impl Symbol {
    /// Symbols that may name a test behind `is`.
    pub fn names_test(self) -> bool {
        matches!(
            self,
            Self::Identifier
                | Self::Equal
                | Self::NotEqual
                | Self::Less
                | Self::LessOrEqual
                | Self::Greater
                | Self::GreaterOrEqual
                | Self::True
                | Self::False
                | Self::In
        )
    }
}

#[derive(Debug, Clone)]
pub struct Lexeme {
    pub symbol: Symbol,
    pub text: String,
    pub position: usize,
}

/// Cuts an expression into tokens; the last one is `End`.
pub fn lex(source: &str) -> Result<Vec<Lexeme>, String> {
    let chars: Vec<char> = source.chars().collect();
    let mut lexemes = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if chars[at].is_whitespace() {
            at += 1;
            continue;
        }
        let (symbol, text, length) = next(&chars, at)?;
        lexemes.push(Lexeme { symbol, text, position: at });
        at += length;
    }
    lexemes.push(Lexeme { symbol: Symbol::End, text: "}".into(), position: at });
    Ok(lexemes)
}

fn next(chars: &[char], at: usize) -> Result<(Symbol, String, usize), String> {
    let c = chars[at];
    let second = chars.get(at + 1).copied().unwrap_or('\0');
    if c == '"' || c == '\'' {
        return text(chars, at);
    }
    if c.is_ascii_digit() || (c == '.' && second.is_ascii_digit()) {
        return Ok(number(chars, at));
    }
    if is_identifier_start(c) {
        let word: String = chars[at..].iter().take_while(|&&c| is_identifier_part(c)).collect();
        let length = word.chars().count();
        return Ok((keyword(&word), word, length));
    }
    let double = match (c, second) {
        ('/', '/') => Some(Symbol::DoubleSlash),
        ('*', '*') => Some(Symbol::DoubleStar),
        ('=', '=') => Some(Symbol::Equal),
        ('!', '=') => Some(Symbol::NotEqual),
        ('<', '=') => Some(Symbol::LessOrEqual),
        ('>', '=') => Some(Symbol::GreaterOrEqual),
        ('&', '&') => Some(Symbol::And),
        ('|', '|') => Some(Symbol::Or),
        _ => None,
    };
    if let Some(symbol) = double {
        return Ok((symbol, chars[at..at + 2].iter().collect(), 2));
    }
    let single = match c {
        '|' => Symbol::Pipe,
        // A plus right before a digit means the absolute value.
        '+' if second.is_ascii_digit() => Symbol::Absolute,
        '+' => Symbol::Plus,
        '-' => Symbol::Minus,
        '*' => Symbol::Star,
        '/' => Symbol::Slash,
        '%' => Symbol::Percent,
        '=' => Symbol::Assign,
        '<' => Symbol::Less,
        '>' => Symbol::Greater,
        '!' => Symbol::Not,
        '~' => Symbol::Tilde,
        '?' => Symbol::Question,
        ':' => Symbol::Colon,
        ',' => Symbol::Comma,
        '.' => Symbol::Dot,
        '(' => Symbol::LeftParen,
        ')' => Symbol::RightParen,
        '[' => Symbol::LeftBracket,
        ']' => Symbol::RightBracket,
        '{' => Symbol::LeftBrace,
        '}' => Symbol::RightBrace,
        other => {
            return Err(format!(
                "lexical error at position {at}, encountered invalid character '{other}', expected expression token"
            ));
        }
    };
    Ok((single, c.to_string(), 1))
}

fn keyword(word: &str) -> Symbol {
    match word {
        "null" => Symbol::Null,
        "true" | "True" => Symbol::True,
        "false" | "False" => Symbol::False,
        "and" => Symbol::And,
        "or" => Symbol::Or,
        "not" => Symbol::Not,
        "empty" => Symbol::Empty,
        "in" => Symbol::In,
        "if" => Symbol::If,
        "else" => Symbol::Else,
        "div" => Symbol::Slash,
        "mod" => Symbol::Percent,
        "eq" => Symbol::Equal,
        "ne" => Symbol::NotEqual,
        "lt" => Symbol::Less,
        "le" => Symbol::LessOrEqual,
        "gt" => Symbol::Greater,
        "ge" => Symbol::GreaterOrEqual,
        "instanceof" => Symbol::Keyword,
        _ => Symbol::Identifier,
    }
}

fn is_identifier_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

fn is_identifier_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn number(chars: &[char], at: usize) -> (Symbol, String, usize) {
    let digits =
        |from: usize| chars[from.min(chars.len())..].iter().take_while(|c| c.is_ascii_digit()).count();
    let mut end = at + digits(at);
    let mut symbol = Symbol::Integer;
    if chars.get(end) == Some(&'.') {
        end += 1 + digits(end + 1);
        symbol = Symbol::Float;
    }
    if matches!(chars.get(end), Some('e' | 'E')) {
        let sign = usize::from(matches!(chars.get(end + 1), Some('+' | '-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
            symbol = Symbol::Float;
        }
    }
    (symbol, chars[at..end].iter().collect(), end - at)
}

fn text(chars: &[char], at: usize) -> Result<(Symbol, String, usize), String> {
    let quote = chars[at];
    let mut text = String::new();
    let mut next = at + 1;
    while let Some(&c) = chars.get(next) {
        next += 1;
        if c == quote {
            return Ok((Symbol::Text, text, next - at));
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        let Some(&escaped) = chars.get(next) else { break };
        next += 1;
        text.push(match escaped {
            '\\' | '\'' | '"' => escaped,
            'n' => '\n',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'r' => '\r',
            other => {
                return Err(format!(
                    "lexical error at position {at}, encountered invalid escape sequence \\{other}, expected \\{quote} \
                     or \\\\"
                ));
            }
        });
    }
    Err(format!("lexical error at position {at}, encountered unterminated string, expected {quote}"))
}
