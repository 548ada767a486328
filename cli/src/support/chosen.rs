//! Which nodes a support bundle has more of.

use fleet::words::NodeWord;

use crate::{request::Only, view::Node};

/// What is left out, and why.
type LeftOut = (String, String);

/// Those that were named; else those that do not do their work. At most `most`.
pub(super) fn nodes<'a>(nodes: &'a [Node], only: &Only, most: usize) -> (Vec<&'a Node>, Vec<LeftOut>) {
    let is_all = *only == Only::default();
    let is_named = |node: &Node| {
        only.nodes.iter().any(|name| name.as_str() == node.name)
            || only.groups.iter().any(|group| group.as_str() == node.group)
    };
    let chosen: Vec<&Node> =
        nodes.iter().filter(|node| if is_all { !is_well(node) } else { is_named(node) }).collect();
    let mut left_out = Vec::new();
    let what = "details, configuration and logs of nodes";
    if is_all && chosen.is_empty() {
        let why = "every node does its work; --node NODE or --group GROUP chooses some";
        left_out.push((what.to_owned(), why.to_owned()));
    }
    let is_known = |name: &str| nodes.iter().any(|node| node.name == name);
    let unknown = only.nodes.iter().filter(|name| !is_known(name.as_str()));
    left_out.extend(unknown.map(|name| (format!("node {name}"), "there is none of this name".to_owned())));
    let is_empty = |group: &&fleet::ids::GroupName| nodes.iter().all(|node| node.group != group.as_str());
    let empty = only.groups.iter().filter(is_empty);
    left_out.extend(empty.map(|group| (format!("group {group}"), "it has no node".to_owned())));
    if let Some(more) = chosen.len().checked_sub(most).filter(|more| *more != 0) {
        let why = format!("{more} more than the {most} that a bundle takes; --node NODE chooses them");
        left_out.push((what.to_owned(), why));
    }
    (chosen.into_iter().take(most).collect(), left_out)
}

/// Its server does what it should, or is not meant to run.
fn is_well(node: &Node) -> bool {
    node.state.known().is_some_and(NodeWord::is_well)
}
