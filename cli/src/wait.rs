//! Stays with a rollout until it has ended, and shows what happens meanwhile. A coordinator that goes away for a while
//! is waited for: the rollout is in its store and goes on when it is back.

use std::{collections::BTreeMap, time::Duration};

use fleet::{
    foreign::printable,
    words::{RolloutWord, StepWord},
};
use futures::StreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    Session,
    client::{Client, Updates},
    exit::{Exit, Failure},
    render,
    request::Wait,
    screen::{Format, Screen},
    text::{Style, coarse},
    view::{Rollout, RolloutNode, Status},
};

/// Between two tries to reach a coordinator that went away.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Why the wait ended.
enum Ended {
    Rollout,
    Timeout,
    Interrupt,
}

/// Stays with a rollout. The rollout as last seen, and how the command ends.
///
/// # Errors
/// Only what cannot pass: an unknown rollout, a certificate that is refused.
pub async fn follow(
    session: &mut Session,
    rollout: u64,
    wait: Wait,
) -> Result<(Option<Rollout>, Exit), Failure> {
    let started = Instant::now();
    let mut follower = Follower { rollout, updates: None };
    let mut progress = Progress::new(&session.screen);
    let mut seen: Option<Rollout> = None;
    let interrupt = session.interrupt.wait();
    tokio::pin!(interrupt);
    let ended = loop {
        let deadline = wait.timeout.map(|timeout| started + timeout);
        let update = tokio::select! {
            // Cancel-safe: a dropped call is made again, a dropped stream is opened again.
            update = follower.next(&mut session.client) => update?,
            () = until(deadline) => break Ended::Timeout,
            () = &mut interrupt => break Ended::Interrupt,
        };
        match update {
            Some(update) => {
                progress.show(&mut session.screen, &update, started.elapsed());
                let ended = update.has_ended();
                seen = Some(update);
                if ended {
                    break Ended::Rollout;
                }
            }
            None => progress.lost(&mut session.screen, started.elapsed()),
        }
    };
    progress.clear();
    Ok(conclude(&mut session.screen, rollout, seen, &ended))
}

fn conclude(screen: &mut Screen, id: u64, seen: Option<Rollout>, ended: &Ended) -> (Option<Rollout>, Exit) {
    let style = style(screen);
    let follow = format!("convoy rollout show {id} --wait");
    let why = seen.as_ref().filter(|rollout| !rollout.waiting.is_empty());
    let why = why.map(|rollout| format!("  waits: {}\n", rollout.waiting.join("; "))).unwrap_or_default();
    match (ended, &seen) {
        (Ended::Rollout, Some(rollout)) => {
            screen.people(&render::verdict(rollout, style));
            let exit = if rollout.is_done() { Exit::Done } else { Exit::Failed };
            (seen, exit)
        }
        (Ended::Timeout, _) => {
            screen.say(&format!("Rollout {id} has not ended yet; it goes on.\n{why}  follow it: {follow}\n"));
            (seen, Exit::InProgress)
        }
        (Ended::Interrupt | Ended::Rollout, _) => {
            screen.say(&format!("\nRollout {id} goes on without this command.\n{why}  follow it: {follow}\n  hold it:   convoy rollout pause {id}\n"));
            (seen, Exit::InProgress)
        }
    }
}

/// Opens a stream again that has broken, however long that takes: its coordinator is being restarted, or upgraded.
///
/// # Errors
/// Only what cannot pass, such as a certificate that is refused.
pub async fn reopen<T>(
    client: &mut Client,
    screen: &mut Screen,
    broken: Option<Failure>,
    open: impl AsyncFn(&mut Client) -> Result<Updates<T>, Failure>,
) -> Result<Updates<T>, Failure> {
    let why = broken.map(|failure| failure.causes().pop().unwrap_or(failure.what));
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    screen.say(&format!("The coordinator does not answer just now{why}; trying again.\n"));
    loop {
        sleep(RETRY_DELAY).await;
        match open(client).await {
            Err(failure) if failure.is_transient => {}
            outcome => return outcome,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The colours and width of a screen.
pub fn style(screen: &Screen) -> Style {
    Style { colour: screen.terminal.colour, width: screen.terminal.width }
}

/// Asks for a rollout again and again, over whatever connection there is.
struct Follower {
    rollout: u64,
    updates: Option<Updates<Status>>,
}

impl Follower {
    /// The rollout's newest state; `None` if the coordinator is away just now.
    async fn next(&mut self, client: &mut Client) -> Result<Option<Rollout>, Failure> {
        let Some(updates) = &mut self.updates else {
            return self.open(client).await;
        };
        match updates.next().await {
            Some(Ok(status)) => {
                let found = status.rollouts.into_iter().find(|rollout| rollout.id == self.rollout);
                match found {
                    Some(rollout) => Ok(Some(rollout)),
                    // The status holds unfinished rollouts only, and the newest finished one.
                    None => client.rollout(self.rollout).await.map(Some),
                }
            }
            Some(Err(_)) | None => {
                self.updates = None;
                sleep(RETRY_DELAY).await;
                Ok(None)
            }
        }
    }

    async fn open(&mut self, client: &mut Client) -> Result<Option<Rollout>, Failure> {
        // Asked once by number: an unknown rollout is an error now, and not a wait without end.
        let first = match client.rollout(self.rollout).await {
            Ok(rollout) => rollout,
            Err(failure) if failure.is_transient => {
                sleep(RETRY_DELAY).await;
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        self.updates = client.watch_status().await.ok();
        Ok(Some(first))
    }
}

/// How progress is shown: bars on a terminal, a line per change elsewhere, nothing to programs.
enum Progress {
    Bars(Bars),
    Lines(Lines),
    Silent,
}

impl Progress {
    fn new(screen: &Screen) -> Self {
        match (screen.format, screen.terminal.is_live) {
            (Format::Programs, _) => Progress::Silent,
            (Format::People, true) => Progress::Bars(Bars::new()),
            (Format::People, false) => Progress::Lines(Lines::default()),
        }
    }

    fn show(&mut self, screen: &mut Screen, rollout: &Rollout, elapsed: Duration) {
        match self {
            Progress::Bars(bars) => bars.show(rollout, elapsed),
            Progress::Lines(lines) => lines.show(screen, rollout, elapsed),
            Progress::Silent => {}
        }
    }

    fn lost(&mut self, screen: &mut Screen, elapsed: Duration) {
        const TEXT: &str = "the coordinator does not answer just now; trying again";
        match self {
            Progress::Bars(bars) => bars.note.set_message(TEXT),
            Progress::Lines(lines) => lines.say(screen, "coordinator", TEXT, elapsed),
            Progress::Silent => {}
        }
    }

    fn clear(&self) {
        if let Progress::Bars(bars) = self {
            // A terminal that is gone needs no clearing.
            drop(bars.all.clear());
        }
    }
}

/// One line per change of a node, a group or the reasons to wait.
#[derive(Default)]
struct Lines {
    last: BTreeMap<String, String>,
}

impl Lines {
    fn show(&mut self, screen: &mut Screen, rollout: &Rollout, elapsed: Duration) {
        for (group, node) in rollout.nodes() {
            if !node.state.is(StepWord::Pending) {
                self.say(screen, &format!("{} ({})", node.node, group.group), &described(node), elapsed);
            }
        }
        // What a node is doing was said above, and a countdown is no news.
        let is_own = |reason: &&String| {
            rollout.nodes().any(|(_, node)| reason.starts_with(&format!("{}:", node.node)))
        };
        let reasons: Vec<&str> =
            rollout.waiting.iter().filter(|reason| !is_own(reason)).map(String::as_str).collect();
        if !reasons.is_empty() && !rollout.has_ended() {
            let text = format!("waits: {}", reasons.join("; "));
            self.say(screen, &format!("rollout {}", rollout.id), &text, elapsed);
        }
        if !rollout.state.is(RolloutWord::Running) && !rollout.has_ended() {
            self.say(screen, &format!("rollout {} state", rollout.id), rollout.state.as_str(), elapsed);
        }
    }

    fn say(&mut self, screen: &mut Screen, about: &str, text: &str, elapsed: Duration) {
        // Numbers count down or up; only other words are a change.
        let words: String = text.chars().filter(|c| !(c.is_ascii_digit() || *c == '.')).collect();
        if self.last.get(about) == Some(&words) {
            return;
        }
        self.last.insert(about.to_owned(), words);
        screen.people(&format!("{:>7.1}s  {about}: {text}\n", elapsed.as_secs_f64()));
    }
}

fn described(node: &RolloutNode) -> String {
    let state = render::shown_word(&node.state);
    if node.detail.is_empty() { state.to_owned() } else { format!("{state}, {}", node.detail) }
}

/// One bar per group, one line per node that is under way, and the reasons to wait below them.
struct Bars {
    all: MultiProgress,
    groups: BTreeMap<String, ProgressBar>,
    nodes: BTreeMap<String, ProgressBar>,
    note: ProgressBar,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout());
        let note = all.add(ProgressBar::new_spinner().with_style(template("{msg:.yellow}")));
        Self { all, groups: BTreeMap::new(), nodes: BTreeMap::new(), note }
    }

    fn show(&mut self, rollout: &Rollout, elapsed: Duration) {
        let width = rollout.groups.iter().map(|group| group.group.len()).max().unwrap_or(0);
        for group in &rollout.groups {
            let bar = self.groups.entry(group.group.clone()).or_insert_with(|| {
                let style = template("  {prefix}  {bar:24.green/dim}  {pos} of {len}  {msg}");
                let bar = ProgressBar::new(group.nodes.len() as u64).with_style(style.progress_chars("━━─"));
                self.all.insert_before(&self.note, bar).with_prefix(format!("{:<width$}", group.group))
            });
            // A handle to the same bar.
            let bar = bar.clone();
            bar.set_position(group.nodes.iter().filter(|node| node.has_ended()).count() as u64);
            bar.set_message(group.state.to_string());
            for node in &group.nodes {
                self.node(&bar, node);
            }
        }
        let state = if rollout.state.is(RolloutWord::Running) {
            String::new()
        } else {
            format!("{}  ", rollout.state)
        };
        let left = rollout.estimate.and_then(|estimate| estimate.left_ms).map(Duration::from_millis);
        let left = left.map(|left| format!(", about {} left", coarse(left))).unwrap_or_default();
        let waiting = rollout.waiting.join("; ");
        let waiting = printable(&waiting);
        self.note.set_message(format!("  {}{left}  {state}{waiting}", coarse(elapsed)));
        self.note.tick();
    }

    /// A node has a line only while it is under way or once it failed: the others are in the bar.
    fn node(&mut self, group: &ProgressBar, node: &RolloutNode) {
        let is_shown = node.has_failed() || !(node.state.is(StepWord::Pending) || node.has_ended());
        match (is_shown, self.nodes.get(&node.node)) {
            (true, None) => {
                let spinner = self.all.insert_after(group, ProgressBar::new_spinner());
                spinner.set_style(template("    {spinner} {msg}"));
                spinner.enable_steady_tick(Duration::from_millis(120));
                spinner.set_message(line(node));
                self.nodes.insert(node.node.clone(), spinner);
            }
            (true, Some(spinner)) => spinner.set_message(line(node)),
            (false, Some(spinner)) => {
                spinner.finish_and_clear();
                self.nodes.remove(&node.node);
            }
            (false, None) => {}
        }
    }
}

/// One line of a node; bars are drawn past [`crate::screen::Screen`], so it is made harmless here.
fn line(node: &RolloutNode) -> String {
    printable(&format!("{}  {}", node.node, described(node))).into_owned()
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("our own templates are well formed")
}
