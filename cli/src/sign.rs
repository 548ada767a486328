//! Signatures of revisions (ADR 0092). Keys stay with the programs that people keep them with: `ssh-keygen` and `minisign`
//! make the signature, and ask for a passphrase if there is one.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _},
    path::Path,
    process::{Output, Stdio},
};

use fleet::{
    foreign::printable,
    ids::{Digest, FleetName, Revision},
    signature::{NAMESPACE, SIGNATURE_MAX, Signable},
    spec::Sources,
};
use tokio::process::Command;

use crate::{
    exit::Failure,
    pack::GivenPack,
    request::{Only, Sign},
    view,
};

/// The first words of a file with a minisign key.
const MINISIGN: &[u8] = b"untrusted comment:";

/// What is signed for an apply, on the revision that its plan was drawn against unless another one is named.
///
/// # Errors
/// The coordinator is too old, or the directory names no fleet.
pub fn statement(
    plan: &view::Plan,
    parent: Option<u64>,
    (files, packs, only): (&Sources, &[GivenPack], &Only),
) -> Result<String, Failure> {
    let epoch = plan.fleet_epoch.ok_or_else(|| {
        Failure::failed(
            "this coordinator takes no signatures",
            "it is of an earlier version; upgrade it, then try again",
        )
    })?;
    let fleet = fleet_of(files).ok_or_else(|| {
        Failure::failed("fleet.toml does not name the fleet", "`convoy lint DIR` names the place; repair it")
    })?;
    let (nodes, groups): (BTreeSet<_>, BTreeSet<_>) =
        (only.nodes.iter().cloned().collect(), only.groups.iter().cloned().collect());
    let mut digests = BTreeMap::new();
    for pack in packs {
        let digest = Digest::of(&pack.content);
        digests.extend(pack.products.iter().map(|product| (product.clone(), digest)));
    }
    let signable = Signable {
        fleet: &fleet,
        epoch,
        parent: Revision(parent.unwrap_or(plan.base_revision)),
        nodes: &nodes,
        groups: &groups,
        packs: &digests,
        sources: files,
    };
    Ok(signable.statement())
}

/// `name` of fleet.toml.
fn fleet_of(files: &Sources) -> Option<FleetName> {
    let text = std::str::from_utf8(files.0.get("fleet.toml")?).ok()?;
    let table: toml::Table = toml::from_str(text).ok()?;
    FleetName::parse(table.get("name")?.as_str()?).ok()
}

/// What has to be done for a signature; `ssh-keygen` says it at a terminal only, and its words are kept for failures.
pub fn hint(sign: &Sign) -> &'static str {
    let Sign::Key(key) = sign else { return "" };
    // The key itself says it too, but not in words.
    let mut public = key.clone().into_os_string();
    public.push(".pub");
    let is_on_token = |file: &Path| read(file, SIGNATURE_MAX).is_ok_and(|text| text.starts_with("sk-"));
    if is_on_token(key) || is_on_token(Path::new(&public)) {
        "The key is on a security token: touch it when it blinks.\n"
    } else {
        ""
    }
}

/// The signature of a statement.
///
/// # Errors
/// The program that has the key is not there or fails, or there is no such file.
pub async fn signature(sign: &Sign, statement: &str) -> Result<String, Failure> {
    match sign {
        Sign::Key(key) => made_with(key, statement).await,
        Sign::File(file) => made_elsewhere(file),
    }
}

fn made_elsewhere(file: &Path) -> Result<String, Failure> {
    let unreadable = |error| {
        let what = format!("cannot read the signature in {}", file.display());
        Failure::failed(what, "name the file that ssh-keygen or minisign wrote").because(error)
    };
    read(file, SIGNATURE_MAX).map_err(unreadable)
}

/// A text file of at most so many bytes.
fn read(file: &Path, most: usize) -> io::Result<String> {
    let mut text = String::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    fs::File::open(file)?.take(limit).read_to_string(&mut text)?;
    if most < text.len() {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(text)
}

async fn made_with(key: &Path, statement: &str) -> Result<String, Failure> {
    let beside = |error| {
        Failure::failed("cannot write what is to be signed into a temporary directory", "make room there")
            .because(error)
    };
    let dir = tempfile::tempdir().map_err(beside)?;
    let file = dir.path().join("revision");
    fs::write(&file, statement).map_err(beside)?;
    let kind = kind_of(key)?;
    let (mut command, signature, program) = match kind {
        Kind::Ssh => {
            let mut command = Command::new("ssh-keygen");
            command.args(["-Y", "sign", "-n", NAMESPACE, "-f"]).arg(key).arg(&file);
            (command, dir.path().join("revision.sig"), "ssh-keygen")
        }
        Kind::Minisign => {
            let signature = dir.path().join("revision.minisig");
            let mut command = Command::new("minisign");
            command.arg("-S").arg("-s").arg(key).arg("-m").arg(&file).arg("-x").arg(&signature);
            (command, signature, "minisign")
        }
    };
    // Either asks for a passphrase at the terminal.
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| unstarted(program, error))?;
    if !output.status.success() {
        return Err(failed(program, key, &output));
    }
    read(&signature, SIGNATURE_MAX).map_err(|error| {
        Failure::failed(format!("{program} wrote no signature"), "sign by hand: see `convoy plan --to-sign`")
            .because(error)
    })
}

/// Who signs with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ssh,
    Minisign,
}

fn kind_of(key: &Path) -> Result<Kind, Failure> {
    let unreadable = |error| {
        let what = format!("cannot read the key {}", key.display());
        Failure::failed(
            what,
            "name the file with the key, or with the public key of one that an SSH agent holds",
        )
        .because(error)
    };
    let mut first = Vec::new();
    let file = fs::File::open(key).map_err(unreadable)?;
    file.take(MINISIGN.len() as u64).read_to_end(&mut first).map_err(unreadable)?;
    Ok(if first == MINISIGN { Kind::Minisign } else { Kind::Ssh })
}

fn unstarted(program: &str, error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::failed(
            format!("the program {program} was not found"),
            format!("install {program}, or sign elsewhere: see `convoy plan --to-sign`"),
        ),
        _ => Failure::failed(format!("{program} cannot be run"), "").because(error),
    }
}

fn failed(program: &str, key: &Path, output: &Output) -> Failure {
    let said = String::from_utf8_lossy(&output.stderr);
    // What went wrong comes last; before it stands what it was about to do.
    let said =
        said.lines().rev().find(|line| !line.trim().is_empty()).map(|line| printable(line).into_owned());
    let said = said.map(|line| format!(": {line}")).unwrap_or_default();
    Failure::failed(
        format!("{program} did not sign with {}{said}", key.display()),
        "check the key and its passphrase; nothing was applied",
    )
}
