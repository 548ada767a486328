//! What people type, exactly as they type it. Nothing here is interpreted: [`crate::request`] says what is meant.

mod admit;
mod agents;
mod alert;
mod audit;
mod logs;
mod proposal;
mod revision;
mod support;
mod trust;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub use self::{
    admit::Admit,
    agents::Agents,
    alert::{Alert, Silence},
    audit::{Audit, AuditFilter},
    logs::Logs,
    proposal::{Approve, Proposal, Reject},
    revision::Revision,
    support::SupportBundle,
    trust::Trust,
};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  failed: something went wrong, or what was given has errors
  2  usage: the command line makes no sense
  3  refused by a guard: not confirmed, made on a stale revision, or against a budget
  4  still in progress: the rollout goes on without this command, or a change waits for approval
  5  plan --exit-code: there are changes

Start with:
  convoy lint DIR            check a fleet directory; needs no coordinator
  convoy plan DIR            what applying it would change, and what restarts
  convoy apply DIR --wait    change the fleet, and watch it happen
  convoy status              how the fleet is now";

/// Keeps fleets of WSO2 servers on their declared configuration.
#[derive(Debug, Parser)]
#[command(name = "convoy", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Typed {
    /// Which fleet to talk to: the name of a context, or a context file as the coordinator writes it.
    #[arg(long, global = true, value_name = "NAME|FILE", env = "CONVOY_CONTEXT")]
    pub context: Option<PathBuf>,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, noun first where there is a noun.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a fleet directory without a coordinator.
    Lint {
        /// The directory with fleet.toml.
        dir: PathBuf,
        /// Also check the values of secrets: a file as `import` writes it, readable by its owner only.
        #[arg(long, value_name = "FILE")]
        secrets_file: Option<PathBuf>,
        /// The home of an unpacked product: its nodes are then checked key by key, and their files rendered. Repeat it
        /// for several products.
        #[arg(long, value_name = "HOME")]
        pack: Vec<PathBuf>,
        /// Print SARIF, which code hosts and CI systems show beside the lines.
        #[arg(long)]
        sarif: bool,
    },
    /// Show the files that a server will really use, byte for byte, or why it would not start.
    Render(Render),
    /// Say which scripts of the pack make the tables of a node's databases, in order. Nothing is run.
    Schema {
        /// The directory with fleet.toml.
        dir: PathBuf,
        /// The node.
        node: String,
    },
    /// Say who must trust whom: the TLS connections of every node, and who answers there; make their truststores. Nobody is asked.
    Trust(Trust),
    /// Say what a key of deployment.toml is, where it ends up, and what it brings along.
    Explain {
        /// The key, as in server.hostname or apim.gateway.environment[].name; or a finding's code, as in CV502.
        key: String,
        /// A product of the catalogue, as in wso2is-7.2.
        #[arg(long, value_name = "PRODUCT")]
        product: Option<String>,
        /// The home of an unpacked product, which knows most.
        #[arg(long, value_name = "HOME")]
        pack: Option<PathBuf>,
        /// A deployment.toml to show the resulting lines of; otherwise the pack's own.
        #[arg(long, value_name = "FILE", requires = "pack")]
        toml: Option<PathBuf>,
    },
    /// Make a fleet directory out of existing servers.
    Import(Import),
    /// Show what applying a fleet directory would change, and which servers would restart and why.
    Plan {
        /// The directory with fleet.toml.
        dir: PathBuf,
        /// Also show the files that change, line by line, with every line of the files that servers render.
        #[arg(long)]
        diff: bool,
        /// The home of an unpacked product, or PRODUCT=HOME: used for nodes whose own pack is not known. May be repeated.
        #[arg(long, value_name = "HOME")]
        pack: Vec<PathBuf>,
        /// Only these nodes take part; the others stay as they are.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        node: Vec<String>,
        /// Only the nodes of these groups take part; with --node: these as well.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        group: Vec<String>,
        /// End with 5 if an apply would change something, and with 0 only if it would not.
        #[arg(long)]
        exit_code: bool,
        /// Write what is to be signed for an apply, to be signed elsewhere.
        #[arg(long, value_name = "FILE")]
        to_sign: Option<PathBuf>,
    },
    /// Make the fleet be as a fleet directory says.
    Apply(Apply),
    /// Show how the fleet is now.
    Status {
        /// Stay and show every change, until Ctrl-C.
        #[arg(long, short)]
        watch: bool,
    },
    /// Look at one node, or act on it.
    #[command(subcommand)]
    Node(Node),
    /// Which versions of the agent run.
    #[command(subcommand)]
    Agents(Agents),
    /// Look at rollouts, or steer one.
    #[command(subcommand)]
    Rollout(Rollout),
    /// What was applied: who, when, why, and from which commit.
    #[command(subcommand)]
    Revision(Revision),
    /// Changes that wait for somebody else's approval.
    #[command(subcommand)]
    Proposal(Proposal),
    /// Collect what a helper from outside asks for first, in one archive without secrets.
    SupportBundle(SupportBundle),
    /// Roll out what somebody else proposed.
    Approve(Approve),
    /// End a proposal; its author takes it back.
    Reject(Reject),
    /// Go back to an earlier revision, as a new one.
    Rollback(Rollback),
    /// Edits of managed files, and what was done about them.
    #[command(subcommand)]
    Drift(Drift),
    /// What happened, oldest first.
    Events {
        /// Stay and print what happens, until Ctrl-C.
        #[arg(long, short)]
        follow: bool,
        /// Only of this node.
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// Only of nodes that are in this group now.
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        /// Only of this kind, as the third column shows it; may be given several times.
        #[arg(long, value_name = "WORD")]
        kind: Vec<String>,
        /// Only what this operator did.
        #[arg(long, value_name = "NAME")]
        actor: Option<String>,
        /// Only since then: how long ago (`2h`), or a time (`2026-11-29T08:00:00Z`).
        #[arg(long, value_name = "WHEN")]
        since: Option<String>,
        /// Only until then: how long ago, or a time.
        #[arg(long, value_name = "WHEN", conflicts_with = "follow")]
        until: Option<String>,
        /// How many of the newest to begin with; 50, or all with `--since`.
        #[arg(long, value_name = "N")]
        last: Option<u32>,
        /// Only what comes after this event number.
        #[arg(long, value_name = "SEQ", conflicts_with = "last")]
        after: Option<u64>,
    },
    /// Lines of a node's logs, read by its agent now, with secrets masked.
    Logs(Logs),
    /// Join tokens for new nodes.
    #[command(subcommand)]
    Token(Token),
    /// What is wrong now, and whom the coordinator has alerted.
    #[command(subcommand)]
    Alert(Alert),
    /// Alerts that are not reported for a while.
    #[command(subcommand)]
    Silence(Silence),
    /// Silence every alert of a node or a group while somebody works on it.
    Maintenance {
        /// A node or a group.
        #[arg(value_name = "NODE|GROUP")]
        target: String,
        /// How long; it ends by itself.
        #[arg(long = "for", value_name = "TIME")]
        lasts: String,
        /// Why, for everybody who looks.
        #[arg(long)]
        reason: String,
    },
    /// Values that layers name by secret().
    #[command(subcommand)]
    Secret(Secret),
    /// Who may do what.
    #[command(subcommand)]
    Operator(Operator),
    /// Who did what: a record that nobody can change unnoticed.
    #[command(subcommand)]
    Audit(Audit),
    /// Become an operator with a token that an admin made: the key is made here, and a context is written.
    Join {
        /// The token, or - to read it from standard input, where no other process sees it.
        token: String,
        /// The name of the context; without it the fleet's.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// The fleets that you can talk to from here.
    #[command(subcommand, name = "context")]
    Contexts(ContextCommand),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the manual pages.
    Man {
        /// Where to put them.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Each server: a name for it, and its deployment.toml or its home. NODE alone is a node whose agent is connected:
    /// its host is asked.
    #[arg(required = true, value_name = "NODE[=FILE]")]
    pub nodes: Vec<String>,
    /// The new fleet directory; must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The fleet's name. Without it: the coordinator's if hosts are asked, else the directory's.
    #[arg(long, value_name = "NAME")]
    pub fleet: Option<String>,
    /// A new file outside of the directory for the passwords that are found.
    #[arg(long, value_name = "FILE")]
    pub secrets_out: Option<PathBuf>,
    /// What a node is, where its files do not say: an id of the catalogue, or only a version. `*=4.2` means all.
    #[arg(long, value_name = "NODE=ID")]
    pub product: Vec<String>,
    /// How other nodes reach a node.
    #[arg(long, value_name = "NODE=HOST")]
    pub host: Vec<String>,
    /// Where a node is installed.
    #[arg(long, value_name = "NODE=PATH")]
    pub home: Vec<String>,
}

/// `render`.
#[derive(Debug, Args)]
pub struct Render {
    /// A directory with fleet.toml, of which a node or a balancer is rendered.
    #[arg(requires = "of_fleet")]
    pub dir: Option<PathBuf>,
    /// The node of that fleet. Without --out its deployment.toml is printed, secrets hidden.
    #[arg(long, value_name = "NAME", requires = "dir", group = "of_fleet")]
    pub node: Option<String>,
    /// The load balancer of that fleet, as [balancers.NAME] of fleet.toml has it. Without --out it is printed.
    #[arg(long, value_name = "NAME", requires = "dir", group = "of_fleet", conflicts_with_all = ["pack", "node"])]
    pub balancer: Option<String>,
    /// The home of the unpacked product.
    #[arg(long, value_name = "HOME", required_unless_present = "dir")]
    pub pack: Option<PathBuf>,
    /// The deployment.toml to render.
    #[arg(long, value_name = "FILE", required_unless_present = "dir", conflicts_with = "dir")]
    pub toml: Option<PathBuf>,
    /// Where the files go. They hold passwords in clear and are made readable by you alone. Of a balancer: the file.
    #[arg(long, value_name = "DIR|FILE", required_unless_present = "dir")]
    pub out: Option<PathBuf>,
    /// The server's environment, NAME=value on each line; without it the environment is empty.
    #[arg(long, value_name = "FILE", requires = "pack")]
    pub env_file: Option<PathBuf>,
    /// The server's home, as $sys{carbon.home} gives it; otherwise the pack's, or the node's.
    #[arg(long, value_name = "PATH", requires = "pack")]
    pub carbon_home: Option<String>,
}

// No doc comment: clap would take it for the help of each command that has a reason.
#[derive(Debug, Default, Args)]
pub struct Reason {
    /// Why, for those who read the history.
    #[arg(long, value_name = "TEXT", default_value = "", aliases = ["why", "message"], short_alias = 'm')]
    pub reason: String,
}

/// `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// The directory with fleet.toml.
    #[arg(required_unless_present = "now")]
    pub dir: Option<PathBuf>,
    /// Only these nodes take part; the others stay as they are.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub node: Vec<String>,
    /// Only the nodes of these groups take part; with --node: these as well.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub group: Vec<String>,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Replace and remove what nobody declared, as the end of the plan lists it: --yes alone does not.
    #[arg(long)]
    pub replace_unmanaged: bool,
    /// Stay until the rollout has ended, showing its progress.
    #[arg(long, short)]
    pub wait: bool,
    /// With --wait: stop waiting after this long; the rollout goes on.
    #[arg(long, value_name = "DURATION", requires = "wait")]
    pub timeout: Option<String>,
    /// Why.
    #[command(flatten)]
    pub reason: Reason,
    /// Refuse if anything was applied after this revision. Without it: after the plan that was shown.
    #[arg(long, value_name = "REVISION")]
    pub parent: Option<u64>,
    /// Do not wait for maintenance windows; needs --reason.
    // The reason may also stand here, as it had to in 0.1.
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "")]
    pub now: Option<String>,
    /// In an emergency: go ahead without the approval that it needs, for this reason. It is alerted and recorded.
    #[arg(long, value_name = "REASON")]
    pub break_glass: Option<String>,
    /// Sign it with this SSH or minisign key, by ssh-keygen or minisign. Of a key that an SSH agent holds: the public key.
    #[arg(long, value_name = "KEYFILE", conflicts_with = "signature")]
    pub sign: Option<PathBuf>,
    /// The signature, made elsewhere, of what `convoy plan --to-sign` wrote.
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Also show the files that change, line by line, with every line of the files that servers render.
    #[arg(long)]
    pub diff: bool,
    /// The home of an unpacked product, or PRODUCT=HOME: used for nodes whose own pack is not known. May be repeated.
    #[arg(long, value_name = "HOME")]
    pub pack: Vec<PathBuf>,
}

/// What a single node can go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Back {
    /// What lay there before its first apply.
    Original,
}

/// `rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Which revision to go back to. Without it: the newest before that was healthy on every node that it changes.
    #[arg(conflicts_with = "node")]
    pub revision: Option<u64>,
    /// Only this node, and with `--to original` only: it leaves its revision until the next apply.
    #[arg(long, value_name = "NODE", requires = "to", conflicts_with_all = ["wait", "diff", "replace_unmanaged", "break_glass"])]
    pub node: Option<String>,
    /// `original`: the files that lay on the node before its first apply, byte for byte.
    #[arg(long, value_name = "WHAT", requires = "node")]
    pub to: Option<Back>,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Replace and remove what nobody declared, as the end of the plan lists it: --yes alone does not.
    #[arg(long)]
    pub replace_unmanaged: bool,
    /// Also show the files that change, line by line.
    #[arg(long)]
    pub diff: bool,
    /// Stay until the rollout has ended, showing its progress.
    #[arg(long, short)]
    pub wait: bool,
    /// With --wait: stop waiting after this long; the rollout goes on.
    #[arg(long, value_name = "DURATION", requires = "wait")]
    pub timeout: Option<String>,
    /// Why.
    #[command(flatten)]
    pub reason: Reason,
    /// Do not wait for maintenance windows; needs --reason.
    // The reason may also stand here, as it had to in 0.1.
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "")]
    pub now: Option<String>,
    /// In an emergency: go ahead without the approval that it needs, for this reason. It is alerted and recorded.
    #[arg(long, value_name = "REASON")]
    pub break_glass: Option<String>,
}

/// `node`.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// All nodes, one line each.
    List,
    /// Everything known about one node.
    Show {
        /// The node.
        name: String,
    },
    /// Restart a node's server, if no other of its group is down.
    Restart {
        /// The node.
        name: String,
        /// Why.
        #[command(flatten)]
        reason: Reason,
        /// Even if another node of the group is down; needs --reason.
        #[arg(long)]
        now: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Stop a node's server and keep it stopped, if no other of its group is down.
    Stop {
        /// The node.
        name: String,
        /// Why.
        #[command(flatten)]
        reason: Reason,
        /// Even if another node of the group is down; needs --reason.
        #[arg(long)]
        now: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Start the server of a node that was stopped. Never asks.
    Start {
        /// The node.
        name: String,
        /// Why.
        #[command(flatten)]
        reason: Reason,
        /// Accepted, so that the three commands take the same words.
        #[arg(long, short)]
        yes: bool,
    },
    /// Sign the request of a host that cannot take a token, and write the answer that it takes in its place.
    Admit(Admit),
    /// Void the certificate and the unused join tokens of a node, at once. Its files and its server stay as they are.
    Revoke {
        /// The node.
        name: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Remove a node that is no longer part of the fleet.
    Forget {
        /// The node.
        name: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// `rollout`.
#[derive(Debug, Subcommand)]
pub enum Rollout {
    /// The newest rollouts, one line each.
    List {
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 20)]
        last: u32,
    },
    /// One rollout, group by group.
    Show {
        /// Its number; without it the newest.
        rollout: Option<u64>,
        /// Stay until it has ended.
        #[arg(long, short)]
        wait: bool,
        /// With --wait: stop waiting after this long; the rollout goes on.
        #[arg(long, value_name = "DURATION", requires = "wait")]
        timeout: Option<String>,
    },
    /// Send nothing further until resumed.
    Pause {
        /// Its number; without it the one under way.
        rollout: Option<u64>,
        /// Why.
        #[command(flatten)]
        reason: Reason,
    },
    /// Go on after a pause.
    Resume {
        /// Its number; without it the one under way.
        rollout: Option<u64>,
        /// Why.
        #[command(flatten)]
        reason: Reason,
    },
    /// End it where it is; nodes already changed stay changed unless told to return.
    Abort {
        /// Its number; without it the one under way.
        rollout: Option<u64>,
        /// Return the nodes already changed to what they ran before.
        #[arg(long = "return")]
        go_back: bool,
        /// Why.
        #[command(flatten)]
        reason: Reason,
    },
    /// Do not wait for the rest of the soak or for a canary's approval.
    Promote {
        /// Its number; without it the one under way.
        rollout: Option<u64>,
        /// Why.
        #[command(flatten)]
        reason: Reason,
    },
}

/// `drift`.
#[derive(Debug, Subcommand)]
pub enum Drift {
    /// All differences between desired and disk, newest first.
    List,
    /// One node's differences in full.
    Show {
        /// The node.
        node: String,
    },
    /// Put a file's desired content back.
    Restore {
        /// The node.
        node: String,
        /// The file, below the server's home; without it every file that differs.
        path: Option<String>,
    },
    /// Leave one edited file as it is, and print the change of a layer that would make the edit desired.
    Accept {
        /// The node.
        node: String,
        /// The file, below the server's home.
        path: String,
        /// For how long; without it until the next apply.
        #[arg(long = "for", value_name = "DURATION")]
        duration: Option<String>,
        /// The fleet directory, to name the lines to change.
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
    /// Leave edits on a node alone for a while.
    Pause {
        /// The node.
        node: String,
        /// Why; shown wherever the node is shown.
        #[arg(long, value_name = "TEXT", aliases = ["why", "message"])]
        reason: String,
        /// For how long.
        #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
        duration: String,
    },
    /// Enforce again.
    Resume {
        /// The node.
        node: String,
    },
}

/// `token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a one-time join token for a node, or files with one for each node of a fleet directory that has not joined.
    Create {
        /// The node that may use it.
        #[arg(long, value_name = "NAME", required_unless_present = "all_missing")]
        node: Option<String>,
        /// Of this fleet directory each node that has no certificate: it never joined, or was revoked since.
        #[arg(long, value_name = "DIR", conflicts_with = "node", requires = "out")]
        all_missing: Option<PathBuf>,
        /// Where the files are written, each named as its node and readable by you only.
        #[arg(long, value_name = "DIR", requires = "all_missing", conflicts_with = "node")]
        out: Option<PathBuf>,
        /// For how long.
        #[arg(long, value_name = "DURATION", default_value = "1h")]
        valid: String,
    },
}

/// `secret`.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Set a value, read from standard input; or many from a file. No node changes before the next apply.
    Set {
        /// Its name, as in secret('super_admin.password').
        #[arg(required_unless_present = "from", conflicts_with = "from")]
        name: Option<String>,
        /// A file as `import` writes it, readable by its owner only.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// All names, and who set them when; values are never shown.
    List,
    /// Say whose operators may let a value reach their nodes: all groups at once, or none.
    Grant {
        /// Its name.
        name: String,
        /// A group; may be repeated.
        #[arg(long, value_name = "GROUP", required_unless_present = "nobody", value_delimiter = ',')]
        group: Vec<String>,
        /// No group: only operators of the whole fleet.
        #[arg(long, conflicts_with = "group")]
        nobody: bool,
    },
    /// Remove a value.
    Remove {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// `operator`.
#[derive(Debug, Subcommand)]
pub enum Operator {
    /// Add an operator and print the token that they join with, once.
    Add {
        /// The name that everything they do is recorded under.
        name: String,
        /// viewer looks, operator changes servers and what they run, admin also says who may do that.
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        /// Only for the nodes and rules of this group; may be repeated. Without it: the whole fleet.
        #[arg(long, value_name = "GROUP", value_delimiter = ',')]
        group: Vec<String>,
        /// Another token for an operator who is known: joining replaces the certificate.
        #[arg(long)]
        again: bool,
        /// How long the token is valid.
        #[arg(long, value_name = "DURATION", default_value = "1h")]
        valid: String,
    },
    /// Everybody who may do something.
    List,
    /// Give an operator other rights, from now on.
    Set {
        /// Who.
        name: String,
        /// viewer, operator or admin.
        #[arg(long, value_name = "ROLE")]
        role: String,
        /// Only for the nodes and rules of this group; may be repeated. Without it: the whole fleet.
        #[arg(long, value_name = "GROUP", value_delimiter = ',')]
        group: Vec<String>,
    },
    /// Remove an operator: they are refused from now on, and what they watch ends.
    Remove {
        /// Who.
        name: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// `context`.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// All contexts, and which of them is in use.
    List,
    /// Talk to another fleet from now on.
    Use {
        /// As `context list` shows it.
        name: String,
    },
}
