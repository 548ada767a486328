//! `convoy-agent doctor --after-upgrade`: whether the upgrade of the agent on this host is over and left the server alone.
//! For whoever upgrades many hosts by a tool of theirs: a package manager reports success also if the new agent does not
//! come up.
//!
//! The agent that runs is asked through its door, and known by the socket's peer. A server that began before the agent did
//! has outlived the agent's restart.

use std::{fs, os::unix::fs::MetadataExt as _, time::Duration};

use fleet::{
    bundle::RunState,
    observed::{ProcessIdentity, RefusalReason},
    preflight::{Check, Outcome},
    time::Timestamp,
};
use tokio::time::Instant;

use crate::{
    chain,
    config::Config,
    door::{self, Linked},
    journal::Journal,
    process::{self, started},
};

/// For the new agent to come up and to connect: as long as set-up waits.
const LINK_TIME: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// The agent that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    pid: u32,
    started: Timestamp,
    program: Program,
    link: Linked,
}

/// Which program the agent that runs is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Program {
    /// The one that looks.
    Same,
    /// Another one, mostly the one before the upgrade.
    Other,
    /// Nobody can say, with why.
    Unseen(String),
}

/// What is known of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Server {
    /// Nothing was ever assigned, so the agent runs none.
    NotMeant,
    /// It is meant to be stopped.
    Stopped,
    /// It is meant to run.
    Meant {
        /// The processes of its home.
        live: Vec<ProcessIdentity>,
    },
    /// The journal cannot be read.
    Unseen(String),
}

/// Looks, and waits until the agent is connected, for a minute at most.
pub async fn look(config: &Config) -> Vec<Check> {
    let agent = agent(config).await;
    judge(&agent, &server(config))
}

async fn agent(config: &Config) -> Result<Running, String> {
    let give_up = Instant::now() + LINK_TIME;
    loop {
        let seen = look_once(config).await;
        let is_up = seen.as_ref().is_ok_and(|seen| matches!(seen.link, Linked::Connected(_)));
        if is_up || give_up <= Instant::now() {
            return seen;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn look_once(config: &Config) -> Result<Running, String> {
    let link = door::link_state(config).await.map_err(|error| chain(&error))?;
    let pid = door::agent_pid(config).await.map_err(|error| chain(&error))?;
    let started = started(pid).ok_or("the agent ended while it was looked at")?;
    Ok(Running { pid, started, program: program_of(pid), link })
}

/// Compares files, not names: the name leads to the installed program whatever runs.
fn program_of(pid: u32) -> Program {
    let file = |which: &str| fs::metadata(format!("/proc/{which}/exe")).map(|file| (file.dev(), file.ino()));
    match (file(&pid.to_string()), file("self")) {
        (Ok(theirs), Ok(ours)) if theirs == ours => Program::Same,
        (Ok(_), Ok(_)) => Program::Other,
        (Err(error), _) | (_, Err(error)) => Program::Unseen(error.to_string()),
    }
}

fn server(config: &Config) -> Server {
    let memory = match Journal::of(&config.data_dir).read() {
        Ok(memory) => memory,
        Err(error) => return Server::Unseen(chain(&error)),
    };
    match memory.assignment.as_ref().map(|assignment| assignment.run) {
        None => Server::NotMeant,
        Some(RunState::Stopped) => Server::Stopped,
        Some(RunState::Running) => {
            let live = config.homes.iter().flat_map(|home| process::servers(home));
            Server::Meant { live: live.map(|server| server.process).collect() }
        }
    }
}

fn judge(agent: &Result<Running, String>, server: &Server) -> Vec<Check> {
    let check = |name, outcome| Check { name, subject: String::new(), outcome };
    let mut checks = Vec::new();
    match agent {
        Err(why) => checks.push(check(
            "agent",
            fail(why, "see `journalctl -u convoy-agent`; to go back, install the version before"),
        )),
        Ok(agent) => {
            checks.push(check("agent", Outcome::Pass(format!("process {}", agent.pid))));
            checks.push(check("program", program(&agent.program)));
            checks.push(check("link", link(&agent.link)));
        }
    }
    checks.push(check("restart", restart(agent.as_ref().ok(), server)));
    checks
}

fn program(program: &Program) -> Outcome {
    match program {
        Program::Same => {
            Outcome::Pass(format!("the agent that runs is this one, version {}", env!("CARGO_PKG_VERSION")))
        }
        Program::Other => fail(
            "the agent that runs is another program than this one",
            "type `systemctl restart convoy-agent`; the server goes on",
        ),
        Program::Unseen(why) => Outcome::Skipped(format!("which program the agent is cannot be seen: {why}")),
    }
}

fn link(link: &Linked) -> Outcome {
    match link {
        Linked::Connected(how) => Outcome::Pass(how.clone()),
        Linked::Not(why) => fail(
            format!("not connected within {} s: {why}", LINK_TIME.as_secs()),
            "the server goes on as last assigned; see that the coordinator answers",
        ),
    }
}

/// Whether the server is older than the agent.
fn restart(agent: Option<&Running>, server: &Server) -> Outcome {
    let live = match server {
        Server::NotMeant => {
            return Outcome::Skipped("nothing was assigned, so no server is meant to run".to_owned());
        }
        Server::Stopped => return Outcome::Pass("the server is stopped, as wanted".to_owned()),
        Server::Unseen(why) => {
            return Outcome::Skipped(format!("whether a server is meant to run is not known: {why}"));
        }
        Server::Meant { live } => live,
    };
    let (Some(first), Some(agent)) = (live.first(), agent) else {
        return match live.first() {
            None => fail("no server runs, and one is meant to", "convoy node show NODE says why it does not"),
            Some(server) => {
                Outcome::Skipped(format!("process {} runs; no agent to compare it with", server.pid))
            }
        };
    };
    match live.iter().find(|server| agent.started <= server.started) {
        None => Outcome::Pass(format!("process {} is older than the agent: it was not restarted", first.pid)),
        Some(younger) => fail(
            format!("process {} began after the agent did", younger.pid),
            "if nobody restarted the server since the upgrade, see `journalctl -u convoy-agent`",
        ),
    }
}

fn fail(why: impl Into<String>, remedy: impl Into<String>) -> Outcome {
    Outcome::Fail { why: why.into(), remedy: remedy.into(), reason: RefusalReason::PreflightFailed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, started: i64) -> ProcessIdentity {
        ProcessIdentity { pid, start_id: String::new(), started: Timestamp(started) }
    }

    fn running(program: Program, link: Linked) -> Result<Running, String> {
        Ok(Running { pid: 7, started: Timestamp(1_000), program, link })
    }

    fn words(agent: &Result<Running, String>, server: &Server) -> String {
        let checks = judge(agent, server);
        checks.iter().map(|it| format!("{} {}", it.name, it.outcome.as_str())).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_is_not_as_after_a_good_upgrade_fails() {
        let connected = || Linked::Connected("connected to c:7843 as is-1".to_owned());
        let good = running(Program::Same, connected());
        let older = Server::Meant { live: vec![process(5, 999)] };
        let table = [
            (&good, &older, "agent pass, program pass, link pass, restart pass"),
            (&good, &Server::Stopped, "agent pass, program pass, link pass, restart pass"),
            (&good, &Server::NotMeant, "agent pass, program pass, link pass, restart skipped"),
            (
                &good,
                &Server::Unseen("torn".to_owned()),
                "agent pass, program pass, link pass, restart skipped",
            ),
            (
                &good,
                &Server::Meant { live: vec![process(5, 1_000)] },
                "agent pass, program pass, link pass, restart fail",
            ),
            (&good, &Server::Meant { live: vec![] }, "agent pass, program pass, link pass, restart fail"),
            (
                &running(Program::Other, connected()),
                &older,
                "agent pass, program fail, link pass, restart pass",
            ),
            (
                &running(Program::Same, Linked::Not("refused".to_owned())),
                &older,
                "agent pass, program pass, link fail, restart pass",
            ),
            (&Err("no agent answers".to_owned()), &older, "agent fail, restart skipped"),
            (
                &Err("no agent answers".to_owned()),
                &Server::Meant { live: vec![] },
                "agent fail, restart fail",
            ),
        ];
        for (agent, server, expected) in table {
            assert_eq!(words(agent, server), expected, "{agent:?} {server:?}");
        }
    }
}
