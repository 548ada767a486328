//! Silences, all in one record: they are few, and their numbers are never given twice.

use fleet::{
    alert::{Reach, Rule, Silence},
    ids::{GroupName, NodeName},
    time::Timestamp,
};
use proto::wire::store as wire;

use super::Record;

/// The silences of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SilencesRecord {
    /// The newest number given.
    pub last: u64,
    /// Those that have not ended, or ended since the last change.
    pub silences: Vec<Silence>,
}

impl Record for SilencesRecord {
    type Wire = wire::Silences;
    const NAME: &'static str = "silences";

    fn to_wire(&self) -> wire::Silences {
        let silence = |silence: &Silence| wire::Silence {
            id: silence.id,
            node: silence.reach.node().map_or_else(String::new, ToString::to_string),
            group: silence.reach.group().map_or_else(String::new, ToString::to_string),
            rule: silence.rule.map_or("", Rule::as_str).to_owned(),
            from_ms: silence.from.0,
            until_ms: silence.until.0,
            reason: silence.reason.clone(),
            by: silence.by.clone(),
        };
        wire::Silences { last: self.last, silences: self.silences.iter().map(silence).collect() }
    }

    fn from_wire(wire: wire::Silences) -> Result<Self, String> {
        let mut record = Self { last: wire.last, silences: Vec::new() };
        for silence in wire.silences {
            let reach = match (silence.node.as_str(), silence.group.as_str()) {
                ("", "") => Reach::Fleet,
                ("", group) => Reach::Group(GroupName::parse(group).map_err(|error| error.to_string())?),
                (node, _) => Reach::Node(NodeName::parse(node).map_err(|error| error.to_string())?),
            };
            let rule = match silence.rule.as_str() {
                "" => None,
                // A rule of a newer version raises nothing here, so there is nothing to silence.
                word => match Rule::parse(word) {
                    None => continue,
                    known => known,
                },
            };
            record.silences.push(Silence {
                id: silence.id,
                reach,
                rule,
                from: Timestamp(silence.from_ms),
                until: Timestamp(silence.until_ms),
                reason: silence.reason,
                by: silence.by,
            });
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::{Entry, Key};

    #[test]
    fn silences_of_every_reach_read_back() {
        let reaches = [
            Reach::Fleet,
            Reach::Group(GroupName::parse("gateway").unwrap()),
            Reach::Node(NodeName::parse("gw-1").unwrap()),
        ];
        let silences = reaches.into_iter().zip([None, Some(Rule::ServerDown), None]).zip(1..);
        let silences = silences.map(|((reach, rule), id)| Silence {
            id,
            reach,
            rule,
            from: Timestamp(1),
            until: Timestamp(2),
            reason: "disk swap".to_owned(),
            by: "alice".to_owned(),
        });
        let record = SilencesRecord { last: 7, silences: silences.collect() };
        let entry = Entry { key: Key::silences(), version: 1, value: Bytes::from(record.encode()) };
        assert_eq!(SilencesRecord::read(&entry).unwrap(), record);
    }
}
