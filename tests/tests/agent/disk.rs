//! An agent without a coordinator: the test writes what is desired into its journal and cache while it is down, as if it
//! had been told earlier. So a round costs no connection, and every file is the real program's own doing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use agent::{cache::Cache, journal::Journal};
use anyhow::{Context as _, Result, bail, ensure};
use convoy_tests::harness::{Agent, LIMIT};
use fleet::{
    bundle::{
        Applied, Assignment, Bundle, DriftPolicy, FileEntry, HomePath, RestartClass, RunState,
        ServiceSettings,
    },
    ids::{Digest, FleetEpoch, Generation, Revision},
    node::Memory,
    spec::canonical,
};
use proto::convert::link::encode_bundle;
use tokio::time::{Instant, sleep};

use crate::rig::{CONFIG, Rig};

/// A home, an agent that is down, and everything that was desired so far.
pub struct Disk {
    pub rig: Rig,
    journal: Journal,
    cache: Cache,
    generation: Generation,
}

/// Files by path.
pub type Files = BTreeMap<String, Vec<u8>>;

impl Disk {
    /// An enrolled agent that is down, and no coordinator.
    pub async fn open() -> Result<Self> {
        let mut rig = Rig::open("wso2is-7.2").await?;
        rig.agent.kill().await?;
        rig.close_coordinator();
        // No server is ever started here, and a script says its version sooner than the stand-in does.
        let java = rig.pack.java_home.join("bin/java");
        fs::remove_file(&java)?;
        fs::write(&java, "#!/bin/sh\necho 'openjdk version \"21.0.2\" 2024-01-16' >&2\n")?;
        fs::set_permissions(&java, fs::Permissions::from_mode(0o755))?;
        let data_dir = rig.agent.data_dir();
        let (journal, cache) = (Journal::of(&data_dir), Cache::open(&data_dir)?);
        Ok(Self { rig, journal, cache, generation: Generation(0) })
    }

    pub fn agent(&mut self) -> &mut Agent {
        &mut self.rig.agent
    }

    /// As if no agent had ever been told anything here.
    pub fn forget(&mut self) -> Result<()> {
        self.journal.write(&Memory::default())?;
        Ok(())
    }

    /// Makes `files` the desired ones while the agent is down. The server is meant to be stopped.
    pub fn desire(&mut self, files: &Files) -> Result<Applied> {
        let settings = self.rig.wanted().service;
        self.desire_as(files, settings)
    }

    /// The same with other settings of the service.
    pub fn desire_as(&mut self, files: &Files, service: ServiceSettings) -> Result<Applied> {
        let bundle = bundle(files, service);
        let encoded = encode_bundle(&bundle);
        let content = Digest::of(&encoded);
        self.cache.write(&content, &encoded)?;
        for bytes in files.values() {
            self.cache.write(&Digest::of(bytes), bytes)?;
        }
        self.generation = self.generation.next();
        let applied = Applied { generation: self.generation, bundle: bundle.digest() };
        let mut memory = self.memory()?;
        memory.epoch = Some(FleetEpoch([7; 16]));
        memory.assignment = Some(Assignment {
            applied,
            content,
            content_size: encoded.len() as u64,
            revision: Revision(1),
            run: RunState::Stopped,
            why: "a test".into(),
            trace: None,
        });
        self.journal.write(&memory)?;
        Ok(applied)
    }

    /// The journal as it is now: always one whole record.
    pub fn memory(&self) -> Result<Memory> {
        self.journal.read().context("the journal is not readable")
    }

    /// Waits until the journal satisfies `holds`. Looks often: rounds are many.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Memory) -> bool) -> Result<Memory> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let memory = self.memory()?;
            if holds(&memory) {
                return Ok(memory);
            }
            if deadline < Instant::now() {
                bail!("waited for {what}: {memory:#?}\n{}", self.rig.agent.log());
            }
            if let Some(daemon) = &mut self.rig.agent.daemon
                && let Some(status) = daemon.ended()?
            {
                bail!("the agent ended with {status} while waiting for {what}\n{}", self.rig.agent.log());
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Starts the agent and waits until `target` is in force and its attempt over.
    pub async fn reach(&mut self, target: Applied) -> Result<Memory> {
        self.rig.agent.start()?;
        self.until(&format!("{target:?} to be in force"), |memory| {
            memory.written.is_some_and(|placed| placed.applied == target)
                && memory.switching.is_none()
                && memory.attempted.as_ref().is_some_and(|attempt| attempt.target == target && attempt.done)
        })
        .await
    }

    /// Waits until the agent, which runs, has refused `target`; answers why.
    pub async fn refusal(&mut self, target: Applied) -> Result<String> {
        let memory = self
            .until(&format!("{target:?} to be refused"), |memory| {
                memory.attempted.as_ref().is_some_and(|attempt| attempt.target == target && attempt.done)
            })
            .await?;
        let attempt = memory.attempted.context("an attempt")?;
        let refusal = attempt.failure.with_context(|| format!("{target:?} was not refused"))?;
        Ok(format!("{}: {}", refusal.reason, refusal.detail))
    }

    pub fn home(&self) -> PathBuf {
        self.rig.pack.home.clone()
    }

    /// Hides the content of these files: whoever wants to stage them has to wait.
    pub fn hide(&self, files: &Files) -> Result<()> {
        self.move_content(files, "", ".hidden")
    }

    /// Undoes [`Disk::hide`].
    pub fn unhide(&self, files: &Files) -> Result<()> {
        self.move_content(files, ".hidden", "")
    }

    fn move_content(&self, files: &Files, from: &str, to: &str) -> Result<()> {
        let digests: BTreeSet<Digest> = files.values().map(|bytes| Digest::of(bytes)).collect();
        for digest in digests {
            let path = self.cache.path(&digest).display().to_string();
            fs::rename(format!("{path}{from}"), format!("{path}{to}"))?;
        }
        Ok(())
    }

    /// What differs between the home and `files`, where `absent` are files that should not be there.
    pub fn differences(&self, files: &Files, absent: &BTreeSet<String>) -> Vec<String> {
        let mut found = Vec::new();
        for (path, bytes) in files {
            let target = self.home().join(path);
            match fs::read(&target) {
                Ok(disk) if disk != *bytes => found.push(format!("{path} differs")),
                Ok(_) => {
                    let mode = fs::metadata(&target).map_or(0, |it| it.permissions().mode() & 0o777);
                    if mode != MODE {
                        found.push(format!("{path} has mode {mode:o}"));
                    }
                }
                Err(error) => found.push(format!("{path}: {error}")),
            }
        }
        let there = absent.iter().filter(|path| self.home().join(path).exists());
        found.extend(there.map(|path| format!("{path} is there")));
        found
    }

    /// Names that the agent laid beside files and did not remove.
    pub fn leftovers(&self) -> Vec<String> {
        names(&self.home(), ".convoy-")
    }

    /// Files of its own that the agent began and did not finish; while it runs it may be at one or two.
    pub fn unfinished(&self) -> Vec<String> {
        names(&self.rig.agent.data_dir(), ".staged-")
    }

    /// The home holds exactly `files`, with their modes.
    pub fn holds_exactly(&self, files: &Files, absent: &BTreeSet<String>) -> Result<()> {
        let found = self.differences(files, absent);
        ensure!(found.is_empty(), "the home is not what it should be: {found:?}");
        Ok(())
    }
}

fn names(below: &Path, prefix: &str) -> Vec<String> {
    let entries = walkdir::WalkDir::new(below).into_iter().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Of every file in these bundles.
const MODE: u32 = 0o600;

fn bundle(files: &Files, service: ServiceSettings) -> Bundle {
    let entry = |(path, bytes): (&String, &Vec<u8>)| {
        let digest = Digest::of(bytes);
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let entry = FileEntry {
            digest,
            meaning: if path == CONFIG { canonical::meaning(text) } else { digest },
            size: bytes.len() as u64,
            mode: MODE,
            drift: DriftPolicy::Enforce,
            restart: RestartClass::Restart,
            secret: true,
            launch: false,
        };
        (HomePath::parse(path).expect("a path"), entry)
    };
    Bundle {
        files: files.iter().map(entry).collect(),
        service,
        hooks: fleet::call::Hooks::default(),
        origin: None,
        drift_keys: fleet::drift::keys::KeyRules::default(),
        unnamed_editors: false,
        key_managers: fleet::key_manager::KeyManagers::default(),
        balancer: None,
    }
}
