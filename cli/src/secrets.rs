//! Files with the values of secrets, `name = "value"` per line in TOML: what `import` writes, `secret set --from`
//! loads and `lint --secrets-file` reads. For their owner only, and never in a fleet directory.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::Path,
};

use fleet::spec::{SECRET_SIZE_MAX, Secret, SecretName};

use crate::{exit::Failure, screen::Screen};

/// Writes a new file that only its owner can read.
///
/// # Errors
/// If there is one already, or it cannot be written.
pub fn write(path: &Path, secrets: &BTreeMap<SecretName, Secret>) -> Result<(), Failure> {
    let shown = path.display();
    let mut text = String::from(
        "# Values of secret(). Load them with: convoy secret set --from FILE. Then remove this file.\n",
    );
    for (name, value) in secrets {
        let value = toml::Value::String(value.expose().to_owned());
        text.push_str(&format!("\"{name}\" = {value}\n"));
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::failed(
            format!("{shown} is there already"),
            "name a new file; secrets are never overwritten",
        ),
        _ => {
            Failure::failed(format!("cannot write {shown}"), "name a file that can be written").because(error)
        }
    })
}

/// Reads a file of secrets.
///
/// # Errors
/// If others may read it, or it is not such a file. Never quotes its content.
pub fn read(path: &Path) -> Result<BTreeMap<SecretName, Secret>, Failure> {
    let shown = path.display();
    let unreadable =
        |error| Failure::failed(format!("cannot read {shown}"), "name a file of secrets").because(error);
    #[cfg(unix)]
    {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).map_err(unreadable)?.permissions());
        if mode & 0o077 != 0 {
            return Err(Failure::failed(
                format!("{shown} can be read by others"),
                format!("it holds secrets: chmod 600 {shown}"),
            ));
        }
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let wrong = |what: String| {
        Failure::failed(
            format!("{shown}: {what}"),
            "write one line per secret: \"super_admin.password\" = \"...\"",
        )
    };
    let table: BTreeMap<String, String> = toml::from_str(&text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        wrong(format!("line {line} is not a secret: {}", error.message()))
    })?;
    let mut secrets = BTreeMap::new();
    for (name, value) in table {
        secrets.insert(parse(&name)?, checked(&name, value)?);
    }
    Ok(secrets)
}

/// A value from standard input, without the line break at its end.
///
/// # Errors
/// If a person sits there, whose screen would show it, or nothing comes.
pub fn typed(screen: &mut Screen, name: &SecretName) -> Result<Secret, Failure> {
    if screen.terminal.can_ask {
        return Err(Failure::usage(
            format!("the value of {name} is read from standard input, and a terminal would show it"),
            format!("pipe it in: convoy secret set {name} < FILE"),
        ));
    }
    let text = screen.input(SECRET_SIZE_MAX + 2);
    let text =
        text.map_err(|error| Failure::failed("cannot read the value", "pipe text in").because(error))?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    checked(name.as_str(), value.strip_suffix('\r').unwrap_or(value).to_owned())
}

/// The name of a secret as typed.
///
/// # Errors
/// Says what names may hold.
pub fn parse(name: &str) -> Result<SecretName, Failure> {
    SecretName::parse(name)
        .map_err(|error| Failure::usage(error.to_string(), "for example super_admin.password"))
}

/// A value within its bounds.
///
/// # Errors
/// If it is empty or too long.
pub fn checked(name: &str, value: String) -> Result<Secret, Failure> {
    if value.is_empty() || SECRET_SIZE_MAX < value.len() {
        return Err(Failure::usage(
            format!("the value of {name} has {} bytes, and 1 to {SECRET_SIZE_MAX} are possible", value.len()),
            "to have none, write \"\" in the layer instead of secret()",
        ));
    }
    Ok(Secret::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_back_and_is_for_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let name = SecretName::parse("a.b").unwrap();
        let secrets = BTreeMap::from([(name, Secret::new("x\"'\n\\y"))]);
        write(&path, &secrets).unwrap();
        assert_eq!(read(&path).unwrap(), secrets);
        #[cfg(unix)]
        {
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
            let failure = read(&path).unwrap_err();
            assert!(failure.remedy.contains("chmod 600"), "{failure}");
        }
    }

    #[test]
    fn a_broken_file_never_shows_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        write(&path, &BTreeMap::new()).unwrap();
        fs::write(&path, "a = \"fine\"\nb = \"tell-nobody\n").unwrap();
        let failure = read(&path).unwrap_err();
        assert!(
            failure.what.contains("line 2") && !format!("{failure:?}").contains("tell-nobody"),
            "{failure}"
        );
    }
}
