//! Carbon from outside, in one program: each more is one more to link.

mod anything;
mod common;
mod golden;
mod hostile;
mod known;
mod properties;
