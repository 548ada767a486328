//! deployment.toml as WSO2's TOML library (cava-toml 0.5.0, TOML 0.5) reads it.
//!
//! Not a general TOML reader, and on purpose not one of the TOML 1.0 crates: what counts is which files the server
//! accepts. The library's lexer works in modes, and several of its refusals only follow from the modes: an empty
//! array inside an inline table, an array of dates without a blank before the bracket, a tab in a basic string.
//! The layers are `lexer` (tokens by mode), `parser` (grammar, first syntax error), `table` (definition rules).

mod lexer;
mod parser;
mod table;

pub(crate) use table::type_name;
pub use table::{Document, Element, Node, Reopened, TomlArray, TomlTable, join_key_path};

/// A place in deployment.toml, counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// One error that the server would log before it refuses the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TomlError {
    /// What is wrong, in the library's words.
    pub message: String,
    /// Where.
    pub position: Position,
    /// Whether the library throws it instead of collecting it; then it is itself the reason why the start fails.
    pub(crate) thrown: bool,
}

impl TomlError {
    pub(crate) fn new(message: impl Into<String>, position: Position) -> Self {
        Self { message: message.into(), position, thrown: false }
    }
}

impl std::fmt::Display for TomlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.position)
    }
}

/// Longest deployment.toml that is read. Real ones are below 100 kB.
pub const LENGTH_MAX: usize = 4 << 20;

/// Reads a file. Errors come in the order in which the server logs them, at least one.
pub fn parse(text: &str) -> Result<Document, Vec<TomlError>> {
    if LENGTH_MAX < text.len() {
        let message = format!("the file is longer than {LENGTH_MAX} bytes");
        return Err(vec![TomlError::new(message, Position { line: 1, column: 1 })]);
    }
    let tokens = lexer::tokens(text);
    let expressions = parser::parse(&tokens).map_err(|error| vec![error])?;
    table::build(expressions)
}

/// Splits a dotted key as the library does when a value is looked up by its text. The error is the library's.
pub fn parse_dotted_key(key: &str) -> Result<Vec<std::sync::Arc<str>>, TomlError> {
    parser::parse_key(&lexer::key_tokens(key))
}

#[cfg(test)]
mod tests;
