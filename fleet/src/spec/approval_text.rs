//! `[approval]` and `[groups.NAME.approval]` as typed.

use std::time::Duration;

use super::{reader::Reader, report::Report};
use crate::{
    approval::{EXPIRES, EXPIRES_RANGE},
    time::Human,
};

/// `[approval]` of the fleet.
pub(super) struct FleetApproval {
    pub(super) required: bool,
    pub(super) expires: Duration,
}

/// Reads `[approval]`.
pub(super) fn read_fleet(reader: &mut Reader<'_>, report: &mut Report) -> FleetApproval {
    let Some(mut table) = reader.table("approval", report) else {
        return FleetApproval { required: false, expires: EXPIRES };
    };
    let required = table.flag("required", report).unwrap_or(false);
    let at = table.raw().get("expires").and_then(|node| node.at().cloned());
    let mut expires = table.duration("expires", report).unwrap_or(EXPIRES);
    let (low, high) = EXPIRES_RANGE;
    if !(low..=high).contains(&expires) {
        report.error(
            "CV013",
            at.map(|at| at.value_place()),
            format!("`approval.expires` is {}, outside {} to {}", Human(expires), Human(low), Human(high)),
            format!("write a duration from \"{}\" to \"{}\"", Human(low), Human(high)),
        );
        expires = EXPIRES;
    }
    table.finish(report);
    FleetApproval { required, expires }
}

/// Reads `[groups.NAME.approval]`: whether it is required.
pub(super) fn read_group(reader: &mut Reader<'_>, report: &mut Report) -> bool {
    let Some(mut table) = reader.table("approval", report) else { return false };
    let required = table.flag("required", report).unwrap_or(false);
    table.finish(report);
    required
}
