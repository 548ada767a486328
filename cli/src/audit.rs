//! `audit`: who did what, and whether the record of it is whole. This machine remembers how far it had come: a chain shows
//! what was changed in it, and not that its end is missing.

mod checkpoints;

use std::{fs, path::PathBuf};

use checkpoints::{Authority, Found};
use fleet::{
    audit::{Broken, Head, Link, Verifier, checkpoint::Meaning},
    ids::Digest,
    time::Timestamp,
};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use crate::{
    Session,
    client::{AuditQuery, Extent, Linked},
    context::Context,
    contexts::{Contexts, write_private},
    exit::{Exit, Failure},
    request::{AuditAct, AuditFilter},
    screen::Screen,
    text::{Cell, Keep, Style, Table, Tone, count, local},
    view::{self, When},
    wait,
};

/// Entries that `audit list` shows if nobody says how many.
const LAST: u32 = 50;

/// How far the record of one coordinator was seen to go, beside the contexts.
pub struct Witness {
    path: PathBuf,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Seen {
    seq: u64,
    link: String,
}

impl Witness {
    /// Of the coordinator that a context talks to: its authority says which one that is.
    pub fn of(contexts: &Contexts, context: &Context) -> Self {
        let authority = Digest::of(context.authority_pem.as_bytes()).short();
        Self { path: contexts.seen(&format!("{}-{authority}.toml", context.fleet)) }
    }

    /// The farthest that was seen.
    pub fn seen(&self) -> Option<Head> {
        let seen: Seen = toml::from_str(&fs::read_to_string(&self.path).ok()?).ok()?;
        Some(Head { seq: seen.seq, link: Link::from_hex(&seen.link)? })
    }

    /// Compares what a coordinator said with what was seen before, and remembers the farther one; a complaint if the record
    /// has become another.
    pub fn compare(&self, heard: Head) -> Option<Broken> {
        let seen = self.seen();
        match seen {
            Some(seen) if heard.seq < seen.seq => {
                return Some(Broken::Cut { last: heard.seq, seen: seen.seq });
            }
            Some(seen) if heard.seq == seen.seq && heard.link != seen.link => {
                return Some(Broken::Rewritten { seq: seen.seq });
            }
            Some(_) | None => {}
        }
        if seen != Some(heard) && heard != Head::NONE {
            let text = toml::to_string(&Seen { seq: heard.seq, link: heard.link.to_string() });
            // Whoever cannot write here still gets an answer; the next command tries again.
            drop(text.map(|text| write_private(&self.path, text.as_bytes())));
        }
        None
    }

    /// What is said when the record has become another.
    pub fn complaint(&self, broken: &Broken) -> String {
        format!(
            "warning: {broken}. If the coordinator's store was restored from an older copy, that is why: then remove {}. Otherwise \
             somebody may have removed what they did: look with `convoy audit verify`\n",
            self.path.display()
        )
    }
}

/// Runs one command.
///
/// # Errors
/// With what to do next; a record that is not whole is one.
pub async fn execute(act: AuditAct, session: &mut Session) -> Result<Exit, Failure> {
    match act {
        AuditAct::List { filter, last } => {
            let query = AuditQuery { most: last.unwrap_or(LAST), ..query(&filter, session) };
            let found = all(session, query).await?;
            let entries: Vec<view::AuditEntry> = found.iter().map(shown).collect();
            session.screen.programs(&entries);
            let text = table(&entries, wait::style(&session.screen));
            session.screen.people(&text);
            Ok(Exit::Done)
        }
        AuditAct::Export { filter } => {
            let query = query(&filter, session);
            let mut entries = session.client.audit(query).await?;
            while let Some(linked) = entries.next().await {
                let line = serde_json::to_string(&shown(&linked?))
                    .expect("views have no map with keys that are not text");
                session.screen.print(&format!("{line}\n"));
                if session.screen.is_closed() {
                    break;
                }
            }
            Ok(Exit::Done)
        }
        AuditAct::Verify { checkpoints } => verify(session, &checkpoints).await,
    }
}

fn query(filter: &AuditFilter, session: &Session) -> AuditQuery {
    let (since, until) = filter.times(Timestamp((session.now)().0));
    AuditQuery {
        most: 0,
        since,
        until,
        actor: filter.actor.clone(),
        act: filter.act.map(|act| act.to_string()),
        node: filter.node.as_ref().map(ToString::to_string),
    }
}

async fn all(session: &mut Session, query: AuditQuery) -> Result<Vec<Linked>, Failure> {
    let mut entries = session.client.audit(query).await?;
    let mut found = Vec::new();
    while let Some(linked) = entries.next().await {
        found.push(linked?);
    }
    Ok(found)
}

/// Where the record begins: after what was removed for its age, if the coordinator has signed that.
fn beginning(extent: &Extent, authority: Option<&Authority>) -> Result<Head, Failure> {
    let Some(removed) = &extent.removed else { return Ok(Head::NONE) };
    let checkpoint = removed.checkpoint;
    let is_own = checkpoint.epoch == extent.epoch && checkpoint.meaning == Meaning::Removed;
    if !is_own || authority.is_some_and(|authority| !authority.has_signed(removed)) {
        return Err(Failure::failed(
            format!(
                "the audit record begins after entry {}, and that the entries before were removed for their age is not signed by \
                 the coordinator's authority",
                checkpoint.head.seq
            ),
            "keep a copy of the coordinator's store and look who had access to it; an authority that was made anew signs \
             other words too",
        ));
    }
    Ok(checkpoint.head)
}

async fn verify(session: &mut Session, files: &[PathBuf]) -> Result<Exit, Failure> {
    let seen = session.seen;
    let extent = session.client.audit_extent().await?;
    let authority = match session.client.authority_pem() {
        "" => None,
        pem => Some(Authority::of(pem)?),
    };
    let from = beginning(&extent, authority.as_ref())?;
    let found = match &authority {
        Some(authority) => checkpoints::found(files, extent.epoch, authority)?,
        None => Found::default(),
    };
    let remembered = found.heads.iter().copied().chain(seen).chain([extent.head]);
    let mut verifier = Verifier::new(extent.epoch, from, remembered);
    let broken = |broken: Broken| {
        Failure::failed(
            format!("the audit record is not whole: {broken}"),
            "keep a copy of the coordinator's store and look who had access to it; a store that was restored from an older copy \
             ends early too",
        )
    };
    let mut entries = session.client.audit(AuditQuery::default()).await?;
    let mut last = None;
    while let Some(linked) = entries.next().await {
        let Linked { entry, link } = linked?;
        verifier.take(&entry, &link).map_err(broken)?;
        last = Some(entry.at);
    }
    verifier.reaches().map_err(broken)?;
    let verified = view::Verified {
        entries: verifier.last().seq,
        link: verifier.last().link.to_string(),
        last: last.map(|at| When(at.0)),
        witnessed: seen.map(|seen| seen.seq),
        checkpoints: found.heads.len(),
        removed: from.seq,
        checkpoint: extent.checkpoint.as_ref().map(ToString::to_string),
    };
    session.screen.programs(&verified);
    session.screen.people(&whole(&verified, &found));
    Ok(Exit::Done)
}

fn whole(verified: &view::Verified, found: &Found) -> String {
    let witnessed = match verified.witnessed {
        Some(seen) => format!("; this machine had seen it up to entry {seen}"),
        None => "; this machine had not seen it before".to_owned(),
    };
    let mut out = format!(
        "The record is whole: {} entries, each covering all before it{witnessed}.\n",
        verified.entries
    );
    if verified.removed != 0 {
        out.push_str(&format!("  entries 1 to {} were removed for their age\n", verified.removed));
    }
    if let (Some(newest), Some(farthest)) = (found.newest, found.heads.iter().map(|head| head.seq).max()) {
        let (count, at) = (count(found.heads.len(), "checkpoint"), local(When(newest.0)));
        out.push_str(&format!("  as in {count}, up to entry {farthest}; the newest is of {at}\n"));
    }
    if found.foreign + found.unsigned != 0 {
        out.push_str(&format!(
            "  left out: {} of another store, {} not signed by this coordinator's authority\n",
            count(found.foreign, "checkpoint"),
            found.unsigned
        ));
    }
    out.push_str(&format!("  head: {}\n", verified.link));
    if let Some(checkpoint) = &verified.checkpoint {
        out.push_str(&format!("  checkpoint: {checkpoint}\n"));
    }
    out
}

pub(crate) fn shown(linked: &Linked) -> view::AuditEntry {
    let Linked { entry, link } = linked;
    view::AuditEntry {
        seq: entry.seq,
        at: When(entry.at.0),
        actor: entry.actor.clone(),
        certificate: Some(entry.serial.clone()).filter(|serial| !serial.is_empty()),
        from: entry.from.map(|from| from.to_string()),
        action: entry.act.to_string(),
        node: entry.node.as_ref().map(ToString::to_string),
        text: entry.text.clone(),
        outcome: entry.outcome.as_str().to_owned(),
        order: entry.outcome.order(),
        why: entry.outcome.why().map(str::to_owned),
        link: link.to_string(),
    }
}

fn table(entries: &[view::AuditEntry], style: Style) -> String {
    if entries.is_empty() {
        return "nothing was done, as far as this was asked for\n".to_owned();
    }
    let mut table = Table::fitted([
        ("NO", Keep::Always),
        ("WHEN", Keep::Always),
        ("WHO", Keep::Always),
        ("FROM", Keep::UnlessNarrow(2)),
        ("ACTION", Keep::UnlessNarrow(1)),
        ("OUTCOME", Keep::Always),
        ("WHAT", Keep::Always),
    ]);
    for entry in entries {
        let tone = match entry.outcome.as_str() {
            "denied" | "not-done" | "refused" => Tone::Bad,
            _ => Tone::Plain,
        };
        let order = entry.order.map(|order| format!(" (entry {order})")).unwrap_or_default();
        let what = match &entry.why {
            // A refusal says everything itself.
            Some(why) if *why == entry.text => why.clone(),
            Some(why) => format!("{}{order}: {why}", entry.text),
            None => format!("{}{order}", entry.text),
        };
        table.row([
            Cell::plain(entry.seq.to_string()),
            Cell::plain(local(entry.at)),
            Cell::plain(&entry.actor),
            Cell::plain(entry.from.as_deref().unwrap_or("-")),
            Cell::plain(&entry.action),
            Cell::toned(tone, &entry.outcome),
            Cell::plain(what),
        ]);
    }
    table.render(style)
}

/// Says so if a coordinator's record has become another than this machine had seen.
pub fn witness(witness: &Witness, heard: Option<Head>, screen: &mut Screen) {
    if let Some(broken) = heard.and_then(|heard| witness.compare(heard)) {
        screen.say(&witness.complaint(&broken));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_goes_back_or_is_another_is_complained_about() {
        let dir = tempfile::tempdir().unwrap();
        let witness = Witness { path: dir.path().join("seen/acme.toml") };
        let head = |seq, byte| Head { seq, link: Link([byte; 32]) };
        assert_eq!((witness.seen(), witness.compare(Head::NONE)), (None, None));
        assert_eq!(witness.compare(head(3, 1)), None);
        assert_eq!(witness.compare(head(5, 2)), None);
        assert_eq!((witness.seen(), witness.compare(head(5, 2))), (Some(head(5, 2)), None));
        assert_eq!(witness.compare(head(4, 1)), Some(Broken::Cut { last: 4, seen: 5 }));
        assert_eq!(witness.compare(Head::NONE), Some(Broken::Cut { last: 0, seen: 5 }));
        assert_eq!(witness.compare(head(5, 9)), Some(Broken::Rewritten { seq: 5 }));
        assert_eq!(witness.seen(), Some(head(5, 2)), "the farthest stays");
        assert!(witness.complaint(&Broken::Cut { last: 4, seen: 5 }).contains("ends at entry 4"));
    }
}
