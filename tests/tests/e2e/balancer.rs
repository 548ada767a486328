//! A real HAProxy with health checks of its own in front of two Identity Servers, and clients that never pause: a
//! rollout that restarts both servers, one after the other, loses no request.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{
    LIMIT,
    client::{Client, Load},
    until,
};
use tokio::net::TcpStream;

use crate::small::{NODES, Small, common, pid};

/// Where HAProxy listens for clients, before the offset that is this test's alone.
const CLIENTS: u16 = 9443;
/// What clients ask for; the servers' readiness probe asks the same.
const PAGE: &str = "/oauth2/token/.well-known/openid-configuration";
/// Most requests of one test.
const REQUESTS_MAX: u64 = 100_000;
/// Whom clients take the balancer for.
pub const CLIENT: Client = Client::plain("login.example.org");

/// HAProxy, which ends with the test.
struct Balancer {
    program: Child,
    socket: PathBuf,
    clients: SocketAddr,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

impl Balancer {
    /// In front of the servers of `small`; `None` where HAProxy is not installed, which it says.
    async fn start(small: &Small) -> Result<Option<Self>> {
        let dir = small.site.path("haproxy");
        fs::create_dir(&dir)?;
        let (socket, file) = (dir.join("admin.sock"), dir.join("haproxy.cfg"));
        let clients = SocketAddr::from((Ipv4Addr::LOCALHOST, CLIENTS + small.site.offset(7)));
        let servers = NODES.iter().enumerate().map(|(index, node)| {
            let port = 9443 + small.site.offset(u16::try_from(index).unwrap_or_default());
            format!("    server {node} 127.0.0.1:{port}\n")
        });
        let text = format!(
            "global\n    stats socket {} mode 600 level admin\n    maxconn 200\n\
             defaults\n    mode http\n    retries 0\n    timeout connect 2s\n    timeout client 60s\n    \
             timeout server 60s\n\
             frontend clients\n    bind {clients}\n    default_backend identity\n\
             backend identity\n    option httpchk GET {PAGE}\n    \
             default-server ssl verify none check inter 1s fall 3 rise 2\n{}",
            socket.display(),
            servers.collect::<String>(),
        );
        fs::write(&file, text)?;
        let log = fs::File::create(dir.join("haproxy.log"))?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let program = match command.spawn() {
            Ok(program) => program,
            Err(error) => {
                println!("NOT EXERCISED: a real HAProxy: {error}");
                return Ok(None);
            }
        };
        let balancer = Self { program, socket, clients };
        until("HAProxy to listen", LIMIT, async || Ok(TcpStream::connect(clients).await.ok().map(drop)))
            .await
            .with_context(|| fs::read_to_string(dir.join("haproxy.log")).unwrap_or_default())?;
        Ok(Some(balancer))
    }

    /// Hooks of a group whose servers are taken out before a stop and put back afterwards.
    fn hooks(&self) -> String {
        let hook = |point: &str| {
            format!(
                "\n[groups.key-manager.hooks.{point}]\nkind = \"haproxy\"\nsocket = {:?}\nbackend = \"identity\"\n",
                self.socket
            )
        };
        format!("{}settle = \"20s\"\n{}", hook("before_stop"), hook("after_ready"))
    }
}

/// A fleet that serves clients through HAProxy.
async fn behind(with_hooks: bool) -> Result<Option<(Small, Balancer)>> {
    let mut small = Small::open().await?;
    let Some(balancer) = Balancer::start(&small).await? else { return Ok(None) };
    for agent in &mut small.site.agents {
        agent.kill().await?;
        agent.add_setting(&format!("[allow]\nsockets = [{:?}]", balancer.socket))?;
        agent.start()?;
    }
    if with_hooks {
        let plain = small.fleet.read("fleet.toml")?;
        small.fleet.write("fleet.toml", plain + &balancer.hooks())?;
    }
    small.apply().await?;
    Ok(Some((small, balancer)))
}

/// Makes a change that both servers restart for while clients ask, and returns the answered and the failed requests: of
/// the change alone, or as many as `CONVOY_REQUESTS` asks for, as `cargo xtask proof requests` does.
pub async fn changed_under_load(
    small: &Small,
    (client, clients): (&Client, SocketAddr),
    change: impl AsyncFnOnce() -> Result<()>,
) -> Result<(u64, u64)> {
    let mut before = Vec::new();
    for node in NODES {
        before.push(pid(&small.ready(node).await?)?);
    }
    // Without hooks nobody waited for HAProxy yet.
    served(clients).await?;
    let load = loaded(client, clients).await?;
    change().await?;
    for (node, before) in NODES.into_iter().zip(before) {
        ensure!(pid(&small.ready(node).await?)? != before, "{node} was not restarted");
    }
    let after = load.answered();
    until("answers behind the rollout", LIMIT, async || {
        let answered = load.answered();
        Ok((REQUESTS_MAX <= answered || after + 100 < answered).then_some(()))
    })
    .await?;
    let least: u64 = env::var("CONVOY_REQUESTS").ok().map_or(Ok(0), |count| count.parse())?;
    until("as many answers as are asked for", LIMIT * 5, async || {
        Ok((least.min(REQUESTS_MAX) <= load.answered()).then_some(()))
    })
    .await?;
    let (answered, failed) = load.end().await;
    println!("{answered} requests answered, {failed} failed");
    Ok((answered, failed))
}

/// Waits until the balancer serves.
pub async fn served(clients: SocketAddr) -> Result<()> {
    until("an answer through the balancer", LIMIT, async || {
        Ok(CLIENT.finds(clients.port(), PAGE).await.then_some(()))
    })
    .await
}

/// Clients that ask, once they are on their way.
pub async fn loaded(client: &Client, clients: SocketAddr) -> Result<Load> {
    let load = Load::start(client, (clients.port(), PAGE), REQUESTS_MAX, |error| {
        println!("a request failed: {error:#}");
    });
    until("the load to be on its way", LIMIT, async || Ok((1_000 < load.answered()).then_some(()))).await?;
    Ok(load)
}

async fn restarted_under_load(small: &Small, balancer: &Balancer) -> Result<(u64, u64)> {
    changed_under_load(small, (&CLIENT, balancer.clients), async || {
        small.fleet.write("config/common.toml", common("second"))?;
        small.apply().await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_rollout_behind_haproxy_loses_no_request() -> Result<()> {
    let Some((small, balancer)) = behind(true).await? else { return Ok(()) };
    let (answered, failed) = restarted_under_load(&small, &balancer).await?;
    ensure!(failed == 0, "{failed} requests failed, {answered} were answered");
    let events = small.site.operator().done(["events", "--last", "500"]).await?;
    ensure!(!events.contains("hook-failed"), "{events}");
    Ok(())
}

#[tokio::test]
async fn without_hooks_the_same_rollout_loses_requests() -> Result<()> {
    let Some((small, balancer)) = behind(false).await? else { return Ok(()) };
    let (answered, failed) = restarted_under_load(&small, &balancer).await?;
    ensure!(0 < failed, "{answered} requests were answered and none failed: the other test proves nothing");
    Ok(())
}
