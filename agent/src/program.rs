//! Which program this process runs, by its bytes: versions alone do not tell a rebuilt or damaged program from the
//! released one (ADR 105).

use std::{fs::File, io, io::Read as _};

use fleet::admission::Fingerprint;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tracing::warn;

/// Bytes that are read at a time.
const PORTION: usize = 64 * 1024;

/// SHA-256 of the program's file, once it is read; nothing waits for it.
pub type Own = watch::Receiver<Option<Fingerprint>>;

/// Reads the program beside everything else.
pub fn read() -> Own {
    let (known, own) = watch::channel(None);
    crate::task::blocking(move || match open().and_then(of) {
        Ok(program) => drop(known.send_replace(Some(program))),
        Err(error) => warn!(%error, "Cannot read the agent's own program, so nobody is told its checksum"),
    });
    own
}

/// The very file that runs, even if an upgrade has put another one in its place.
#[cfg(target_os = "linux")]
fn open() -> io::Result<File> {
    File::open("/proc/self/exe")
}

/// The file from which this process was started; on Windows it cannot be replaced meanwhile, on macOS it can.
#[cfg(not(target_os = "linux"))]
fn open() -> io::Result<File> {
    File::open(std::env::current_exe()?)
}

fn of(mut file: File) -> io::Result<Fingerprint> {
    let mut hash = Sha256::new();
    let mut portion = vec![0; PORTION];
    loop {
        match file.read(&mut portion)? {
            0 => return Ok(Fingerprint(hash.finalize().into())),
            read => hash.update(portion.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_the_checksum_of_the_file_that_runs() {
        let mut own = read();
        let told = own.wait_for(Option::is_some).await.unwrap().unwrap();
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(told, Fingerprint::of(&bytes));
    }
}
