//! API Manager 4.7's encryption key generator: it writes into deployment.toml before the server reads it.

use std::io::Write;
use std::path::Path;
use std::{fs, io};

use rand::RngExt;

/// Appends `[encryption]` with a random key unless the file has one, by temporary file and rename. What happened
/// is told in the text for standard error; the exit status is never looked at, so failures are told there too.
pub fn append_key(conf: &Path) -> String {
    let path = conf.join("deployment.toml");
    match try_append(&path) {
        Ok(true) => format!(
            "[WARNING]: A random encryption key has been created and added to deployment.toml at {}\n",
            path.display()
        ),
        Ok(false) => String::new(),
        Err(error) => format!("[ERROR]: Failed to add an encryption key to {}: {error}\n", path.display()),
    }
}

fn try_append(path: &Path) -> io::Result<bool> {
    if fs::symlink_metadata(path)?.file_type().is_symlink() {
        return Err(io::Error::other("the file is a symbolic link"));
    }
    let text = fs::read_to_string(path)?;
    let has_key = text.lines().any(|line| line.trim() == "[encryption]")
        || text.contains("org.wso2.CipherTransformation") && text.contains("RSA");
    if has_key {
        return Ok(false);
    }
    let key: [u8; 32] = rand::rng().random();
    let directory = path.parent().unwrap_or(Path::new("."));
    // A named temporary file is made with mode 0600, and the rename keeps that: so it is in the product.
    let mut staged = tempfile::NamedTempFile::new_in(directory)?;
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    write!(staged, "{text}{newline}\n[encryption]\nkey = \"{}\"\n", super::config::hex(&key))?;
    staged.as_file().sync_all()?;
    staged.persist(path).map_err(|error| error.error)?;
    Ok(true)
}
