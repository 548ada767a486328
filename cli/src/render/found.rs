//! What lies on the host of a node that nothing was assigned to.

use crate::{
    text::{Style, ago, bytes, local},
    view::{Found, FoundFile, When},
};

/// What lies on a host that nothing was assigned to yet.
pub(super) fn found_on_host(node: &str, found: &Found, now: When, style: Style) -> String {
    let Some(host) = &found.host else {
        let why = found.not_now.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        return format!("  its host was not looked at yet{why}\n");
    };
    let looked = match &found.not_now {
        None => "just now".to_owned(),
        Some(why) => format!("{}: {why}", ago(now, found.received)),
    };
    let product = match &host.product {
        Some(product) => {
            let id = product.id.as_ref().map_or("not in the catalogue", String::as_str);
            format!("{} {} ({id})", product.name, product.version)
        }
        None => "unknown".to_owned(),
    };
    let history = if host.started { "a server has run from it" } else { "never started" };
    let mut server = host.server.clone();
    if let Some(since) = host.server_since {
        server.push_str(&format!(" since {}", local(since)));
    }
    if host.config_unread {
        server.push_str("; deployment.toml was changed since, so it runs with an earlier one");
    }
    let mut rows = vec![
        ("home", format!("{}, {history}", host.home)),
        ("product", product),
        ("server", server),
        ("offset", host.offset.map_or("deployment.toml cannot be read".to_owned(), |it| it.to_string())),
    ];
    rows.extend(host.files.iter().map(|file| {
        let is_store = host.keystores.contains(&file.path);
        (if is_store { "keystore" } else { "file" }, found_file(file))
    }));
    rows.push(("looked", looked));
    let mut out = super::facts(&rows, style);
    out.push_str(&format!("  next: convoy import {node} --out DIR makes a fleet directory of it\n"));
    out
}

fn found_file(file: &FoundFile) -> String {
    match file.modified {
        Some(modified) => format!(
            "{}: {}, mode {}, {}:{}, changed {}",
            file.path,
            bytes(file.size),
            file.mode,
            file.owner,
            file.group,
            local(modified)
        ),
        None => {
            let why = file.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            format!("{}: {}{why}", file.path, file.kind)
        }
    }
}
