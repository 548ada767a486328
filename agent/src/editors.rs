//! Who writes managed files: processes, as the kernel names them to fanotify(7), and what /proc says of them.
//!
//! Nothing waits for it: the kernel's events are read on a thread of their own, and whoever asks gets what is known by
//! then. What becomes known later is told as an event of its own. [`Sight::open`] needs CAP_SYS_ADMIN and gives it up, so
//! that neither the agent nor a server that it starts keeps it (ADR 86).

#[cfg(target_os = "linux")]
mod facts;
#[cfg(target_os = "linux")]
mod log;
#[cfg(target_os = "linux")]
mod record;
#[cfg(target_os = "linux")]
mod sight;
#[cfg(target_os = "linux")]
mod unseen;

#[cfg(target_os = "linux")]
pub use sight::{Editors, Sight};

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Editors, Sight};

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::time::Instant;

    use fleet::{
        bundle::{Bundle, HomePath},
        editor::Editor,
        node::Event,
    };
    use tokio::sync::mpsc;

    /// No other system tells.
    #[derive(Debug)]
    pub struct Sight;

    impl Sight {
        /// Nothing is seen.
        pub fn open(_wanted: bool) -> Self {
            Self
        }

        /// Nothing is seen.
        pub const fn none() -> Self {
            Self
        }
    }

    /// Nobody is known.
    #[derive(Debug, Clone)]
    pub struct Editors;

    impl Editors {
        /// Does nothing.
        pub fn start(_sight: Sight, _events: &mpsc::Sender<Event>) -> Self {
            Self
        }

        /// Does nothing.
        pub fn set(&self, _bundle: &Bundle) {}

        /// Does nothing.
        pub fn rearm(&self) {}

        /// Does nothing.
        pub fn clean<'a>(&self, _paths: impl Iterator<Item = &'a HomePath>, _begun: Instant) {}

        /// Nobody.
        pub fn so_far(&self, _path: &HomePath) -> Vec<Editor> {
            Vec::new()
        }

        /// Nobody.
        pub fn replaced(&self, _path: &HomePath, _begun: Instant) -> Vec<Editor> {
            Vec::new()
        }
    }
}
