//! A name for every effect on the disk that must not be lost or half done, in the order in which they happen.
//!
//! In programs built with debug assertions a test may choose one of them by `CONVOY_STEP`: `kill:17` ends the process
//! by SIGKILL just before the 17th, `fail:sync:2` lets the second whose name starts with `sync` fail as a broken disk
//! does. In release programs this is nothing.

use std::io;

/// Called just before the effect `name`.
///
/// # Errors
/// A test wants this one to fail.
#[cfg(not(debug_assertions))]
#[inline]
pub fn step(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// Called just before the effect `name`.
///
/// # Errors
/// A test wants this one to fail.
#[cfg(debug_assertions)]
pub fn step(name: &'static str) -> io::Result<()> {
    chosen::step(name)
}

#[cfg(debug_assertions)]
mod chosen {
    use std::{
        io,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    /// What a test wants.
    #[derive(Debug)]
    enum Wish {
        Kill { at: u64 },
        Fail { prefix: String, at: u64 },
    }

    static WISH: OnceLock<Option<Wish>> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);

    fn wish() -> Option<Wish> {
        let text = std::env::var("CONVOY_STEP").ok()?;
        let mut words = text.split(':');
        match (words.next()?, words.next()?, words.next()) {
            ("kill", at, None) => Some(Wish::Kill { at: at.parse().ok()? }),
            ("fail", prefix, Some(at)) => {
                Some(Wish::Fail { prefix: prefix.to_owned(), at: at.parse().ok()? })
            }
            _ => None,
        }
    }

    pub fn step(name: &'static str) -> io::Result<()> {
        match WISH.get_or_init(wish) {
            None => Ok(()),
            Some(Wish::Kill { at }) => {
                if *at == COUNT.fetch_add(1, Ordering::SeqCst) + 1 {
                    die(name);
                }
                Ok(())
            }
            Some(Wish::Fail { prefix, at }) => {
                let meant = name.starts_with(prefix.as_str());
                if meant && *at == COUNT.fetch_add(1, Ordering::SeqCst) + 1 {
                    return Err(io::Error::other(format!("{name} fails, as a test wants")));
                }
                Ok(())
            }
        }
    }

    #[cfg(unix)]
    fn die(name: &'static str) {
        tracing::error!(step = name, "Killed before this step, as a test wants");
        if let Err(error) =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        {
            tracing::error!(%error, "Cannot kill this process");
        }
        // The signal may take a moment to arrive; nothing may happen meanwhile.
        loop {
            std::thread::park();
        }
    }

    #[cfg(not(unix))]
    fn die(name: &'static str) {
        tracing::error!(step = name, "Ended before this step, as a test wants");
        std::process::abort();
    }
}
