//! Sun's JKS format: aliases and certificates in clear, an SHA-1 over the whole as integrity check, each private key
//! under its own password by a home-made stream of SHA-1 blocks. No library of repute reads it, and it is small.

use sha1::{Digest as _, Sha1};

use super::NotOpened;
use crate::{preflight::Password, time::Timestamp};

const MAGIC: u32 = 0xFEED_FEED;
const DIGEST_SIZE: usize = 20;
/// Sun's word in the integrity check.
const WHITENER: &[u8] = b"Mighty Aphrodite";
/// `1.3.6.1.4.1.42.2.17.1.1`, the only protection of private keys in JKS.
const PROTECTION: [u8; 12] = [0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x2A, 0x02, 0x11, 0x01, 0x01];

/// An entry, of the store's own bytes.
pub struct Entry<'a> {
    /// Its alias.
    pub alias: String,
    /// The encrypted key, or `None` for a lone certificate.
    pub key: Option<&'a [u8]>,
    /// In DER; of a key its own first.
    pub certificates: Vec<&'a [u8]>,
}

/// Its entries, in their order.
///
/// # Errors
/// It does not open.
pub fn read<'a>(content: &'a [u8], password: &Password) -> Result<Vec<Entry<'a>>, NotOpened> {
    let broken = |why: &str| NotOpened::Broken(why.to_owned());
    let at = content.len().checked_sub(DIGEST_SIZE).ok_or_else(|| broken("it is cut off"))?;
    let (body, stored) = content.split_at(at);
    let computed =
        Sha1::new().chain_update(java_bytes(password)).chain_update(WHITENER).chain_update(body).finalize();
    if computed[..] != *stored {
        return Err(NotOpened::WrongPassword);
    }
    entries(body).ok_or_else(|| broken("its entries cannot be read"))
}

/// Whether the key of that alias opens with this password.
///
/// # Errors
/// Why that cannot be told.
pub fn key_opens(content: &[u8], alias: &str, password: &Password) -> Result<bool, String> {
    let unreadable = || "its key entry cannot be read".to_owned();
    let body = content.get(..content.len().saturating_sub(DIGEST_SIZE)).ok_or_else(unreadable)?;
    let wanted = alias.to_lowercase();
    let entries = entries(body).ok_or_else(unreadable)?;
    let entry = entries.iter().find(|entry| entry.key.is_some() && entry.alias.to_lowercase() == wanted);
    let key = entry.and_then(|entry| entry.key).ok_or_else(unreadable)?;
    let data = protected(key).ok_or("its key is protected in a way that is not read here")?;
    let plain_size = data.len().checked_sub(2 * DIGEST_SIZE).ok_or_else(unreadable)?;
    let (salt, rest) = data.split_at(DIGEST_SIZE);
    let (encrypted, stored) = rest.split_at(plain_size);
    let password = java_bytes(password);
    let mut block: Vec<u8> = salt.to_vec();
    let mut plain = Vec::with_capacity(plain_size);
    for chunk in encrypted.chunks(DIGEST_SIZE) {
        block = Sha1::new().chain_update(&password).chain_update(&block).finalize().to_vec();
        plain.extend(chunk.iter().zip(&block).map(|(cipher, key)| cipher ^ key));
    }
    let computed = Sha1::new().chain_update(&password).chain_update(&plain).finalize();
    Ok(computed[..] == *stored)
}

/// A truststore with these certificates, by alias in DER.
pub(super) fn truststore(
    certificates: &[(String, Vec<u8>)],
    password: &Password,
    made: Timestamp,
) -> Result<Vec<u8>, String> {
    const VERSION: u32 = 2;
    const TRUSTED_CERTIFICATE: u32 = 2;
    let too_large = |alias: &str| format!("{alias}: too large for a keystore");
    let count = u32::try_from(certificates.len()).map_err(|_| too_large("the store"))?;
    let mut body = [MAGIC, VERSION, count].map(u32::to_be_bytes).concat();
    let text = |body: &mut Vec<u8>, text: &str| {
        let size = u16::try_from(text.len()).map_err(|_| too_large(text))?;
        body.extend(size.to_be_bytes());
        body.extend(text.as_bytes());
        Ok::<(), String>(())
    };
    for (alias, der) in certificates {
        body.extend(TRUSTED_CERTIFICATE.to_be_bytes());
        text(&mut body, alias)?;
        body.extend(made.0.to_be_bytes());
        text(&mut body, "X.509")?;
        body.extend(u32::try_from(der.len()).map_err(|_| too_large(alias))?.to_be_bytes());
        body.extend(der);
    }
    let check = Sha1::new().chain_update(java_bytes(password)).chain_update(WHITENER).chain_update(&body);
    body.extend(check.finalize());
    Ok(body)
}

/// A Java `char[]` as bytes: UTF-16, big end first.
fn java_bytes(password: &Password) -> Vec<u8> {
    password.expose().encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Everything between the magic number and the digest. `None` if any length leads outside.
fn entries(body: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut reader = Reader(body);
    let _magic = reader.number()?;
    let version = reader.number()?;
    let count = reader.number()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let tag = reader.number()?;
        let alias = reader.text()?;
        let _created = reader.bytes(8)?;
        let mut certificates = Vec::new();
        let key = match tag {
            1 => {
                let key = reader.sized()?;
                for _ in 0..reader.number()? {
                    certificates.push(reader.certificate(version)?);
                }
                Some(key)
            }
            2 => {
                certificates.push(reader.certificate(version)?);
                None
            }
            _ => return None,
        };
        entries.push(Entry { alias, key, certificates });
    }
    Some(entries)
}

/// Big-endian numbers and strings, as Java's `DataOutputStream` writes them.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let size = self.number()?;
        self.bytes(usize::try_from(size).ok()?)
    }

    fn text(&mut self) -> Option<String> {
        let size = u16::from_be_bytes(self.bytes(2)?.try_into().ok()?);
        // Java's own variant of UTF-8 differs only in NUL and beyond the basic plane.
        Some(String::from_utf8_lossy(self.bytes(usize::from(size))?).into_owned())
    }

    fn certificate(&mut self, version: u32) -> Option<&'a [u8]> {
        if version == 2 {
            let _kind = self.text()?;
        }
        self.sized()
    }
}

/// The data of an `EncryptedPrivateKeyInfo`: a sequence of algorithm and octet string.
fn protected(der: &[u8]) -> Option<&[u8]> {
    let (0x30, content, _) = element(der)? else { return None };
    let (0x30, algorithm, rest) = element(content)? else { return None };
    if !algorithm.starts_with(&PROTECTION) {
        return None;
    }
    let (0x04, data, _) = element(rest)? else { return None };
    Some(data)
}

/// One DER element: tag, content, what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (size, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
        if 4 < bytes.len() {
            return None;
        }
        (bytes.iter().fold(0, |size, &byte| size << 8 | usize::from(byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(size)?;
    Some((tag, content, rest))
}
