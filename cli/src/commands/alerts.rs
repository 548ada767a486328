//! `alert`: what is wrong, and whether channels work.

use super::style;
use crate::{
    Session,
    exit::{Exit, Failure},
    render,
    request::{AlertAct, SilenceAct},
    view::{Alert, AlertState, Alerts},
};

pub(super) async fn alerts(session: &mut Session, act: AlertAct) -> Result<Exit, Failure> {
    match act {
        AlertAct::List { all } => {
            let shown = session.client.alerts().await?;
            let is_shown = |alert: &Alert| match alert.state {
                AlertState::Firing | AlertState::Hidden | AlertState::Other => true,
                AlertState::Pending | AlertState::Ended => all,
            };
            let shown = sorted(shown, is_shown);
            session.screen.programs(&shown);
            session.screen.people(&render::alert_list(&shown, style(session)));
            Ok(Exit::Done)
        }
        AlertAct::Show { what } => {
            let shown = session.client.alerts().await?;
            let is_shown = |alert: &Alert| {
                alert.node.as_ref() == Some(&what) || alert.subject == what || alert.rule == what
            };
            let shown = sorted(shown, is_shown);
            session.screen.programs(&shown);
            if shown.alerts.is_empty() {
                session.screen.people(&format!("no alerts of {what}\n"));
            } else {
                session.screen.people(&render::alert_detail(&shown, style(session)));
            }
            Ok(Exit::Done)
        }
        AlertAct::Test { channel } => {
            let answer = session.client.test_channel(&channel).await?;
            session.screen.programs(&answer);
            session.screen.people(&render::answer(&answer));
            Ok(if answer.ok { Exit::Done } else { Exit::Failed })
        }
    }
}

pub(super) async fn silences(session: &mut Session, act: SilenceAct) -> Result<Exit, Failure> {
    match act {
        SilenceAct::Add { target, rule, lasts, reason } => {
            let added = session.client.add_silence(target, rule, lasts, reason).await?;
            session.screen.programs(&added);
            session.screen.people(&format!("{}\n", render::silence(&added)));
        }
        SilenceAct::List => {
            let shown = session.client.alerts().await?;
            session.screen.programs(&shown.silences);
            session.screen.people(&render::silence_list(&shown.silences, style(session)));
        }
        SilenceAct::Remove { id } => {
            let answer = session.client.remove_silence(id).await?;
            session.screen.programs(&answer);
            session.screen.people(&render::answer(&answer));
        }
    }
    Ok(Exit::Done)
}

/// What is firing and urgent comes first.
fn sorted(mut shown: Alerts, is_shown: impl Fn(&Alert) -> bool) -> Alerts {
    shown.alerts.retain(is_shown);
    let rank = |severity: &str| match severity {
        "critical" => 0,
        "warning" => 1,
        _ => 2,
    };
    shown.alerts.sort_by(|one, other| {
        let key = |alert: &Alert| (alert.state, rank(&alert.severity), alert.rule.clone());
        (key(one), &one.subject).cmp(&(key(other), &other.subject))
    });
    shown
}
