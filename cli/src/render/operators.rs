//! Who may do what, as text.

use crate::{
    contexts::day,
    text::{Cell, Keep, Style, Table, Tone, local},
    view::{Operator, OperatorToken},
};

/// What somebody was given: `operator of km, gateway`.
fn reaches(groups: &[String]) -> String {
    if groups.is_empty() { "the whole fleet".to_owned() } else { groups.join(", ") }
}

/// Everybody, one line each.
pub fn operators(operators: &[Operator], style: Style) -> String {
    let mut table = Table::fitted([
        ("OPERATOR", Keep::Always),
        ("ROLE", Keep::Always),
        ("BY", Keep::UnlessNarrow(2)),
        ("SINCE", Keep::UnlessNarrow(1)),
        ("CERTIFICATE", Keep::Always),
        ("OF", Keep::Always),
    ]);
    for one in operators {
        let name = if one.you { format!("{} (you)", one.name) } else { one.name.clone() };
        let certificate = match (one.certificate_expires, one.joined, one.since) {
            (Some(end), _, _) => Cell::plain(format!("until {}", day(end))),
            // The first operator's is in the coordinator's data directory.
            (None, _, None) => Cell::plain("-"),
            (None, _, Some(_)) => Cell::toned(Tone::Faint, "not joined"),
        };
        table.row([
            Cell::plain(name),
            Cell::plain(&one.role),
            Cell::plain(one.by.as_deref().unwrap_or("-")),
            Cell::plain(one.since.map_or_else(|| "-".to_owned(), day)),
            certificate,
            Cell::plain(reaches(&one.groups)),
        ]);
    }
    table.render(style)
}

/// What is said of a new token, and the token alone.
pub fn operator_token(token: &OperatorToken) -> (String, String) {
    let hint = format!(
        "{} is {} of {}. This join token is for one use until {}; give it to {} alone, for `convoy join -`:\n",
        token.operator,
        token.role,
        reaches(&token.groups),
        local(token.expires),
        token.operator,
    );
    (hint, format!("{}\n", token.token))
}
