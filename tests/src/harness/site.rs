//! One test's whole world: a directory, port offsets nobody else has, and an end for everything that was started.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

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
    directory: PathBuf,
    /// Removed with everything in it, unless the place was given.
    _temporary: Option<tempfile::TempDir>,
}

impl Site {
    /// A directory with a running coordinator of this fleet.
    ///
    /// # Errors
    /// The programs are not built, or the coordinator does not come up.
    pub async fn open(fleet: &str) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("convoy-e2e-").tempdir()?;
        let directory = temporary.path().canonicalize()?;
        let mut site = Self::open_at(fleet, &directory, Programs::locate()?).await?;
        site._temporary = Some(temporary);
        Ok(site)
    }

    /// The same in a directory that stays, with these programs.
    ///
    /// # Errors
    /// The coordinator does not come up.
    pub async fn open_at(fleet: &str, directory: &Path, programs: Programs) -> Result<Self> {
        let lease = OffsetLease::take()?;
        let teardown = Teardown::of(directory);
        let port = COORDINATOR_PORT + lease.offset(0);
        let coordinator = Coordinator::start(&programs, &directory.join("coordinator"), fleet, port).await?;
        let directory = directory.to_owned();
        Ok(Self {
            coordinator,
            agents: Vec::new(),
            _teardown: teardown,
            lease,
            programs,
            directory,
            _temporary: None,
        })
    }

    /// A pack for a node, below the site's directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn pack(&self, node: &str, product: Product) -> Result<Pack> {
        let spec = PackSpec::new(product, &self.programs.standin);
        Ok(pack::generate(&self.directory.join("nodes").join(node), &spec)?)
    }

    /// Enrols and starts an agent for a pack.
    ///
    /// # Errors
    /// It does not enrol or start.
    pub async fn agent(&mut self, node: &str, pack: &Pack) -> Result<&mut Agent> {
        self.agent_at(node, &pack.home, &pack.java_home).await
    }

    /// Enrols and starts an agent for any home.
    ///
    /// # Errors
    /// It does not enrol or start.
    pub async fn agent_at(&mut self, node: &str, home: &Path, java_home: &Path) -> Result<&mut Agent> {
        let dir = self.directory.join("agents").join(node);
        let agent = Agent::configure(&self.programs, &dir, node, home, java_home)?;
        self.join(agent).await
    }

    /// The same for a server that listens on one address of this machine.
    ///
    /// # Errors
    /// It does not enrol or start.
    pub async fn agent_on(&mut self, node: &str, pack: &Pack, address: Ipv4Addr) -> Result<&mut Agent> {
        let dir = self.directory.join("agents").join(node);
        let agent = Agent::configure(&self.programs, &dir, node, &pack.home, &pack.java_home)?;
        agent.add_setting(&format!("probe_address = \"{address}\""))?;
        self.join(agent).await
    }

    async fn join(&mut self, mut agent: Agent) -> Result<&mut Agent> {
        agent.enrol(&self.coordinator.operator()).await?;
        agent.start()?;
        self.agents.push(agent);
        Ok(self.agents.last_mut().expect("one was just added"))
    }

    /// The n-th of eight port offsets that are this test's alone.
    pub fn offset(&self, index: u16) -> u16 {
        self.lease.offset(index)
    }

    /// One agent of this site.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn agent_of(&mut self, node: &str) -> &mut Agent {
        self.agents.iter_mut().find(|agent| agent.node == node).expect("an agent of that name was started")
    }

    /// The first operator.
    pub fn operator(&self) -> super::Operator {
        self.coordinator.operator()
    }

    /// A place below the site's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The site's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The built programs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }
}
