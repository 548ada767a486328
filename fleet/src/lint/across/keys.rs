//! Key stores and the keys within: what one node encrypts or signs, the others must be able to read.

use super::{
    groups, same,
    server::{Server, Setting},
};
use crate::{bundle::HomePath, spec::report::Report};

pub(super) const SECURITY: &str = "repository/resources/security/";
const CODE: &str = "CV527";

pub(super) fn check(servers: &[Server<'_>], report: &mut Report) {
    for server in servers {
        passwords(server, report);
        only_tls(server, report);
        generated(server, report);
    }
    let apim: Vec<&Server<'_>> = servers.iter().filter(|server| server.is_apim()).collect();
    let identity = groups(servers).into_iter().filter(|group| group.iter().all(|server| !server.is_apim()));
    for cluster in std::iter::once(apim).chain(identity) {
        equal_keys(&cluster, report);
    }
}

fn equal_keys(cluster: &[&Server<'_>], report: &mut Report) {
    let why = "what one of them encrypts or signs, the other cannot read";
    let remedy = "give all of them the same store and key, in a layer or in files/GROUP";
    let cluster = || cluster.iter().copied();
    for store in ["primary", "internal"] {
        let file_key = format!("keystore.{store}.file_name");
        same(cluster(), (CODE, &file_key), |server| content(server, &file_key), (why, remedy), report);
        let alias = format!("keystore.{store}.alias");
        super::equal(cluster(), (CODE, &alias), (why, remedy), report);
    }
    super::equal(cluster(), (CODE, "encryption.key"), (why, remedy), report);
}

/// What is in the file, if the fleet directory brings it along.
fn content(server: &Server<'_>, key: &str) -> Setting {
    let Some(file) = server.text(key).known() else { return Setting::Unknown };
    let path = HomePath::parse(&format!("{SECURITY}{file}")).ok();
    let entry = path.and_then(|path| server.node.bundle.files.get(&path));
    entry.map_or(Setting::Unknown, |entry| Setting::Is(entry.digest.to_string()))
}

/// One file has one password.
fn passwords(server: &Server<'_>, report: &mut Report) {
    let of = |store: &str, part: &str| server.text(&format!("keystore.{store}.{part}")).known();
    for store in ["tls", "internal"] {
        let key = format!("keystore.{store}.password");
        let (file, primary_file) = (of(store, "file_name"), of("primary", "file_name"));
        let (password, primary) = (of(store, "password"), of("primary", "password"));
        if file.is_some()
            && file == primary_file
            && password.is_some()
            && primary.is_some()
            && password != primary
        {
            let what = format!("{key} is not that of keystore.primary, and both are the same file");
            let remedy =
                "one of the two cannot open it (\"Keystore was tampered with\"): set keystore.primary too";
            server.fail(report, ("CV526", &key), (what, remedy.to_owned()));
        }
    }
}

fn only_tls(server: &Server<'_>, report: &mut Report) {
    let of = |key: &str| server.text(key).known();
    let (tls, primary) = (of("keystore.tls.file_name"), of("keystore.primary.file_name"));
    let is_other = tls.is_some() && primary.is_some() && tls != primary;
    if is_other && !server.has("keystore.primary") && !server.has("keystore.internal") {
        let what = "only keystore.tls is set; the primary and internal stores stay the product's own, whose key everybody has";
        let remedy = "set keystore.primary (internal follows it) to a store of your own as well";
        server.warn(report, ("CV528", "keystore.tls.file_name"), (what.to_owned(), remedy.to_owned()));
    }
}

/// Since 4.7 the start script writes a random key where there is none, another on every node.
fn generated(server: &Server<'_>, report: &mut Report) {
    let is_new = server.family == super::server::Family::Apim && (4, 7) <= server.version;
    if is_new && server.typed.data.find("encryption.key").is_none() {
        let what = "without encryption.key the start script writes a random one into deployment.toml, another on every node";
        let remedy = "set [encryption] key = \"{{ secret('encryption.key') }}\" in a layer of all nodes";
        server.warn(report, ("CV548", "encryption.key"), (what.to_owned(), remedy.to_owned()));
    }
}
