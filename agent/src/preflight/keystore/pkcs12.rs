//! PKCS #12, of any JDK: the reader is a library; here is only what Java makes of it.

use fleet::preflight::Password;
use p12_keystore::{Pkcs12Archive, error::Error};

use super::{NotOpened, Opened};

pub(super) fn open(content: &[u8], password: &Password) -> Result<Opened, NotOpened> {
    let archive = Pkcs12Archive::from_pkcs12(content, password.expose()).map_err(|error| match error {
        Error::MacError(_) => NotOpened::WrongPassword,
        other => NotOpened::Broken(other.to_string()),
    })?;
    // Java numbers entries that have no name.
    let mut unnamed = 0_u32;
    let keys = archive.keys.iter().map(|key| {
        key.friendly_name.clone().unwrap_or_else(|| {
            unnamed += 1;
            unnamed.to_string()
        })
    });
    let keys = keys.collect();
    let certificates = archive.certs.iter().filter_map(|certificate| certificate.friendly_name.clone());
    Ok(Opened { keys, certificates: certificates.collect() })
}
