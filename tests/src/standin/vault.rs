//! The keystore password's files in the home, which the server uses up as it starts.

use std::path::Path;
use std::{fs, io};

/// Why the password cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("Error renaming Password config File")]
    Rename(#[source] io::Error),
    #[error("Error deleting Password config File")]
    Delete(#[source] io::Error),
}

/// Looks for the password in the product's order; `false` if there is none. `password` serves this launch and one
/// more, `password-tmp` this one only, `password-persist` all. `keep` (`-Dpersist.password=true`) leaves them all.
pub fn take_password(home: &Path, keep: bool) -> Result<bool, VaultError> {
    let (first, last) = (home.join("password"), home.join("password-tmp"));
    if first.is_file() {
        if !keep {
            fs::rename(first, last).map_err(VaultError::Rename)?;
        }
        return Ok(true);
    }
    if last.is_file() {
        if !keep {
            // Overwritten before it goes, so that the text does not stay on the disk.
            fs::write(&last, "!@#$%^&*()SDFGHJZXCVBNM").map_err(VaultError::Delete)?;
            fs::remove_file(last).map_err(VaultError::Delete)?;
        }
        return Ok(true);
    }
    Ok(home.join("password-persist").is_file())
}
