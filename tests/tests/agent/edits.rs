//! Who edited a managed file: named rightly, or not at all.

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use fleet::{
    bundle::{DriftPolicy, RestartClass, RunState},
    editor::{Editor, named},
    observed::{Drift, DriftAction},
};

use crate::rig::{LOGGING, Rig, Wanted};

/// Edits by each tool, unless `CONVOY_EDITS` says otherwise, as `cargo xtask proof edits` does.
const EDITS: usize = 12;
/// Files that are edited in turn: each is restored a few times before an apply forgets it, or it would end as a
/// tug-of-war. What `mv` takes away and puts back may be restored twice.
const FILES: usize = 100;
const RESTORES: usize = 2;
/// Who edited comes after the restore where the machine is busy.
const LATE: Duration = Duration::from_secs(3);

/// As `AnsibleModule.atomic_move` of Ansible 2.14 does it where the temporary file lies in the same file system: its own
/// system calls, without Ansible.
const ANSIBLE: &str = "import os, shutil, sys
source, text, target = sys.argv[1:4]
with open(source, 'w') as file: file.write(text)
seen = os.stat(target)
os.chmod(source, seen.st_mode & 0o7777)
os.chown(source, seen.st_uid, seen.st_gid)
os.rename(source, target)
";

struct Tool {
    name: &'static str,
    /// Writes this text into the file; the process itself does, none that it starts.
    command: fn(&Sides, &str) -> Command,
}

/// The file, and places beside its home.
struct Sides {
    file: PathBuf,
    /// In the same file system.
    near: PathBuf,
    /// In another one.
    far: PathBuf,
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

const TOOLS: [Tool; 7] = [
    Tool {
        name: "vim",
        command: |at, line| {
            let change = format!("%s/.*/{line}/");
            command("vim", &["-u", "NONE", "-es", "-c", &change, "-c", "wq", text(&at.file)])
        },
    },
    Tool {
        name: "sed -i",
        command: |at, line| command("sed", &["-i", &format!("s/.*/{line}/"), text(&at.file)]),
    },
    Tool {
        name: "cp",
        command: |at, line| {
            fs::write(&at.near, format!("{line}\n")).expect("a file beside the home");
            command("cp", &[text(&at.near), text(&at.file)])
        },
    },
    Tool {
        name: "mv, other file system",
        command: |at, line| {
            fs::write(&at.far, format!("{line}\n")).expect("a file in another file system");
            command("mv", &["-f", text(&at.far), text(&at.file)])
        },
    },
    Tool {
        name: "mv, same file system",
        command: |at, line| {
            fs::write(&at.near, format!("{line}\n")).expect("a file beside the home");
            command("mv", &["-f", text(&at.near), text(&at.file)])
        },
    },
    Tool {
        name: "redirect of a shell",
        command: |at, line| command("sh", &["-c", &format!("echo '{line}' > '{}'", text(&at.file))]),
    },
    Tool {
        name: "Ansible's calls",
        command: |at, line| {
            command(
                "/usr/bin/python3",
                &["-c", ANSIBLE, text(&at.near), &format!("{line}\n"), text(&at.file)],
            )
        },
    },
];

fn path(index: usize) -> String {
    format!("repository/conf/edits/{index}.properties")
}

/// With files to be edited; another `round` is another bundle.
fn with_files(wanted: &Wanted, round: usize) -> Wanted {
    let files = (0..FILES).map(path);
    let wanted =
        files.fold(wanted.clone(), |all, path| all.with_file(&path, "value = 0\n", RestartClass::Hot));
    wanted.with_file(LOGGING, &format!("round = {round}\n"), RestartClass::Hot)
}

/// Whether the agents of this host may see who writes: root, with the capability.
#[expect(clippy::print_stdout, reason = "what a test did not do is said")]
fn may_see() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held.and_then(|held| u64::from_str_radix(held.trim(), 16).ok()).unwrap_or(0);
    let may = held & (1 << 21) != 0;
    if !may {
        println!("NOT EXERCISED: who edits is seen with CAP_SYS_ADMIN only");
    }
    may
}

/// The difference of this file that was restored since `begun`, with its editors once they are known.
async fn restored(rig: &Rig, file: &str, begun: i64) -> Result<Drift> {
    let of = |drift: &&Drift| {
        drift.path.as_str() == file && drift.action == DriftAction::Restored && begun <= drift.at.0
    };
    let observed =
        rig.until("the edit to be undone", |seen| seen.drift.iter().any(|drift| of(&drift))).await?;
    let mut drift = observed.drift.iter().find(of).cloned();
    let late = Instant::now() + LATE;
    while drift.as_ref().is_some_and(|drift| drift.editors.is_empty()) && Instant::now() < late {
        tokio::time::sleep(Duration::from_millis(5)).await;
        drift = rig.observed().and_then(|seen| seen.drift.iter().find(of).cloned()).or(drift);
    }
    drift.context("it was told")
}

#[derive(Default)]
struct Row {
    named: usize,
    unknown: Vec<String>,
    wrong: Vec<String>,
}

impl Row {
    fn add(&mut self, editors: &[Editor], pid: u32) {
        let known: Vec<&Editor> = editors.iter().filter(|editor| editor.is_known()).collect();
        if known.iter().any(|editor| editor.pid != pid) {
            self.wrong.push(named(editors).unwrap_or_default());
        } else if known.is_empty() || editors.len() != 1 {
            self.unknown.push(named(editors).unwrap_or_else(|| "nobody".to_owned()));
        } else {
            self.named += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_edits_is_named_rightly_or_not_at_all() -> Result<()> {
    if !may_see() {
        return Ok(());
    }
    let edits = env::var("CONVOY_EDITS").ok().map_or(Ok(EDITS), |count| count.parse())?;
    let mut rig = Rig::open("wso2is-7.2").await?;
    let (plain, mut round, mut done) = (rig.wanted(), 0, 0);
    let far = tempfile::Builder::new().prefix("convoy-edits-").tempdir_in("/dev/shm")?;
    let same = |one: &Path, other: &Path| {
        Ok::<_, anyhow::Error>(fs::metadata(one)?.dev() == fs::metadata(other)?.dev())
    };
    ensure!(!same(far.path(), rig.directory())?, "another file system");
    println!("{:24} {:>6} {:>6} {:>8} {:>6}", "edited by", "edits", "named", "unknown", "wrong");
    let mut rows = Vec::new();
    for tool in TOOLS {
        let mut row = Row::default();
        for edit in 0..edits {
            if done % (FILES * RESTORES) == 0 {
                round += 1;
                let generation = rig.assign(&with_files(&plain, round), RunState::Running).await?;
                rig.ready(generation).await?;
            }
            let file = path(done % FILES);
            done += 1;
            let sides = Sides {
                file: rig.path(&file),
                near: rig.directory().join("edited"),
                far: far.path().join("edited"),
            };
            let begun = coordinator::wall_clock().0;
            let mut command = (tool.command)(&sides, &format!("value = {}", edit + 1));
            let mut child =
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            let pid = child.id();
            let ended = tokio::task::block_in_place(|| child.wait());
            // `mv` takes the file away first, and finds it restored where the agent was quicker.
            ended.context(tool.name)?;
            let drift = restored(&rig, &file, begun).await.context(tool.name)?;
            row.add(&drift.editors, pid);
        }
        let Row { named, unknown, wrong } = &row;
        println!("{:24} {edits:>6} {named:>6} {:>8} {:>6}", tool.name, unknown.len(), wrong.len());
        unknown.iter().for_each(|who| println!("    unknown: {who}"));
        rows.push((tool.name, row));
    }
    for (tool, row) in &rows {
        ensure!(row.wrong.is_empty(), "{tool}: {}", row.wrong.join("\n"));
        ensure!(2 * row.unknown.len() <= edits, "{tool}: {} of {edits} are unknown", row.unknown.len());
    }
    Ok(())
}

#[tokio::test]
async fn a_login_is_named_through_a_change_of_user_and_in_what_is_told() -> Result<()> {
    if !may_see() {
        return Ok(());
    }
    let mut rig = Rig::open("wso2is-7.2").await?;
    let mut wanted = rig.wanted();
    wanted.files.get_mut(LOGGING).expect("there").1 = DriftPolicy::Report;
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    // The login of `daemon`, over SSH, who has become root: as `sudo`, which takes variables away.
    let edit = format!("sed -i 's/INFO/DEBUG/' '{}'; true", text(&rig.path(LOGGING)));
    let session = format!("echo 1 > /proc/self/loginuid && env -u SSH_CONNECTION sh -c \"{edit}\"; true");
    let mut login = command("setsid", &["-w", "sh", "-c", &session]);
    let status = login.env("SSH_CONNECTION", "10.1.2.3 50000 10.0.0.1 22").status()?;
    ensure!(status.success(), "{status}");
    let observed = rig
        .until("the editor to be named", |seen| seen.drift.iter().any(|drift| !drift.editors.is_empty()))
        .await?;
    let editor = &observed.drift[0].editors[0];
    let said = (editor.login.as_str(), editor.user.as_str(), editor.process.as_str(), editor.remote.as_str());
    assert_eq!(said, ("daemon", "root", "sed", "10.1.2.3"), "{editor}");
    assert_eq!((editor.parent.as_str(), editor.terminal.as_str()), ("sh", ""), "{editor}");

    // The fleet wants no names: not even of an edit that is restored.
    wanted.unnamed_editors = true;
    let generation = rig.assign(&wanted.with_config("\n[later]\nkey = 1\n"), RunState::Running).await?;
    rig.ready(generation).await?;
    fs::write(rig.path(LOGGING), "edited = 2\n")?;
    let observed = rig
        .until("the next edit to be told", |seen| {
            seen.drift
                .iter()
                .any(|drift| drift.action == DriftAction::Reported && drift.at.0 > observed.drift[0].at.0)
        })
        .await?;
    assert!(observed.drift.iter().all(|drift| drift.editors.is_empty()), "{:?}", observed.drift);
    Ok(())
}

#[tokio::test]
async fn the_agent_keeps_no_right_for_it_and_may_be_told_not_to_ask() -> Result<()> {
    if !may_see() {
        return Ok(());
    }
    let mut rig = Rig::open_with("wso2is-7.2", "name_editors = false").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    let begun = coordinator::wall_clock().0;
    fs::write(rig.path(LOGGING), "edited = 1\n")?;
    let drift = restored(&rig, LOGGING, begun).await?;
    assert_eq!(drift.editors, []);
    let pid = rig.agent.daemon.as_ref().and_then(|daemon| daemon.pid()).context("the agent runs")?;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let sets = status
            .lines()
            .filter(|line| ["CapInh", "CapPrm", "CapEff", "CapAmb"].iter().any(|set| line.starts_with(set)));
        for line in sets {
            let held = u64::from_str_radix(line.split_whitespace().nth(1).context("a set")?, 16)?;
            assert_eq!(held & (1 << 21), 0, "{line}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn where_nobody_is_seen_owner_and_terminals_are_told_and_nobody_is_named() -> Result<()> {
    if !may_see() {
        return Ok(());
    }
    if Command::new("setpriv").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
    {
        println!("NOT EXERCISED: an agent without CAP_SYS_ADMIN needs setpriv of util-linux");
        return Ok(());
    }
    let mut rig = Rig::open("wso2is-7.2").await?;
    // The same agent, without the right.
    rig.agent.kill().await?;
    let program = rig.directory().join("agent-without");
    let agent = convoy_tests::harness::Programs::locate()?.agent;
    let script = format!("#!/bin/sh\nexec setpriv --bounding-set=-sys_admin '{}' \"$@\"\n", agent.display());
    fs::write(&program, script)?;
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    rig.agent.set_program(&program);
    rig.agent.start()?;
    let wanted = with_files(&rig.wanted(), 1);
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    let begun = coordinator::wall_clock().0;
    let file = rig.path(&path(0));
    // As `sed -i` and most editors do it: another file in its place, which belongs to whoever made it.
    let near = rig.directory().join("edited");
    fs::write(&near, "value = 7\n")?;
    std::os::unix::fs::chown(&near, Some(1), Some(1))?;
    fs::rename(&near, &file)?;
    let drift = restored(&rig, &path(0), begun).await?;
    let [editor] = drift.editors.as_slice() else { anyhow::bail!("{drift:?}") };
    ensure!(!editor.is_known() && editor.short() == "unknown", "{editor}");
    let told = editor.circumstances.as_ref().context("what could be told")?;
    assert_eq!(told.owner, "daemon", "{editor}");
    let said = editor.to_string();
    ensure!(said.starts_with("somebody who was not seen (owner of the file: daemon; "), "{said}");

    // The fleet does not want it.
    let mut silent = wanted.with_config("\n[later]\nkey = 1\n");
    silent.unnamed_editors = true;
    let generation = rig.assign(&silent, RunState::Running).await?;
    rig.ready(generation).await?;
    let begun = coordinator::wall_clock().0;
    fs::write(rig.path(&path(1)), "value = 8\n")?;
    let drift = restored(&rig, &path(1), begun).await?;
    assert_eq!(drift.editors, []);
    Ok(())
}
