//! HAProxy's runtime socket, as far as hooks need it: a server's state is set, and waited for. The agent of an NGINX
//! answers at a socket of its own as HAProxy does (`crate::balancer`).

use std::time::Duration;

use fleet::{
    balancer::Kind,
    call::{HaproxyCall, HaproxyState, Listens},
    time::Human,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use super::told;

/// What `show stat` says of a load balancer with many servers, bytes.
const STAT_MAX: u64 = 1024 * 1024;
/// Between two looks at a server that is waited for.
const LOOK: Duration = Duration::from_millis(250);
/// For HAProxy to say what it does with a server.
const ROTATION_TIME: Duration = Duration::from_secs(5);
/// The statistics of every server (type 4) of every proxy.
const SERVERS: &str = "show stat -1 4 -1";

/// Sets the server's state. A server that is put back is waited for within `most`: HAProxy takes the order at once, and
/// sends no request there until its own health check has succeeded as often as `rise` says.
///
/// # Errors
/// What HAProxy said to the order, or how it saw the server last.
pub(super) async fn set(call: &HaproxyCall, most: Duration) -> Result<String, String> {
    let HaproxyCall { balancer, socket, backend, server, state, listens } = call;
    let title = balancer.title();
    if let (Some(listens), HaproxyState::Ready) = (listens, state) {
        tell_ports(call, *listens).await?;
    }
    let order = format!("set server {backend}/{server} state {}", state.as_str());
    let answer = runtime_command(socket, &order).await?;
    // It says nothing when it has done so.
    match (answer.trim(), state) {
        ("", HaproxyState::Ready) => served(call, most).await,
        // Its configuration does not have it yet: a node that is new, or the first apply of the balancer itself.
        ("No such server." | "No such backend.", HaproxyState::Ready) => Ok(format!(
            "{title} has no server {backend}/{server}, so there was nothing to put back; it gets requests once the \
             configuration of {title} names it"
        )),
        ("", HaproxyState::Drain | HaproxyState::Maint) => Ok("done".to_owned()),
        (said, _) => Err(format!("it said: {}", told(said))),
    }
}

/// A server that listens elsewhere than HAProxy thinks would be waited for in vain: its file changes only afterwards.
async fn tell_ports(call: &HaproxyCall, listens: Listens) -> Result<(), String> {
    let HaproxyCall { socket, backend, server, .. } = call;
    // One that HAProxy does not have yet is no matter here.
    let Some(known) = known_ports(call).await? else { return Ok(()) };
    if known.port != listens.port.to_string() {
        let order = format!("set server {backend}/{server} addr {} port {}", known.address, listens.port);
        runtime_command(socket, &order).await?;
    }
    if let Some(check) = listens.check.filter(|check| known.check != check.to_string()) {
        runtime_command(socket, &format!("set server {backend}/{server} check-port {check}")).await?;
    }
    // What it answers are words for people; whether it took them, its table says.
    match known_ports(call).await? {
        Some(now) if now.port != listens.port.to_string() => Err(format!(
            "it keeps sending requests to port {}, and the server listens on {}",
            told(&now.port),
            listens.port
        )),
        Some(_) | None => Ok(()),
    }
}

struct KnownPorts {
    address: String,
    port: String,
    check: String,
}

/// HAProxy's management guide, 9.3, `show servers state`: srv_name is the fourth field, srv_addr the fifth, srv_port the
/// nineteenth, srv_check_port the twenty-second.
async fn known_ports(call: &HaproxyCall) -> Result<Option<KnownPorts>, String> {
    let answer = runtime_command(&call.socket, &format!("show servers state {}", call.backend)).await?;
    let found = answer.lines().map(|line| line.split(' ').collect::<Vec<&str>>()).find(|fields| {
        fields.get(1) == Some(&call.backend.as_str()) && fields.get(3) == Some(&call.server.as_str())
    });
    let text = |fields: &[&str], at: usize| fields.get(at).copied().unwrap_or_default().to_owned();
    Ok(found.map(|fields| KnownPorts {
        address: text(&fields, 4),
        port: text(&fields, 18),
        check: text(&fields, 21),
    }))
}

/// Waits until requests are sent to the server, for less than `most`, so that there is time to say why not.
async fn served(call: &HaproxyCall, most: Duration) -> Result<String, String> {
    let (begin, most) = (Instant::now(), most.saturating_sub(2 * LOOK));
    loop {
        let stat = runtime_command(&call.socket, SERVERS).await?;
        let why = match Statistics::of(&stat, call) {
            Some(seen) if seen.is_served() && begin.elapsed() < LOOK => return Ok("done".to_owned()),
            Some(seen) if seen.is_served() => {
                return Ok(format!("done; in service after {:.1} s", begin.elapsed().as_secs_f64()));
            }
            Some(seen) => seen.described(),
            None => "its statistics do not name the server".to_owned(),
        };
        if most <= begin.elapsed() {
            let waited = Human(begin.elapsed());
            return Err(format!("it was told so, and sends no requests there after {waited}: {why}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until no session is left, for so long at most; says how it ended.
pub(super) async fn drained(call: &HaproxyCall, most: Duration) -> String {
    let begin = Instant::now();
    // An old worker of NGINX has sessions until it ends.
    let what = |count: u64| match (call.balancer, count) {
        (Kind::Haproxy, 1) => "session",
        (Kind::Haproxy, _) => "sessions",
        (Kind::Nginx, 1) => "old worker",
        (Kind::Nginx, _) => "old workers",
    };
    loop {
        let left = match tokio::time::timeout(most, runtime_command(&call.socket, SERVERS)).await {
            Ok(Ok(stat)) => Statistics::of(&stat, call).and_then(|seen| seen.sessions),
            Ok(Err(_)) | Err(_) => None,
        };
        if left == Some(0) {
            return format!("no {} left after {:.1} s", what(1), begin.elapsed().as_secs_f64());
        }
        if most <= begin.elapsed() {
            let count = left.map_or_else(|| "an unknown number of".to_owned(), |left| left.to_string());
            return format!("{count} {} left after {} s", what(left.unwrap_or(0)), most.as_secs());
        }
        tokio::time::sleep(LOOK.min(most)).await;
    }
}

/// What HAProxy does with the server of a call. `None`: it cannot be asked, or has no such server. A server that is down
/// is none that somebody took out.
pub async fn rotation(call: &HaproxyCall) -> Option<HaproxyState> {
    let stat = tokio::time::timeout(ROTATION_TIME, runtime_command(&call.socket, SERVERS)).await;
    let stat = stat.ok()?.ok()?;
    let seen = Statistics::of(&stat, call)?;
    // With more behind it where something else decided so: `MAINT (via wso2/is-2)`.
    let is = |word: &str| seen.status.split([' ', '(']).next() == Some(word);
    Some(if is("MAINT") {
        HaproxyState::Maint
    } else if is("DRAIN") {
        HaproxyState::Drain
    } else {
        HaproxyState::Ready
    })
}

/// One server in the CSV of `show stat` (HAProxy's management guide, 9.1).
struct Statistics<'a> {
    /// Current sessions.
    sessions: Option<u64>,
    /// `UP`, `DOWN 1/2`, `no check`, ...
    status: &'a str,
    /// Of the last health check: `L4CON`, `L7STS`, ...
    check: &'a str,
    /// The HTTP status that the last health check got.
    code: &'a str,
}

impl<'a> Statistics<'a> {
    /// `None` if the server is not there.
    fn of(stat: &'a str, call: &HaproxyCall) -> Option<Self> {
        let mut lines = stat.lines();
        let header: Vec<&str> = lines.next()?.trim_start_matches('#').trim().split(',').collect();
        let column = |name: &str| header.iter().position(|known| *known == name);
        let (proxy, server) = (column("pxname")?, column("svname")?);
        let fields = lines.map(|line| line.split(',').collect::<Vec<&str>>()).find(|fields| {
            fields.get(proxy) == Some(&call.backend.as_str())
                && fields.get(server) == Some(&call.server.as_str())
        })?;
        let field = |name: &str| column(name).and_then(|at| fields.get(at).copied()).unwrap_or_default();
        Some(Self {
            sessions: field("scur").parse().ok(),
            status: field("status"),
            check: field("check_status"),
            code: field("check_code"),
        })
    }

    /// Whether new requests are sent there. `UP 1/3` is up and has missed checks; `NOLB` takes none but old sessions.
    fn is_served(&self) -> bool {
        self.status.starts_with("UP") || self.status == "no check"
    }

    fn described(&self) -> String {
        let check = [self.check, self.code].map(str::trim).join(" ");
        match check.trim() {
            "" => format!("it holds the server {}", told(self.status)),
            check => format!("it holds the server {} (health check: {})", told(self.status), told(check)),
        }
    }
}

/// One command of the runtime socket and its answer.
///
/// # Errors
/// Nobody listens there, or it breaks off.
pub(crate) async fn runtime_command(socket: &str, command: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    if let Ok(address) = socket.parse::<std::net::SocketAddr>() {
        return spoken(TcpStream::connect(address).await.map_err(failed)?, command).await.map_err(failed);
    }
    #[cfg(unix)]
    return spoken(tokio::net::UnixStream::connect(socket).await.map_err(failed)?, command)
        .await
        .map_err(failed);
    #[cfg(not(unix))]
    return Err("there are no unix sockets here; use 127.0.0.1:PORT".to_owned());
}

async fn spoken(mut stream: impl AsyncRead + AsyncWrite + Unpin, command: &str) -> std::io::Result<String> {
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    // HAProxy closes after the answer to a command that was not sent in interactive mode.
    stream.take(STAT_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
