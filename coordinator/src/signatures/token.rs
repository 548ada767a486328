//! Signatures by keys on security tokens, as PROTOCOL.u2f of OpenSSH has them (ADR 104). A token signs what its key is for,
//! flags and a counter of its own, and the hash of the message.

#[cfg(test)]
mod tests;

use sha2::{Digest as _, Sha256};

/// One byte of flags and four of the counter stand behind the signature itself.
const TRAILER: usize = 5;
/// Somebody has touched the token.
const PRESENT: u8 = 0x01;

/// What is signed, and the signature itself.
type Signed<'a> = (Vec<u8>, &'a [u8]);

/// What a token has signed that was asked to sign `data`, and its signature; `None`: it is too short for one.
///
/// # Errors
/// Nobody was there.
pub(super) fn open<'a>(
    application: &str,
    data: &[u8],
    signature: &'a [u8],
) -> Result<Option<Signed<'a>>, String> {
    let at = signature.len().checked_sub(TRAILER);
    let Some((signature, trailer)) = at.map(|at| signature.split_at(at)) else { return Ok(None) };
    // Not judged: whether somebody gave a PIN, which a list of keys cannot ask for, and the counter, since what is signed
    // holds for one apply anyway.
    if trailer.first().is_none_or(|flags| flags & PRESENT == 0) {
        return Err("nobody has touched the security token for this signature, and the fleet takes none without; its key \
                    was made with `-O no-touch-required`: make another one"
            .to_owned());
    }
    let hashed = [&Sha256::digest(application)[..], trailer, &Sha256::digest(data)].concat();
    Ok(Some((hashed, signature)))
}
