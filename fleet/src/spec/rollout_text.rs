//! `[rollout]` and `[groups.NAME.rollout]` as typed, into the policies that `rollout` obeys.

use std::time::Duration;

use super::{gate_text::GateText, reader::Reader, report::Report};
use crate::rollout::{
    Cron, FleetPolicy, OnFailure, Overrun, Promotion, RolloutPolicy, Share, Window, WindowUse,
};

pub(super) fn read_fleet(mut table: Reader<'_>, report: &mut Report) -> FleetPolicy {
    let policy = FleetPolicy {
        max_unavailable: read_share(&mut table, "max_unavailable", report),
        max_unavailable_per_zone: read_share(&mut table, "max_unavailable_per_zone", report),
        parallel_zones: table.flag("parallel_zones", report).unwrap_or(false),
        failures_max: read_share(&mut table, "failures_max", report),
        spread_hosts: table.flag("spread_hosts", report).unwrap_or(false),
    };
    table.finish(report);
    policy
}

pub(super) fn read_group(mut table: Reader<'_>, report: &mut Report) -> (RolloutPolicy, Vec<GateText>) {
    let default = RolloutPolicy::default();
    let mut duration =
        |key, otherwise: Duration, report: &mut Report| table.duration(key, report).unwrap_or(otherwise);
    let soak = duration("soak", default.soak, report);
    let min_healthy_time = duration("min_healthy_time", default.min_healthy_time, report);
    let healthy_deadline = duration("healthy_deadline", default.healthy_deadline, report);
    let progress_deadline = duration("progress_deadline", default.progress_deadline, report);
    let policy = RolloutPolicy {
        canary: read_share(&mut table, "canary", report),
        promotion: table.choice("promotion", &Promotion::ALL, report).unwrap_or_default(),
        max_unavailable: read_share(&mut table, "max_unavailable", report).unwrap_or(default.max_unavailable),
        max_unavailable_per_zone: read_share(&mut table, "max_unavailable_per_zone", report),
        wave: read_share(&mut table, "wave", report),
        soak,
        min_healthy_time,
        healthy_deadline,
        progress_deadline,
        on_failure: table.choice("on_failure", &OnFailure::ALL, report).unwrap_or_default(),
        windows: table
            .tables("windows", report)
            .into_iter()
            .filter_map(|window| read_window(window, report))
            .collect(),
    };
    let gates = GateText::read_all(&mut table, policy.progress_deadline, report);
    table.finish(report);
    (policy, gates)
}

fn read_share(table: &mut Reader<'_>, key: &'static str, report: &mut Report) -> Option<Share> {
    let typed = table.number_or_text(key, report)?;
    match Share::parse(&typed.value) {
        Ok(share) => Some(share),
        Err(error) => {
            report.error(
                "CV012",
                Some(typed.at.value_place()),
                format!("`{key}`: {error}"),
                "write for example 1 or \"25%\"",
            );
            None
        }
    }
}

fn read_window(mut window: Reader<'_>, report: &mut Report) -> Option<Window> {
    let uses = [(WindowUse::Any, "any"), (WindowUse::Restart, "restart"), (WindowUse::Write, "write")];
    let overruns = [(Overrun::Finish, "finish"), (Overrun::Fit, "fit")];
    let for_steps = window.choice("steps", &uses, report).unwrap_or(WindowUse::Any);
    let overrun = window.choice("overrun", &overruns, report).unwrap_or_default();
    let opens = window.text("opens", report);
    let opens = window.required("opens", opens, "\"0 2 * * 1-5\"", report);
    let duration = window.duration("duration", report);
    let duration = window.required("duration", duration, "\"2h\"", report);
    let zone = window.text("zone", report).map_or_else(|| "UTC".to_owned(), |typed| typed.value);
    let at = window.at().clone();
    window.finish(report);
    let (opens, duration) = (opens?, duration?);
    let read =
        Cron::parse(&opens.value).and_then(|cron| Window::new(for_steps, cron, duration, &zone, overrun));
    match read {
        Ok(window) => Some(window),
        Err(error) => {
            report.error(
                "CV012",
                Some(at.key_place()),
                error.to_string(),
                "write opens as five cron fields, duration as in \"2h\", zone as in \"Europe/Berlin\"",
            );
            None
        }
    }
}
