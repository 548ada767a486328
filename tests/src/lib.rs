//! What end-to-end and simulation tests share; the only crate that may see both daemons.

use fleet::{
    access::{Action, FIRST_OPERATOR, Grant, Permit, Principal, Targets, may},
    ids::OperatorName,
};

pub mod harness;
pub mod pack;
pub mod standin;

pub use simulation::asked;

/// What the first operator of a coordinator may do, for tests that call it without a connection.
///
/// # Errors
/// Never: the first operator may do everything.
pub fn first_operators_permit(action: Action) -> anyhow::Result<Permit> {
    let name = OperatorName::parse(FIRST_OPERATOR)?;
    let admin = Principal { name, grant: Grant::first(), version: 0, serial: String::new(), from: None };
    Ok(may(&admin, action, &Targets::new())?)
}
