//! A real HAProxy with health checks of its own in front of two Identity Servers, and clients that never pause: a
//! rollout that restarts both servers, one after the other, loses no request.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use convoy_tests::harness::{LIMIT, until};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::small::{NODES, Small, common, pid};

/// Where HAProxy listens for clients, before the offset that is this test's alone.
const CLIENTS: u16 = 9443;
/// What clients ask for; the servers' readiness probe asks the same.
const PAGE: &str = "/oauth2/token/.well-known/openid-configuration";
/// Clients that send one request after the other.
pub const AT_ONCE: usize = 8;
/// Most requests of one test.
pub const REQUESTS_MAX: u64 = 100_000;

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

/// What clients saw.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicU64,
    failed: AtomicU64,
}

/// Clients that ask without a pause until they are stopped.
pub struct Load {
    seen: Arc<Seen>,
    is_over: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    pub fn start(address: SocketAddr) -> Self {
        let (seen, is_over) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (seen, is_over) = (seen.clone(), is_over.clone());
            clients.spawn(async move {
                let mut connection = None;
                while !is_over.load(Ordering::Relaxed) && seen.answered.load(Ordering::Relaxed) < REQUESTS_MAX
                {
                    let counter = match ask(&mut connection, address).await {
                        Ok(()) => &seen.answered,
                        Err(error) => {
                            println!("a request failed: {error:#}");
                            connection = None;
                            &seen.failed
                        }
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { seen, is_over, clients }
    }

    pub fn answered(&self) -> u64 {
        self.seen.answered.load(Ordering::Relaxed)
    }

    /// Answered and failed requests in the end.
    pub async fn end(mut self) -> (u64, u64) {
        self.is_over.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        (self.answered(), self.seen.failed.load(Ordering::Relaxed))
    }
}

/// One request over a connection that is kept.
pub async fn ask(connection: &mut Option<SendRequest<Empty<Bytes>>>, address: SocketAddr) -> Result<()> {
    let sender = match connection {
        Some(sender) if !sender.is_closed() => sender,
        _ => {
            let stream = TcpStream::connect(address).await.context("cannot connect")?;
            let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(async move { drop(driver.await) });
            connection.insert(sender)
        }
    };
    sender.ready().await?;
    let request = http::Request::get(PAGE).header("host", "login.example.org").body(Empty::new())?;
    let answer = sender.send_request(request).await.context("no answer")?;
    let status = answer.status();
    answer.into_body().collect().await.context("half an answer")?;
    ensure!(status.is_success(), "{status}");
    Ok(())
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

/// Changes what both servers read while clients ask, and returns the answered and the failed requests.
async fn changed_under_load(small: &Small, balancer: &Balancer) -> Result<(u64, u64)> {
    let mut before = Vec::new();
    for node in NODES {
        before.push(pid(&small.ready(node).await?)?);
    }
    // Without hooks nobody waited for HAProxy yet.
    let clients = balancer.clients;
    until("the first answer", LIMIT, async || Ok(ask(&mut None, clients).await.ok())).await?;
    let load = Load::start(clients);
    until("the load to be on its way", LIMIT, async || Ok((1_000 < load.answered()).then_some(()))).await?;
    small.fleet.write("config/common.toml", common("second"))?;
    small.apply().await?;
    for (node, before) in NODES.into_iter().zip(before) {
        ensure!(pid(&small.ready(node).await?)? != before, "{node} was not restarted");
    }
    let after = load.answered();
    until("answers behind the rollout", LIMIT, async || {
        let answered = load.answered();
        Ok((REQUESTS_MAX <= answered || after + 100 < answered).then_some(()))
    })
    .await?;
    let (answered, failed) = load.end().await;
    println!("{answered} requests answered, {failed} failed");
    Ok((answered, failed))
}

#[tokio::test]
async fn a_rollout_behind_haproxy_loses_no_request() -> Result<()> {
    let Some((small, balancer)) = behind(true).await? else { return Ok(()) };
    let (answered, failed) = changed_under_load(&small, &balancer).await?;
    ensure!(failed == 0, "{failed} requests failed, {answered} were answered");
    let events = small.site.operator().done(["events", "--last", "500"]).await?;
    ensure!(!events.contains("hook-failed"), "{events}");
    Ok(())
}

#[tokio::test]
async fn without_hooks_the_same_rollout_loses_requests() -> Result<()> {
    let Some((small, balancer)) = behind(false).await? else { return Ok(()) };
    let (answered, failed) = changed_under_load(&small, &balancer).await?;
    ensure!(0 < failed, "{answered} requests were answered and none failed: the other test proves nothing");
    Ok(())
}
