//! The context file: which coordinator to talk to, whom to trust, and who we are. The coordinator writes it at its
//! first start; it holds a private key, so it is 0600.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::exit::Failure;

/// A context file as written by the coordinator.
#[derive(Clone, Deserialize)]
pub struct Context {
    /// `host:port` of the coordinator.
    pub address: String,
    /// The fleet's name, for people.
    pub fleet: String,
    /// The name that the coordinator's certificate must carry; the host of `address` if absent.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Every root to trust.
    pub authority_pem: String,
    /// The operator's certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl Context {
    /// The file to read: as typed, else in the home directory.
    pub fn path(typed: Option<&Path>) -> PathBuf {
        if let Some(path) = typed {
            return path.to_owned();
        }
        let config = env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let config = config.unwrap_or_else(|| env::home_dir().unwrap_or_default().join(".config"));
        config.join("convoy/context.toml")
    }

    /// Reads a context file.
    ///
    /// # Errors
    /// Says which file is missing or wrong, and where contexts come from.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::failed(
                format!("cannot read the context file {shown}"),
                "copy operator/context.toml from the coordinator's data directory, and name it with --context or CONVOY_CONTEXT",
            )
            .because(error)
        })?;
        toml::from_str(&text).map_err(|error| {
            // The message quotes no line: the file holds a private key.
            Failure::failed(
                format!("{shown} is not a context file: {}", error.message()),
                "copy operator/context.toml from the coordinator's data directory again",
            )
        })
    }

    /// The URI to dial.
    pub fn uri(&self) -> String {
        format!("https://{}", self.host_and_port())
    }

    /// The name that the coordinator's certificate must carry.
    pub fn expected_name(&self) -> &str {
        let host = || {
            let address = self.host_and_port();
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            host.trim_start_matches('[').trim_end_matches(']')
        };
        self.server_name.as_deref().unwrap_or_else(host)
    }

    /// Without a scheme, whichever way it was written.
    pub fn host_and_port(&self) -> &str {
        self.address.strip_prefix("https://").unwrap_or(&self.address).trim_end_matches('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "address = 'https://[::1]:7443/'\nfleet = 'f'\nauthority_pem = 'a'\ncertificate_pem = 'c'\nkey_pem = 'very secret'\n";

    #[test]
    fn the_address_may_be_written_either_way() {
        let context: Context = toml::from_str(TEXT).unwrap();
        assert_eq!(context.uri(), "https://[::1]:7443");
        assert_eq!(context.expected_name(), "::1");
    }

    #[test]
    fn a_broken_context_never_shows_its_key() {
        let dir = std::env::temp_dir().join(format!("convoy-context-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("context.toml");
        fs::write(&path, format!("{TEXT}oops\n")).unwrap();
        let failure = Context::read(&path).err().unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let all = format!("{failure}{failure:?}");
        assert!(all.contains("is not a context file") && !all.contains("very secret"), "{all}");
    }
}
