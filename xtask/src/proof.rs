//! `cargo xtask proof packages`: the packages on throw-away Debian hosts, one of them with systemd as its first process.
//! As root; ten minutes with `--rounds 3`. The hosts have a network of their own and end with the command.
//! `cargo xtask proof contrib`: the Ansible role, the Puppet module and what else lies in `contrib/`. As root.
//! `cargo xtask proof image`: the image as its own user on a read-only root. As root.
//! `cargo xtask proof twice`: two release builds in two directories give the same packages. Half an hour.
//! `cargo xtask proof units`: server and load balancer that systemd runs, in a host of that kind. As root.
//! `cargo xtask proof requests`: a rollout behind a real HAProxy and a real NGINX, with 100,000 requests each.
//! `cargo xtask proof alerts`: how long it takes from a hand edit, and from the death of a server, to the receiver of its
//! alert; then that an alert which lasts stays in a real Alertmanager.
//! `cargo xtask proof edits`: who edited a managed file, by many edits with each of several tools. As root.

mod contrib;
mod host;
mod image;
mod managed;
mod twice;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};

use self::host::{Host, Root};
use crate::{
    cargo::{cargo, run, step, target},
    dist,
    packages::{self, Needed},
};

const MMDEBSTRAP: Needed = Needed { program: "mmdebstrap", version: "--version", package: "mmdebstrap" };
const ALERTMANAGER: Needed =
    Needed { program: "prometheus-alertmanager", version: "--version", package: "prometheus-alertmanager" };
const NSPAWN: Needed =
    Needed { program: "systemd-nspawn", version: "--version", package: "systemd-container" };
/// Of the hosts; what the packages need beside it they have to ask for.
const SUITE: &str = "bookworm";
const BOOTING: &str = "systemd,systemd-sysv,dbus,procps,iproute2";
const OLD: &str = "0.1.0";
const NEW: &str = "0.1.1";
const HOME: &str = "/opt/wso2/wso2is-7.2.0";
/// The server's process, and nothing else's: the shell that runs this does not match its own words.
const JAVA: &str = "pgrep --full 'wso2[.]carbon.bootstrap'";
/// How long the server needs to stop when its host does.
const STOP_SECONDS: u64 = 20;

/// What to prove.
#[derive(Debug, Args)]
pub struct Proof {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Install, enrol, apply, upgrade there and back, refuse, shut down, start again, remove, purge.
    Packages {
        /// How many upgrades there and back.
        #[arg(long, default_value_t = 10)]
        rounds: u32,
        /// Take the packages that lie in `target/dist`.
        #[arg(long)]
        made: bool,
    },
    /// A server and a HAProxy that systemd runs, polkit, and who edited a file, by what docs/agent.md prints.
    Units {
        /// Take the packages that lie in `target/dist`.
        #[arg(long)]
        made: bool,
    },
    /// The Ansible role and the Puppet module on a host, cloud-init's user data and Kubernetes' manifests by schema.
    Contrib {
        /// Take the packages that lie in `target/dist`.
        #[arg(long)]
        made: bool,
    },
    /// The image: unpacked, started as its user on a read-only root, applied to, stopped, started again.
    Image {
        /// Take the image that lies in `target/dist`.
        #[arg(long)]
        made: bool,
    },
    /// Two builds of the same commit in two directories: the same packages, byte for byte.
    Twice,
    /// Roll out behind HAProxy and NGINX, with and without hooks, while clients ask.
    Requests {
        /// How many are answered in each; 100,000 at most.
        #[arg(long, default_value_t = 100_000)]
        requests: u32,
    },
    /// Edit files and kill servers by hand, and measure until the receiver of the alert has it.
    Alerts {
        /// How often of each.
        #[arg(long, default_value_t = 100)]
        rounds: u32,
        /// For how long an alert that lasts has to stay in a real Alertmanager.
        #[arg(long, default_value_t = 30)]
        minutes: u32,
    },
    /// Edit managed files with vim, sed, cp, mv, a shell and Ansible's calls, and count who was named rightly.
    Edits {
        /// How many edits with each.
        #[arg(long, default_value_t = 1_000)]
        edits: u32,
    },
}

/// Proves it.
///
/// # Errors
/// What does not hold.
pub fn prove(asked: &Proof) -> Result<ExitCode> {
    match asked.part {
        Part::Packages { rounds, made } => prove_packages(rounds, made),
        Part::Units { made } => prove_units(made),
        Part::Contrib { made } => {
            let (places, packages) = prepared(&[NEW], made)?;
            contrib::prove(&places, &packages)?;
            println!("\nWhat lies in contrib/ does what docs/hand-over.md says.");
            Ok(ExitCode::SUCCESS)
        }
        Part::Image { made } => {
            image::prove(made)?;
            println!("\nThe image holds what docs/kubernetes.md says.");
            Ok(ExitCode::SUCCESS)
        }
        Part::Twice => {
            twice::prove()?;
            println!("\nTwo builds in two directories made the same packages.");
            Ok(ExitCode::SUCCESS)
        }
        Part::Requests { requests } => prove_requests(requests),
        Part::Alerts { rounds, minutes } => prove_alerts(rounds, minutes),
        Part::Edits { edits } => prove_edits(edits),
    }
}

fn prove_requests(requests: u32) -> Result<ExitCode> {
    step("programs", cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    let mut prove = cargo();
    prove.args([
        "test",
        "--workspace",
        "--locked",
        "--test",
        "e2e",
        "--",
        "--nocapture",
        "--test-threads",
        "1",
    ]);
    prove.args([
        "--exact",
        "managed_balancer::behind_a_balancer_of_the_fleet_a_rollout_loses_no_request",
        "managed_balancer::behind_the_same_balancer_without_hooks_it_does",
        "nginx_members::with_hooks_a_rollout_behind_nginx_loses_no_request",
        "nginx_members::without_hooks_the_same_rollout_behind_nginx_loses_requests",
    ]);
    step("requests", prove.env("CONVOY_REQUESTS", requests.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

fn prove_alerts(rounds: u32, minutes: u32) -> Result<ExitCode> {
    packages::install(ALERTMANAGER)?;
    step("programs", cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    let mut measure = cargo();
    measure.args(["test", "--workspace", "--locked", "--test", "e2e", "--", "--nocapture"]);
    measure.args(["--test-threads", "1", "alerts::"]);
    step("alerts", measure.env("CONVOY_ROUNDS", rounds.to_string()))?;
    let mut lasting = cargo();
    lasting.args(["test", "--workspace", "--locked", "--test", "server", "--", "--exact"]);
    lasting.arg("alertmanager::a_real_alertmanager_keeps_what_lasts_and_drops_what_is_over");
    step("Alertmanager", lasting.env("ALERTMANAGER_MINUTES", minutes.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

fn prove_edits(edits: u32) -> Result<ExitCode> {
    step("programs", cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    let mut measure = cargo();
    measure.args(["test", "--workspace", "--locked", "--test", "agent", "--", "--nocapture"]);
    measure.args(["--exact", "edits::whoever_edits_is_named_rightly_or_not_at_all"]);
    step("edits", measure.env("CONVOY_EDITS", edits.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

fn prove_units(made: bool) -> Result<ExitCode> {
    let (places, packages) = prepared(&[NEW], made)?;
    managed::prove(&places, &packages)?;
    println!("\nUnits, polkit and the drop-ins hold what docs/agent.md says.");
    Ok(ExitCode::SUCCESS)
}

/// Where the hosts lie, and the packages, which are made unless they are there.
fn prepared(versions: &[&str], made: bool) -> Result<(PathBuf, PathBuf)> {
    packages::install(MMDEBSTRAP)?;
    packages::install(NSPAWN)?;
    for version in versions.iter().filter(|_| !made) {
        dist::run_dist(&dist::Dist::trial(version))?;
    }
    let places = std::path::absolute(target().join("dist/proof"))?;
    fs::create_dir_all(&places)?;
    Ok((places, std::path::absolute(target().join("dist"))?))
}

fn prove_packages(rounds: u32, made: bool) -> Result<ExitCode> {
    let (places, packages) = prepared(&[OLD, NEW], made)?;
    without_systemd(&places, &packages)?;
    with_systemd(&places, &packages, rounds)?;
    two_commands(&places, &packages)?;
    println!("\nThe packages hold what docs/install.md says.");
    Ok(ExitCode::SUCCESS)
}

/// From installed packages to a connected agent by the two commands of set-up, and from there to a server that is ready.
fn two_commands(places: &Path, packages: &Path) -> Result<()> {
    let made = Root::make(places, "host", SUITE, BOOTING)?;
    for path in debs(packages, NEW)? {
        made.bring(&path, "/root/debs")?;
    }
    standin(&made)?;
    let host = made.boot()?;
    write_fleet(&host)?;
    host.sh("dpkg --install /root/debs/*.deb && chown -R wso2carbon:wso2 /opt/wso2")?;
    let begun = Instant::now();
    host.sh("convoy-coordinator setup --fleet acme --name 127.0.0.1")?;
    host.sh("install -D -m 600 /var/lib/convoy-coordinator/operator/context.toml /root/.config/convoy/context.toml")?;
    let told = host.sh("convoy token create --node is-1 | convoy-agent setup --token-file -")?;
    ensure!(told.contains("as is-1"), "{told}");
    let connected = begun.elapsed();
    host.sh("convoy apply /root/fleet --wait --yes && convoy status | grep --quiet 'all 1 node ready'")?;
    let ready = begun.elapsed();
    for again in ["convoy-coordinator setup", "convoy-agent setup"] {
        let told = host.sh(again)?;
        ensure!(told.contains("nothing to do"), "a second `{again}`: {told}");
    }
    said(
        "set-up",
        &format!(
            "connected after {:.1} s, ready after {:.1} s",
            connected.as_secs_f64(),
            ready.as_secs_f64()
        ),
    );
    Ok(())
}

/// A stand-in for a product and its JDK, where people unpack them.
fn standin(made: &Root) -> Result<()> {
    let program = target().join("debug/convoy-standin");
    let mut make = Command::new(program);
    make.args(["pack", "--product", "wso2is-7.2", "--out"]).arg(made.path("opt/wso2"));
    run("a stand-in server", &mut make)?;
    Ok(())
}

fn write_fleet(host: &Host) -> Result<()> {
    host.write("/root/fleet/fleet.toml", include_str!("proof/fleet.toml"))?;
    host.write("/root/fleet/config/common.toml", include_str!("proof/common.toml"))
}

/// The packages of a version, the agent's first.
fn debs(packages: &Path, version: &str) -> Result<Vec<PathBuf>> {
    let names = ["convoy-agent", "convoy-coordinator", "convoy"];
    let found: Vec<_> = names
        .iter()
        .map(|name| packages.join(format!("{name}_{version}-1_{}.deb", dist::of_package_here())))
        .collect();
    match found.iter().find(|path| !path.exists()) {
        Some(missing) => bail!("there is no {}", missing.display()),
        None => Ok(found),
    }
}

/// A root without systemd, and one whose number 802 is taken: installation, removal and purge work.
fn without_systemd(places: &Path, packages: &Path) -> Result<()> {
    let bare = Root::make(places, "bare", SUITE, "")?;
    for path in debs(packages, OLD)? {
        bare.bring(&path, "/root/debs")?;
    }
    said("without systemd", &bare.sh("useradd --system --uid 802 other && dpkg --install /root/debs/*.deb")?);
    let user = bare.sh("id wso2carbon")?;
    ensure!(!user.contains("uid=802("), "802 is somebody else's: {user}");
    for daemon in ["convoy-agent", "convoy-coordinator"] {
        let refused = bare.sh(&format!("{daemon} --check-config 2>&1 || test $? = 64"))?;
        ensure!(!refused.contains("panicked"), "{refused}");
    }
    bare.sh("test -s /usr/share/man/man8/convoy-agent.8.gz && test -s /usr/share/doc/convoy/sbom.json")?;
    bare.sh("dpkg --purge convoy-agent convoy-coordinator convoy && test ! -e /etc/convoy && id wso2carbon")?;
    said("without systemd", "installed, looked at, purged");
    Ok(())
}

fn with_systemd(places: &Path, packages: &Path, rounds: u32) -> Result<()> {
    let made = Root::make(places, "host", SUITE, BOOTING)?;
    for version in [OLD, NEW] {
        for path in debs(packages, version)? {
            made.bring(&path, "/root/debs")?;
        }
    }
    standin(&made)?;
    let host = made.boot()?;
    as_shipped(&host)?;
    first_day(&host)?;
    let java = host.sh(JAVA)?;
    upgrades(&host, &java, rounds)?;
    refusals(&host, &java, packages)?;
    shut_down(host, &made)?;
    let host = made.boot()?;
    next_day(&host)?;
    farewell(&host)
}

/// Installed, and nothing more: no unit is enabled, none runs.
fn as_shipped(host: &Host) -> Result<()> {
    host.sh(&format!("dpkg --install /root/debs/*_{OLD}-1_*.deb"))?;
    for unit in ["convoy-agent", "convoy-server", "convoy-coordinator"] {
        host.sh(&format!(
            "test $(systemctl is-enabled {unit}) = disabled; ! systemctl is-active --quiet {unit}"
        ))?;
    }
    let verified = host.sh(
        "systemd-analyze verify convoy-agent.service convoy-server.service convoy-coordinator.service 2>&1",
    )?;
    ensure!(!verified.contains("convoy"), "systemd finds something in the units: {verified}");
    said("as shipped", "nothing is enabled, nothing runs");
    Ok(())
}

/// Coordinator, fleet, host enrolled twice (by root, the second time over files of the agent's user), applied.
fn first_day(host: &Host) -> Result<()> {
    write_fleet(host)?;
    host.sh(&format!(
        "sed -i 's/^# fleet = .*/fleet = \"acme\"/' /etc/convoy/coordinator.toml
         sed -i -e 's|^# homes = .*|homes = [\"{HOME}\"]|' -e 's|^# java_home = .*|java_home = \"/opt/wso2/jdk\"|' /etc/convoy/agent.toml
         chown -R wso2carbon:wso2 /opt/wso2
         systemctl enable --now convoy-coordinator
         install -D -m 600 /var/lib/convoy-coordinator/operator/context.toml /root/.config/convoy/context.toml"
    ))?;
    let enrol = "(umask 077 && convoy token create --node is-1 > /root/token) && convoy-agent enroll --token-file /root/token";
    host.sh(enrol)?;
    host.sh("systemctl enable --now convoy-agent convoy-server")?;
    host.sh(enrol)?;
    host.sh("systemctl restart convoy-agent && systemctl is-active convoy-agent")?;
    host.sh("convoy apply /root/fleet --wait --yes")?;
    let status = host.sh("convoy status")?;
    ensure!(status.contains("all 1 node ready"), "{status}");
    said("first day", "enrolled twice, applied, ready");
    Ok(())
}

/// There and back: the server's process stays, and so does its start, from which `status` tells its age.
fn upgrades(host: &Host, java: &str, rounds: u32) -> Result<()> {
    let mut gaps = Vec::new();
    let told = server_told(host)?;
    for round in 0..rounds * 2 {
        let version = if round % 2 == 0 { NEW } else { OLD };
        let before = host.sh("systemctl show --property MainPID --value convoy-agent")?;
        host.sh(&format!("dpkg --install /root/debs/convoy-agent_{version}-1_*.deb"))?;
        let after = host.sh("systemctl show --property MainPID --value convoy-agent")?;
        ensure!(before != after, "the agent was not restarted");
        ensure!(host.sh(JAVA)? == java, "round {round}: the server is another one");
        let connected = Duration::from_secs(30);
        host.until("the agent's session", connected, "convoy status | grep --quiet 'all 1 node ready'")?;
        host.sh("convoy-agent doctor --after-upgrade")?;
        let now = server_told(host)?;
        ensure!(now == told, "round {round}: the server was {told} and is {now}, so its age is another one");
        let gap = host.sh(
            "systemctl show --property InactiveEnterTimestampMonotonic,ActiveEnterTimestampMonotonic --value convoy-agent",
        )?;
        let stamps: Vec<u64> = gap.lines().filter_map(|line| line.trim().parse().ok()).collect();
        if let [one, other] = stamps.as_slice() {
            gaps.push(one.abs_diff(*other) / 1_000);
        }
    }
    for version in [NEW, OLD] {
        host.sh(&format!("dpkg --install /root/debs/convoy-coordinator_{version}-1_*.deb"))?;
        host.until(
            "the coordinator",
            Duration::from_secs(30),
            "convoy status | grep --quiet 'all 1 node ready'",
        )?;
        ensure!(host.sh(JAVA)? == java, "the coordinator's upgrade touched the server");
    }
    gaps.sort_unstable();
    let middle = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    let longest = gaps.last().copied().unwrap_or_default();
    said(
        "upgrades",
        &format!(
            "{} of the agent, server untouched; without an agent for {middle} ms, at most {longest} ms",
            rounds * 2
        ),
    );
    Ok(())
}

/// The server's process with its start, by the coordinator's own word.
fn server_told(host: &Host) -> Result<serde_json::Value> {
    let text = host.sh("convoy --json node show is-1")?;
    let node: serde_json::Value = serde_json::from_str(&text).context("`convoy --json node show`")?;
    let process = node.pointer("/node/report/process").filter(|process| process.is_object());
    process.cloned().with_context(|| format!("no process of the server in {text}"))
}

/// A configuration that the newer version refuses, then a newer version that does not come up: the server runs on.
fn refusals(host: &Host, java: &str, packages: &Path) -> Result<()> {
    let agent = "systemctl show --property MainPID --value convoy-agent";
    let before = host.sh(agent)?;
    let said_so = host.sh(&format!(
        "cp /etc/convoy/agent.toml /root/good.toml
         (echo 'nonsense = 1'; cat /root/good.toml) > /etc/convoy/agent.toml
         ! dpkg --install /root/debs/convoy-agent_{NEW}-1_*.deb 2>&1"
    ))?;
    ensure!(said_so.contains("this version refuses /etc/convoy/agent.toml"), "{said_so}");
    ensure!(host.sh(agent)? == before && host.sh(JAVA)? == java, "the old agent runs on");
    host.sh("cp /root/good.toml /etc/convoy/agent.toml && dpkg --configure --pending")?;

    let broken = broken_agent(packages)?;
    host.bring(&broken, "/root")?;
    let said_so = host.sh("! dpkg --install /root/broken.deb 2>&1")?;
    ensure!(said_so.contains("this version does not start"), "{said_so}");
    ensure!(host.sh(JAVA)? == java, "a broken agent touched the server");
    host.sh(&format!("dpkg --install /root/debs/convoy-agent_{OLD}-1_*.deb"))?;
    host.until(
        "the agent's session",
        Duration::from_secs(30),
        "convoy status | grep --quiet 'all 1 node ready'",
    )?;
    ensure!(host.sh(JAVA)? == java, "the way back touched the server");
    said("refusals", "a refused configuration and a version that does not come up leave the server alone");
    Ok(())
}

/// The newer package with a program in it that takes every configuration and then ends.
fn broken_agent(packages: &Path) -> Result<PathBuf> {
    let tree = packages.join("proof/broken");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let [agent, ..] = debs(packages, NEW)?.try_into().map(|debs: [PathBuf; 3]| debs).unwrap_or_default();
    run("take a package apart", Command::new("dpkg-deb").arg("--raw-extract").arg(agent).arg(&tree))?;
    let program = tree.join("usr/bin/convoy-agent");
    fs::write(
        &program,
        "#!/bin/sh\ncase \"$*\" in *--check-config*) exit 0 ;; esac\necho broken >&2\nexit 1\n",
    )?;
    let path = packages.join("proof/broken.deb");
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--root-owner-group", "-Znone", "--build"])
        .arg(&tree)
        .arg(&path)
        .stdout(std::process::Stdio::null());
    run("put it together", &mut build)?;
    Ok(path)
}

/// A server that needs long to stop has ended, by its own log, before its host has.
fn shut_down(host: Host, made: &Root) -> Result<()> {
    host.write(&format!("{HOME}/standin.toml"), &format!("stop_delay = \"{STOP_SECONDS}s\"\n"))?;
    let took = host.power_off(Duration::from_secs(120))?;
    ensure!(Duration::from_secs(STOP_SECONDS) <= took, "the host was gone after {took:?}");
    let log = fs::read_to_string(made.path(&format!("{}/repository/logs/wso2carbon.log", &HOME[1..])))?;
    let last = log.lines().last().unwrap_or_default();
    ensure!(last.contains("Halting JVM"), "the server did not end in order; its last words: {last}");
    said(
        "shutdown",
        &format!("the server ended in order; the host was gone after {:.0} s", took.as_secs_f64()),
    );
    Ok(())
}

/// The host starts again, and with it the server.
fn next_day(host: &Host) -> Result<()> {
    host.write(&format!("{HOME}/standin.toml"), "")?;
    host.until("the server", Duration::from_secs(60), "convoy status | grep --quiet 'all 1 node ready'")?;
    host.sh("systemctl stop convoy-server && systemctl start convoy-server")?;
    host.sh(JAVA)?;
    said("next day", "the server was started again; stopping the unit by hand does not stop it");
    Ok(())
}

/// Removal and purge leave the server and everything that nobody else has.
fn farewell(host: &Host) -> Result<()> {
    let java = host.sh(JAVA)?;
    host.sh("dpkg --remove convoy-agent convoy-coordinator")?;
    ensure!(host.sh(JAVA)? == java, "removing the agent touched the server");
    let said_so = host.sh("dpkg --purge convoy-agent convoy-coordinator 2>&1")?;
    ensure!(said_so.matches("stays").count() == 2, "{said_so}");
    host.sh(&format!(
        "test ! -e /var/lib/convoy-agent/identity && test -d /var/lib/convoy-agent/content
         test -s /var/lib/convoy-coordinator/store.redb && test -d /var/lib/convoy-coordinator/ca
         test -s {HOME}/repository/conf/deployment.toml
         ! ls /etc/systemd/system/multi-user.target.wants | grep convoy"
    ))?;
    ensure!(host.sh(JAVA)? == java, "the purge touched the server");
    said("farewell", "removed and purged; server, home, originals, store and keys are there");
    Ok(())
}

fn said(part: &str, text: &str) {
    let last = text.lines().last().unwrap_or_default();
    println!("=== {part}: {last}");
}
