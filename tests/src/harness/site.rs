//! One test's whole world: a directory, port offsets nobody else has, and an end for everything that was started.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Agent, Coordinator, Programs};
use crate::pack::{self, OffsetLease, Pack, PackSpec, Product, Teardown};

/// Added to the first offset of a lease for the coordinator's port: no port of any lease meets it.
const COORDINATOR_PORT: u16 = 9043;

/// A place for one test. Fields are dropped in order: programs, then servers, then files.
pub struct Site {
    pub coordinator: Coordinator,
    pub agents: Vec<Agent>,
    _teardown: Teardown,
    lease: OffsetLease,
    programs: Programs,
    directory: tempfile::TempDir,
}

impl Site {
    /// A directory with a running coordinator of this fleet.
    ///
    /// # Errors
    /// The programs are not built, or the coordinator does not come up.
    pub async fn open(fleet: &str) -> Result<Self> {
        let programs = Programs::locate()?;
        let lease = OffsetLease::take()?;
        let directory = tempfile::Builder::new().prefix("convoy-e2e-").tempdir()?;
        let teardown = Teardown::of(directory.path());
        let port = COORDINATOR_PORT + lease.offset(0);
        let coordinator =
            Coordinator::start(&programs, &directory.path().join("coordinator"), fleet, port).await?;
        Ok(Self { coordinator, agents: Vec::new(), _teardown: teardown, lease, programs, directory })
    }

    /// A pack for a node, below the site's directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn pack(&self, node: &str, product: Product) -> Result<Pack> {
        let spec = PackSpec::new(product, &self.programs.standin);
        Ok(pack::generate(&self.directory.path().join("nodes").join(node), &spec)?)
    }

    /// Enrols and starts an agent for a pack.
    ///
    /// # Errors
    /// It does not enrol or start.
    pub async fn agent(&mut self, node: &str, pack: &Pack) -> Result<&mut Agent> {
        let dir = self.directory.path().join("agents").join(node);
        let mut agent = Agent::configure(&self.programs, &dir, node, &pack.home, &pack.java_home)?;
        agent.enrol(&self.coordinator.operator()).await?;
        agent.start()?;
        self.agents.push(agent);
        Ok(self.agents.last_mut().expect("one was just added"))
    }

    /// The n-th of eight port offsets that are this test's alone.
    pub fn offset(&self, index: u16) -> u16 {
        self.lease.offset(index)
    }

    /// A place below the site's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The site's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The built programs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }
}
