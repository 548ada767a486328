//! Gates of a group, the questions behind them, and the answers.

use fleet::{
    call::Check,
    ids::NodeName,
    rollout::{Gate, GateOn, GateVerdict, Gates, OnFailure},
    time::Timestamp,
};
use prost::Message as _;

use super::{name, value, word};
use crate::{
    convert::{ConvertError, bundle::digest},
    wire::store as wire,
};

pub(super) fn gates_to_wire(gates: &Gates) -> wire::Gates {
    wire::Gates { gates: gates.list.iter().map(gate_to_wire).collect(), content: gates.content.0.to_vec() }
}

pub(super) fn gates_from_wire(gates: wire::Gates) -> Result<Gates, ConvertError> {
    Ok(Gates {
        list: gates.gates.into_iter().map(gate_from_wire).collect::<Result<_, _>>()?,
        content: digest(&gates.content, "Gates", "content")?,
    })
}

fn gate_to_wire(gate: &Gate) -> wire::Gate {
    wire::Gate {
        name: gate.name.clone(),
        on: word(&GateOn::ALL, &gate.on),
        on_failure: gate.on_failure.map(|choice| word(&OnFailure::ALL, &choice)).unwrap_or_default(),
    }
}

fn gate_from_wire(gate: wire::Gate) -> Result<Gate, ConvertError> {
    let on_failure = Some(gate.on_failure.as_str()).filter(|word| !word.is_empty());
    Ok(Gate {
        name: gate.name,
        on: value(&GateOn::ALL, &gate.on, ("Gate", "on"))?,
        on_failure: on_failure
            .map(|word| value(&OnFailure::ALL, word, ("Gate", "on_failure")))
            .transpose()?,
    })
}

pub(super) fn verdict_to_wire(verdict: &GateVerdict) -> wire::GateVerdict {
    wire::GateVerdict {
        wave: verdict.wave,
        gate: verdict.gate.clone(),
        node: verdict.node.to_string(),
        at_ms: verdict.at.0,
        failure: verdict.failure.clone(),
    }
}

pub(super) fn verdict_from_wire(verdict: wire::GateVerdict) -> Result<GateVerdict, ConvertError> {
    Ok(GateVerdict {
        wave: verdict.wave,
        gate: verdict.gate,
        node: name(NodeName::parse(&verdict.node), "GateVerdict")?,
        at: Timestamp(verdict.at_ms),
        failure: verdict.failure,
    })
}

/// What the nodes of a group are asked, as the bytes of a content.
pub fn encode_questions<'a>(nodes: impl Iterator<Item = (&'a NodeName, &'a [Check])>) -> Vec<u8> {
    let one = |(node, checks): (&NodeName, &'a [Check])| {
        (node.to_string(), wire::NodeQuestions { checks: checks.iter().map(Into::into).collect() })
    };
    wire::Questions { nodes: nodes.map(one).collect() }.encode_to_vec()
}

/// The gate of a node in such a content; `None` if it has none of that name.
///
/// # Errors
/// Bytes that are none.
pub fn decode_question(bytes: &[u8], node: &NodeName, gate: &str) -> Result<Option<Check>, ConvertError> {
    let mut questions = wire::Questions::decode(bytes)
        .map_err(|source| ConvertError::Encoding { message: "Questions", source })?;
    let checks = questions.nodes.remove(node.as_str()).map(|node| node.checks);
    let check = checks.into_iter().flatten().find(|check| check.name == gate);
    check.map(Check::try_from).transpose()
}
