//! docs/quickstart.md, tried literally: every file that it shows is written, and every command that it shows is run, in
//! both variants. Only paths, names and ports are those of a test, and questions are answered by `--yes`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail, ensure};
use convoy_tests::{
    harness::{ByHand, Daemon, LIMIT, Programs, until},
    pack::{self, OffsetLease, Pack, PackSpec, Teardown},
};
use tokio::process::Command;

/// Added to an offset of a lease for the coordinator's port, as for every site of a test.
const COORDINATOR_PORT: u16 = 9043;
/// What a person types where a secret is read.
const TYPED: &str = "typed-by-a-person\n";

/// What stands in a fenced block.
#[derive(Debug)]
enum Block {
    /// The content of a file.
    File { path: String, text: String },
    /// Commands.
    Commands(String),
    /// A picture of a directory.
    Tree,
}

/// The blocks of one section, which begins with this heading.
fn blocks(page: &str, heading: &str) -> Result<Vec<Block>> {
    let (_, section) = page.split_once(&format!("{heading}\n")).with_context(|| format!("no {heading:?}"))?;
    let end = section.find("\n## ").into_iter().chain(section.find("\n### ")).min();
    let section = &section[..end.unwrap_or(section.len())];
    let mut parts = section.split("```");
    let mut blocks = Vec::new();
    while let (Some(before), Some(block)) = (parts.next(), parts.next()) {
        let (language, text) = block.split_once('\n').context("a block of lines")?;
        blocks.push(match language {
            "toml" => {
                let paragraph = before.trim_end().rsplit("\n\n").next().unwrap_or_default();
                let named = paragraph.split('`').skip(1).step_by(2).find(|word| word.ends_with(".toml"));
                let path = named.with_context(|| format!("which file is this?\n{text}"))?.to_owned();
                Block::File { path, text: text.to_owned() }
            }
            "" if text.starts_with("acme/\n") => Block::Tree,
            "" => Block::Commands(text.to_owned()),
            other => bail!("a block of {other:?}"),
        });
    }
    Ok(blocks)
}

/// A machine on which somebody reads the page. Fields are dropped in order: programs, then servers, then files.
struct Reader {
    page: String,
    daemons: Vec<Daemon>,
    _teardown: Teardown,
    pack: Pack,
    lease: OffsetLease,
    programs: PathBuf,
    directory: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Reader {
    fn new() -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("convoy-e2e-").tempdir()?;
        let directory = temporary.path().canonicalize()?;
        let (teardown, lease, programs) =
            (Teardown::of(&directory), OffsetLease::take()?, Programs::locate()?);
        let spec =
            PackSpec { offset: lease.offset(0), ..PackSpec::new("wso2is-7.2".parse()?, &programs.standin) };
        let pack = pack::generate(&directory.join("opt"), &spec)?;
        for below in ["etc", "var"] {
            fs::create_dir_all(directory.join(below))?;
        }
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/quickstart.md");
        Ok(Self {
            page: fs::read_to_string(page)?,
            daemons: Vec::new(),
            _teardown: teardown,
            pack,
            lease,
            programs: programs.convoy.parent().context("a directory of programs")?.to_owned(),
            directory,
            _temporary: temporary,
        })
    }

    /// The page's own paths, names and ports become those of this test.
    fn here(&self, text: &str) -> String {
        let at = |below: &str| self.directory.join(below).display().to_string();
        let port = COORDINATOR_PORT + self.lease.offset(0);
        let agent = format!("convoy-agent --config {}", at("etc/agent.toml"));
        [
            ("0.0.0.0:7843", format!("127.0.0.1:{port}")),
            ("convoy.acme.internal", "localhost".to_owned()),
            ("is-1.acme.internal", "localhost".to_owned()),
            ("convoy-agent ", agent + " "),
            ("/etc/convoy", at("etc")),
            ("/var/lib", at("var")),
            ("/opt/wso2/wso2is-7.2.0", self.pack.home.display().to_string()),
            ("/usr/lib/jvm/java-21", self.pack.java_home.display().to_string()),
            ("apply acme --wait", "apply acme --wait --yes".to_owned()),
            ("node restart is-1", "node restart is-1 --yes".to_owned()),
        ]
        .iter()
        .fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(&self.directory).env_clear();
        command
            .env("HOME", &self.directory)
            .env("PATH", format!("{}:/usr/bin:/bin", self.programs.display()));
        command.kill_on_drop(true);
        command
    }

    async fn run(&self, line: &str) -> Result<String> {
        use tokio::io::AsyncWriteExt as _;
        let mut command = self.shell(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut typed = child.stdin.take().context("its standard input")?;
        // A command that reads nothing closes it early.
        drop(typed.write_all(TYPED.as_bytes()).await);
        drop(typed);
        let ran = child.wait_with_output().await?;
        let said =
            format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        ensure!(ran.status.success(), "{line}\nended with {}:\n{said}", ran.status);
        Ok(said)
    }

    /// Writes the files and runs the commands of a section.
    async fn follow(&mut self, heading: &str) -> Result<String> {
        let mut said = String::new();
        for block in blocks(&self.page, heading)? {
            match block {
                Block::Tree => {}
                Block::File { path, text } => {
                    let is_of_fleet = !path.starts_with('/');
                    let path = if is_of_fleet { format!("acme/{path}") } else { self.here(&path) };
                    let target = self.directory.join(path);
                    fs::create_dir_all(target.parent().context("a directory")?)?;
                    fs::write(&target, self.here(&text))?;
                }
                Block::Commands(text) => {
                    let text = self.here(&text);
                    for script in scripts(&text) {
                        said += &self.do_what(&script).await?;
                    }
                }
            }
        }
        Ok(said)
    }

    async fn do_what(&mut self, script: &str) -> Result<String> {
        let stays = script.starts_with("convoy-coordinator ") || script.ends_with(" run");
        if !stays {
            return self.run(script).await;
        }
        let log = self.directory.join(format!("log-{}", self.daemons.len()));
        self.daemons.push(Daemon::start(self.shell(&format!("exec {script}")), &log)?);
        let is_up = if script.starts_with("convoy-coordinator ") {
            "is ready"
        } else {
            "Connected to the coordinator"
        };
        until("a program that goes on running to be up", LIMIT, async || {
            Ok(fs::read_to_string(&log).is_ok_and(|log| log.contains(is_up)).then_some(()))
        })
        .await?;
        Ok(String::new())
    }

    fn starts(&self) -> usize {
        let log = fs::read_to_string(self.pack.carbon_log()).unwrap_or_default();
        log.matches("WSO2 Carbon started in").count()
    }

    /// The rest is the same for both.
    async fn enrol_and_apply(&mut self) -> Result<()> {
        let linted = self.follow("### Check it").await?;
        ensure!(!linted.contains("error"), "{linted}");
        self.follow("## 4. Enrol the host").await?;
        let token = self.directory.join("token");
        ensure!(!token.exists(), "the page removes the token");
        let applied = self.follow("## 5. Apply").await?;
        ensure!(applied.contains("is done: 1 node ready"), "{applied}");
        // What to type from then on, as far as it ends by itself and something is there for it.
        let (_, table) = self.page.split_once("## 6. Live with it").context("the last section")?;
        let typed: Vec<String> = table
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.starts_with("convoy "))
            .map(|it| self.here(it))
            .collect();
        let waits = |line: &&String| {
            ["--watch", "--follow", "rollback", "rollout "].iter().any(|word| line.contains(word))
        };
        for line in typed.iter().filter(|line| !waits(line)) {
            self.run(line).await?;
        }
        Ok(())
    }
}

/// Commands that are run one by one; a line that reads a variable belongs to the next.
fn scripts(text: &str) -> Vec<String> {
    let mut scripts: Vec<String> = Vec::new();
    for line in text.lines() {
        match scripts.last_mut() {
            Some(last) if last.starts_with("read ") && !last.contains('\n') => *last += &format!("\n{line}"),
            _ => scripts.push(line.to_owned()),
        }
    }
    scripts
}

#[tokio::test]
async fn the_quickstart_of_a_new_server_works_as_it_stands_there() -> Result<()> {
    let mut reader = Reader::new()?;
    reader.follow("## 2. Start a coordinator").await?;
    reader.follow("### 3a. A new server").await?;
    let fleet = reader.directory.join("acme/fleet.toml");
    // The ports of this test.
    let offset = format!("offset = {}\n", reader.lease.offset(0));
    fs::write(&fleet, fs::read_to_string(&fleet)? + &offset)?;
    reader.enrol_and_apply().await?;
    let config = fs::read_to_string(reader.pack.deployment_toml())?;
    ensure!(config.contains(&format!("password = \"{}\"", TYPED.trim_end())), "{config}");
    Ok(())
}

#[tokio::test]
async fn the_quickstart_of_a_server_that_exists_restarts_nothing() -> Result<()> {
    let mut reader = Reader::new()?;
    let mut server = ByHand::of(&reader.pack).start(LIMIT).await?;
    reader.follow("## 2. Start a coordinator").await?;
    reader.follow("### 3b. A server that exists").await?;
    let restart = "| restart a server | `convoy node restart is-1` |\n";
    ensure!(reader.page.contains(restart), "the table of section 6 has changed");
    reader.page = reader.page.replace(restart, "");
    reader.enrol_and_apply().await?;
    ensure!(reader.starts() == 1, "it was started {} times", reader.starts());
    server.kill().await?;
    Ok(())
}
