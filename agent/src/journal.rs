//! The journal: the engine's memory, one record, replaced as a whole and synced. A kill at any instant leaves the
//! record before or the record after. Beside it, while files change, the record of that switch.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use fleet::node::{Memory, SwitchRecord};
use proto::convert::{
    ConvertError,
    journal::{decode_memory, decode_switch, encode_memory, encode_switch},
};

use crate::private;

/// Why the journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system.
    #[error("cannot read the journal {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content.
    #[error(
        "the journal {} is damaged or of another version; install the version that wrote it or restore it, and only if \
         neither can be done move it away and enrol again",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ConvertError,
    },
}

/// Where the memory is kept.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// The journal of a data directory.
    pub fn of(data_dir: &Path) -> Self {
        Self { path: data_dir.join("journal") }
    }

    /// The memory; empty if there never was one. A journal that cannot be read is an error, never an empty memory:
    /// forgetting what is desired would look like being asked for nothing.
    ///
    /// # Errors
    /// The file cannot be read or is no journal.
    pub fn read(&self) -> Result<Memory, JournalError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
            Err(source) => return Err(JournalError::Read { path: self.path.clone(), source }),
        };
        decode_memory(&bytes).map_err(|source| JournalError::Damaged { path: self.path.clone(), source })
    }

    /// Durable on return.
    ///
    /// # Errors
    /// Whatever the file system says; the record before is still there then.
    pub fn write(&self, memory: &Memory) -> io::Result<()> {
        private::write(&self.path, &encode_memory(memory))
    }
}

/// Where a switch is recorded before its first file is replaced.
#[derive(Debug, Clone)]
pub struct Switches {
    path: PathBuf,
}

impl Switches {
    /// The record of a data directory.
    pub fn of(data_dir: &Path) -> Self {
        Self { path: data_dir.join("switch") }
    }

    /// The newest switch, if one has begun and is not known to be over.
    ///
    /// # Errors
    /// The file cannot be read or is no such record.
    pub fn read(&self) -> Result<Option<SwitchRecord>, JournalError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JournalError::Read { path: self.path.clone(), source }),
        };
        let damaged = |source| JournalError::Damaged { path: self.path.clone(), source };
        decode_switch(&bytes).map(Some).map_err(damaged)
    }

    /// Durable on return.
    ///
    /// # Errors
    /// Whatever the file system says; nothing is recorded then.
    pub fn write(&self, record: &SwitchRecord) -> io::Result<()> {
        private::write(&self.path, &encode_switch(record))
    }

    /// The switch is over and the journal says so.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn forget(&self) -> io::Result<()> {
        private::remove(&self.path)
    }
}
