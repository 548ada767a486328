//! A support bundle holds what helps, and no secret: canaries of every kind are planted, and the unpacked archive is looked
//! through.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{LIMIT, Operator, until};
use rawzip::ZipArchive;
use serde_json::Value;

use crate::{
    canary::{self, CANARY},
    four_eyes::joined,
    small::{Small, ensure_holds},
};

/// The text of every file in an archive.
fn unpacked(path: &Path) -> Result<BTreeMap<String, String>> {
    let bytes = fs::read(path)?;
    let archive = ZipArchive::from_slice(&bytes)?;
    let mut files = BTreeMap::new();
    for entry in archive.entries() {
        let entry = entry?;
        let name = entry.file_path().try_normalize()?.as_ref().to_owned();
        let part = archive.get_entry(entry.wayfinder())?;
        let mut text = String::new();
        flate2::read::DeflateDecoder::new(part.data()).read_to_string(&mut text)?;
        files.insert(name, text);
    }
    Ok(files)
}

/// Channels of alerts whose addresses and passwords are canaries, and that take nothing.
fn channels(small: &Small) -> Result<String> {
    for (name, text) in [
        ("secret", "C4NARY-webhook-secret"),
        ("url", "http://127.0.0.1:9/services/C4NARY-slack"),
        ("password", "C4NARY-mail-password"),
    ] {
        let path = small.site.path(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    }
    let at = |name: &str| small.site.path(name).display().to_string();
    Ok(format!(
        "\n[alerts.channels.hook]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/x\"\nsecret_file = {:?}\n\
         [alerts.channels.chat]\nkind = \"slack\"\nurl_file = {:?}\n\
         [alerts.channels.mail]\nkind = \"mail\"\nserver = \"127.0.0.1:9\"\ntls = \"starttls\"\nfrom = \"c@example.org\"\n\
         to = [\"o@example.org\"]\nuser = \"c\"\npassword_file = {:?}\n",
        at("secret"),
        at("url"),
        at("password")
    ))
}

fn append(path: &Path, text: &str) -> Result<()> {
    Ok(OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())?)
}

/// A keystore of the fleet directory with a password of its own, which only a layer has; what it holds.
fn add_keystore(small: &Small) -> Result<Vec<u8>> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["is.example.org".to_owned()])?.self_signed(&key)?;
    let certificate = p12_keystore::Certificate::from_der(certificate.der())?;
    let private = p12_keystore::PrivateKey::from_der(&key.serialize_der())?;
    let chain = p12_keystore::PrivateKeyChain::new("internal", private, [certificate]);
    let mut store = p12_keystore::KeyStore::new();
    store.add_entry("internal", p12_keystore::KeyStoreEntry::PrivateKeyChain(chain));
    let bytes = store.writer("C4NARY-keystore").write()?;
    let folder = small.site.path("fleet/files/key-manager/repository/resources/security");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("internal.p12"), &bytes)?;
    let layer = small.fleet.read("config/common.toml")?;
    let table = "\n[keystore.internal]\nfile_name = \"internal.p12\"\ntype = \"PKCS12\"\npassword = \"C4NARY-keystore\"\n\
                 alias = \"internal\"\nkey_password = \"C4NARY-keystore\"\n";
    small.fleet.write("config/common.toml", layer + table)?;
    Ok(bytes)
}

/// What is in files that no bundle may hold: lines of keys, and tokens.
fn others(small: &Small, tokens: Vec<String>) -> Result<Vec<String>> {
    let context = fs::read_to_string(small.site.coordinator.context())?;
    let mut lines: Vec<String> = context.lines().map(str::to_owned).collect();
    let mut folders = vec![small.site.coordinator.data_dir()];
    folders.extend(small.site.agents.iter().map(convoy_tests::harness::Agent::data_dir));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path)
                && text.contains("PRIVATE KEY")
            {
                lines.extend(text.lines().map(str::to_owned));
            }
        }
    }
    // The long lines of PEM blocks; certificates are no secrets, but nobody needs them either.
    lines.retain(|line| 60 <= line.len() && !line.contains(' '));
    ensure!(4 < lines.len(), "no keys were found");
    Ok(lines.into_iter().chain(tokens).collect())
}

/// Makes a bundle as somebody, and unpacks it.
async fn bundle(
    operator: &Operator,
    path: &Path,
    more: &[&str],
) -> Result<(Value, BTreeMap<String, String>)> {
    let out = path.to_str().context("a path")?;
    let manifest = operator.json([&["support-bundle", "--out", out], more].concat()).await?;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "others may read it: {mode:o}");
    Ok((manifest, unpacked(path)?))
}

#[tokio::test]
async fn a_support_bundle_holds_what_helps_and_no_secret() -> Result<()> {
    let mut small = canary::open().await?;
    let settings = channels(&small)?;
    small.site.coordinator.kill().await?;
    small.site.coordinator.add_settings(&settings)?;
    small.site.coordinator.restart().await?;
    let keystore = add_keystore(&small)?;
    small.apply().await?;
    let on_host = small.packs[0].home.join("repository/resources/security/internal.p12");
    ensure!(fs::read(on_host)? == keystore, "the keystore is on the host");
    small.ready("is-1").await?;
    let operator = small.site.operator();
    let token = operator.json(["token", "create", "--node", "is-3"]).await?;
    let token = token["token"].as_str().context("a token")?.to_owned();
    let joining = operator.json(["operator", "add", "dave", "--role", "viewer"]).await?;
    let joining = joining["token"].as_str().context("a token")?.to_owned();
    operator.done(["drift", "pause", "is-2", "--for", "1h", "--reason", "password=C4NARY-reason"]).await?;
    // What a careless server logs: the fleet's passwords, others under their names, and what tells something.
    let careless = "login of admin/C4NARY-typed-first failed\nurl=jdbc:mysql://u:C4NARY-in-url@db/x\n\
                    password = C4NARY-in-log\nthe pool is exhausted\n";
    append(&small.packs[0].home.join("repository/logs/wso2carbon.log"), careless)?;
    append(&small.site.agents[0].data_dir().join("console/server.log"), careless)?;
    // What is said of a channel that takes nothing goes into the audit, and what it owes into its state.
    for channel in ["hook", "chat", "mail"] {
        let tested = operator.run(["alert", "test", channel]).await?;
        ensure!(tested.code == 1, "{tested:?}");
    }
    small.site.agents[1].kill().await?;
    // An edit that is restored is an alert at once.
    let edited = small.config_text(0)? + "\n[database.other_db]\npassword = \"C4NARY-edit\"\n";
    fs::write(small.config(0), edited)?;
    until("the channels to fail", LIMIT, async || {
        let shown = operator.json(["alert", "list"]).await?;
        let channels = shown["channels"].as_array().context("channels")?;
        let failing = channels.iter().filter(|channel| channel["delivery"]["state"] == "failing").count();
        Ok((failing == 3).then_some(()))
    })
    .await?;

    let path = small.site.path("bundle.zip");
    let (manifest, files) = bundle(&operator, &path, &["--node", "is-1,is-2"]).await?;
    println!("{} files: {:?}", files.len(), files.keys().collect::<Vec<_>>());
    let mut forbidden = others(&small, vec![token, joining])?;
    forbidden.push(CANARY.to_owned());
    // A keystore is no text; a piece of it would be in no other file.
    let piece = keystore.get(keystore.len() / 2..).and_then(|rest| rest.get(..8)).context("a keystore")?;
    for (name, text) in &files {
        ensure!(!text.as_bytes().windows(8).any(|window| window == piece), "{name} holds the keystore");
        for secret in &forbidden {
            if let Some(at) = text.find(secret.as_str()) {
                let around: String =
                    text[..at].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
                anyhow::bail!("{name} shows a secret, after: {around}");
            }
        }
    }
    // It is no empty bundle.
    for (name, wanted) in [
        ("manifest.json", "nodes/is-1/carbon.log"),
        ("versions.json", "\"convoy\""),
        ("status.json", "key-manager"),
        ("events.jsonl", "\"applied\""),
        ("audit.jsonl", "applied revision 1"),
        ("rollouts.json", "\"done\""),
        ("revisions.json", "\"number\": 1"),
        ("alerts.json", "drift-restored"),
        ("fleet/fleet.toml", "[groups.key-manager]"),
        ("fleet/config/common.toml", "first.example.org"),
        ("nodes/is-1/repository/conf/deployment.toml", "first.example.org"),
        ("nodes/is-1/node.json", "is-1"),
        ("nodes/is-1/carbon.log", "login of admin/******** failed"),
        ("nodes/is-1/console.log", "the pool is exhausted"),
        ("nodes/is-1/agent.log", "TRACE"),
    ] {
        let text = files.get(name).with_context(|| format!("{name} is not in {:?}", files.keys()))?;
        ensure!(text.contains(wanted), "{name} lacks {wanted:?}:\n{text}");
    }
    let left_out = manifest["left_out"].to_string();
    ensure_holds(&left_out, &["internal.p12"])?;
    ensure_holds(&left_out, &["logs of is-2", "its agent is not connected"])?;

    let again = operator.run(["support-bundle", "--out", path.to_str().context("a path")?]).await?;
    ensure!(again.code == 3 && again.said.contains("is there already"), "{again:?}");

    // A viewer gets all but logs, and it says so.
    let carol = joined(&small, "carol", "viewer").await?;
    let (manifest, files) = bundle(&carol, &small.site.path("viewer.zip"), &["--node", "is-1"]).await?;
    ensure!(files.contains_key("events.jsonl") && files.contains_key("nodes/is-1/node.json"), "{files:?}");
    ensure!(!files.keys().any(|name| name.ends_with(".log")), "{:?}", files.keys());
    ensure_holds(&manifest["left_out"].to_string(), &["logs of is-1", "carol"])?;
    Ok(())
}
