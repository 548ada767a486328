//! `[[groups.NAME.rollout.gates]]` as typed, and for one node with its expressions evaluated. Secrets stay in it by
//! name until the coordinator asks.

use std::time::Duration;

use super::{
    call_text::{self, CallText, Kind, Scope},
    reader::Reader,
    report::Report,
    tree::At,
};
use crate::{
    call::{Check, HaproxyState, Tries},
    rollout::{GATE_NAME_MAX, GATES_MAX, Gate, GateOn, OnFailure},
    time::Human,
};

/// Tries of a gate that does not say how many.
const TRIES_DEFAULT: u32 = 3;

#[derive(Debug, Clone)]
pub(super) struct GateText {
    at: At,
    gate: Gate,
    call: CallText,
    tries: Tries,
}

impl GateText {
    /// What the planner knows of it.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// All of a group, whose nodes must get further within `deadline`.
    pub(super) fn read_all(rollout: &mut Reader<'_>, deadline: Duration, report: &mut Report) -> Vec<Self> {
        let mut gates: Vec<Self> = Vec::new();
        for table in rollout.tables("gates", report) {
            let Some(gate) = Self::read(table, report) else { continue };
            let name = &gate.gate.name;
            let problem = if gates.iter().any(|known| known.gate.name == *name) {
                Some((format!("there are two gates {name:?}"), "give each gate of a group a name of its own"))
            } else if GATES_MAX <= gates.len() {
                Some((
                    format!("a group has at most {GATES_MAX} gates"),
                    "let one command check several things",
                ))
            } else if deadline <= gate.longest() {
                let (longest, deadline) = (Human(gate.longest()), Human(deadline));
                let text = format!(
                    "gate {name:?} may take {longest}, and progress_deadline ends it after {deadline}"
                );
                Some((text, "lower timeout, interval or tries of the gate, or raise progress_deadline"))
            } else {
                None
            };
            match problem {
                Some((text, remedy)) => report.error("CV115", Some(gate.at.key_place()), text, remedy),
                None => gates.push(gate),
            }
        }
        gates
    }

    fn read(mut table: Reader<'_>, report: &mut Report) -> Option<Self> {
        let at = table.at().clone();
        let name = call_text::required_text(&mut table, "name", "\"login\"", report);
        let kinds = [
            (Kind::Http, "http"),
            (Kind::Token, "token"),
            (Kind::Prometheus, "prometheus"),
            (Kind::Command, "command"),
        ];
        // No kind of a gate has a state of HAProxy.
        let call = call_text::read_call(&mut table, &kinds, HaproxyState::Ready, report);
        let tries = call_text::read_tries(&mut table, call_text::usual_tries(TRIES_DEFAULT), report);
        let on = table.choice("on", &GateOn::ALL, report).unwrap_or_default();
        let on_failure = table.choice("on_failure", &OnFailure::ALL, report);
        table.finish(report);
        let name = name?;
        let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if name.value.is_empty() || GATE_NAME_MAX < name.value.len() || !name.value.chars().all(plain) {
            report.error(
                "CV115",
                Some(name.at.value_place()),
                format!("{:?} cannot be the name of a gate", name.value),
                format!("use letters, digits, '-', '_' and '.', at most {GATE_NAME_MAX} of them"),
            );
            return None;
        }
        Some(Self { at, gate: Gate { name: name.value, on, on_failure }, call: call?, tries })
    }

    /// The longest that all its tries take.
    fn longest(&self) -> Duration {
        let most = self.tries.most.saturating_add(self.call.more_tries());
        Tries { most, ..self.tries }.longest()
    }

    /// For one node.
    pub(super) fn resolve(&self, scope: &Scope<'_>, report: &mut Report) -> Option<Check> {
        let call = call_text::resolve(&self.call, &self.at, scope, report)?;
        Some(Check { name: self.gate.name.clone(), call, tries: self.tries })
    }
}
