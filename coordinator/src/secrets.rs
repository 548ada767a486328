//! The values behind `secret()` (ADR 0005): sealed in the store, opened only to compose. The same key seals content, see
//! [`crate::store::Sealed`].
//!
//! Each value is sealed with XChaCha20-Poly1305 under the key of `<data_dir>/secrets.key`, with the fleet and the name
//! as associated data, so that a sealed value moved to another name does not open. The key file is not in the store:
//! a copy of the store alone gives no value away.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use fleet::{
    access::{Permit, Target, Targets},
    finding::names,
    ids::{FleetName, GroupName},
    spec::{Absent, Secret, SecretName, Secrets},
};

use crate::{
    coordinator::Coordinator,
    events::{Draft, Kind},
    private,
    store::{
        CommitError, Key, Range, StoreError, Transaction,
        records::{Record as _, SecretRecord},
    },
};

/// More secrets than any fleet names.
pub const SECRETS_MAX: usize = 5_000;
const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 24;
/// Somebody else may set the same secret at the same moment.
const TRIES_MAX: usize = 5;

/// Seals and opens values.
pub struct Vault {
    cipher: XChaCha20Poly1305,
    fleet: FleetName,
}

impl Vault {
    /// Reads the key file, or makes one.
    ///
    /// # Errors
    /// It cannot be read or written, or is no key file.
    pub fn open(path: &Path, fleet: &FleetName) -> io::Result<Self> {
        let key = match fs::read(path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key: [u8; KEY_LEN] = rand::random();
                private::write(path, &key)?;
                key.to_vec()
            }
            Err(error) => return Err(error),
        };
        // Tightens a file that was copied with other rights.
        private::open(path)?;
        let cipher = XChaCha20Poly1305::new_from_slice(&key)
            .map_err(|_| io::Error::other(format!("{} is not a key of {KEY_LEN} bytes", path.display())))?;
        Ok(Self { cipher, fleet: fleet.clone() })
    }

    fn bound_to(&self, name: &SecretName) -> Vec<u8> {
        format!("convoy secret\0{}\0{name}", self.fleet).into_bytes()
    }

    /// Nonce and ciphertext; `None` only for a value beyond the cipher's bounds, which no value reaches.
    fn seal(&self, name: &SecretName, value: &Secret) -> Option<(Vec<u8>, Vec<u8>)> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let payload = Payload { msg: value.expose().as_bytes(), aad: &self.bound_to(name) };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some((nonce.to_vec(), sealed))
    }

    /// Nonce and ciphertext of a piece of content, bound to the key it is stored under.
    pub(crate) fn seal_content(&self, key: &str, content: &[u8]) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let payload = Payload { msg: content, aad: &self.content_at(key) };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some([nonce.as_slice(), &sealed].concat())
    }

    /// What [`Vault::seal_content`] sealed; `None` under another key, or in another place.
    pub(crate) fn open_content(&self, key: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let payload = Payload { msg: sealed, aad: &self.content_at(key) };
        self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()
    }

    fn content_at(&self, key: &str) -> Vec<u8> {
        format!("convoy content\0{}\0{key}", self.fleet).into_bytes()
    }

    fn unseal(&self, record: &SecretRecord) -> Option<Secret> {
        let nonce: [u8; NONCE_LEN] = record.nonce.as_slice().try_into().ok()?;
        let payload = Payload { msg: &record.sealed, aad: &self.bound_to(&record.name) };
        let value = self.cipher.decrypt(&XNonce::from(nonce), payload).ok()?;
        String::from_utf8(value).ok().map(Secret::new)
    }
}

/// Why a secret could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be written.
    #[error("the secret could not be stored")]
    Commit(#[source] CommitError),
    /// The bound.
    #[error("there are {SECRETS_MAX} secrets already; remove those that no layer names")]
    TooMany,
    /// The cipher refused.
    #[error("the value could not be sealed")]
    Seal,
}

/// Why values could not be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// They could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key file is not the one that it was sealed with.
    #[error(
        "the secret {name} was sealed under another key; bring back secrets.key of the coordinator's data directory, \
         or set {name} again"
    )]
    Sealed {
        /// Which.
        name: SecretName,
    },
}

impl Coordinator {
    /// Sets or replaces a value. No node changes before the next apply.
    ///
    /// # Errors
    /// See [`SetError`]; the old value stands then.
    pub async fn set_secret(
        &self,
        name: &SecretName,
        value: &Secret,
        permit: &Permit,
    ) -> Result<(), SetError> {
        let key = Key::secret(name);
        let now = (self.clock)();
        for attempt in 1.. {
            let before = self.store.get(&key).await?;
            let version = before.as_ref().map_or(0, |entry| entry.version);
            let before = before.as_ref().map(SecretRecord::read).transpose()?;
            if version == 0 && SECRETS_MAX <= self.secret_records().await?.len() {
                return Err(SetError::TooMany);
            }
            let (nonce, sealed) = self.vault.seal(name, value).ok_or(SetError::Seal)?;
            let record = SecretRecord {
                name: name.clone(),
                nonce,
                sealed,
                changed: now,
                changed_by: permit.operator().to_string(),
                groups: before.map(|before| before.groups).unwrap_or_default(),
            };
            let commit = Transaction::default().replace(key.clone(), version, record.encode());
            let event = Draft::new(now, Kind::SecretSet, format!("the secret {name} was set"));
            match self.act(permit, event, commit).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict { .. }) if attempt < TRIES_MAX => {}
                Err(error) => return Err(SetError::Commit(error)),
            }
        }
        Ok(())
    }

    /// Removes a value; whether there was one.
    ///
    /// # Errors
    /// See [`SetError`]; the value stands then.
    pub async fn remove_secret(&self, name: &SecretName, permit: &Permit) -> Result<bool, SetError> {
        let key = Key::secret(name);
        let Some(entry) = self.store.get(&key).await? else { return Ok(false) };
        let commit = Transaction::default().check(key.clone(), entry.version).delete(key);
        let event = Draft::new((self.clock)(), Kind::SecretRemoved, format!("the secret {name} was removed"));
        self.act(permit, event, commit).await.map_err(SetError::Commit)?;
        Ok(true)
    }

    /// Says which groups a secret is granted to; whether there is one of that name.
    ///
    /// # Errors
    /// See [`SetError`]; the groups before stand then.
    pub async fn grant_secret(
        &self,
        name: &SecretName,
        groups: BTreeSet<GroupName>,
        permit: &Permit,
    ) -> Result<bool, SetError> {
        let key = Key::secret(name);
        let Some(entry) = self.store.get(&key).await? else { return Ok(false) };
        let record = SecretRecord { groups, ..SecretRecord::read(&entry)? };
        let to = match record.groups.is_empty() {
            true => "no group".to_owned(),
            false => names(record.groups.iter().map(GroupName::as_str)),
        };
        let event =
            Draft::new((self.clock)(), Kind::SecretGranted, format!("the secret {name} was granted to {to}"));
        let commit = Transaction::default().replace(key, entry.version, record.encode());
        self.act(permit, event, commit).await.map_err(SetError::Commit)?;
        Ok(true)
    }

    /// What changing the value of a secret reaches: the groups that it is granted to, and those that have it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn targets_of_secret(&self, name: &SecretName) -> Result<Targets, StoreError> {
        let entry = self.store.get(&Key::secret(name)).await?;
        let groups = entry.as_ref().map(SecretRecord::read).transpose()?.map(|record| record.groups);
        let mut groups = groups.unwrap_or_default();
        let snapshot = self.snapshot().await?;
        if let Some(newest) = &snapshot.revision {
            let Some(uses) = &newest.secrets else { return Ok([Target::Secret(name.clone())].into()) };
            let having = uses.iter().filter(|(_, secrets)| secrets.contains(name));
            let targets = having.filter_map(|(node, _)| newest.nodes.get(node));
            if !groups.is_empty() {
                groups.extend(targets.map(|target| target.group.clone()));
            }
        }
        Ok(match groups.is_empty() {
            true => [Target::Secret(name.clone())].into(),
            false => groups.into_iter().map(Target::Group).collect(),
        })
    }

    /// All secrets, sealed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn secret_records(&self) -> Result<Vec<SecretRecord>, StoreError> {
        let entries = self.store.range(Range::first(Key::SECRETS, SECRETS_MAX)).await?;
        entries.iter().map(SecretRecord::read).collect()
    }

    /// All values, for composition.
    ///
    /// # Errors
    /// The store failed, or a value does not open with this coordinator's key file.
    pub async fn secrets(&self, absent: Absent) -> Result<Secrets, OpenError> {
        let mut values = BTreeMap::new();
        for record in self.secret_records().await? {
            let value = self.vault.unseal(&record);
            let value = value.ok_or_else(|| OpenError::Sealed { name: record.name.clone() })?;
            values.insert(record.name, value);
        }
        Ok(Secrets::new(values, absent))
    }
}

#[cfg(test)]
mod tests {
    use fleet::time::Timestamp;

    use super::*;

    fn record(vault: &Vault, name: &str, value: &str) -> SecretRecord {
        let name = SecretName::parse(name).unwrap();
        let (nonce, sealed) = vault.seal(&name, &Secret::new(value)).unwrap();
        let (changed_by, groups) = ("x".to_owned(), BTreeSet::new());
        SecretRecord { name, nonce, sealed, changed: Timestamp(1), changed_by, groups }
    }

    #[test]
    fn a_value_opens_only_under_its_name_its_fleet_and_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let fleet = FleetName::parse("acme").unwrap();
        let path = dir.path().join("secrets.key");
        let vault = Vault::open(&path, &fleet).unwrap();
        let sealed = record(&vault, "db", "tell-nobody");
        assert!(!sealed.encode().windows(11).any(|bytes| bytes == b"tell-nobody"));
        assert_eq!(vault.unseal(&sealed).unwrap().expose(), "tell-nobody");
        let again = Vault::open(&path, &fleet).unwrap();
        assert_eq!(again.unseal(&sealed).unwrap().expose(), "tell-nobody");

        let renamed = SecretRecord { name: SecretName::parse("other").unwrap(), ..sealed.clone() };
        assert!(vault.unseal(&renamed).is_none());
        let elsewhere = Vault::open(&path, &FleetName::parse("other").unwrap()).unwrap();
        assert!(elsewhere.unseal(&sealed).is_none());
        let other_key = Vault::open(&dir.path().join("new.key"), &fleet).unwrap();
        assert!(other_key.unseal(&sealed).is_none());
        assert_ne!(record(&vault, "db", "x").nonce, record(&vault, "db", "x").nonce);
    }

    #[cfg(unix)]
    #[test]
    fn the_key_file_is_for_its_owner_only_and_a_wrong_one_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let fleet = FleetName::parse("acme").unwrap();
        let path = dir.path().join("secrets.key");
        Vault::open(&path, &fleet).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        Vault::open(&path, &fleet).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "short").unwrap();
        let error = Vault::open(&path, &fleet).err().unwrap();
        assert!(error.to_string().contains("is not a key"), "{error}");
    }
}
