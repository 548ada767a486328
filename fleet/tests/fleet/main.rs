//! Fleet directories from outside, in one program: each more is one more to link.

mod findings;
mod import;
mod lint_real;
mod real_input;
mod rules;
