//! Where no load balancer is looked after: the configuration refuses one, so nothing gets here.

use std::path::Path;

use fleet::{balancer::Kind, observed::ProcessIdentity};

pub(super) fn of(_pid: u32, _program: &Path) -> Option<ProcessIdentity> {
    None
}

pub(super) fn workers(_master: &ProcessIdentity) -> Vec<(u32, u64)> {
    Vec::new()
}

pub(super) fn signal(_master: &ProcessIdentity, _kind: Kind) -> Result<(), String> {
    Err("load balancers are looked after on Linux only".to_owned())
}
