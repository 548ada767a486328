//! `convoy trust --out` beside the JDK's own keytool: stores that it makes are taken, keys change in three phases.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use convoy_tests::harness::Programs;
use fleet::{keystore, preflight::Password};

const SECURITY: &str = "repository/resources/security";
const PASSWORD: &str = "wso2carbon";

const FLEET: &str = "name = \"acme\"\n[groups.km]\nproduct = \"wso2is-7.2\"\nlayers = [\"km\"]\nafter = []\n[groups.am]\nproduct = \
                     \"wso2am-4.5\"\nlayers = [\"am\"]\n[nodes.is-1]\ngroup = \"km\"\nhost = \"is1.acme\"\nhome = \
                     \"/opt/is\"\n[nodes.am-1]\ngroup = \"am\"\nhost = \"am1.acme\"\nhome = \"/opt/am\"\n";
const KM: &str = "[server]\nhostname = \"km.acme\"\n[keystore.primary]\nfile_name = \"is.p12\"\npassword = \"wso2carbon\"\n\
                  alias = \"is\"\n[truststore]\nfile_name = \"client-truststore.p12\"\npassword = \"wso2carbon\"\n\
                  [apim.event_hub]\nservice_url = \"https://am1.acme:9443/services/\"\n";
const AM: &str = "[server]\nhostname = \"api.acme\"\n[keystore.tls]\nfile_name = \"am.jks\"\npassword = \"wso2carbon\"\n\
                  alias = \"AM\"\n[apim.key_manager]\nservice_url = \"https://is1.acme:9443/services/\"\n\
                  [apim.throttling]\nservice_url = \"https://else.where:9443/\"\n";

/// What keytool says; `None` where there is none, or it cannot do this.
fn keytool(dir: &Path, words: &str) -> Option<String> {
    let output = Command::new("keytool").args(words.split(' ')).current_dir(dir).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

struct Fleet {
    dir: tempfile::TempDir,
    convoy: PathBuf,
}

impl Fleet {
    /// `None` without a keytool.
    fn new() -> Result<Option<Self>> {
        let dir = tempfile::tempdir()?;
        let here = dir.path();
        for path in [
            format!("fleet/files/km/{SECURITY}"),
            format!("fleet/files/am/{SECURITY}"),
            "fleet/config".to_owned(),
        ] {
            fs::create_dir_all(here.join(path))?;
        }
        for (path, text) in [("fleet.toml", FLEET), ("config/km.toml", KM), ("config/am.toml", AM)] {
            fs::write(here.join("fleet").join(path), text)?;
        }
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pack/keystores");
        fs::copy(
            fixtures.join("client-truststore.p12"),
            here.join(format!("fleet/files/km/{SECURITY}/client-truststore.p12")),
        )?;
        fs::copy(fixtures.join("client-truststore.jks"), here.join("client-truststore.jks"))?;
        let fleet = Self { dir, convoy: Programs::locate()?.convoy };
        let are_made = fleet.key("is", "first", "PKCS12", &format!("fleet/files/km/{SECURITY}/is.p12"))
            && fleet.key("am", "am", "JKS", &format!("fleet/files/am/{SECURITY}/am.jks"));
        Ok(are_made.then_some(fleet))
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn key(&self, alias: &str, name: &str, kind: &str, file: &str) -> bool {
        let words = format!(
            "-genkeypair -alias {alias} -dname CN={name} -keyalg EC -validity 30 -storetype {kind} -keystore {file} \
             -storepass {PASSWORD} -keypass {PASSWORD}"
        );
        keytool(self.dir.path(), &words).is_some()
    }

    /// What the command says, with its exit code.
    fn trust(&self, more: &[&str]) -> Result<(i32, String)> {
        let mut convoy = Command::new(&self.convoy);
        let output = convoy.arg("trust").arg("fleet").args(more).current_dir(self.dir.path()).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Aliases of the certificates that keytool sees as trusted.
    fn trusted(&self, node: &str, file: &str) -> Result<Vec<String>> {
        let store = format!("fleet/files/{node}/{SECURITY}/{file}");
        let words = format!("-list -keystore {store} -storepass {PASSWORD}");
        let listed = keytool(self.dir.path(), &words).unwrap_or_default();
        let lines = listed.lines().filter(|line| line.contains("trustedCertEntry"));
        let mut aliases: Vec<String> =
            lines.filter_map(|line| Some(line.split_once(',')?.0.to_owned())).collect();
        aliases.sort();
        // The agent's own reader sees the same.
        let content = fs::read(self.path(&store))?;
        let (_, entries) = keystore::read(&content, &Password::new(PASSWORD.to_owned()))
            .map_err(|why| anyhow::anyhow!("{store}: {why}"))?;
        let mut own: Vec<String> = entries.into_iter().map(|entry| entry.alias.to_lowercase()).collect();
        own.sort();
        ensure!(own == aliases, "{own:?} here, {aliases:?} by keytool");
        Ok(aliases)
    }
}

fn ours(aliases: &[String]) -> Vec<&str> {
    aliases.iter().map(String::as_str).filter(|alias| alias.starts_with("convoy-")).collect()
}

#[test]
fn keytool_takes_the_stores_that_are_made_and_keys_change_in_three_phases() -> Result<()> {
    let Some(fleet) = Fleet::new()? else {
        println!("NOT EXERCISED: no keytool here");
        return Ok(());
    };
    let (code, said) = fleet.trust(&[])?;
    ensure!(
        code == 0 && said.contains("am-1 must trust") && said.contains("else.where:9443"),
        "{code}: {said}"
    );
    ensure!(said.lines().all(|line| line.chars().count() <= 80), "{said}");

    // Without the product's own store none is made for a node that has none in the fleet.
    let (code, said) = fleet.trust(&["--out", "elsewhere"])?;
    ensure!(
        code == 1 && said.contains("am-1: no truststore") && said.contains("--base FILE"),
        "{code}: {said}"
    );

    let make = ["--out", "fleet/files", "--base", "client-truststore.jks"];
    let (code, said) = fleet.trust(&make)?;
    ensure!(code == 0, "{code}: {said}");
    ensure!(said.contains("missing: else.where:9443 (outside)"), "{said}");
    let of_am = fleet.trusted("am-1", "client-truststore.jks")?;
    ensure!(ours(&of_am) == ["convoy-is-1"] && 1 < of_am.len(), "{of_am:?}");
    let of_is = fleet.trusted("is-1", "client-truststore.p12")?;
    ensure!(ours(&of_is) == ["convoy-am-1"] && 1 < of_is.len(), "{of_is:?}");

    // Nothing changes: nothing is written.
    let store = fleet.path(&format!("fleet/files/is-1/{SECURITY}/client-truststore.p12"));
    let before = fs::read(&store)?;
    let (_, said) = fleet.trust(&make)?;
    ensure!(
        said.contains("am-1: repository/resources/security/client-truststore.jks stays as it is"),
        "{said}"
    );
    ensure!(
        said.contains("is-1: repository/resources/security/client-truststore.p12 stays as it is"),
        "{said}"
    );
    ensure!(fs::read(&store)? == before, "written again");

    // 1: the new certificate is trusted beside the old one.
    let old = of_am.len();
    ensure!(fleet.key("is", "second", "PKCS12", "new.p12"), "a second key");
    let words = format!("-exportcert -rfc -alias is -keystore new.p12 -storepass {PASSWORD} -file new.pem");
    ensure!(keytool(fleet.dir.path(), &words).is_some(), "its certificate");
    let (code, said) = fleet.trust(&[&make[..], &["--add", "new.pem"]].concat())?;
    ensure!(code == 0 && said.contains("CN=second"), "{code}: {said}");
    let both = fleet.trusted("am-1", "client-truststore.jks")?;
    ensure!(ours(&both) == ["convoy-added.1", "convoy-is-1"] && both.len() == old + 1, "{both:?}");

    // 2: the key is switched. 3: what nobody shows goes.
    fs::copy(fleet.path("new.p12"), fleet.path(&format!("fleet/files/km/{SECURITY}/is.p12")))?;
    let (code, said) = fleet.trust(&["--out", "fleet/files"])?;
    ensure!(code == 0, "{code}: {said}");
    let after = fleet.trusted("am-1", "client-truststore.jks")?;
    ensure!(ours(&after) == ["convoy-is-1"] && after.len() == old, "{after:?}");
    let of_is = fleet.trusted("is-1", "client-truststore.p12")?;
    ensure!(ours(&of_is) == ["convoy-am-1"], "what was added for a while is gone: {of_is:?}");
    Ok(())
}
