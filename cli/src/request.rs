//! What is meant by what was typed: names parsed, durations read, defaults filled in, before anything is sent.

mod admit;
mod agents;
mod alert;
mod apply;
mod audit;
mod logs;
mod only;
mod operators;
mod proposal;
mod support;
mod trust;

use std::{path::PathBuf, time::Duration};

use clap_complete::Shell;
use fleet::{
    bundle::HomePath,
    ids::{GroupName, NodeName},
    spec::SecretName,
    time::{Human, Timestamp, parse_duration},
};

use crate::{
    args::{self, Command},
    exit::Failure,
    import::Import,
    secrets,
};
pub use admit::Admit;
pub use agents::Upgrade;
pub use alert::{AlertAct, SilenceAct};
use apply::insisted;
pub use apply::{Apply, Rollback, Sign};
pub use audit::{AuditAct, AuditFilter};
pub use logs::Logs;
pub use only::Only;
pub use operators::{ContextAct, ContextName, Join, OperatorAct, parse_token};
pub use proposal::ProposalAct;
pub use support::SupportBundle;
pub use trust::Trust;

/// One command, meant.
#[derive(Debug)]
pub enum Request {
    /// Needs no coordinator.
    Local(Local),
    /// Asks the coordinator.
    Remote(Remote),
    /// Becomes somebody whom the coordinator knows.
    Join(Join),
}

/// Commands that need no coordinator.
#[derive(Debug)]
pub enum Local {
    Lint { dir: PathBuf, packs: Vec<PathBuf>, form: LintForm, secrets: Option<PathBuf> },
    Import(Import),
    Render(Render),
    Explain(Explain),
    Schema { dir: PathBuf, node: NodeName },
    Trust(Trust),
    Completions { shell: Shell },
    Man { out: PathBuf },
    Contexts(ContextAct),
}

/// How the findings of `lint` are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LintForm {
    /// As every command's output.
    Plain,
    /// SARIF 2.1.0.
    Sarif,
}

/// `render`.
#[derive(Debug)]
pub struct Render {
    pub what: Rendered,
    pub pack: Option<PathBuf>,
    pub out: Option<PathBuf>,
    pub env_file: Option<PathBuf>,
    pub carbon_home: Option<String>,
}

/// What is rendered.
#[derive(Debug)]
pub enum Rendered {
    /// This file.
    File(PathBuf),
    /// What a fleet directory composes for a node.
    Node { dir: PathBuf, node: NodeName },
    /// What a load balancer of a fleet directory is configured with.
    Balancer { dir: PathBuf, name: String },
}

/// `explain`.
#[derive(Debug)]
pub struct Explain {
    pub key: String,
    pub product: Option<String>,
    pub pack: Option<PathBuf>,
    pub toml: Option<PathBuf>,
}

/// Commands that ask the coordinator.
#[derive(Debug)]
pub enum Remote {
    Plan {
        dir: PathBuf,
        diff: Detail,
        packs: Vec<PathBuf>,
        exit: PlanExit,
        only: Only,
        /// Where what is to be signed is written.
        to_sign: Option<PathBuf>,
    },
    Apply(Apply),
    Rollback(Rollback),
    /// Of nodes whose hosts are asked.
    Import(Import),
    Status {
        watch: bool,
    },
    Nodes,
    Agents {
        outdated: bool,
    },
    Upgrade(Upgrade),
    Node {
        node: NodeName,
    },
    Act {
        node: NodeName,
        act: NodeAct,
        confirm: Confirm,
    },
    Rollouts {
        most: u32,
    },
    Rollout {
        rollout: Option<u64>,
        wait: Option<Wait>,
    },
    Steer {
        rollout: Option<u64>,
        steer: Steer,
        why: String,
    },
    DriftList {
        node: Option<NodeName>,
    },
    Drift {
        node: NodeName,
        act: DriftAct,
    },
    Events(Events),
    Logs(Logs),
    Token {
        node: NodeName,
        valid: Duration,
    },
    Alert(AlertAct),
    Silence(SilenceAct),
    Tokens(MissingTokens),
    Admit(Admit),
    Secret(SecretAct),
    Operator(OperatorAct),
    Audit(AuditAct),
    Revision(args::Revision),
    Proposal(ProposalAct),
    SupportBundle(SupportBundle),
}

/// `token create --all-missing`.
#[derive(Debug, PartialEq, Eq)]
pub struct MissingTokens {
    /// The fleet directory.
    pub dir: PathBuf,
    /// Where the files go.
    pub out: PathBuf,
    pub valid: Duration,
}

/// `secret`.
#[derive(Debug)]
pub enum SecretAct {
    /// The value comes from standard input.
    Set {
        name: SecretName,
    },
    /// Names and values come from a file.
    Load {
        from: PathBuf,
    },
    List,
    Grant {
        name: SecretName,
        groups: Vec<GroupName>,
    },
    Remove {
        name: SecretName,
        confirm: Confirm,
    },
}

/// How much of a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Keys and files.
    Keys,
    /// Also lines.
    Lines,
}

/// What the exit code of a plan says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanExit {
    /// Only whether an apply would be refused.
    Refused,
    /// Also whether it would change anything.
    Changes,
}

/// Whether what nobody declared may be replaced and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmanaged {
    /// On a terminal after a question of its own; refused without one.
    Ask,
    /// `--replace-unmanaged`.
    Replace,
}

/// Whether to ask before changing anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// On a terminal; refused without one.
    Ask,
    /// `--yes`.
    Given,
}

/// How long to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Give up waiting after this; the rollout goes on.
    pub timeout: Option<Duration>,
}

/// What to do to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAct {
    Restart {
        why: String,
        now: bool,
    },
    Stop {
        why: String,
        now: bool,
    },
    Start {
        why: String,
    },
    /// Back to what lay there before the first apply.
    ToOriginal {
        why: String,
        now: bool,
    },
    Forget,
    Revoke,
}

/// How to steer a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    Pause,
    Resume,
    Abort,
    AbortAndReturn,
    Promote,
}

/// What to do about drift on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriftAct {
    Restore { path: Option<HomePath> },
    Accept { path: HomePath, duration: Option<Duration>, dir: PathBuf },
    Pause { reason: String, duration: Duration },
    Resume,
}

/// `events`.
#[derive(Debug)]
pub struct Events {
    pub follow: bool,
    pub node: Option<NodeName>,
    pub group: Option<String>,
    pub kinds: Vec<String>,
    pub actor: Option<String>,
    pub since: Option<Moment>,
    pub until: Option<Moment>,
    pub last: Option<u32>,
    pub after: Option<u64>,
}

/// A point in time, as people give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long before now.
    Ago(Duration),
    At(Timestamp),
}

impl Moment {
    /// As a reading of the wall clock.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(duration) => {
                Timestamp(now.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
            }
            Self::At(at) => at,
        }
    }
}

impl Request {
    /// What is meant.
    ///
    /// # Errors
    /// Usage: names and durations that are none.
    pub fn meant(command: Command) -> Result<Self, Failure> {
        Ok(match command {
            Command::Lint { dir, pack: packs, sarif, secrets_file: secrets } => {
                let form = if sarif { LintForm::Sarif } else { LintForm::Plain };
                Request::Local(Local::Lint { dir, packs, form, secrets })
            }
            Command::Import(typed) => {
                let import = Import::meant(typed)?;
                if import.asks_hosts() {
                    Request::Remote(Remote::Import(import))
                } else {
                    Request::Local(Local::Import(import))
                }
            }
            Command::Render(typed) => Request::Local(Local::Render(render(typed)?)),
            Command::Schema { dir, node: name } => Request::Local(Local::Schema { dir, node: node(&name)? }),
            Command::Trust(typed) => Request::Local(Local::Trust(typed.into())),
            Command::Explain { key, product, pack, toml } => {
                Request::Local(Local::Explain(Explain { key, product, pack, toml }))
            }
            Command::Completions { shell } => Request::Local(Local::Completions { shell }),
            Command::Man { out } => Request::Local(Local::Man { out }),
            Command::Join { token, name } => Request::Join(operators::join(&token, name.as_deref())?),
            Command::Contexts(typed) => Request::Local(Local::Contexts(operators::context(typed)?)),
            other => Request::Remote(remote(other)?),
        })
    }
}

fn render(typed: args::Render) -> Result<Render, Failure> {
    let args::Render { dir, node: name, balancer, pack, toml, out, env_file, carbon_home } = typed;
    let what = match (dir, name, balancer, toml) {
        (Some(_), Some(_), None, None) if out.is_some() && pack.is_none() => {
            return Err(Failure::usage("there is no pack to render with", "name one with --pack HOME"));
        }
        (Some(dir), Some(name), None, None) => Rendered::Node { dir, node: node(&name)? },
        (Some(dir), None, Some(name), None) => Rendered::Balancer { dir, name },
        (None, None, None, Some(file)) => Rendered::File(file),
        _ => {
            return Err(Failure::usage(
                "give either a file or a fleet directory and a node",
                "as in `convoy render --pack HOME --toml FILE --out DIR` or `convoy render DIR --node NAME`",
            ));
        }
    };
    Ok(Render { what, pack, out, env_file, carbon_home })
}

fn remote(command: Command) -> Result<Remote, Failure> {
    Ok(match command {
        Command::Plan { dir, diff, pack, exit_code, node, group, to_sign } => {
            let exit = if exit_code { PlanExit::Changes } else { PlanExit::Refused };
            let only = Only::of(&node, &group)?;
            Remote::Plan { dir, diff: detail(diff), packs: pack, exit, only, to_sign }
        }
        Command::Apply(typed) => Remote::Apply(apply::apply(typed)?),
        Command::Rollback(typed) => apply::rollback(typed)?,
        Command::Status { watch } => Remote::Status { watch },
        Command::Node(typed) => node_request(typed)?,
        Command::Agents(typed) => agents::agents(typed)?,
        Command::Proposal(typed) => Remote::Proposal(typed.into()),
        Command::SupportBundle(typed) => Remote::SupportBundle(support::support_bundle(typed)?),
        Command::Approve(typed) => Remote::Proposal(proposal::approve(typed)?),
        Command::Reject(typed) => Remote::Proposal(proposal::reject(typed)),
        Command::Revision(typed) => Remote::Revision(typed),
        Command::Rollout(typed) => rollout_request(typed)?,
        Command::Drift(typed) => drift_request(typed)?,
        Command::Events { follow, node: name, group, kind, actor, since, until, last, after } => {
            let node = name.as_deref().map(node).transpose()?;
            let since = since.as_deref().map(|text| moment("--since", text)).transpose()?;
            let until = until.as_deref().map(|text| moment("--until", text)).transpose()?;
            Remote::Events(Events { follow, node, group, kinds: kind, actor, since, until, last, after })
        }
        Command::Logs(typed) => Remote::Logs(logs::logs(typed)?),
        Command::Alert(typed) => Remote::Alert(typed.into()),
        Command::Silence(typed) => Remote::Silence(alert::silence(typed)?),
        Command::Maintenance { target, lasts, reason } => {
            Remote::Silence(alert::maintenance(target, &lasts, reason)?)
        }
        Command::Token(typed) => token_request(typed)?,
        Command::Secret(typed) => Remote::Secret(secret_request(typed)?),
        Command::Audit(typed) => Remote::Audit(audit::audit(typed)?),
        Command::Operator(typed) => Remote::Operator(operators::operator(typed)?),
        Command::Lint { .. }
        | Command::Import(_)
        | Command::Render(_)
        | Command::Schema { .. }
        | Command::Trust(_)
        | Command::Explain { .. }
        | Command::Completions { .. }
        | Command::Join { .. }
        | Command::Contexts(_)
        | Command::Man { .. } => {
            return Err(Failure::usage("this command needs no coordinator", ""));
        }
    })
}

fn token_request(typed: args::Token) -> Result<Remote, Failure> {
    let args::Token::Create { node: name, all_missing, out, valid } = typed;
    let valid = duration("--valid", &valid)?;
    match (name, all_missing.zip(out)) {
        (Some(name), None) => Ok(Remote::Token { node: node(&name)?, valid }),
        (None, Some((dir, out))) => Ok(Remote::Tokens(MissingTokens { dir, out, valid })),
        // clap lets nobody get here.
        (Some(_), Some(_)) | (None, None) => {
            Err(Failure::usage("say either --node or --all-missing", "see `convoy token create --help`"))
        }
    }
}

fn unmanaged(replace: bool) -> Unmanaged {
    if replace { Unmanaged::Replace } else { Unmanaged::Ask }
}

fn node_request(typed: args::Node) -> Result<Remote, Failure> {
    Ok(match typed {
        args::Node::List => Remote::Nodes,
        args::Node::Show { name } => Remote::Node { node: node(&name)? },
        args::Node::Restart { name, reason: args::Reason { reason: why }, now, yes } => {
            insisted(now, &why)?;
            Remote::Act { node: node(&name)?, act: NodeAct::Restart { why, now }, confirm: confirm(yes) }
        }
        args::Node::Stop { name, reason: args::Reason { reason: why }, now, yes } => {
            insisted(now, &why)?;
            Remote::Act { node: node(&name)?, act: NodeAct::Stop { why, now }, confirm: confirm(yes) }
        }
        args::Node::Start { name, reason: args::Reason { reason: why }, yes: _ } => {
            Remote::Act { node: node(&name)?, act: NodeAct::Start { why }, confirm: Confirm::Given }
        }
        args::Node::Admit(typed) => Remote::Admit(admit::admit(typed)?),
        args::Node::Revoke { name, yes } => {
            Remote::Act { node: node(&name)?, act: NodeAct::Revoke, confirm: confirm(yes) }
        }
        args::Node::Forget { name, yes } => {
            Remote::Act { node: node(&name)?, act: NodeAct::Forget, confirm: confirm(yes) }
        }
    })
}

fn rollout_request(typed: args::Rollout) -> Result<Remote, Failure> {
    let steer = |rollout, steer, why: args::Reason| Remote::Steer { rollout, steer, why: why.reason };
    Ok(match typed {
        args::Rollout::List { last } => Remote::Rollouts { most: last },
        args::Rollout::Show { rollout, wait: stay, timeout } => {
            Remote::Rollout { rollout, wait: wait(stay, timeout.as_deref())? }
        }
        args::Rollout::Pause { rollout, reason } => steer(rollout, Steer::Pause, reason),
        args::Rollout::Resume { rollout, reason } => steer(rollout, Steer::Resume, reason),
        args::Rollout::Abort { rollout, go_back: false, reason } => steer(rollout, Steer::Abort, reason),
        args::Rollout::Abort { rollout, go_back: true, reason } => {
            steer(rollout, Steer::AbortAndReturn, reason)
        }
        args::Rollout::Promote { rollout, reason } => steer(rollout, Steer::Promote, reason),
    })
}

fn secret_request(typed: args::Secret) -> Result<SecretAct, Failure> {
    Ok(match typed {
        args::Secret::Set { name: Some(name), .. } => SecretAct::Set { name: secrets::parse(&name)? },
        args::Secret::Set { name: None, from } => SecretAct::Load { from: from.unwrap_or_default() },
        args::Secret::List => SecretAct::List,
        args::Secret::Grant { name, group, nobody: _ } => {
            SecretAct::Grant { name: secrets::parse(&name)?, groups: only::groups_named(&group)? }
        }
        args::Secret::Remove { name, yes } => {
            SecretAct::Remove { name: secrets::parse(&name)?, confirm: confirm(yes) }
        }
    })
}

fn drift_request(typed: args::Drift) -> Result<Remote, Failure> {
    Ok(match typed {
        args::Drift::List => Remote::DriftList { node: None },
        args::Drift::Show { node: name } => Remote::DriftList { node: Some(node(&name)?) },
        args::Drift::Restore { node: name, path } => {
            let path = path.as_deref().map(home_path).transpose()?;
            Remote::Drift { node: node(&name)?, act: DriftAct::Restore { path } }
        }
        args::Drift::Accept { node: name, path, duration: length, dir } => {
            let length = length.as_deref().map(|length| duration("--for", length)).transpose()?;
            let act = DriftAct::Accept { path: home_path(&path)?, duration: length, dir };
            Remote::Drift { node: node(&name)?, act }
        }
        args::Drift::Pause { node: name, reason, duration: length } => {
            let act = DriftAct::Pause { reason, duration: duration("--for", &length)? };
            Remote::Drift { node: node(&name)?, act }
        }
        args::Drift::Resume { node: name } => Remote::Drift { node: node(&name)?, act: DriftAct::Resume },
    })
}

const fn detail(lines: bool) -> Detail {
    if lines { Detail::Lines } else { Detail::Keys }
}

const fn confirm(yes: bool) -> Confirm {
    if yes { Confirm::Given } else { Confirm::Ask }
}

fn wait(stay: bool, timeout: Option<&str>) -> Result<Option<Wait>, Failure> {
    let timeout = timeout.map(|text| duration("--timeout", text)).transpose()?;
    Ok(stay.then_some(Wait { timeout }))
}

fn node(text: &str) -> Result<NodeName, Failure> {
    NodeName::parse(text).map_err(|error| {
        Failure::usage(format!("this is not a node's name: {error}"), "`convoy node list` shows the names")
    })
}

fn home_path(text: &str) -> Result<HomePath, Failure> {
    HomePath::parse(text).map_err(|error| {
        Failure::usage(error.to_string(), "`convoy drift list` shows the paths as they are written here")
    })
}

fn moment(option: &str, text: &str) -> Result<Moment, Failure> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(Moment::At(Timestamp(at.as_millisecond())));
    }
    let ago = parse_duration(text).map_err(|_| {
        let what = format!("{option}: {text:?} is neither how long ago nor a time");
        Failure::usage(what, format!("for example {option} 2h, or {option} 2026-11-29T08:00:00Z"))
    })?;
    Ok(Moment::Ago(ago))
}

fn duration(option: &str, text: &str) -> Result<Duration, Failure> {
    let duration = parse_duration(text)
        .map_err(|error| Failure::usage(format!("{option}: {error}"), format!("for example {option} 30m")))?;
    if duration < Duration::from_secs(1) || Duration::from_hours(24 * 366) < duration {
        let shown = Human(duration);
        return Err(Failure::usage(format!("{option} {shown} is not between 1s and a year"), ""));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests;
