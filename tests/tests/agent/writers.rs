//! The product's own writers against the real agent, in random order with assignments and with people. `CONVOY_SEED`
//! repeats a run. The thousand runs of this are pure: `fleet/src/node/tests/writers.rs`.
#![allow(clippy::print_stdout, reason = "helpers of tests speak like tests")]

use std::{fs, io::Write as _};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::{asked, standin};
use fleet::{
    bundle::RunState,
    observed::{DriftAction, DriftKind},
    spec::canonical,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::rig::{CONFIG, Rig, Wanted};

const STEPS: usize = 40;

struct Story {
    rig: Rig,
    random: StdRng,
    wanted: Wanted,
    /// Number of the newest assignment.
    newest: u64,
    ciphers: u32,
    people: bool,
}

#[tokio::test]
async fn what_only_the_product_writes_is_never_called_a_persons_edit() -> Result<()> {
    play(false).await
}

#[tokio::test]
async fn people_and_the_product_come_to_rest_together() -> Result<()> {
    play(true).await
}

async fn play(people: bool) -> Result<()> {
    let seed: u64 = asked("CONVOY_SEED").unwrap_or_else(|| rand::rng().random());
    println!("CONVOY_SEED={seed}");
    let rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let mut story = Story { rig, random: StdRng::seed_from_u64(seed), wanted, newest: 0, ciphers: 0, people };
    story.assign().await?;
    for _ in 0..STEPS {
        story.step().await.with_context(|| format!("CONVOY_SEED={seed}"))?;
    }
    story.rest().await.with_context(|| format!("CONVOY_SEED={seed}"))
}

impl Story {
    /// Another host name, and a secret that is plain until ciphertool runs.
    async fn assign(&mut self) -> Result<()> {
        let (name, secret) = (self.random.random_range(0..4), self.random.random_range(0..2));
        let text = format!("[server]\nhostname = \"h{name}\"\n\n[secrets]\ndb = \"[plain{secret}]\"\n");
        self.wanted.files.get_mut(CONFIG).context("it is there")?.0 = text;
        let generation = self.rig.assign(&self.wanted, RunState::Stopped).await?;
        self.newest = generation.0;
        self.rig
            .until("the files to be in force", |observed| {
                observed.written.is_some_and(|written| written.generation == generation)
            })
            .await?;
        Ok(())
    }

    async fn step(&mut self) -> Result<()> {
        let path = self.rig.path(CONFIG);
        match self.random.random_range(0..if self.people { 5 } else { 3 }) {
            0 => self.assign().await?,
            1 => {
                // As the start script of API Manager 4.7 calls it.
                let conf = path.parent().context("a directory")?.display().to_string();
                standin::java([standin::KEY_GENERATOR.to_owned(), conf]);
            }
            2 => self.encrypt(&path)?,
            3 => {
                let text = fs::read_to_string(&path).unwrap_or_default();
                fs::write(&path, text.replace("hostname = \"h", "hostname = \"hand"))?;
            }
            _ => fs::write(&path, format!("# a note\n{}", fs::read_to_string(&path).unwrap_or_default()))?,
        }
        Ok(())
    }

    /// As ciphertool does: in place, truncated and written.
    fn encrypt(&mut self, path: &std::path::Path) -> Result<()> {
        let text = fs::read_to_string(path)?;
        self.ciphers += 1;
        let cipher = format!("\"Y2lwaGVy{}\"", self.ciphers);
        let text = text.replace("\"[plain0]\"", &cipher).replace("\"[plain1]\"", &cipher);
        let mut file = fs::File::create(path)?;
        Ok(file.write_all(text.as_bytes())?)
    }

    async fn rest(&mut self) -> Result<()> {
        // A last assignment forgets earlier restores, so that no tug-of-war is left.
        self.assign().await?;
        let owned = self.wanted.service.owned_keys.clone();
        let declared = canonical::flatten(&self.wanted.files[CONFIG].0)?;
        let path = self.rig.path(CONFIG);
        let observed = self
            .rig
            .until("the file to be as declared, but for what the product wrote", |observed| {
                let disk = fs::read_to_string(&path).ok().and_then(|text| canonical::flatten(&text).ok());
                let same =
                    disk.is_some_and(|disk| canonical::differing_keys(&declared, &disk, &owned).is_empty());
                let open = observed
                    .drift
                    .iter()
                    .any(|drift| drift.kind != DriftKind::ProductOwned && drift.restored_after.is_none());
                same && !open
            })
            .await?;
        let fought = observed.drift.iter().any(|drift| drift.action == DriftAction::TugOfWar);
        ensure!(!fought, "a fight: {:#?}", observed.drift);
        if !self.people {
            let blamed = observed.drift.iter().find(|drift| drift.kind != DriftKind::ProductOwned);
            ensure!(blamed.is_none(), "called a person's edit: {blamed:#?}");
        }
        Ok(())
    }
}
