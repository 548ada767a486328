//! How much a render may do. A template can double a list of lists with each round, an inference can infer itself in two
//! ways, a text can be cut into pieces over and over: counting rounds and measuring results is not enough. So whatever
//! walks values or copies texts says how much of that it does, before or right after it does it.

use std::cell::Cell;

/// Units of work that one render may take, values and templates together. A unit is one visit of a node, an operation,
/// an entry or a value, or the copying of [`BYTES`] bytes. A full render of a real pack takes less than a fiftieth.
pub const WORK_MAX: usize = 10_000_000;
/// Bytes of text that count as one unit. With [`WORK_MAX`] this bounds the memory that one render can fill.
pub const BYTES: usize = 16;

/// What is left.
#[derive(Debug)]
pub struct Work(Cell<usize>);

/// Nothing is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

impl Default for Work {
    fn default() -> Self {
        Self(Cell::new(WORK_MAX))
    }
}

impl Work {
    /// Units taken so far.
    pub fn taken(&self) -> usize {
        WORK_MAX - self.0.get()
    }

    /// Takes `units`.
    ///
    /// # Errors
    /// There are not as many left; from then on nothing is.
    pub fn take(&self, units: usize) -> Result<(), Exhausted> {
        let left = self.0.get().checked_sub(units);
        self.0.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(Exhausted)
    }

    /// Takes what reading or copying a text of this length is worth.
    ///
    /// # Errors
    /// As [`Work::take`].
    pub fn take_bytes(&self, bytes: usize) -> Result<(), Exhausted> {
        self.take(1 + bytes / BYTES)
    }
}
