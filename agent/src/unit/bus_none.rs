//! Where there is no systemd. The configuration refuses units there, so nothing gets here.

use std::{io, time::Duration};

use fleet::preflight::unit::UnitFact;

use super::{Unit, UnitError};

fn none(unit: &Unit) -> UnitError {
    let source = io::Error::new(io::ErrorKind::Unsupported, "systemd is of Linux only");
    UnitError::Unreachable { bus: unit.bus.clone(), source: source.into() }
}

pub(super) async fn look(unit: &Unit) -> Result<UnitFact, UnitError> {
    Err(none(unit))
}

pub(super) async fn job(unit: &Unit, _what: &'static str, _limit: Duration) -> Result<(), UnitError> {
    Err(none(unit))
}

pub(super) async fn kill(unit: &Unit) -> Result<(), UnitError> {
    Err(none(unit))
}

pub(super) async fn unit_of(unit: &Unit, _pid: u32) -> Result<String, UnitError> {
    Err(none(unit))
}
