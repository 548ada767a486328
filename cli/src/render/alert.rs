//! Alerts: what is firing first, then what is hidden, then how channels do.

use crate::{
    text::{Cell, Keep, Style, Table, Tone, ago, hanging, local},
    view::{Alert, AlertChannel, AlertState, Alerts, Delivery, Silence, When},
};

/// One line per alert, and what to know of channels.
pub fn alert_list(shown: &Alerts, style: Style) -> String {
    let mut out = String::new();
    let columns = [
        ("STATE", Keep::Always),
        ("SEVERITY", Keep::UnlessNarrow(2)),
        ("RULE", Keep::Always),
        ("SUBJECT", Keep::Always),
        ("SINCE", Keep::UnlessNarrow(1)),
        ("SENT TO", Keep::UnlessNarrow(3)),
        ("WHY", Keep::Always),
    ];
    let mut table = Table::fitted(columns);
    for alert in &shown.alerts {
        table.row([
            Cell::toned(tone(alert), alert.state.as_str()),
            Cell::plain(&alert.severity),
            Cell::plain(&alert.rule),
            Cell::plain(&alert.subject),
            Cell::plain(ago(shown.at, alert.since)),
            Cell::plain(alert.sent_to.join(",")),
            Cell::plain(alert.hidden.as_ref().unwrap_or(&alert.reason)),
        ]);
    }
    match shown.alerts.is_empty() {
        true => out.push_str("no alerts\n"),
        false => out.push_str(&table.render(style)),
    }
    out.push_str(&channels(&shown.channels, shown.at, style));
    if !shown.silences.is_empty() {
        out.push_str(&format!("\n{}", silence_list(&shown.silences, style)));
    }
    out
}

/// One silence in a line.
pub fn silence(silence: &Silence) -> String {
    let of_rule = silence.rule.as_ref().map(|rule| format!(" for {rule}")).unwrap_or_default();
    let until = local(silence.until);
    format!(
        "silence {} of {}{of_rule} until {until} ({}: {})",
        silence.id,
        silence.of(),
        silence.by,
        silence.reason
    )
}

/// Every silence.
pub fn silence_list(silences: &[Silence], style: Style) -> String {
    if silences.is_empty() {
        return "no silences\n".to_owned();
    }
    let mut table = Table::headed(["SILENCE", "OF", "RULE", "UNTIL", "BY", "WHY"]);
    for silence in silences {
        table.row([
            Cell::plain(silence.id.to_string()),
            Cell::plain(silence.of()),
            Cell::plain(silence.rule.as_deref().unwrap_or("every rule")),
            Cell::plain(local(silence.until)),
            Cell::plain(&silence.by),
            Cell::plain(&silence.reason),
        ]);
    }
    table.render(style)
}

/// Everything about some alerts.
pub fn alert_detail(shown: &Alerts, style: Style) -> String {
    let mut out = String::new();
    for alert in &shown.alerts {
        if !out.is_empty() {
            out.push('\n');
        }
        let state = style.paint(tone(alert), alert.state.as_str());
        out.push_str(&format!("{}: {} ({state})\n", alert.title, alert.subject));
        let sent_to = if alert.sent_to.is_empty() { "nobody".to_owned() } else { alert.sent_to.join(", ") };
        let flapping = if alert.flapping { "begins and ends again and again" } else { "" };
        let rows = [
            ("why", alert.reason.clone()),
            ("", flapping.to_owned()),
            ("rule", format!("{}, {}", alert.rule, alert.severity)),
            ("group", alert.group.clone().unwrap_or_default()),
            ("since", ago(shown.at, alert.since)),
            ("over", if alert.ended == When(0) { String::new() } else { ago(shown.at, alert.ended) }),
            ("hidden", alert.hidden.clone().unwrap_or_default()),
            ("sent to", sent_to),
            ("next", alert.next.clone()),
        ];
        out.push_str(&super::facts(&rows, style));
    }
    out
}

fn tone(alert: &Alert) -> Tone {
    match (alert.state, alert.severity.as_str()) {
        (AlertState::Firing, "critical") => Tone::Bad,
        (AlertState::Firing, "info") => Tone::Plain,
        (AlertState::Firing, _) => Tone::Doubtful,
        (AlertState::Hidden | AlertState::Pending | AlertState::Ended | AlertState::Other, _) => Tone::Faint,
    }
}

fn channels(channels: &[AlertChannel], now: When, style: Style) -> String {
    if channels.is_empty() {
        let text = "alerts are sent to nobody: the coordinator's configuration has no [alerts.channels]";
        return style.paint(Tone::Doubtful, &hanging(text, 0, style));
    }
    let mut table = Table::headed(["CHANNEL", "KIND", "FROM", "DELIVERY"]);
    for channel in channels {
        let delivery = match &channel.delivery {
            Delivery::Idle => Cell::plain("nothing was sent yet"),
            Delivery::Arrived { at } => Cell::plain(format!("arrived {}", ago(now, *at))),
            Delivery::Failing { since, tries, why } => {
                Cell::toned(Tone::Bad, format!("failing since {} ({tries} tries): {why}", ago(now, *since)))
            }
        };
        table.row([
            Cell::plain(&channel.name),
            Cell::plain(&channel.kind),
            Cell::plain(&channel.least),
            delivery,
        ]);
    }
    format!("\n{}", table.render(style))
}
