//! `token create --all-missing`: one file with a join token for each node of a fleet directory that has no certificate.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use fleet::{
    ids::{FleetName, NodeName},
    spec::{Absent, Secrets, compose_with},
};

use crate::{
    Session,
    client::tokens::MadeToken,
    contexts::create_private_dir,
    directory,
    exit::{Exit, Failure},
    render,
    request::MissingTokens,
    screen::Format,
    view::{TokenFile, TokenFiles},
};

/// Nodes of one call to the coordinator.
const CALL_NODES: usize = 500;

/// Asks who has no certificate, makes sure that none of their files is there already, then makes tokens and files.
///
/// # Errors
/// Nothing is made then, unless the failure says what is.
pub async fn execute(request: &MissingTokens, session: &mut Session) -> Result<Exit, Failure> {
    let (fleet, nodes) = nodes_of(&request.dir)?;
    let mut missing = Vec::new();
    for part in nodes.chunks(CALL_NODES) {
        missing.extend(session.client.nodes_without_certificate(&fleet, part).await?);
    }
    refuse_existing(&request.out, &missing)?;
    let mut made = TokenFiles { nodes: nodes.len(), files: Vec::new() };
    if !missing.is_empty() {
        create_private_dir(&request.out).map_err(|error| unwritable(&request.out, error))?;
    }
    for part in missing.chunks(CALL_NODES) {
        for token in session.client.create_tokens(&fleet, part, request.valid).await? {
            made.files.push(write(&request.out, &token, made.files.len())?);
        }
    }
    session.screen.programs(&made);
    if session.screen.format == Format::People {
        session.screen.say(&render::token_files(&made, &request.out));
    }
    Ok(Exit::Done)
}

/// The fleet that a directory is of, and its nodes.
fn nodes_of(dir: &Path) -> Result<(FleetName, Vec<NodeName>), Failure> {
    let sources = directory::read(dir)?;
    // Values of secrets have nothing to do with which nodes there are.
    let composed = compose_with(&sources, &Secrets::new(BTreeMap::new(), Absent::Placeholder)).fleet;
    let shown = dir.display();
    let fleet = composed.ok_or_else(|| {
        let remedy = format!("see `convoy lint {shown}`, and correct them first; no token was made");
        Failure::failed(format!("{shown} has errors"), remedy)
    })?;
    Ok((fleet.name, fleet.nodes.into_keys().collect()))
}

fn path_of(out: &Path, node: &NodeName) -> PathBuf {
    out.join(node.as_str())
}

/// Somebody may be about to use what is in such a file.
fn refuse_existing(out: &Path, missing: &[NodeName]) -> Result<(), Failure> {
    let path = missing.iter().map(|node| path_of(out, node)).find(|path| path.symlink_metadata().is_ok());
    match path {
        None => Ok(()),
        Some(path) => Err(Failure::refused(
            format!("{} is there already", path.display()),
            "name another directory, or remove what is not needed any more; no token was made",
        )),
    }
}

fn write(out: &Path, token: &MadeToken, written: usize) -> Result<TokenFile, Failure> {
    let path = path_of(out, &token.node);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let outcome = options.open(&path).and_then(|mut file| writeln!(file, "{}", token.text));
    match outcome {
        Ok(()) => Ok(TokenFile {
            node: token.node.to_string(),
            path: path.display().to_string(),
            expires: token.expires,
        }),
        Err(error) => {
            let mut failure = unwritable(&path, error);
            if 0 < written {
                failure.remedy = format!(
                    "{written} files in {} are good; make room, then type the same with another directory",
                    out.display()
                );
            }
            Err(failure)
        }
    }
}

fn unwritable(path: &Path, error: io::Error) -> Failure {
    Failure::failed(format!("cannot write {}", path.display()), "name a directory that can be written")
        .because(error)
}
