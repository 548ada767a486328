//! What is meant by `apply` and `rollback`.

use std::path::PathBuf;

use super::{
    Confirm, Detail, NodeAct, Only, Remote, Unmanaged, Wait, confirm, detail, node, unmanaged, wait,
};
use crate::{args, exit::Failure};

/// `apply`.
#[derive(Debug)]
pub struct Apply {
    pub dir: PathBuf,
    pub diff: Detail,
    /// For nodes whose own pack is not known.
    pub packs: Vec<PathBuf>,
    pub confirm: Confirm,
    pub unmanaged: Unmanaged,
    pub only: Only,
    pub wait: Option<Wait>,
    pub message: String,
    /// As typed; the plan's base otherwise.
    pub parent: Option<u64>,
    /// Why maintenance windows are ignored, if they are.
    pub now: Option<String>,
    /// Go ahead without approval, for this reason.
    pub break_glass: Option<String>,
    /// Where its signature comes from.
    pub sign: Option<Sign>,
}

/// Where a signature comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// It is made with this key.
    Key(PathBuf),
    /// It was made elsewhere, and is in this file.
    File(PathBuf),
}

/// `rollback`.
#[derive(Debug)]
pub struct Rollback {
    /// As typed; the newest that was healthy on every node that it changes otherwise.
    pub revision: Option<u64>,
    pub diff: Detail,
    pub confirm: Confirm,
    pub unmanaged: Unmanaged,
    pub wait: Option<Wait>,
    pub message: String,
    /// Maintenance windows are ignored, for this reason.
    pub now: Option<String>,
    /// Go ahead without approval, for this reason.
    pub break_glass: Option<String>,
}

pub(super) fn apply(typed: args::Apply) -> Result<Apply, Failure> {
    let mut now = typed.now;
    let mut dir = typed.dir;
    if dir.is_none() && !typed.reason.reason.is_empty() {
        // `--now DIR --reason TEXT`: what follows the flag is the directory.
        dir = now.replace(String::new()).filter(|text| !text.is_empty()).map(PathBuf::from);
    }
    let dir = dir.ok_or_else(|| {
        Failure::usage("no directory is named", "as in `convoy apply DIR --now --reason TEXT`")
    })?;
    let why = Why::of(typed.reason, now)?;
    Ok(Apply {
        wait: wait(typed.wait, typed.timeout.as_deref())?,
        dir,
        diff: detail(typed.diff),
        packs: typed.pack,
        confirm: confirm(typed.yes),
        unmanaged: unmanaged(typed.replace_unmanaged),
        only: Only::of(&typed.node, &typed.group)?,
        message: why.message,
        parent: typed.parent,
        now: why.now,
        break_glass: break_glass(typed.break_glass)?,
        // clap lets only one of both be given.
        sign: typed.sign.map(Sign::Key).or_else(|| typed.signature.map(Sign::File)),
    })
}

pub(super) fn rollback(typed: args::Rollback) -> Result<Remote, Failure> {
    let mut now = typed.now;
    if let Some(name) = &typed.node {
        // clap lets `--node` come with `--to original` only.
        let why = Why::of(typed.reason, now)?;
        let act = NodeAct::ToOriginal { why: why.message, now: why.now.is_some() };
        return Ok(Remote::Act { node: node(name)?, act, confirm: confirm(typed.yes) });
    }
    let mut revision = typed.revision;
    let number = now.as_deref().and_then(|text| text.parse().ok());
    if let (None, Some(number)) = (revision, number) {
        // `--now 3 --reason TEXT`: what follows the flag is the revision.
        now = Some(String::new());
        revision = Some(number);
    }
    let why = Why::of(typed.reason, now)?;
    Ok(Remote::Rollback(Rollback {
        wait: wait(typed.wait, typed.timeout.as_deref())?,
        revision,
        diff: detail(typed.diff),
        confirm: confirm(typed.yes),
        unmanaged: unmanaged(typed.replace_unmanaged),
        message: why.message,
        now: why.now,
        break_glass: break_glass(typed.break_glass)?,
    }))
}

/// Why something is done, and why a guard is overridden.
struct Why {
    message: String,
    now: Option<String>,
}

impl Why {
    /// One reason serves for both; `--now TEXT` is the form of 0.1.
    fn of(typed: args::Reason, now: Option<String>) -> Result<Self, Failure> {
        let text = typed.reason;
        Ok(match now {
            None => Self { message: text, now: None },
            Some(own) if own.trim().is_empty() => {
                insisted(true, &text)?;
                Self { now: Some(text.clone()), message: text }
            }
            Some(own) if text.is_empty() => Self { message: own.clone(), now: Some(own) },
            Some(own) => Self { message: text, now: Some(own) },
        })
    }
}

/// Who overrides a guard says why.
pub(super) fn insisted(now: bool, reason: &str) -> Result<(), Failure> {
    if now && reason.trim().is_empty() {
        return Err(Failure::usage(
            "--now overrides a guard and needs a reason",
            "add --reason TEXT; it is kept in the history",
        ));
    }
    Ok(())
}

/// A reason to go ahead without approval is one.
fn break_glass(typed: Option<String>) -> Result<Option<String>, Failure> {
    match typed {
        Some(reason) if reason.trim().is_empty() => {
            Err(Failure::usage("--break-glass needs a reason", "as in --break-glass \"login is down\""))
        }
        other => Ok(other),
    }
}
