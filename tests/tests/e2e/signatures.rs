//! Signed revisions with the real programs, and signatures by the real `ssh-keygen`.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use convoy_tests::harness::{Operator, Ran};
use tokio::process::Command;

use crate::{
    four_eyes::joined,
    small::{Small, common, ensure_holds},
};

/// A key of somebody: the file with it, and the line that fleet.toml lists.
struct Key {
    file: PathBuf,
    line: String,
}

async fn ssh_keygen(words: &[&OsStr]) -> Result<()> {
    let output = Command::new("ssh-keygen").args(words).output().await?;
    ensure!(output.status.success(), "ssh-keygen {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn key(dir: &Path, kind: &str, name: &str) -> Result<Key> {
    let file = dir.join(name);
    let words = ["-q", "-t", kind, "-N", "", "-C", name, "-f"].map(OsStr::new);
    ssh_keygen(&[&words[..], &[file.as_os_str()]].concat()).await?;
    let line = fs::read_to_string(file.with_extension("pub"))?.trim().to_owned();
    Ok(Key { file, line })
}

/// A fleet that may list keys, and three people with one.
struct Signing {
    small: Small,
    plain: String,
    admin: Operator,
    ann: Key,
    bob: Key,
    eve: Key,
}

impl Signing {
    /// Writes a directory that lists these keys and asks for a signature by one of them.
    fn lists(&self, keys: &[&Key], word: &str) -> Result<()> {
        let keys: Vec<&str> = keys.iter().map(|key| key.line.as_str()).collect();
        let text = format!("{}\n[signatures]\nrequired = true\nkeys = {keys:?}\n", self.plain);
        self.small.fleet.write("fleet.toml", text)?;
        self.small.fleet.write("config/common.toml", common(word))?;
        Ok(())
    }

    fn words(&self, more: &[&OsStr]) -> Vec<OsString> {
        let first = [OsStr::new("apply"), self.small.fleet.arg(), OsStr::new("--yes")];
        first.iter().chain(more).map(Into::into).collect()
    }

    async fn run(&self, who: &Operator, more: &[&OsStr]) -> Result<Ran> {
        who.run(self.words(more)).await
    }

    async fn signed(&self, who: &Operator, key: &Key) -> Result<Ran> {
        self.run(who, &[OsStr::new("--sign"), key.file.as_os_str(), OsStr::new("--wait")]).await
    }
}

fn refused(ended: &Ran, says: &[&str]) -> Result<()> {
    ensure!(ended.code == 3, "{ended:?}");
    ensure_holds(&ended.said, says)
}

impl Signing {
    async fn open() -> Result<Self> {
        let small = Small::open().await?;
        let (plain, admin) = (small.fleet.read("fleet.toml")?, small.site.operator().clone());
        let keys = small.site.path("keys");
        fs::create_dir_all(&keys)?;
        let ann = key(&keys, "ed25519", "ann").await?;
        let (bob, eve) = (key(&keys, "ecdsa", "bob").await?, key(&keys, "rsa", "eve").await?);
        Ok(Self { small, plain, admin, ann, bob, eve })
    }

    /// Revisions 1 and 2, and what is refused from then on.
    async fn begins(&self) -> Result<()> {
        // Revision 1 has no rule; revision 2 brings the list, signed by nobody.
        self.small.apply().await?;
        self.lists(&[&self.ann, &self.bob], "second")?;
        self.small.apply().await?;

        // What changes nothing needs none.
        let same = self.run(&self.admin, &[]).await?;
        ensure!(same.code == 0, "{same:?}");
        ensure_holds(&same.out, &["Revision 2: nothing to do on any node."])?;

        self.lists(&[&self.ann, &self.bob], "third")?;
        let plan = self.admin.done([OsStr::new("plan"), self.small.fleet.arg()]).await?;
        ensure_holds(&plan, &["Needs a signature by the SSH key ann or the SSH key bob."])?;
        for more in [&[][..], &["--break-glass", "login is down"].map(OsStr::new)[..]] {
            let unsigned = self.run(&self.admin, more).await?;
            refused(
                &unsigned,
                &["asks for a signature by the SSH key ann or the SSH key bob", "add --sign KEYFILE"],
            )?;
        }
        let stranger = self.signed(&self.admin, &self.eve).await?;
        refused(&stranger, &["this is signed by the SSH key SHA256:", "which the fleet does not list"])?;
        Ok(())
    }

    /// Revisions 3 and 4, with a signature that was made elsewhere and does only once.
    async fn takes_a_detached_signature_once(&self) -> Result<()> {
        // A signature that was made elsewhere, of what the plan says.
        let to_sign = self.small.site.path("revision");
        let words =
            [OsStr::new("plan"), self.small.fleet.arg(), OsStr::new("--to-sign"), to_sign.as_os_str()];
        let written = self.admin.run(words).await?;
        ensure!(written.code == 0, "{written:?}");
        ensure_holds(&written.said, &["ssh-keygen -Y sign -n convoy -f KEYFILE"])?;
        ensure_holds(
            &fs::read_to_string(&to_sign)?,
            &["convoy apply v1\nfleet small\n", "parent 2\nall nodes\n"],
        )?;
        let sign = ["-q", "-Y", "sign", "-n", "convoy", "-f"].map(OsStr::new);
        ssh_keygen(&[&sign[..], &[self.ann.file.as_os_str(), to_sign.as_os_str()]].concat()).await?;
        let signature = to_sign.with_extension("sig");
        let detached = [OsStr::new("--signature"), signature.as_os_str(), OsStr::new("--wait")];
        // Not of other nodes, nor of other files.
        let fewer = self
            .run(&self.admin, &[&detached[..2], &["--node", "is-1"].map(OsStr::new)[..]].concat())
            .await?;
        refused(&fewer, &["the signature by the SSH key ann is not one of this apply"])?;
        self.lists(&[&self.ann, &self.bob], "other")?;
        refused(&self.run(&self.admin, &detached).await?, &["is not one of this apply"])?;
        self.lists(&[&self.ann, &self.bob], "third")?;
        let applied = self.run(&self.admin, &detached).await?;
        ensure!(applied.code == 0, "{applied:?}");
        let shown = self.admin.json(["revision", "show", "3"]).await?;
        ensure!(shown["signature"]["key"] == self.ann.line.as_str(), "{shown:#}");
        ensure!(shown["signature"]["statement"] == fs::read_to_string(&to_sign)?.as_str(), "{shown:#}");
        ensure!(shown["signature"]["text"] == fs::read_to_string(&signature)?.as_str(), "{shown:#}");
        ensure_holds(&self.admin.done(["revision", "show", "3"]).await?, &["signed: by the SSH key ann"])?;
        // The same files once more: the signature was for revision 2 as it was.
        self.lists(&[&self.ann, &self.bob], "fourth")?;
        ensure!(self.signed(&self.admin, &self.bob).await?.code == 0, "bob signs revision 4");
        self.lists(&[&self.ann, &self.bob], "third")?;
        refused(&self.run(&self.admin, &detached).await?, &["is not one of this apply", "sign again"])?;
        Ok(())
    }

    /// Revisions 5 and 6: a key is taken off the list, and going back does not bring it back.
    async fn changes_its_keys(&self) -> Result<()> {
        // Ann's key was taken over: bob takes it off the list, and not the other way round.
        self.lists(&[&self.eve], "fifth")?;
        refused(&self.signed(&self.admin, &self.eve).await?, &["which the fleet does not list"])?;
        self.lists(&[&self.bob, &self.eve], "fifth")?;
        ensure!(self.signed(&self.admin, &self.bob).await?.code == 0, "bob signs revision 5");
        self.lists(&[&self.bob, &self.eve], "sixth")?;
        refused(&self.signed(&self.admin, &self.ann).await?, &["which the fleet does not list"])?;

        // Back: not to what ann signed, nor to what nobody did, and the list stays.
        for (to, says) in [
            ("3", "revision 3 is signed by the SSH key ann, which the fleet does not list any more"),
            (
                "2",
                "revision 2 has no signature, and the fleet asks for one by the SSH key bob or the SSH key eve now",
            ),
        ] {
            let ended = self.admin.run(["rollback", to, "--yes"]).await?;
            ensure!(ended.code != 0, "{ended:?}");
            ensure_holds(&ended.said, &[says])?;
        }
        self.admin.done(["rollback", "--yes", "--wait"]).await?;
        ensure!(self.small.config_text(0)?.contains("fourth.example.org"), "back to revision 4");
        self.lists(&[&self.ann, &self.bob], "fourth")?;
        refused(&self.signed(&self.admin, &self.ann).await?, &["which the fleet does not list"])?;
        Ok(())
    }

    /// Revision 7, which needs approval as well.
    async fn proposes(&self) -> Result<()> {
        // Alice proposes with eve's signature; whoever approves needs none.
        let (alice, carol) = (
            joined(&self.small, "alice", "operator").await?,
            joined(&self.small, "carol", "operator").await?,
        );
        self.lists(&[&self.bob, &self.eve], "seventh")?;
        let asking = self.small.fleet.read("fleet.toml")? + "\n[approval]\nrequired = true\n";
        self.small.fleet.write("fleet.toml", asking)?;
        let proposed = self.signed(&alice, &self.eve).await?;
        ensure!(proposed.code == 4, "{proposed:?}");
        let proposal = carol.done(["proposal", "show", "1"]).await?;
        ensure_holds(&proposal, &["signed by: the SSH key eve", "Signed by the SSH key eve."])?;
        carol.done(["approve", "1", "--yes", "--wait"]).await?;
        ensure!(
            self.small.config_text(1)?.contains("seventh.example.org"),
            "the approved change is not there"
        );
        let revision = carol.done(["revision", "show", "7"]).await?;
        ensure_holds(&revision, &["signed: by the SSH key eve", "approved: by carol as proposal 1"])?;
        Ok(())
    }
}

#[tokio::test]
async fn a_fleet_that_asks_for_signatures_changes_by_them_only() -> Result<()> {
    let site = Signing::open().await?;
    site.begins().await?;
    site.takes_a_detached_signature_once().await?;
    site.changes_its_keys().await?;
    site.proposes().await?;
    let admin = &site.admin;
    let audit = admin.done(["audit", "list"]).await?;
    ensure_holds(
        &audit,
        &[
            "applied revision 3 (signed by the SSH key ann)",
            "went back to revision 4 as revision 6 (signed by the SSH key bob)",
            "proposes a change as 1 (signed by the SSH key eve)",
            "approved proposal 1 of alice and applied revision 7 (signed by the SSH key eve)",
            "which the fleet does not list",
        ],
    )?;
    ensure_holds(&admin.done(["revision", "list"]).await?, &["admin (signed)", "alice (signed)"])?;
    ensure!(admin.run(["audit", "verify"]).await?.code == 0, "the record is whole");
    Ok(())
}
