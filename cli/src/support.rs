//! `support-bundle`: what a helper from outside asks for first, in one archive. Everything in it is what this operator may
//! see anyway, masked once more on its way into the file; what could not be had is said in it (ADR 0090).

mod archive;
mod chosen;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    time::Duration,
};

use fleet::{logs::Log, time::Timestamp};
use futures::StreamExt as _;
use serde::Serialize;

use self::archive::Archive;
use crate::{
    Session, audit,
    client::{AuditQuery, EventQuery, LogQuery, Updates},
    exit::{Exit, Failure},
    render,
    request::SupportBundle,
    view::{self, When},
    wait,
};

/// Nodes whose details, configuration and logs go in.
const NODES_MAX: usize = 20;
/// Lines of each log, and bytes of them.
const LOG_LINES: u32 = 2_000;
const LOG_BYTES: usize = 4 << 20;
/// Events, and entries of the audit, and bytes of each.
const EVENTS_MAX: u32 = 20_000;
const LINES_BYTES: usize = 8 << 20;
/// Rollouts and revisions.
const PAST_MAX: u32 = 50;
/// A log that takes longer is left out.
const LOG_TIME: Duration = Duration::from_secs(60);
/// Which logs. The server's audit log names its users, and is left out.
const LOGS: [Log; 3] = [Log::Carbon, Log::Console, Log::Agent];

/// Collects what there is, and writes it.
///
/// # Errors
/// The coordinator cannot be asked at all, or the file cannot be written; no file is left then.
pub async fn execute(request: SupportBundle, session: &mut Session) -> Result<Exit, Failure> {
    let now = (session.now)();
    let status = session.client.status().await?;
    let path = request.out.clone().unwrap_or_else(|| default_name(&status.fleet, now));
    let mut archive = Archive::create(&path, now)?;
    collect(session, &request, &status, &mut archive).await?;
    let manifest = archive.finish(&view::Manifest {
        fleet: status.fleet.clone(),
        made: now,
        since: When(request.since.at(Timestamp(now.0)).0),
        convoy_version: env!("CARGO_PKG_VERSION").to_owned(),
        coordinator_version: status.coordinator_version.clone(),
        parts: Vec::new(),
        left_out: Vec::new(),
    })?;
    session.screen.programs(&view::SupportBundle { path: path.display().to_string(), manifest: &manifest });
    let text = render::support_bundle(&path, &manifest, wait::style(&session.screen));
    session.screen.people(&text);
    Ok(Exit::Done)
}

/// A name that no shell stumbles over, here.
fn default_name(fleet: &str, now: When) -> PathBuf {
    let fleet: String = fleet.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    let at = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default().strftime("%Y%m%d-%H%M%S");
    PathBuf::from(format!("convoy-support-{fleet}-{at}.zip"))
}

async fn collect(
    session: &mut Session,
    request: &SupportBundle,
    status: &view::Status,
    archive: &mut Archive,
) -> Result<(), Failure> {
    let versions = Versions {
        convoy: env!("CARGO_PKG_VERSION"),
        platform: std::env::consts::OS,
        agents: view::AgentList::of(status, false),
    };
    archive.json("versions.json", "versions of command, coordinator and agents", Ok(&versions))?;
    archive.json("status.json", "the status of the fleet", Ok(status))?;
    let client = &mut session.client;
    archive.json("rollouts.json", "the newest rollouts", client.rollouts(PAST_MAX).await)?;
    archive.json("revisions.json", "the newest revisions", client.revisions(PAST_MAX).await)?;
    archive.json("proposals.json", "changes that wait for approval, or waited", client.proposals().await)?;
    archive.json("alerts.json", "alerts, channels and silences", client.alerts().await)?;
    let since = request.since.at(Timestamp((session.now)().0));
    events(session, since, archive).await?;
    entries(session, since, archive).await?;
    let (chosen, others) = chosen::nodes(&status.nodes, &request.only, NODES_MAX);
    for (what, why) in others {
        archive.leave_out(what, why);
    }
    configuration(session, &chosen, archive).await?;
    details(session, &chosen, archive).await?;
    logs(session, request, &chosen, archive).await?;
    archive.leave_out(
        "what `convoy-agent doctor` says of each host",
        "the coordinator cannot ask for it; run it on the host",
    );
    Ok(())
}

#[derive(Serialize)]
struct Versions {
    convoy: &'static str,
    platform: &'static str,
    #[serde(flatten)]
    agents: view::AgentList,
}

/// Lines of which the newest are kept.
#[derive(Default)]
struct Newest {
    lines: VecDeque<String>,
    bytes: usize,
    dropped: usize,
}

impl Newest {
    fn put(&mut self, line: String, most: usize) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while most < self.bytes
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len() + 1;
            self.dropped += 1;
        }
    }

    fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// What a reader should know about what is not there.
    fn notes(&self) -> Vec<String> {
        let note = format!("{} older lines are left out, for its size is bounded", self.dropped);
        (self.dropped != 0).then_some(note).into_iter().collect()
    }
}

/// Takes a stream of values as lines of JSON until it ends; answers why it broke, if it did.
async fn lines_of<T, S: Serialize>(
    updates: Result<Updates<T>, Failure>,
    show: impl Fn(&T) -> S,
    most: u32,
) -> (Newest, Option<Failure>) {
    let mut lines = Newest::default();
    let mut updates = match updates {
        Ok(updates) => updates,
        Err(failure) => return (lines, Some(failure)),
    };
    while let Some(update) = updates.next().await {
        match update {
            Ok(update) => lines.put(archive::masked_json(&show(&update), archive::Form::Line), LINES_BYTES),
            Err(failure) => return (lines, Some(failure)),
        }
        if most as usize <= lines.lines.len() + lines.dropped {
            break;
        }
    }
    (lines, None)
}

async fn events(session: &mut Session, since: Timestamp, archive: &mut Archive) -> Result<(), Failure> {
    let query = EventQuery { most: EVENTS_MAX, since: Some(since), ..EventQuery::default() };
    let events = session.client.events(query).await;
    let (lines, broken) = lines_of(events, |event: &view::Event| event.clone(), EVENTS_MAX).await;
    archive.lines("events.jsonl", "events, a line of JSON each", (&lines.text(), lines.notes()), broken)
}

async fn entries(session: &mut Session, since: Timestamp, archive: &mut Archive) -> Result<(), Failure> {
    let query = AuditQuery { most: EVENTS_MAX, since: Some(since.0), ..AuditQuery::default() };
    let entries = session.client.audit(query).await;
    let (lines, broken) = lines_of(entries, audit::shown, EVENTS_MAX).await;
    archive.lines("audit.jsonl", "who did what, a line of JSON each", (&lines.text(), lines.notes()), broken)
}

/// The fleet directory in force, and what was made of it for the chosen nodes.
async fn configuration(
    session: &mut Session,
    chosen: &[&view::Node],
    archive: &mut Archive,
) -> Result<(), Failure> {
    let what = "the configuration of the fleet";
    let names = chosen.iter().map(|node| node.name.clone()).collect();
    let files = match session.client.configuration(names).await {
        Ok(files) => files,
        Err(failure) => {
            archive.leave_out(what, archive::reason(&failure));
            return Ok(());
        }
    };
    if files.is_empty() {
        archive.leave_out(what, "nothing was applied yet");
    }
    for file in files {
        let (path, what) = match &file.node {
            Some(node) => (format!("nodes/{node}/{}", file.path), format!("what {node} was assigned")),
            None => (format!("fleet/{}", file.path), what.to_owned()),
        };
        match file.text {
            Ok(text) => archive.text(&path, &what, &text, Vec::new())?,
            Err(why) => archive.leave_out(path, why),
        }
    }
    Ok(())
}

async fn details(
    session: &mut Session,
    chosen: &[&view::Node],
    archive: &mut Archive,
) -> Result<(), Failure> {
    for node in chosen {
        let detail = session.client.node(&node.name).await;
        archive.json(
            &format!("nodes/{}/node.json", node.name),
            &format!("everything about {}", node.name),
            detail,
        )?;
    }
    Ok(())
}

async fn logs(
    session: &mut Session,
    request: &SupportBundle,
    chosen: &[&view::Node],
    archive: &mut Archive,
) -> Result<(), Failure> {
    if !request.logs {
        archive.leave_out("logs", "--no-logs was given");
        return Ok(());
    }
    // A role that does not reach one node of a group reaches none of it; each refusal is recorded.
    let mut denied: BTreeMap<&str, String> = BTreeMap::new();
    for node in chosen {
        let what = format!("logs of {}", node.name);
        if !node.connected {
            archive.leave_out(what, "its agent is not connected");
            continue;
        }
        if let Some(why) = denied.get(node.group.as_str()) {
            archive.leave_out(what, why.as_str());
            continue;
        }
        for log in LOGS {
            match tokio::time::timeout(LOG_TIME, log_of(session, &node.name, log)).await {
                Ok(Ok((lines, notes))) => {
                    let path = format!("nodes/{}/{log}.log", node.name);
                    let what = format!("the {log} log of {}", node.name);
                    archive.text(&path, &what, &lines, notes)?;
                }
                Ok(Err(failure)) if failure.is_denied => {
                    denied.insert(&node.group, archive::reason(&failure));
                    archive.leave_out(what, archive::reason(&failure));
                    break;
                }
                Ok(Err(failure)) => {
                    archive.leave_out(format!("the {log} log of {}", node.name), archive::reason(&failure));
                }
                Err(_) => {
                    let why = format!("it did not come within {} s", LOG_TIME.as_secs());
                    archive.leave_out(format!("the {log} log of {}", node.name), why);
                }
            }
        }
    }
    Ok(())
}

async fn log_of(session: &mut Session, node: &str, log: Log) -> Result<(String, Vec<String>), Failure> {
    let query = LogQuery {
        node: node.to_owned(),
        log,
        follow: false,
        since: None,
        grep: None,
        last: Some(LOG_LINES),
    };
    let mut parts = session.client.logs(query).await?;
    let (mut lines, mut notes) = (Newest::default(), Vec::new());
    while let Some(part) = parts.next().await {
        let part = part?;
        notes.extend(part.notes);
        part.lines.into_iter().for_each(|line| lines.put(line, LOG_BYTES));
    }
    notes.extend(lines.notes());
    Ok((lines.text(), notes))
}

/// Where a file may not be written.
fn unwritable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::failed(format!("cannot write {}", path.display()), "name a file that can be written: --out FILE")
        .because(error)
}

#[cfg(test)]
mod tests;
