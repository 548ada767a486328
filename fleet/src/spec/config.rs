//! deployment.toml of one node: expressions evaluated in the merged layers, the offset set, the result printed.

use toml_edit::Value;

use super::{
    canonical::join,
    compose::Draft,
    expression::{Expressions, Names, Origin, has_expression, to_toml},
    manifest::OFFSET_MAX,
    report::Report,
    tree::{self, At, Leaf, Node, Notes, Shape, Table, kind_of},
};

type Scope<'a> = (&'a Expressions, &'a Names);

/// The offset that the layers say in clear, 0 if they say none. `None` after a finding.
pub(super) fn literal_offset(config: &Table, report: &mut Report) -> Option<u16> {
    let Some(leaf) = config.leaf("server.offset") else { return Some(0) };
    let number = match &leaf.value {
        Value::Integer(number) => Some(*number.value()),
        // Carbon reads the rendered text, so a quoted number works too.
        Value::String(text) => text.value().parse().ok(),
        _ => None,
    };
    let offset = number.and_then(|number| u16::try_from(number).ok()).filter(|offset| *offset <= OFFSET_MAX);
    if offset.is_none() {
        report.error(
            "CV208",
            Some(leaf.at.value_place()),
            format!("the port offset must be a whole number from 0 to {OFFSET_MAX}"),
            "give it as `offset` of the node in fleet.toml, where the ports of peers are derived from it",
        );
    }
    offset
}

/// Writes the node's `offset` to `[server] offset`.
pub(super) fn set_offset(draft: &mut Draft<'_>, report: &mut Report) {
    let Some(typed) = &draft.text.offset else { return };
    let said = draft.config.leaf("server.offset");
    let agrees =
        said.is_some_and(|leaf| tree::value_text(&leaf.value).trim_matches('"') == typed.value.to_string());
    if agrees || (said.is_none() && typed.value == 0) {
        return;
    }
    if let Some(leaf) = said {
        report.warning(
            "CV206",
            Some(leaf.at.value_place()),
            format!(
                "a layer says another offset than fleet.toml, which says {} for {}",
                typed.value, draft.name
            ),
            "drop `offset` from the layer; fleet.toml wins",
        );
    }
    let offset = Node::Leaf(Leaf {
        value: Value::from(i64::from(typed.value)),
        raw: None,
        at: typed.at.clone(),
        notes: Notes::default(),
    });
    if !matches!(draft.config.get("server"), Some(Node::Table(_))) {
        draft.config.insert("server", Node::Table(Table::empty(typed.at.clone(), Shape::Header)));
    }
    if let Some(Node::Table(server)) = draft.config.get_mut("server") {
        server.insert("offset", offset);
    }
}

/// Moves `[secrets]` to the end of the file, comments included: ciphertool writes that table anew and cuts off
/// everything behind it.
pub(super) fn secrets_last(draft: &mut Draft<'_>) {
    if !matches!(draft.config.get("secrets"), Some(Node::Table(_))) {
        return;
    }
    let Some(Node::Table(mut secrets)) = draft.config.remove("secrets") else { return };
    secrets.shape = Shape::Header;
    let comments = draft.trailing.drain(..);
    secrets.notes.above.splice(0..0, comments);
    draft.config.insert("secrets", Node::Table(secrets));
}

/// The text that lands on the node. No time, no generation: the same layers give the same bytes.
pub(super) fn print(draft: &Draft<'_>, trailing: &[String], fleet: &str) -> String {
    let head = format!(
        "# Node {} of fleet {fleet}, composed by Convoy. Edits here are undone: change the fleet directory.\n\n",
        draft.name
    );
    head + &tree::print(&draft.config, trailing)
}

/// Evaluates every string of the tree that holds an expression.
pub(super) fn evaluate(table: &mut Table, scope: Scope<'_>, report: &mut Report) {
    for (_, node) in table.values_mut() {
        match node {
            Node::Leaf(leaf) => evaluate_leaf(leaf, scope, report),
            Node::Table(inner) => evaluate(inner, scope, report),
            Node::Tables(elements) => {
                elements.iter_mut().for_each(|element| evaluate(element, scope, report));
            }
        }
    }
}

fn evaluate_leaf(leaf: &mut Leaf, scope: Scope<'_>, report: &mut Report) {
    match &mut leaf.value {
        Value::String(text) if has_expression(text.value()) => {
            let text = text.value().clone();
            if let Some(value) = evaluate_text(&text, (&leaf.at, leaf.at.value), scope, report) {
                leaf.value = value;
                leaf.raw = None;
            }
        }
        Value::Array(array) => {
            let raw = leaf.raw.take().filter(|raw| !has_expression(raw));
            if raw.is_none() {
                evaluate_array(array, &leaf.at, scope, report);
            }
            leaf.raw = raw;
        }
        _ => {}
    }
}

fn evaluate_array(array: &mut toml_edit::Array, at: &At, scope: Scope<'_>, report: &mut Report) {
    for item in array.iter_mut() {
        let item_at = item.span().map_or(at.value, |span| span.start);
        match item {
            Value::String(text) if has_expression(text.value()) => {
                let text = text.value().clone();
                if let Some(value) = evaluate_text(&text, (at, item_at), scope, report) {
                    *item = value;
                }
            }
            Value::Array(inner) => evaluate_array(inner, at, scope, report),
            Value::InlineTable(inner) => {
                for (_, value) in inner.iter_mut() {
                    if let Value::String(text) = value
                        && has_expression(text.value())
                    {
                        let text = text.value().clone();
                        if let Some(evaluated) = evaluate_text(&text, (at, item_at), scope, report) {
                            *value = evaluated;
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

fn evaluate_text(
    text: &str,
    (at, value_at): (&At, usize),
    (expressions, names): Scope<'_>,
    report: &mut Report,
) -> Option<Value> {
    let origin = Origin::of_string(at, value_at, text);
    let value = expressions.evaluate(text, names, &origin, report)?;
    let place = At { value: value_at, ..at.clone() }.value_place();
    let Some(toml) = to_toml(&value) else {
        report.error(
            "CV305",
            Some(place),
            "the result of this expression is nothing that TOML can hold",
            "let it give a text, a number, true or false, a list or a table, as node.host and not node",
        );
        return None;
    };
    // The product's own templates would evaluate such a text once more.
    if toml.as_str().is_some_and(has_expression) {
        report.warning(
            "CV306",
            Some(place),
            "after evaluation this text still holds {{ or {%",
            "the server's own templates will evaluate it again; choose another text",
        );
    }
    Some(toml)
}

/// The product's parser takes lists of one kind only; a mixed one stops the server's start.
pub(super) fn check_lists(table: &Table, prefix: &str, report: &mut Report) {
    for (key, node) in table.iter() {
        let path = join(prefix, key);
        match node {
            Node::Table(inner) => check_lists(inner, &path, report),
            Node::Tables(elements) => elements.iter().for_each(|element| check_lists(element, &path, report)),
            Node::Leaf(leaf) => {
                let Some(array) = leaf.value.as_array() else { continue };
                let mut kinds = array.iter().map(kind_of);
                let first = kinds.next();
                if kinds.any(|kind| Some(kind) != first) {
                    report.error(
                        "CV207",
                        Some(leaf.at.value_place()),
                        format!("the list {path} mixes kinds of values"),
                        "make all its elements strings, or all numbers; the server refuses to start on a mixed list",
                    );
                }
            }
        }
    }
}
