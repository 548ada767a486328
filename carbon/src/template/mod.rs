//! WSO2's templates: the dialect of Jinja that HubSpot's jinjava speaks.
//!
//! A template is parsed once (`Template::parse`) and rendered with a tree of values (`render`). Both are pure and
//! bounded: nesting, loop rounds, output, expression size and all work together (`work`) have limits far above what
//! real templates need, and end in an error that names the limit. Layers: `scan` (tokens), `nodes` (tree), `lex` and `expr` (expressions),
//! `eval` (rendering), `ops`, `filters`, `tests`, `methods` (the language's vocabulary), `val` (values).

mod eval;
mod expr;
mod filters;
mod lex;
mod methods;
mod nodes;
mod ops;
mod reads;
mod scan;
mod val;

use std::sync::Arc;

pub use reads::{Dependencies, KeyPath, Read, ReadKind, Step};
pub use val::Val;

use crate::dialect::Dialect;
use crate::value::Ordered;
use crate::work::Work;

/// Rounds of all loops of one template together.
pub const ROUNDS_MAX: usize = 1_000_000;
/// Bytes of one rendered file.
pub const OUTPUT_MAX: usize = 32 << 20;
/// Items that one operation may put into a list.
pub const ITEMS_MAX: usize = 1_000_000;
/// Longest template.
pub const SOURCE_MAX: usize = 4 << 20;

/// A template, ready to render. Immutable and shareable.
#[derive(Debug)]
pub struct Template {
    parsed: nodes::Parsed,
    dialect: Dialect,
}

/// Why a template could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line of the template, 0 when unknown.
    pub line: u32,
    /// The engine's message.
    pub message: String,
}

impl Template {
    /// Parses. Faults of the text are kept and raised by `render`, as the mapper would.
    pub fn parse(text: &str, dialect: Dialect) -> Self {
        if SOURCE_MAX < text.len() {
            let message: Arc<str> = Arc::from(format!("the template is longer than {SOURCE_MAX} bytes"));
            let parsed = nodes::Parsed { nodes: Vec::new(), fault: Some((0, message)) };
            return Self { parsed, dialect };
        }
        // The mapper reads line by line: any line end becomes \n, and there is always a last one.
        let mut normal = text.replace("\r\n", "\n").replace('\r', "\n");
        if !normal.is_empty() && !normal.ends_with('\n') {
            normal.push('\n');
        }
        Self { parsed: nodes::parse(&normal, dialect), dialect }
    }

    /// Renders with `tree` as variables, taking from `work`. Lists of the tree that the template appends to stay changed.
    pub fn render(&self, tree: &Ordered<Val>, work: &Work) -> Result<String, Fault> {
        eval::render(&self.parsed, self.dialect, (tree, work), None).map(|(text, _)| text)
    }

    /// Renders and tells which template line printed into which output line, both from 1, in order of printing.
    pub fn render_traced(
        &self,
        tree: &Ordered<Val>,
        work: &Work,
    ) -> Result<(String, Vec<(u32, u32)>), Fault> {
        let (text, prints) = eval::render(&self.parsed, self.dialect, (tree, work), Some(Vec::new()))?;
        let (mut line, mut seen) = (1u32, 0);
        let lines = prints.into_iter().map(|(template_line, offset)| {
            let newlines = text.as_bytes()[seen..offset].iter().filter(|byte| **byte == b'\n').count();
            line += u32::try_from(newlines).unwrap_or(u32::MAX);
            seen = offset;
            (template_line, line)
        });
        let lines = lines.collect();
        Ok((text, lines))
    }

    /// What decides what the template prints.
    pub fn dependencies(&self) -> Dependencies {
        reads::dependencies(&self.parsed.nodes)
    }

    /// Which keys the template reads, and how.
    pub fn reads(&self) -> Vec<Read> {
        reads::of(&self.parsed.nodes)
    }
}

#[cfg(test)]
mod tests;
