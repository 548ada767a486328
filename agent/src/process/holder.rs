//! What holds a server's java process: the script that the agent started, or a unit of systemd. It may run java again.

use std::time::Duration;

use super::table;
use crate::unit::Unit;

/// Between two looks while java is not there yet.
const FIND_PERIOD: Duration = Duration::from_millis(50);
/// The same where each look asks systemd.
const ASK_PERIOD: Duration = Duration::from_millis(250);

/// The script that runs a server, by number and start time.
#[derive(Debug, Clone, Copy)]
pub struct ScriptId {
    pid: u32,
    start: u64,
}

impl ScriptId {
    /// The script of this number, if it lives.
    pub fn of(pid: u32) -> Option<Self> {
        // 1 adopts orphans; it is nobody's script.
        let start = table::is_running(pid).filter(|_| 1 < pid)?;
        Some(Self { pid, start })
    }

    fn lives(self) -> bool {
        table::is_running(self.pid) == Some(self.start)
    }
}

/// See the module.
#[derive(Debug)]
pub enum Holder {
    /// A script.
    Script(ScriptId),
    /// A unit, and which start of it: another start is not the script's own restart of java.
    Unit(Unit, String),
    /// Nothing: java was orphaned, or its script ended at once.
    Nobody,
}

impl Holder {
    /// A unit that has just started, or that holds a server now.
    pub async fn unit(unit: Unit) -> Self {
        let invocation = unit.look().await.map(|fact| fact.invocation).unwrap_or_default();
        Self::Unit(unit, invocation)
    }

    /// Whether what runs now was begun by the same start of the unit.
    pub async fn is_same_start(&self) -> bool {
        match self {
            Self::Script(_) | Self::Nobody => true,
            Self::Unit(unit, invocation) => {
                unit.look().await.is_ok_and(|fact| fact.invocation == *invocation)
            }
        }
    }

    /// Whether java may still come, or be followed by another.
    pub async fn lives(&self) -> bool {
        match self {
            Self::Script(script) => script.lives(),
            Self::Unit(unit, invocation) => {
                unit.look().await.is_ok_and(|fact| fact.is_busy() && fact.invocation == *invocation)
            }
            Self::Nobody => false,
        }
    }

    /// Between two looks.
    pub const fn period(&self) -> Duration {
        match self {
            Self::Script(_) | Self::Nobody => FIND_PERIOD,
            Self::Unit(..) => ASK_PERIOD,
        }
    }

    /// Whether the server may come back although nobody asked for it.
    pub async fn may_revive(&self) -> bool {
        match self {
            Self::Script(_) | Self::Nobody => false,
            Self::Unit(unit, _) => {
                unit.look().await.is_ok_and(|fact| fact.is_busy() || fact.restarts_itself())
            }
        }
    }

    /// Added to how java ended.
    pub async fn what_follows(&self) -> String {
        let Self::Unit(unit, invocation) = self else { return String::new() };
        match unit.look().await {
            Ok(fact) if fact.restarts_itself() || (fact.is_busy() && fact.invocation != *invocation) => {
                format!("; systemd starts {} again by itself (Restart={})", fact.name, fact.restart)
            }
            Ok(fact) => format!("; {fact}"),
            Err(error) => format!("; {}", crate::chain(&error)),
        }
    }

    /// Why there is no server.
    pub async fn ended_without_server(&self) -> String {
        match self {
            Self::Script(_) | Self::Nobody => "the start script ended without a server".to_owned(),
            Self::Unit(unit, _) => match unit.look().await {
                Ok(fact) => format!("{fact}, and no server came; see `journalctl -u {}`", fact.name),
                Err(error) => crate::chain(&error),
            },
        }
    }
}
