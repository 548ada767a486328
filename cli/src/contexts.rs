//! Named contexts: `contexts/NAME.toml` in the configuration directory, and which of them is in use. A context holds a
//! private key, so its file is for its owner only.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    context::Context,
    exit::{Exit, Failure},
    request::{ContextAct, ContextName},
    screen::Screen,
    text::{Cell, Style, Table, Tone, local},
    view::When,
};

/// The name that stands for `context.toml`, the file of those who have one fleet.
const DEFAULT: &str = "default";

/// Where contexts are kept.
pub struct Contexts {
    dir: PathBuf,
}

impl Contexts {
    /// Those of whoever runs this.
    pub fn own() -> Self {
        let config = env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let config = config.unwrap_or_else(|| env::home_dir().unwrap_or_default().join(".config"));
        Self { dir: config.join("convoy") }
    }

    /// Those below a directory.
    #[cfg(test)]
    pub fn below(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The file to read: as typed, a path or a name, else the one in use.
    pub fn path(&self, typed: Option<&Path>) -> PathBuf {
        let Some(typed) = typed else { return self.file(self.current().as_ref()) };
        let name = typed.to_str().and_then(ContextName::parse).filter(|_| !typed.exists());
        match name {
            Some(name) if self.file(Some(&name)).exists() => self.file(Some(&name)),
            Some(_) | None => typed.to_owned(),
        }
    }

    /// The context in use; `None`: `context.toml`.
    pub fn current(&self) -> Option<ContextName> {
        let text = fs::read_to_string(self.dir.join("current")).ok()?;
        ContextName::parse(text.trim()).filter(|name| name.as_str() != DEFAULT)
    }

    /// The file of a context.
    pub fn file(&self, name: Option<&ContextName>) -> PathBuf {
        match name.filter(|name| name.as_str() != DEFAULT) {
            Some(name) => self.dir.join("contexts").join(format!("{name}.toml")),
            None => self.dir.join("context.toml"),
        }
    }

    /// What was seen of a coordinator.
    pub fn seen(&self, file: &str) -> PathBuf {
        self.dir.join("seen").join(file)
    }

    /// Makes a context the one in use.
    pub fn make_current(&self, name: &ContextName) -> io::Result<()> {
        write_private(&self.dir.join("current"), format!("{name}\n").as_bytes())
    }

    /// Every context that there is.
    fn names(&self) -> Vec<ContextName> {
        let default = ContextName::parse(DEFAULT).filter(|_| self.file(None).exists());
        let found = fs::read_dir(self.dir.join("contexts")).into_iter().flatten().filter_map(Result::ok);
        let mut names: Vec<ContextName> = found
            .filter_map(|entry| ContextName::parse(entry.file_name().to_str()?.strip_suffix(".toml")?))
            .collect();
        names.extend(default);
        names.sort();
        names
    }

    /// Whether anything is there to be used.
    pub fn is_empty(&self) -> bool {
        self.names().is_empty()
    }
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// It cannot be written; what was there before is untouched.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    create_private_dir(dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let staged = dir.join(format!(".{name}.{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&staged).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&staged, path)
    });
    if written.is_err() {
        // The first failure is the one to tell of.
        drop(fs::remove_file(&staged));
    }
    written
}

/// Makes a directory that only its owner may enter, and those above it.
///
/// # Errors
/// Whatever the file system says.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// One line of `context list`.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    current: bool,
    fleet: Option<String>,
    operator: Option<String>,
    address: Option<String>,
    expires: Option<When>,
    /// Why it cannot be used.
    problem: Option<String>,
}

impl Listed {
    fn read(contexts: &Contexts, name: &ContextName, current: &str) -> Self {
        let path = contexts.file(Some(name));
        let (context, problem) = match Context::read(&path) {
            Ok(context) => (Some(context), Context::exposed(&path).map(|failure| failure.what)),
            Err(failure) => (None, Some(failure.what)),
        };
        let context = context.as_ref();
        Self {
            name: name.to_string(),
            current: name.as_str() == current,
            fleet: context.map(|context| context.fleet.clone()),
            operator: context.and_then(|context| context.operator.clone()),
            address: context.map(|context| context.host_and_port().to_owned()),
            expires: context.and_then(Context::expires),
            problem,
        }
    }
}

/// `context list` and `context use`.
///
/// # Errors
/// There is no such context, or it cannot be made the one in use.
pub fn execute(act: &ContextAct, contexts: &Contexts, screen: &mut Screen) -> Result<Exit, Failure> {
    let current = contexts.current();
    let current = current.as_ref().map_or(DEFAULT, ContextName::as_str);
    match act {
        ContextAct::List => {
            let names = contexts.names();
            let listed: Vec<Listed> =
                names.iter().map(|name| Listed::read(contexts, name, current)).collect();
            screen.programs(&listed);
            let text = table(&listed, crate::wait::style(screen));
            screen.people(&text);
        }
        ContextAct::Use { name } => {
            let path = contexts.file(Some(name));
            let context = Context::read(&path).map_err(|failure| Failure {
                remedy: format!("`convoy context list` shows the names; {}", failure.remedy),
                ..failure
            })?;
            contexts.make_current(name).map_err(|error| {
                Failure::failed(
                    "cannot note which context is in use",
                    "make the directory of the contexts writable",
                )
                .because(error)
            })?;
            let who = context.operator.as_deref().unwrap_or("an operator");
            screen.programs(&Listed::read(contexts, name, name.as_str()));
            screen.people(&format!("{name} is in use: {who} of {}\n", context.fleet));
        }
    }
    Ok(Exit::Done)
}

fn table(listed: &[Listed], style: Style) -> String {
    if listed.is_empty() {
        return "no contexts; `convoy join TOKEN` makes one\n".to_owned();
    }
    let mut table = Table::headed(["", "CONTEXT", "FLEET", "OPERATOR", "COORDINATOR", "ENDS"]);
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for one in listed {
        let ends = one.expires.map_or_else(|| "-".to_owned(), day);
        table.row([
            Cell::plain(if one.current { "*" } else { "" }),
            Cell::plain(&one.name),
            Cell::plain(or_dash(&one.fleet)),
            Cell::plain(or_dash(&one.operator)),
            Cell::plain(or_dash(&one.address)),
            Cell::plain(ends),
        ]);
    }
    let mut text = table.render(style);
    for one in listed {
        if let Some(problem) = &one.problem {
            text.push_str(&style.paint(Tone::Bad, &format!("{}: {problem}\n", one.name)));
        }
    }
    text
}

/// `2027-01-15`.
pub fn day(time: When) -> String {
    local(time).split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContextName {
        ContextName::parse(text).unwrap()
    }

    #[test]
    fn a_context_is_found_by_path_by_name_or_by_use() {
        let dir = tempfile::tempdir().unwrap();
        let contexts = Contexts::below(dir.path());
        assert_eq!(contexts.path(None), dir.path().join("context.toml"));
        let acme = dir.path().join("contexts/acme.toml");
        write_private(&acme, b"x").unwrap();
        assert_eq!(contexts.path(Some(Path::new("acme"))), acme);
        assert_eq!(contexts.path(Some(Path::new("other"))), Path::new("other"));
        assert_eq!(contexts.path(Some(Path::new("./acme"))), Path::new("./acme"));
        contexts.make_current(&name("acme")).unwrap();
        assert_eq!((contexts.current(), contexts.path(None)), (Some(name("acme")), acme));
        contexts.make_current(&name("default")).unwrap();
        assert_eq!(contexts.path(None), dir.path().join("context.toml"));
        for bad in ["", ".x", "../x", "a/b", "a b"] {
            assert_eq!(ContextName::parse(bad), None, "{bad}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_holds_a_key_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("contexts/acme.toml");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing staged is left");
    }
}
