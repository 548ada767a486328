//! Reads a fleet directory into memory: bounded, without dot-files, and without anything that a link reaches outside.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use fleet::{
    bundle::FILE_SIZE_MAX,
    spec::{SOURCES_MAX, SOURCES_SIZE_MAX, Sources},
};

use crate::exit::Failure;

/// How deep it may be nested.
const DEPTH_MAX: usize = 32;

/// Reads every file below `dir` that composition uses and that is not hidden.
///
/// # Errors
/// A missing directory or fleet.toml, a link that leaves the directory, a file that is neither file nor directory,
/// a name that is not UTF-8, or more than the bounds allow.
pub fn read(dir: &Path) -> Result<Sources, Failure> {
    let shown = dir.display();
    let root = fs::canonicalize(dir).map_err(|error| {
        Failure::failed(
            format!("cannot open the fleet directory {shown}"),
            "name the directory that holds fleet.toml",
        )
        .because(error)
    })?;
    if root.is_file() {
        let holds = |dir: &&Path| dir.join("fleet.toml").is_file();
        let above =
            dir.ancestors().skip(1).map(|it| if it.as_os_str().is_empty() { Path::new(".") } else { it });
        let example = above.take(DEPTH_MAX).find(holds).map(|dir| format!(", as in {}", dir.display()));
        return Err(Failure::failed(
            format!("{shown} is a file; a fleet is a directory"),
            format!("name the directory that holds fleet.toml{}", example.unwrap_or_default()),
        ));
    }
    if !root.join("fleet.toml").is_file() {
        return Err(Failure::failed(
            format!("{shown} holds no fleet.toml"),
            "name the directory that holds fleet.toml, or start one from examples/is-as-key-manager",
        ));
    }
    let mut sources = Sources::default();
    let mut total = 0;
    // Links are followed, so that a link to a file inside is content; each target is checked below.
    let walk = walkdir::WalkDir::new(&root).follow_links(true).max_depth(DEPTH_MAX).sort_by_file_name();
    let visible = |entry: &walkdir::DirEntry| entry.depth() == 0 || is_wanted(entry);
    for entry in walk.into_iter().filter_entry(visible) {
        let entry = entry.map_err(|error| walk_failure(error, &root))?;
        let path = entry.path();
        let relative = relative(path, &root)?;
        if entry.path_is_symlink() {
            stays_inside(path, &relative, &root)?;
        }
        if entry.file_type().is_dir() {
            continue;
        }
        if !Sources::wants(&relative) {
            continue;
        }
        let content = content(path, &relative, entry.file_type())?;
        total += content.len();
        sources.0.insert(relative, content);
        if SOURCES_MAX < sources.0.len() || SOURCES_SIZE_MAX < total {
            return Err(Failure::failed(
                format!("{shown} holds more than {SOURCES_MAX} files or {} MiB", SOURCES_SIZE_MAX >> 20),
                "keep only the fleet in this directory; hidden files and directories are skipped",
            ));
        }
    }
    Ok(sources)
}

/// A directory in Git holds more than the fleet. Names at the top decide, so that what is never used is never opened.
fn is_wanted(entry: &walkdir::DirEntry) -> bool {
    let name = entry.file_name();
    let is_hidden = name.as_encoded_bytes().starts_with(b".");
    let is_used =
        name.to_str().is_none_or(|name| Sources::wants(name) || Sources::wants(&format!("{name}/x.toml")));
    !is_hidden && (is_used || 1 < entry.depth())
}

fn walk_failure(error: walkdir::Error, root: &Path) -> Failure {
    let path = error.path().map_or_else(PathBuf::new, Path::to_owned);
    let path = path.strip_prefix(root).unwrap_or(&path).display().to_string();
    if error.loop_ancestor().is_some() {
        return Failure::failed(format!("{path} is a link to a directory above it"), "remove the link");
    }
    Failure::failed(format!("cannot read {path}"), "make it readable, or hide it by a leading dot").because(
        error.into_io_error().unwrap_or_else(|| io::Error::other("the directory changed while it was read")),
    )
}

fn relative(path: &Path, root: &Path) -> Result<String, Failure> {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Option<Vec<&str>> = below.components().map(|part| part.as_os_str().to_str()).collect();
    let parts = parts.ok_or_else(|| {
        Failure::failed(format!("the name {} is not UTF-8", below.display()), "rename the file")
    })?;
    Ok(parts.join("/"))
}

fn stays_inside(path: &Path, relative: &str, root: &Path) -> Result<(), Failure> {
    let target = fs::canonicalize(path).map_err(|error| {
        Failure::failed(format!("{relative} is a link to nothing"), "remove the link").because(error)
    })?;
    if target.starts_with(root) {
        return Ok(());
    }
    Err(Failure::failed(
        format!("{relative} is a link that leaves the fleet directory"),
        "copy the file into the directory; what is applied must be what the directory holds",
    ))
}

fn content(path: &Path, relative: &str, kind: fs::FileType) -> Result<Vec<u8>, Failure> {
    if !kind.is_file() {
        return Err(Failure::failed(format!("{relative} is neither a file nor a directory"), "remove it"));
    }
    let unreadable = |error: io::Error| {
        Failure::failed(format!("cannot read {relative}"), "make it readable, or hide it by a leading dot")
            .because(error)
    };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut content = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits, even while it grows.
    file.take(FILE_SIZE_MAX + 1).read_to_end(&mut content).map_err(unreadable)?;
    if FILE_SIZE_MAX < content.len() as u64 {
        return Err(Failure::failed(
            format!("{relative} is larger than {} MiB", FILE_SIZE_MAX >> 20),
            "Convoy carries configuration, keystores and small jars; deliver larger files with the pack",
        ));
    }
    Ok(content)
}

#[cfg(test)]
mod tests;
