//! What fanotify(7) writes for a group that names files by directory and name, read as bytes: nothing here has to be
//! believed, so nothing here is unsafe.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

/// Length of `struct fanotify_event_metadata`.
const METADATA: usize = 24;
/// The only version of it that there has been since Linux 2.6.37.
const VERSION: u8 = 3;
/// `FAN_EVENT_INFO_TYPE_DFID_NAME`.
const DFID_NAME: u8 = 2;
/// Type, pad and length in front of each record.
const HEADER: usize = 4;
/// File system id, then length and type of the handle.
const ID: usize = 8;
const HANDLE: usize = 8;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// What happened, as `FAN_*`.
    pub mask: u64,
    /// Whose doing; 0 if the reader may not know.
    pub pid: i32,
    /// The directory, as the file system knows it; the same bytes are the same directory.
    pub directory: &'a [u8],
    /// The name in it; `.` is the directory itself.
    pub name: &'a OsStr,
}

/// All events of one read. What is not understood is left out; lengths that make no sense end it.
pub(super) fn records(mut bytes: &[u8]) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    while let Some(length) = number(bytes, 0).filter(|length| (METADATA..=bytes.len()).contains(length)) {
        let (event, rest) = bytes.split_at(length);
        records.extend(record(event));
        bytes = rest;
    }
    records
}

fn record(event: &[u8]) -> Option<Record<'_>> {
    if event.get(4) != Some(&VERSION) {
        return None;
    }
    let begin = usize::from(u16::from_ne_bytes(event.get(6..8)?.try_into().ok()?));
    let mask = u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?);
    let pid = i32::from_ne_bytes(event.get(20..24)?.try_into().ok()?);
    let (directory, name) = place(event.get(begin..)?).unwrap_or((&[], OsStr::new("")));
    Some(Record { mask, pid, directory, name })
}

/// Directory and name of the first record that has them.
fn place(mut records: &[u8]) -> Option<(&[u8], &OsStr)> {
    loop {
        let kind = *records.first()?;
        let length = usize::from(u16::from_ne_bytes(records.get(2..4)?.try_into().ok()?));
        let record = records.get(HEADER..length)?;
        if kind == DFID_NAME {
            let handle = number(record, ID)?;
            let end = (ID + HANDLE).checked_add(handle)?;
            let name = record.get(end..)?.split(|byte| *byte == 0).next()?;
            return Some((record.get(..end)?, OsStr::from_bytes(name)));
        }
        records = records.get(length..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 wrote it for `echo > /tmp/x/f`, but for the handle.
    fn event(mask: u64, pid: i32, name: &str) -> Vec<u8> {
        let mut place = vec![7; ID];
        place.extend(8_u32.to_ne_bytes());
        place.extend(1_i32.to_ne_bytes());
        place.extend([9; 8]);
        place.extend(name.as_bytes());
        place.push(0);
        place.resize(place.len().next_multiple_of(4), 0);
        let info = u16::try_from(HEADER + place.len()).unwrap();
        let mut bytes = (u32::from(info) + 24).to_ne_bytes().to_vec();
        bytes.extend([VERSION, 0]);
        bytes.extend(24_u16.to_ne_bytes());
        bytes.extend(mask.to_ne_bytes());
        bytes.extend((-1_i32).to_ne_bytes());
        bytes.extend(pid.to_ne_bytes());
        bytes.extend([DFID_NAME, 0]);
        bytes.extend(info.to_ne_bytes());
        bytes.extend(place);
        bytes
    }

    #[test]
    fn events_are_read_and_broken_ones_are_not() {
        let both = [event(2, 77, "deployment.toml"), event(8, 78, "x")].concat();
        let read = records(&both);
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].mask, read[0].pid, read[0].name), (2, 77, OsStr::new("deployment.toml")));
        assert_eq!(read[0].directory, read[1].directory);
        assert_eq!(read[0].directory.len(), ID + HANDLE + 8);
        for cut in 0..both.len() {
            assert!(records(&both[..cut]).len() < 2, "{cut}");
        }
        let whole = event(2, 77, "f");
        for at in 0..whole.len() {
            for value in [0, 1, 255] {
                let mut broken = whole.clone();
                broken[at] = value;
                // Whatever it says, it is read within its bounds.
                assert!(records(&broken).len() <= 1);
            }
        }
    }

    #[test]
    fn an_event_without_a_place_is_an_event() {
        let mut bytes = event(0x4000, 0, "x")[..24].to_vec();
        bytes[..4].copy_from_slice(&24_u32.to_ne_bytes());
        let read = records(&bytes);
        assert_eq!((read.len(), read[0].mask, read[0].directory.len()), (1, 0x4000, 0));
    }
}
