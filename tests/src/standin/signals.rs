//! The two signals a JVM reacts to.

/// What was asked of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT (Windows: Ctrl-C).
    Terminate,
    /// SIGQUIT: print a thread dump and go on.
    Dump,
}

#[cfg(unix)]
mod imp {
    use std::io;

    use tokio::signal::unix;

    use super::Signal;

    /// Pending signals, taken over from the default action as soon as this exists.
    pub struct Signals {
        terminate: unix::Signal,
        interrupt: unix::Signal,
        quit: unix::Signal,
    }

    impl Signals {
        pub fn new() -> io::Result<Signals> {
            Ok(Signals {
                terminate: unix::signal(unix::SignalKind::terminate())?,
                interrupt: unix::signal(unix::SignalKind::interrupt())?,
                quit: unix::signal(unix::SignalKind::quit())?,
            })
        }

        pub async fn next(&mut self) -> Signal {
            // `recv` is cancel-safe: a signal not taken stays pending. In order, so that a dump asked for after
            // a TERM is answered after it.
            tokio::select! {
                biased;
                _ = self.terminate.recv() => Signal::Terminate,
                _ = self.interrupt.recv() => Signal::Terminate,
                _ = self.quit.recv() => Signal::Dump,
            }
        }
    }
}

#[cfg(windows)]
mod imp {
    use std::io;

    use tokio::signal::windows;

    use super::Signal;

    /// Pending console events.
    pub struct Signals {
        interrupt: windows::CtrlC,
        dump: windows::CtrlBreak,
    }

    impl Signals {
        pub fn new() -> io::Result<Signals> {
            Ok(Signals { interrupt: windows::ctrl_c()?, dump: windows::ctrl_break()? })
        }

        pub async fn next(&mut self) -> Signal {
            tokio::select! {
                _ = self.interrupt.recv() => Signal::Terminate,
                _ = self.dump.recv() => Signal::Dump,
            }
        }
    }
}

pub use imp::Signals;
