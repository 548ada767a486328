//! What lies on a host: generated messages to views.

use proto::wire::{agent, operator as wire};

use super::convert::some;
use crate::view::{self, When};

pub(super) fn host(reply: wire::HostReply) -> view::Found {
    view::Found {
        received: When(reply.received_ms),
        not_now: some(reply.not_now),
        host: reply.facts.map(found_host),
    }
}

fn found_host(facts: agent::HostFacts) -> view::FoundHost {
    let server = facts.server.unwrap_or_default();
    view::FoundHost {
        home: facts.home,
        product: facts.product.map(|product| view::FoundProduct {
            id: some(product.id),
            name: product.name,
            version: product.version,
        }),
        offset: facts.offset,
        server_since: Some(When(server.since_ms)).filter(|since| since.0 != 0),
        server: server.state,
        config_unread: server.config_unread,
        started: facts.started,
        keystores: facts.keystores,
        files: facts.entries.into_iter().map(found_file).collect(),
    }
}

fn found_file(entry: agent::FoundEntry) -> view::FoundFile {
    use agent::found_entry::Found;
    let nothing = |kind: String, why| view::FoundFile {
        path: entry.path.clone(),
        kind,
        size: 0,
        mode: String::new(),
        owner: String::new(),
        group: String::new(),
        modified: None,
        why,
    };
    match entry.found {
        None => nothing("absent".to_owned(), None),
        Some(Found::Other(kind)) => nothing(kind, None),
        Some(Found::Unreadable(why)) => nothing("unreadable".to_owned(), Some(why)),
        Some(Found::File(file)) => view::FoundFile {
            kind: "file".to_owned(),
            size: file.size,
            mode: format!("{:04o}", file.mode),
            owner: file.owner,
            group: file.group,
            modified: Some(When(file.modified_ms)),
            path: entry.path,
            why: None,
        },
    }
}
