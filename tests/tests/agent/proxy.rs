//! An agent whose host may reach the coordinator only through an HTTP proxy.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use fleet::bundle::RunState;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::rig::Rig;

/// A proxy on this machine: its port, and how many tunnels it has made.
async fn proxy() -> Result<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (port, tunnels) = (listener.local_addr()?.port(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&tunnels);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move { tunnel(stream, &count).await });
        }
    });
    Ok((port, tunnels))
}

async fn tunnel(mut inner: TcpStream, count: &AtomicUsize) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(inner.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let mut outer = TcpStream::connect(target.context("no CONNECT")?).await?;
    inner.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    count.fetch_add(1, Ordering::SeqCst);
    copy_bidirectional(&mut inner, &mut outer).await?;
    Ok(())
}

#[tokio::test]
async fn it_joins_and_works_through_the_proxy() -> Result<()> {
    let (port, tunnels) = proxy().await?;
    let mut rig = Rig::open_with("wso2is-7.2", &format!("proxy = \"127.0.0.1:{port}\"")).await?;
    ensure!(tunnels.load(Ordering::SeqCst) == 1, "it joined through the proxy");
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    ensure!(tunnels.load(Ordering::SeqCst) == 2, "one connection for everything");
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() -> Result<()> {
    let rig = Rig::open("wso2is-7.2").await?;
    let gone = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    rig.agent.add_setting(&format!("proxy = \"{gone}\""))?;
    let (code, said) = rig.agent.doctor().await?;
    let line = said.lines().find(|line| line.contains("coordinator")).unwrap_or_default();
    ensure!(
        code == 1 && line.starts_with("fail") && line.contains(&format!("proxy {gone}")),
        "{code}:\n{said}"
    );
    Ok(())
}
