//! The way to a coordinator through an HTTP proxy, for hosts that may not dial out: CONNECT, then TLS as ever. The proxy
//! learns the coordinator's name and port, and passes on bytes that it cannot read.

use std::{io, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::dial::{Network, Socket, Tcp};

/// Bytes of an answer's head that are read.
const HEAD_MAX: usize = 8192;

/// The network of this host, behind the proxy at `host:port` if there is one.
pub fn network(proxy: Option<&str>) -> Arc<dyn Network> {
    match proxy {
        None => Arc::new(Tcp),
        Some(address) => Arc::new(Proxied { address: address.to_owned() }),
    }
}

#[derive(Debug)]
struct Proxied {
    address: String,
}

impl Network for Proxied {
    fn connect(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Box<dyn Socket>>> {
        let address = self.address.clone();
        async move {
            let told = |error: io::Error| io::Error::new(error.kind(), format!("proxy {address}: {error}"));
            let mut stream = TcpStream::connect(&address).await.map_err(told)?;
            stream.set_nodelay(true)?;
            connect_through(&mut stream, &host, port).await.map_err(told)?;
            Ok(Box::new(stream) as Box<dyn Socket>)
        }
        .boxed()
    }
}

/// Asks for a tunnel. Nothing is read beyond the answer's head: what follows is the coordinator's.
async fn connect_through(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    port: u16,
) -> io::Result<()> {
    let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let asked = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(asked.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if HEAD_MAX <= head.len() {
            return Err(io::Error::other("its answer is no HTTP"));
        }
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let first = head.lines().next().unwrap_or_default();
    let mut words = first.splitn(3, ' ');
    let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !version.starts_with("HTTP/1.") || status.len() != 3 {
        return Err(io::Error::other("its answer is no HTTP"));
    }
    if !status.starts_with('2') {
        let said: String = first.chars().filter(|c| !c.is_control()).take(120).collect();
        return Err(io::Error::other(format!("it refuses a tunnel to {target}: {said}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a proxy is asked, and what is made of its answer.
    async fn asked(host: &str, answer: &str) -> (String, Result<String, String>) {
        let (mut ours, mut theirs) = tokio::io::duplex(16 * 1024);
        theirs.write_all(answer.as_bytes()).await.unwrap();
        let outcome = connect_through(&mut ours, host, 7843).await.map_err(|error| error.to_string());
        let mut question = vec![0; 4096];
        let read = theirs.read(&mut question).await.unwrap();
        drop(theirs);
        let mut rest = String::new();
        ours.read_to_string(&mut rest).await.unwrap();
        (String::from_utf8_lossy(&question[..read]).into_owned(), outcome.map(|()| rest))
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_and_what_follows_the_answer_is_the_coordinators() {
        let (question, rest) =
            asked("convoy.acme", "HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\nTLS").await;
        assert_eq!(question, "CONNECT convoy.acme:7843 HTTP/1.1\r\nHost: convoy.acme:7843\r\n\r\n");
        assert_eq!(rest.as_deref(), Ok("TLS"));
        let (question, _) = asked("::1", "HTTP/1.0 200\r\n\r\n").await;
        assert!(question.starts_with("CONNECT [::1]:7843 "), "{question}");
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_proxys_words_and_nonsense_as_such() {
        let long = "x".repeat(9000);
        let table = [
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "it refuses a tunnel to c:7843: HTTP/1.1 403 Forbidden"),
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
                "it refuses a tunnel to c:7843: HTTP/1.1 407 Proxy Authentication Required",
            ),
            ("SSH-2.0-OpenSSH_9\r\n\r\n", "its answer is no HTTP"),
            (long.as_str(), "its answer is no HTTP"),
        ];
        for (answer, expected) in table {
            assert_eq!(asked("c", answer).await.1, Err(expected.to_owned()));
        }
    }
}
