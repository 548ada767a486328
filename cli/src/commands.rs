//! Commands that ask the coordinator: what is asked, in which order, and what of the answer is shown.

mod alerts;
mod logs;
mod proposals;
mod revisions;
mod upgrade;

use std::{path::Path, time::Duration};

use fleet::{origin::Origin, spec::Sources, time::Timestamp, words::NodeWord};
use futures::StreamExt as _;

use crate::{
    Session, accept, admit, audit,
    client::{Change, EventQuery},
    directory,
    exit::{Exit, Failure},
    git, import, operators, pack, places, render,
    request::{
        Apply, Confirm, Detail, DriftAct, Events, NodeAct, Only, PlanExit, Remote, Rollback, SecretAct,
        Steer, Unmanaged, Wait,
    },
    screen::Format,
    secrets, sign, support,
    text::{Style, Tone},
    tokens,
    trace::Trace,
    view, wait,
};

/// How many events one answer may hold before it has to be asked again.
const EVENTS_MAX: u32 = 10_000;
/// Events that are shown if nobody says how many.
const EVENTS_LAST: u32 = 50;

/// Runs one command.
///
/// # Errors
/// With what to do next.
pub async fn execute(remote: Remote, session: &mut Session) -> Result<Exit, Failure> {
    match remote {
        Remote::Plan { dir, diff, packs, exit, only, to_sign } => {
            let files = directory::read(&dir)?;
            let packs = pack::given(&packs, &files)?;
            let mut plan = asked_for(session.client.plan(&files, &packs, &only).await?)?;
            places::locate(&mut plan.findings, &dir);
            plan.origin = origin(session, &dir, &files).await.as_ref().map(view::Origin::from);
            session.screen.programs(&plan);
            show_plan(session, &plan, diff);
            if let Some(file) = to_sign.filter(|_| !plan.refused) {
                let statement = sign::statement(&plan, None, (&files, &packs, &only))?;
                write_to_sign(session, &file, &statement)?;
            }
            Ok(match exit {
                _ if plan.refused => Exit::Failed,
                PlanExit::Changes if plan.changes() => Exit::Changes,
                PlanExit::Changes | PlanExit::Refused => Exit::Done,
            })
        }
        Remote::Apply(request) => apply(session, request).await,
        Remote::Rollback(request) => rollback(session, request).await,
        Remote::Import(request) => import::execute_asking(&request, session).await,
        Remote::Status { watch: false } => {
            let status = session.client.status().await?;
            session.screen.programs(&status);
            let text = render::status(&status, style(session));
            session.screen.people(&text);
            Ok(Exit::Done)
        }
        Remote::Status { watch: true } => watch_status(session).await,
        Remote::Nodes => nodes(session).await,
        Remote::Agents { outdated } => agents(session, outdated).await,
        Remote::Upgrade(request) => upgrade::upgrade(session, &request).await,
        Remote::Node { node } => {
            let detail = session.client.node(node.as_str()).await?;
            session.screen.programs(&detail);
            let text = render::node_detail(&detail, (session.now)(), style(session));
            session.screen.people(&text);
            Ok(Exit::Done)
        }
        Remote::Act { node, act, confirm } => act_on_node(session, node.as_str(), act, confirm).await,
        Remote::Rollouts { most } => {
            let rollouts = session.client.rollouts(most).await?;
            session.screen.programs(&rollouts);
            let text = render::rollout_list(&rollouts, (session.now)(), style(session));
            session.screen.people(&text);
            Ok(Exit::Done)
        }
        Remote::Rollout { rollout, wait } => show_rollout(session, rollout, wait).await,
        Remote::Steer { rollout, steer, why } => steer_rollout(session, rollout, steer, &why).await,
        Remote::DriftList { node } => drift_list(session, node.as_ref().map(|node| node.as_str())).await,
        Remote::Drift { node, act } => drift_act(session, node.as_str(), act).await,
        Remote::Events(request) => events(session, request).await,
        Remote::Logs(request) => logs::logs(session, request).await,
        Remote::Alert(act) => alerts::alerts(session, act).await,
        Remote::Silence(act) => alerts::silences(session, act).await,
        Remote::Secret(act) => secret(session, act).await,
        Remote::Proposal(act) => proposals::proposals(session, act).await,
        Remote::SupportBundle(request) => support::execute(request, session).await,
        Remote::Revision(act) => revisions::revisions(session, act).await,
        Remote::Audit(act) => audit::execute(act, session).await,
        Remote::Operator(act) => operators::execute(act, session).await,
        Remote::Tokens(request) => tokens::execute(&request, session).await,
        Remote::Admit(request) => admit::execute(&request, session).await,
        Remote::Token { node, valid } => token(session, node.as_str(), valid).await,
    }
}

async fn token(session: &mut Session, node: &str, valid: Duration) -> Result<Exit, Failure> {
    let token = session.client.create_token(node, valid).await?;
    session.screen.programs(&token);
    for warning in &token.warnings {
        session.screen.say(&format!("warning: {warning}\n"));
    }
    let (hint, token) = render::token(&token);
    if session.screen.format == Format::People {
        session.screen.say(&hint);
    }
    session.screen.people(&token);
    Ok(Exit::Done)
}

async fn secret(session: &mut Session, act: SecretAct) -> Result<Exit, Failure> {
    let answer = match act {
        SecretAct::List => {
            let names = session.client.secrets().await?;
            session.screen.programs(&names);
            let text = render::secrets(&names, (session.now)(), style(session));
            session.screen.people(&text);
            return Ok(Exit::Done);
        }
        SecretAct::Set { name } => {
            let value = secrets::typed(&mut session.screen, &name)?;
            session.client.set_secret(&name, &value).await?
        }
        SecretAct::Grant { name, groups } => session.client.grant_secret(&name, &groups).await?,
        SecretAct::Load { from } => load_secrets(session, &from).await?,
        SecretAct::Remove { name, confirm: given } => {
            confirm(session, given, &format!("Remove the value of {name}?"))?;
            session.client.remove_secret(&name).await?
        }
    };
    session.screen.programs(&answer);
    session.screen.people(&render::answer(&answer));
    Ok(Exit::Done)
}

async fn load_secrets(session: &mut Session, from: &Path) -> Result<view::Answer, Failure> {
    let secrets = secrets::read(from)?;
    for (done, (name, value)) in secrets.iter().enumerate() {
        session.client.set_secret(name, value).await.map_err(|failure| Failure {
            what: format!("{name}: {} ({done} of {} are set)", failure.what, secrets.len()),
            ..failure
        })?;
    }
    let detail = format!(
        "{} secrets are set; remove {} now, the coordinator keeps them",
        secrets.len(),
        from.display()
    );
    Ok(view::Answer { ok: true, detail })
}

fn style(session: &Session) -> Style {
    wait::style(&session.screen)
}

fn show_plan(session: &mut Session, plan: &view::Plan, diff: Detail) {
    let text = render::plan(plan, diff, (session.now)(), style(session));
    session.screen.people(&text);
}

/// A plan that the coordinator does not make is no plan: another fleet's directory, or nodes that it does not have.
fn asked_for(plan: view::Plan) -> Result<view::Plan, Failure> {
    match plan.refusal {
        Some(why) => Err(Failure::refused(
            why,
            "`convoy status` shows the fleet that this coordinator keeps, its nodes and groups",
        )),
        None => Ok(plan),
    }
}

/// The commit that a fleet directory is at; what keeps Git from saying it is said.
async fn origin(session: &mut Session, dir: &Path, files: &Sources) -> Option<Origin> {
    match git::origin(dir, files).await {
        git::Found::Commit(origin) => Some(origin),
        git::Found::NoRepository => None,
        git::Found::Unknown(why) => {
            session.screen.say(&format!("note: no commit is recorded with this: {why}\n"));
            None
        }
    }
}

async fn apply(session: &mut Session, request: Apply) -> Result<Exit, Failure> {
    let mut trace = Trace::begin(&mut session.screen);
    let outcome = apply_traced(session, request, &mut trace).await;
    trace.finish(&outcome).await;
    outcome
}

async fn apply_traced(session: &mut Session, request: Apply, trace: &mut Trace) -> Result<Exit, Failure> {
    let files = directory::read(&request.dir)?;
    let packs = pack::given(&request.packs, &files)?;
    trace.end("read directory");
    let mut plan = asked_for(session.client.plan(&files, &packs, &request.only).await?)?;
    trace.end("plan");
    places::locate(&mut plan.findings, &request.dir);
    let origin = origin(session, &request.dir, &files).await;
    plan.origin = origin.as_ref().map(view::Origin::from);
    show_plan(session, &plan, request.diff);
    if plan.refused {
        session.screen.programs(&view::Outcome { plan: Some(plan), applied: None, rollout: None });
        return Ok(Exit::Failed);
    }
    if let (Some(signers), None) = (&plan.signers, &request.sign) {
        return Err(Failure::refused(
            format!("the fleet asks for a signature by {signers}, and this has none"),
            "add --sign KEYFILE; for a key that is elsewhere, sign what `convoy plan DIR --to-sign FILE` writes and add \
             --signature FILE",
        ));
    }
    confirm_replacing(session, &plan, request.confirm, request.unmanaged)?;
    if plan.changes() {
        let question = question(&plan, request.break_glass.as_deref(), "Apply this");
        confirm(session, request.confirm, &question)?;
    }
    // What was shown is what is applied: if anything was applied in between, the coordinator refuses.
    let parent = request.parent.unwrap_or(plan.base_revision);
    let signature = match &request.sign {
        Some(how) => {
            let statement = sign::statement(&plan, request.parent, (&files, &packs, &request.only))?;
            session.screen.say(sign::hint(how));
            Some(sign::signature(how, &statement).await?)
        }
        None => None,
    };
    let change = Change {
        signature: signature.as_deref(),
        message: &request.message,
        parent: Some(parent),
        now: request.now.as_deref(),
        replace_unmanaged: plan.unmanaged_digest.as_deref(),
        only: &request.only,
        origin: origin.as_ref(),
        break_glass: request.break_glass.as_deref(),
        trace: trace.call(),
    };
    trace.start();
    let applied = session.client.apply(&files, &packs, &change).await;
    trace.called(applied.is_ok());
    let mut applied = applied?;
    places::locate(&mut applied.findings, &request.dir);
    let is_waited_for = applied.rollout.is_some() && request.wait.is_some();
    let outcome = finish_apply(session, Some(plan), applied, request.wait).await;
    if is_waited_for {
        trace.end("wait for rollout");
    }
    outcome
}

/// Leaves what is to be signed in a file, and says what to do with it.
fn write_to_sign(session: &mut Session, file: &Path, statement: &str) -> Result<(), Failure> {
    std::fs::write(file, statement).map_err(|error| {
        let what = format!("cannot write what is to be signed to {}", file.display());
        Failure::failed(what, "name a file that can be written").because(error)
    })?;
    let shown = file.display();
    session.screen.say(&format!(
        "What is to be signed is in {shown}; it does for one apply of this directory as it is, until something else is applied.\n  \
         sign it: ssh-keygen -Y sign -n convoy -f KEYFILE {shown}, or minisign -S -s KEYFILE -m {shown}\n  \
         then: convoy apply DIR --signature {shown}.sig, or {shown}.minisig\n"
    ));
    Ok(())
}

/// What is asked before a change, which may need somebody else's approval.
fn question(plan: &view::Plan, break_glass: Option<&str>, what: &str) -> String {
    match (&plan.approval, break_glass) {
        (None, _) => format!("{what}?"),
        (Some(_), None) => format!("{what}, once somebody else has approved it?"),
        (Some(_), Some(_)) => format!("{what} without the approval that it needs?"),
    }
}

/// What nobody declared needs a yes of its own.
fn confirm_replacing(
    session: &mut Session,
    plan: &view::Plan,
    given: Confirm,
    unmanaged: Unmanaged,
) -> Result<(), Failure> {
    if plan.unmanaged_digest.is_none() || unmanaged == Unmanaged::Replace {
        return Ok(());
    }
    let can_ask = session.screen.terminal.can_ask && session.screen.format == Format::People;
    if given == Confirm::Given || !can_ask {
        return Err(Failure::refused(
            format!(
                "{} would lose what nobody declared, and --replace-unmanaged was not given",
                render::losing(plan)
            ),
            "declare it, or add --replace-unmanaged if you mean it; the end of the plan lists it",
        ));
    }
    let question = format!("Replace and remove what nobody declared on {}?", render::losing(plan));
    confirm(session, Confirm::Ask, &question)
}

async fn rollback(session: &mut Session, request: Rollback) -> Result<Exit, Failure> {
    let fleet = session.client.status().await?.fleet;
    let plan = session.client.plan_rollback(request.revision).await?;
    if let Some(why) = plan.refusal {
        return Err(Failure::refused(why, "`convoy events` shows what was applied, and when"));
    }
    let (now, to) = (plan.base_revision, plan.to_revision.unwrap_or_default());
    session.screen.people(&format!(
        "{fleet}: revision {now} is in force; the content of revision {to} becomes revision {}.\n\n",
        now + 1
    ));
    show_plan(session, &plan, request.diff);
    confirm_replacing(session, &plan, request.confirm, request.unmanaged)?;
    let question = question(&plan, request.break_glass.as_deref(), &format!("Go back to revision {to}"));
    confirm(session, request.confirm, &question)?;
    let change = Change {
        message: &request.message,
        parent: Some(now),
        now: request.now.as_deref(),
        replace_unmanaged: plan.unmanaged_digest.as_deref(),
        only: &Only::default(),
        origin: None,
        break_glass: request.break_glass.as_deref(),
        signature: None,
        trace: None,
    };
    let applied = session.client.rollback(to, &change).await?;
    let is_over = applied.proposal.is_none() && (applied.rollout.is_none() || request.wait.is_some());
    let exit = finish_apply(session, Some(plan), applied, request.wait).await?;
    match exit {
        Exit::Done if is_over => left_over(session).await,
        other => Ok(other),
    }
}

/// A rollback is done once the servers of the fleet do their work again, whatever had to be sent for that.
async fn left_over(session: &mut Session) -> Result<Exit, Failure> {
    let status = session.client.status().await?;
    let left: Vec<&view::Node> = status.nodes.iter().filter(|node| is_left(node)).collect();
    if left.is_empty() {
        return Ok(Exit::Done);
    }
    session.screen.say("The rollback has ended, and not every server is well:\n");
    for node in &left {
        let why = if node.state_why.is_empty() { String::new() } else { format!(": {}", node.state_why) };
        session.screen.say(&format!("  {} is {}{why}\n", node.name, node.state));
    }
    session.screen.say("  look at one: convoy node show NODE\n");
    Ok(Exit::Failed)
}

/// A server that should run and does not, or of which nobody knows, or that is not on what it went back to.
fn is_left(node: &view::Node) -> bool {
    let is_behind = node.standing == Some(view::Standing::Behind);
    let is_well = match node.state.known() {
        Some(
            NodeWord::Ready
            | NodeWord::Stopped
            | NodeWord::Idle
            | NodeWord::NotJoined
            | NodeWord::NeverConnected
            | NodeWord::NotInFleet,
        ) => true,
        Some(_) | None => false,
    };
    is_behind || !is_well
}

async fn finish_apply(
    session: &mut Session,
    plan: Option<view::Plan>,
    applied: view::Applied,
    wait: Option<Wait>,
) -> Result<Exit, Failure> {
    if let Some(proposal) = &applied.proposal {
        let text = render::proposed(proposal, &applied.approvers, style(session));
        session.screen.people(&text);
        session.screen.programs(&view::Outcome { plan, applied: Some(applied), rollout: None });
        return Ok(Exit::InProgress);
    }
    let (rollout, exit) = match (applied.rollout, wait) {
        (None, _) => {
            session.screen.people(&format!("Revision {}: nothing to do on any node.\n", applied.revision));
            (None, Exit::Done)
        }
        (Some(id), None) => {
            session.screen.people(&format!(
                "Revision {} is applied by rollout {id}, which goes on by itself.\n  follow it: convoy rollout show {id} --wait\n",
                applied.revision
            ));
            (None, Exit::Done)
        }
        (Some(id), Some(stay)) => {
            session.screen.people(&format!("Revision {}, rollout {id}\n", applied.revision));
            wait::follow(session, id, stay).await?
        }
    };
    session.screen.programs(&view::Outcome { plan, applied: Some(applied), rollout });
    Ok(exit)
}

/// Goes on only after a yes.
pub(crate) fn confirm(session: &mut Session, confirm: Confirm, question: &str) -> Result<(), Failure> {
    match confirm {
        Confirm::Given => Ok(()),
        Confirm::Ask if !session.screen.terminal.can_ask || session.screen.format == Format::Programs => Err(
            Failure::refused("nobody is there to ask, and --yes was not given", "add --yes if you mean it"),
        ),
        Confirm::Ask if session.screen.ask(question) => Ok(()),
        Confirm::Ask => Err(Failure::refused("not confirmed; nothing was changed", "")),
    }
}

async fn watch_status(session: &mut Session) -> Result<Exit, Failure> {
    let mut updates = session.client.watch_status().await?;
    let interrupt = session.interrupt.wait();
    tokio::pin!(interrupt);
    loop {
        let update = tokio::select! {
            // Cancel-safe: the stream keeps what was not taken.
            update = updates.next() => update,
            () = &mut interrupt => return Ok(Exit::Done),
        };
        let status = match update {
            Some(Ok(status)) => status,
            broken => {
                let (client, screen) = (&mut session.client, &mut session.screen);
                let broken = broken.and_then(Result::err);
                let again = wait::reopen(client, screen, broken, async |client| client.watch_status().await);
                updates = tokio::select! {
                    // Cancel-safe: a dropped call is made again, or nobody waits for it any more.
                    updates = again => updates?,
                    () = &mut interrupt => return Ok(Exit::Done),
                };
                continue;
            }
        };
        session.screen.programs_line(&status);
        let text = render::status(&status, wait::style(&session.screen));
        if session.screen.terminal.is_live {
            let clock = wait::style(&session.screen).paint(Tone::Faint, &render::clock(status.at));
            // Home, clear to the end: the screen does not flicker, and the scroll-back stays.
            session.screen.redraw(&format!("{text}\n{clock}  Ctrl-C ends this\n"));
        } else {
            session.screen.people(&format!("{text}\n"));
        }
        if session.screen.is_closed() {
            return Ok(Exit::Done);
        }
    }
}

async fn nodes(session: &mut Session) -> Result<Exit, Failure> {
    let status = session.client.status().await?;
    session.screen.programs(&status.nodes);
    let text = if status.nodes.is_empty() {
        "No nodes yet: `convoy apply DIR` makes some.\n".to_owned()
    } else {
        render::node_table(&status.nodes, status.at, style(session))
    };
    session.screen.people(&text);
    Ok(Exit::Done)
}

async fn agents(session: &mut Session, outdated: bool) -> Result<Exit, Failure> {
    let status = session.client.status().await?;
    let list = view::AgentList::of(&status, outdated);
    session.screen.programs(&list);
    session.screen.people(&render::agent_list(&list, status.at, style(session)));
    Ok(Exit::Done)
}

async fn act_on_node(
    session: &mut Session,
    node: &str,
    act: NodeAct,
    given: Confirm,
) -> Result<Exit, Failure> {
    let question = match &act {
        NodeAct::Restart { now: false, .. } => format!("Restart the server of {node}?"),
        NodeAct::Restart { now: true, .. } => {
            format!("Restart the server of {node}, whatever else is down?")
        }
        NodeAct::Stop { now: false, .. } => format!("Stop the server of {node} and keep it stopped?"),
        NodeAct::Stop { now: true, .. } => {
            format!("Stop the server of {node} and keep it stopped, whatever else is down?")
        }
        NodeAct::Start { .. } => format!("Start the server of {node}?"),
        NodeAct::ToOriginal { now, .. } => {
            let budget = if *now { ", whatever else is down" } else { "" };
            format!(
                "Put the files of {node} back that lay there before its first apply{budget}? Its server restarts if it \
                 reads them otherwise."
            )
        }
        NodeAct::Revoke => {
            format!(
                "Revoke the certificate of {node}? Its agent is refused until it joins again; its server goes on."
            )
        }
        NodeAct::Forget => format!("Forget {node}? Its certificate stops working; its server is left alone."),
    };
    confirm(session, given, &question)?;
    let answer = session.client.act(node, act).await?;
    session.screen.programs(&answer);
    session.screen.people(&render::answer(&answer));
    Ok(Exit::Done)
}

/// The rollout that is meant when no number was typed.
async fn meant_rollout(session: &mut Session, typed: Option<u64>, is_steered: bool) -> Result<u64, Failure> {
    if let Some(id) = typed {
        return Ok(id);
    }
    let status = session.client.status().await?;
    let unfinished: Vec<u64> =
        status.rollouts.iter().filter(|rollout| !rollout.has_ended()).map(|rollout| rollout.id).collect();
    match (unfinished.as_slice(), is_steered) {
        ([one], _) => Ok(*one),
        ([], true) => {
            Err(Failure::refused("no rollout is under way", "`convoy rollout list` shows those that ended"))
        }
        ([], false) => status
            .rollouts
            .iter()
            .map(|rollout| rollout.id)
            .max()
            .ok_or_else(|| Failure::failed("there is no rollout yet", "`convoy apply DIR` starts one")),
        (several, _) => {
            let names: Vec<String> = several.iter().map(u64::to_string).collect();
            Err(Failure::usage(
                format!("rollouts {} are under way", names.join(" and ")),
                "name the one you mean",
            ))
        }
    }
}

async fn show_rollout(
    session: &mut Session,
    typed: Option<u64>,
    stay: Option<Wait>,
) -> Result<Exit, Failure> {
    let id = meant_rollout(session, typed, false).await?;
    if let Some(stay) = stay {
        let (rollout, exit) = wait::follow(session, id, stay).await?;
        session.screen.programs(&rollout);
        return Ok(exit);
    }
    let rollout = session.client.rollout(id).await?;
    session.screen.programs(&rollout);
    let mut text = render::rollout(&rollout, (session.now)(), style(session));
    if rollout.has_ended() && !rollout.is_done() {
        text.push_str(&render::verdict(&rollout, style(session)));
    }
    session.screen.people(&text);
    Ok(Exit::Done)
}

async fn steer_rollout(
    session: &mut Session,
    typed: Option<u64>,
    steer: Steer,
    why: &str,
) -> Result<Exit, Failure> {
    let id = meant_rollout(session, typed, true).await?;
    let rollout = session.client.steer(id, steer, why).await?;
    session.screen.programs(&rollout);
    let text = render::rollout(&rollout, (session.now)(), style(session));
    session.screen.people(&text);
    Ok(Exit::Done)
}

async fn drift_list(session: &mut Session, only: Option<&str>) -> Result<Exit, Failure> {
    let status = session.client.status().await?;
    let wanted = |node: &view::Node| only.is_none_or(|only| only == node.name);
    let nodes: Vec<view::NodeDrift> = status
        .nodes
        .into_iter()
        .filter(wanted)
        .map(|node| {
            let report = node.report;
            view::NodeDrift {
                node: node.name,
                total: report.as_ref().map_or(0, |report| report.drift_total),
                pause: report.as_ref().and_then(|report| report.drift_pause.clone()),
                entries: report.map(|report| report.drift).unwrap_or_default(),
                differences: None,
            }
        })
        .collect();
    let Some(only) = only else {
        session.screen.programs(&nodes);
        let text = render::drift_list(&nodes, status.at, style(session));
        session.screen.people(&text);
        return Ok(Exit::Done);
    };
    let mut node = nodes.into_iter().next().ok_or_else(|| {
        Failure::failed(format!("there is no node {only}"), "`convoy node list` shows the names")
    })?;
    node.differences = session.client.differences(only).await?;
    session.screen.programs(&node);
    let text = render::drift_detail(&node, status.at, style(session));
    session.screen.people(&text);
    Ok(Exit::Done)
}

async fn drift_act(session: &mut Session, node: &str, act: DriftAct) -> Result<Exit, Failure> {
    let dir = match &act {
        DriftAct::Accept { dir, .. } => Some(dir.clone()),
        DriftAct::Restore { .. } | DriftAct::Pause { .. } | DriftAct::Resume => None,
    };
    let mut answer = session.client.drift(node, act, (session.now)()).await?;
    if let Some(dir) = dir {
        // The agent has accepted it by now: a directory that cannot be read is no failure of that.
        let places = if dir.join("fleet.toml").is_file() {
            accept::places(&dir, node, &answer.detail).unwrap_or_else(|failure| vec![failure.to_string()])
        } else {
            vec![format!(
                "{} is no fleet directory; name it with --dir to see the lines to change",
                dir.display()
            )]
        };
        answer.detail = format!("{}\nWhere:\n  {}", answer.detail, places.join("\n  "));
    }
    session.screen.programs(&answer);
    session.screen.people(&render::answer(&answer));
    Ok(Exit::Done)
}

async fn events(session: &mut Session, request: Events) -> Result<Exit, Failure> {
    let now = Timestamp((session.now)().0);
    let mut query = EventQuery {
        after: request.after.unwrap_or(0),
        follow: request.follow,
        most: match (request.last, request.after, request.since) {
            (Some(last), _, _) => last,
            // What is followed has no end.
            (None, Some(_), _) if request.follow => 0,
            // After a given event or time everything is wanted, though not without bound.
            (None, Some(_), _) | (None, _, Some(_)) => EVENTS_MAX,
            (None, None, None) => EVENTS_LAST,
        },
        node: request.node.map(|node| node.to_string()),
        group: request.group,
        kinds: request.kinds,
        actor: request.actor,
        since: request.since.map(|moment| moment.at(now)),
        until: request.until.map(|moment| moment.at(now)),
    };
    let mut events = session.client.events(query.clone()).await?;
    let interrupt = session.interrupt.wait();
    tokio::pin!(interrupt);
    loop {
        let event = tokio::select! {
            // Cancel-safe: the stream keeps what was not taken.
            event = events.next() => event,
            () = &mut interrupt => return Ok(Exit::Done),
        };
        match event {
            Some(Ok(event)) => {
                // Where it goes on if the stream breaks.
                (query.after, query.most) = (event.seq, 0);
                session.screen.programs_line(&event);
                let text = render::event(&event, wait::style(&session.screen));
                session.screen.people(&text);
            }
            broken if request.follow => {
                let (client, screen) = (&mut session.client, &mut session.screen);
                let broken = broken.and_then(Result::err);
                let query = &query;
                let again =
                    wait::reopen(client, screen, broken, async |client| client.events(query.clone()).await);
                events = tokio::select! {
                    // Cancel-safe: a dropped call is made again, or nobody waits for it any more.
                    events = again => events?,
                    () = &mut interrupt => return Ok(Exit::Done),
                };
            }
            Some(Err(failure)) => return Err(failure),
            None => return Ok(Exit::Done),
        }
        if session.screen.is_closed() {
            return Ok(Exit::Done);
        }
    }
}
