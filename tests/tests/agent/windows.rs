//! The agent built for Windows, under Wine, with the coordinator on this side: enrolment over mTLS, apply, a `.bat` and
//! its java, drift, a graceful restart, the agent's death and the server's adoption, a stop. `cargo xtask windows` runs
//! it, and says where the programs are; without it there is nothing to run. A stand-in of a few lines is java here.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::{
    harness::{Agent, LIMIT, Programs, until},
    pack::Pack,
};
use fleet::{
    bundle::{ProbeKind, RunState},
    observed::ServiceState,
};
use tokio::net::TcpStream;

use crate::rig::{CONFIG, Rig};

/// The checkout, which is drive W: of the Wine prefix.
fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the project's root")
}

/// The same file as a Windows program names it.
fn on_windows(path: &Path) -> String {
    let below = path.strip_prefix(checkout()).expect("only the checkout is mapped");
    format!(r"W:\{}", below.display().to_string().replace('/', r"\"))
}

/// Runs the agent under Wine, with paths of this side in its arguments turned into those of the other.
fn wrapper(directory: &Path, programs: &Path, runner: &Path) -> Result<PathBuf> {
    let agent = on_windows(&programs.join("convoy-agent.exe"));
    let text = format!(
        "#!/bin/sh\nfor word; do\n  shift\n  case \"$word\" in {root}/*) word=\"W:${{word#{root}}}\" ;; esac\n  \
         set -- \"$@\" \"$word\"\ndone\nexec '{runner}' windows-run '{agent}' \"$@\"\n",
        root = checkout().display(),
        runner = runner.display(),
    );
    let path = directory.join("convoy-agent");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// What the generated pack and the agent's configuration need to be those of a Windows host.
fn move_to_windows(pack: &Pack, agent: &Agent, java: &Path) -> Result<()> {
    fs::copy(java, pack.java_home.join("bin/java.exe")).context("no stand-in for java.exe")?;
    let config = format!(
        "data_dir = '{}'\nhomes = ['{}']\njava_home = '{}'\ncheck_endpoints = false\n",
        on_windows(&agent.data_dir()),
        on_windows(&pack.home),
        on_windows(&pack.java_home),
    );
    Ok(fs::write(agent.data_dir().with_file_name("agent.toml"), config)?)
}

async fn open(programs: &Path) -> Result<Rig> {
    let runner = PathBuf::from(env::var_os("CONVOY_WINDOWS_RUNNER").context("no runner is named")?);
    let below = checkout().join("target/tmp");
    fs::create_dir_all(&below)?;
    let directory = tempfile::Builder::new().prefix("windows-").tempdir_in(below)?;
    let mut ours = Programs::locate()?;
    ours.agent = wrapper(directory.path(), programs, &runner)?;
    let java = programs.join("examples/standin-java.exe");
    Rig::open_in(directory, &ours, "wso2is-7.2", |pack, agent| move_to_windows(pack, agent, &java)).await
}

/// What the stand-in left in its log: `started`, `stopped gracefully`.
fn servers_log(rig: &Rig) -> Vec<String> {
    let text = rig.read("repository/logs/standin.log");
    text.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
}

#[tokio::test]
async fn the_whole_path_on_windows() -> Result<()> {
    let Some(programs) = env::var_os("CONVOY_WINDOWS_PROGRAMS").map(PathBuf::from) else {
        println!("not run: `cargo xtask windows` builds the agent for Windows and runs this under Wine");
        return Ok(());
    };
    let mut rig = open(&programs).await?;
    let mut wanted = rig.wanted();
    wanted.service.home = on_windows(&rig.pack.home);
    // The stand-in speaks no HTTP.
    wanted.service.probes.retain(|probe| matches!(probe.kind, ProbeKind::Tcp(_)));

    // 1. Apply and start.
    let first = rig.assign(&wanted.with_config("\n# by the fleet\n"), RunState::Running).await?;
    let started = rig.ready(first).await?;
    ensure!(rig.read(CONFIG).ends_with("# by the fleet\n"));
    assert_eq!(servers_log(&rig), ["started"]);

    // 2. An edit is undone.
    let desired = rig.read(CONFIG);
    fs::write(rig.path(CONFIG), format!("{desired}\n[surprise]\nkey = 1\n"))?;
    rig.until("the edit to be undone", |o| o.drift.iter().any(|d| d.restored_after.is_some())).await?;
    assert_eq!(rig.read(CONFIG), desired);

    // 3. Another configuration: a graceful stop, then a start.
    let changed = wanted.with_config("\n[changed]\nkey = 1\n");
    let second = rig.assign(&changed, RunState::Running).await?;
    let restarted = rig.ready(second).await?;
    assert_ne!(restarted.process, started.process);
    assert_eq!(servers_log(&rig), ["started", "stopped gracefully", "started"]);

    // 4. The agent dies, the server stays, the next agent takes it over and makes up for what it missed.
    rig.agent.kill().await?;
    let port = 9443 + rig.offset;
    TcpStream::connect(("127.0.0.1", port)).await.context("the server died with its agent")?;
    let desired = rig.read(CONFIG);
    fs::write(rig.path(CONFIG), "[while]\naway = true\n")?;
    rig.agent.start()?;
    let adopted = rig
        .until("the server to be adopted and the edit undone", |observed| {
            observed.service == ServiceState::Running
                && observed
                    .drift
                    .iter()
                    .any(|it| it.restored_after.is_some() && !restarted.drift.contains(it))
        })
        .await?;
    assert_eq!((adopted.process, adopted.starts_total), (restarted.process, restarted.starts_total));
    assert_eq!(rig.read(CONFIG), desired);

    // 5. The operator stops it. Wine does not deliver the Ctrl-C after the death of the agent that made the console, so
    // it ends by force after the deadline: docs/windows.md.
    rig.assign(&changed, RunState::Stopped).await?;
    rig.until("the server to be stopped", |observed| observed.service == ServiceState::Stopped).await?;
    until("the port to be free", LIMIT, async || {
        Ok(TcpStream::connect(("127.0.0.1", port)).await.is_err().then_some(()))
    })
    .await
}
