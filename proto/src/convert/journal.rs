//! The agent's journal: its memory as one record.

use std::collections::BTreeMap;

use fleet::{
    bundle::{Applied, Assignment, HomePath},
    ids::Generation,
    node::{
        COMMANDS_MAX, KeptOriginal, Memory, NOTICES_MAX, PREVIOUS_GOOD_MAX, Placed, REGISTERED_MAX,
        Registered, Replaced, SwitchRecord,
    },
    observed::{Attempt, Notice},
    time::Timestamp,
};
use prost::Message as _;

use crate::{
    convert::{
        ConvertError,
        bundle::digest,
        invalid,
        link::{assign_to_wire, epoch_from_wire},
        required,
    },
    wire::{agent, journal as wire},
};

/// The format that this program writes and reads.
const FORMAT: u32 = 1;

/// The bytes of a journal.
pub fn encode_memory(memory: &Memory) -> Vec<u8> {
    wire::Memory::from(memory).encode_to_vec()
}

/// # Errors
/// Bytes that are no journal, or one of a later format.
pub fn decode_memory(bytes: &[u8]) -> Result<Memory, ConvertError> {
    let memory =
        wire::Memory::decode(bytes).map_err(|source| ConvertError::Encoding { message: "Memory", source })?;
    Memory::try_from(memory)
}

/// The bytes of the record of a switch.
pub fn encode_switch(record: &SwitchRecord) -> Vec<u8> {
    let files = record.files.iter().map(|(path, file)| wire::Replaced {
        path: path.to_string(),
        old: file.old.map(|old| old.0.to_vec()),
        new: file.new.map_or_else(Vec::new, |new| new.0.to_vec()),
    });
    let target = Some((&record.target).into());
    let (home, files, mixed) = (record.home.clone(), files.collect(), record.mixed);
    wire::Switch { format: FORMAT, target, home, files, mixed }.encode_to_vec()
}

/// # Errors
/// Bytes that are no record of a switch, or one of a later format.
pub fn decode_switch(bytes: &[u8]) -> Result<SwitchRecord, ConvertError> {
    let record =
        wire::Switch::decode(bytes).map_err(|source| ConvertError::Encoding { message: "Switch", source })?;
    check_format("Switch", record.format)?;
    let mut files = BTreeMap::new();
    for file in record.files {
        let path =
            HomePath::parse(&file.path).map_err(|error| invalid("Replaced", "path", error.to_string()))?;
        let old = file.old.map(|old| digest(&old, "Replaced", "old")).transpose()?;
        let new = Some(file.new).filter(|new| !new.is_empty());
        let new = new.map(|new| digest(&new, "Replaced", "new")).transpose()?;
        files.insert(path, Replaced { old, new });
    }
    let target = Applied::try_from(required(record.target, "Switch", "target")?)?;
    Ok(SwitchRecord { target, home: record.home, files, mixed: record.mixed })
}

fn check_format(message: &'static str, format: u32) -> Result<(), ConvertError> {
    if format == FORMAT {
        return Ok(());
    }
    let why = if FORMAT < format {
        format!(
            "format {format} was written by a newer version, and this one reads {FORMAT}; install the newer one again"
        )
    } else {
        format!("{format} is no format; this program reads {FORMAT}")
    };
    Err(invalid(message, "format", why))
}

impl From<&Placed> for wire::Placed {
    fn from(placed: &Placed) -> Self {
        Self { applied: Some((&placed.applied).into()), content: placed.content.0.to_vec() }
    }
}

impl TryFrom<wire::Placed> for Placed {
    type Error = ConvertError;

    fn try_from(placed: wire::Placed) -> Result<Self, ConvertError> {
        Ok(Self {
            applied: Applied::try_from(required(placed.applied, "Placed", "applied")?)?,
            content: digest(&placed.content, "Placed", "content")?,
        })
    }
}

fn placed(placed: Option<wire::Placed>) -> Result<Option<Placed>, ConvertError> {
    placed.map(Placed::try_from).transpose()
}

fn original_to_wire((home, original): (&String, &KeptOriginal)) -> wire::Original {
    let placed = Some((&original.placed).into());
    wire::Original { home: home.clone(), placed, serves: original.serves }
}

fn original_from_wire(original: wire::Original) -> Result<(String, KeptOriginal), ConvertError> {
    let placed = required(original.placed, "Original", "placed")?.try_into()?;
    Ok((original.home, KeptOriginal { placed, serves: original.serves }))
}

fn registered_to_wire((name, registered): (&String, &Registered)) -> wire::Registered {
    wire::Registered {
        name: name.clone(),
        by: Some((&registered.by).into()),
        written: registered.is_written,
        ours: registered.is_ours,
    }
}

fn registered_from_wire(registered: wire::Registered) -> Result<(String, Registered), ConvertError> {
    let by = required(registered.by, "Registered", "by")?.try_into()?;
    Ok((registered.name, Registered { by, is_written: registered.written, is_ours: registered.ours }))
}

fn accepted_to_wire((path, until): (&HomePath, &Timestamp)) -> wire::Accepted {
    wire::Accepted { path: path.to_string(), until_ms: until.0 }
}

fn accepted_from_wire(accepted: &wire::Accepted) -> Result<(HomePath, Timestamp), ConvertError> {
    let path =
        HomePath::parse(&accepted.path).map_err(|error| invalid("Accepted", "path", error.to_string()))?;
    Ok((path, Timestamp(accepted.until_ms)))
}

impl From<&Memory> for wire::Memory {
    fn from(memory: &Memory) -> Self {
        Self {
            format: FORMAT,
            fleet_epoch: memory.epoch.map_or_else(Vec::new, |epoch| epoch.0.to_vec()),
            assignment: memory.assignment.as_ref().map(|assignment| assign_to_wire(assignment, 0)),
            attempted: memory.attempted.as_ref().map(Into::into),
            switching: memory.switching.as_ref().map(Into::into),
            written: memory.written.as_ref().map(Into::into),
            written_at_ms: memory.written_at.0,
            running: memory.running.as_ref().map(Into::into),
            process: memory.process.as_ref().map(Into::into),
            last_good: memory.last_good.as_ref().map(Into::into),
            previous_good: memory.previous_good.iter().map(Into::into).collect(),
            starts_total: memory.starts_total,
            pause: memory.pause.as_ref().map(|(reason, until)| agent::DriftPause {
                paused: true,
                reason: reason.clone(),
                until_ms: until.0,
            }),
            notices: memory.notices.iter().map(Into::into).collect(),
            notice_next: memory.notice_next,
            commands: memory.commands.iter().copied().collect(),
            accepted: memory.accepted.iter().map(accepted_to_wire).collect(),
            owed: memory.owed.as_ref().map(Into::into),
            restart: memory.restart.clone(),
            reads_other: memory.reads_other,
            originals: memory.originals.iter().map(original_to_wire).collect(),
            given_up: memory.given_up.map_or(0, |generation| generation.0),
            registered: memory.registered.iter().map(registered_to_wire).collect(),
        }
    }
}

impl TryFrom<wire::Memory> for Memory {
    type Error = ConvertError;

    fn try_from(memory: wire::Memory) -> Result<Self, ConvertError> {
        check_format("Memory", memory.format)?;
        let registered = memory.registered.into_iter().take(REGISTERED_MAX);
        let good = memory.previous_good.into_iter().take(PREVIOUS_GOOD_MAX);
        Ok(Self {
            epoch: epoch_from_wire(&memory.fleet_epoch)?,
            assignment: memory.assignment.map(Assignment::try_from).transpose()?,
            attempted: memory.attempted.map(Attempt::try_from).transpose()?,
            switching: placed(memory.switching)?,
            written: placed(memory.written)?,
            written_at: Timestamp(memory.written_at_ms),
            running: placed(memory.running)?,
            process: memory.process.map(Into::into),
            last_good: placed(memory.last_good)?,
            previous_good: good.map(Placed::try_from).collect::<Result<_, _>>()?,
            starts_total: memory.starts_total,
            pause: memory.pause.map(|pause| (pause.reason, Timestamp(pause.until_ms))),
            notices: memory.notices.into_iter().take(NOTICES_MAX).map(Notice::from).collect(),
            notice_next: memory.notice_next,
            commands: memory.commands.into_iter().take(COMMANDS_MAX).collect(),
            accepted: memory.accepted.iter().map(accepted_from_wire).collect::<Result<_, _>>()?,
            owed: placed(memory.owed)?,
            restart: memory.restart,
            reads_other: memory.reads_other,
            originals: memory.originals.into_iter().map(original_from_wire).collect::<Result<_, _>>()?,
            given_up: Some(Generation(memory.given_up)).filter(|generation| generation.0 != 0),
            registered: registered.map(registered_from_wire).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use fleet::{
        bundle::RunState,
        ids::{Digest, FleetEpoch, Revision},
        observed::{ProcessIdentity, Stage},
    };

    use super::*;

    #[test]
    fn a_memory_reads_back() {
        let placed = |n: u64| Placed {
            applied: Applied { generation: Generation(n), bundle: Digest::of(&[1]) },
            content: Digest::of(&n.to_be_bytes()),
        };
        let memory = Memory {
            epoch: Some(FleetEpoch([3; 16])),
            assignment: Some(Assignment {
                applied: placed(4).applied,
                content: placed(4).content,
                content_size: 9,
                revision: Revision(2),
                run: RunState::Running,
                why: "revision 2".into(),
                trace: None,
            }),
            attempted: Some(Attempt {
                target: placed(4).applied,
                stage: Stage::Staged,
                failure: None,
                done: false,
                kept_server: true,
            }),
            switching: Some(placed(4)),
            written: Some(placed(3)),
            written_at: Timestamp(77),
            running: Some(placed(2)),
            process: Some(ProcessIdentity { pid: 1, start_id: "5".into(), started: Timestamp(6) }),
            last_good: Some(placed(2)),
            previous_good: VecDeque::from([placed(1)]),
            starts_total: 8,
            pause: Some(("why".into(), Timestamp(9))),
            notices: VecDeque::from([Notice {
                seq: 1,
                at: Timestamp(2),
                kind: fleet::words::NoticeWord::Assigned.into(),
                text: "x".into(),
                fields: BTreeMap::from([("a".into(), "b".into())]),
            }]),
            notice_next: 1,
            commands: VecDeque::from([4, 5]),
            accepted: BTreeMap::from([(HomePath::parse("a/b").unwrap(), Timestamp(7))]),
            owed: Some(placed(2)),
            restart: Some("an operator asked for it".into()),
            reads_other: true,
            originals: BTreeMap::from([(
                "/opt/is".to_owned(),
                KeptOriginal { placed: placed(0), serves: true },
            )]),
            given_up: Some(Generation(4)),
            registered: BTreeMap::from([(
                "IS7".to_owned(),
                Registered { by: placed(2), is_written: true, is_ours: true },
            )]),
        };
        assert_eq!(decode_memory(&encode_memory(&memory)).unwrap(), memory);
        assert_eq!(decode_memory(&encode_memory(&Memory::default())).unwrap(), Memory::default());
    }

    #[test]
    fn the_record_of_a_switch_reads_back() {
        let path = |text: &str| HomePath::parse(text).unwrap();
        let record = SwitchRecord {
            target: Applied { generation: Generation(7), bundle: Digest::of(b"b") },
            home: "/opt/is".into(),
            files: BTreeMap::from([
                (path("a/b"), Replaced { old: None, new: Some(Digest::of(b"1")) }),
                (path("c"), Replaced { old: Some(Digest::of(b"0")), new: Some(Digest::of(b"1")) }),
                (path("gone"), Replaced { old: Some(Digest::of(b"0")), new: None }),
            ]),
            mixed: true,
        };
        assert_eq!(decode_switch(&encode_switch(&record)).unwrap(), record);
        assert!(decode_switch(b"").is_err(), "an empty file is not a switch of nothing");
    }

    #[test]
    fn a_journal_of_another_format_is_not_guessed_at() {
        let later = wire::Memory { format: 2, ..wire::Memory::from(&Memory::default()) };
        assert!(Memory::try_from(later).unwrap_err().to_string().contains("format"));
        assert!(decode_memory(b"").is_err(), "an empty file is not an empty memory");
    }
}
