//! Which TCP sockets listen, asked of the kernel by netlink (sock_diag).
//!
//! The tables in /proc/net name every connection of the host, so reading them costs more the busier the host is. Here the
//! kernel walks its listening sockets only. Where it does not answer (no netlink in a sandbox), callers read the tables.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
    netlink::{self, SocketAddrNetlink},
    recv, sendto, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

/// A kernel that does not answer is given up.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// The kernel fills at most a page or so per datagram.
const DATAGRAM_MAX: usize = 64 * 1024;

const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
/// Of `inet_diag_msg`.
const ENTRY: usize = 72;
/// Answers of one question at most: a host has some hundred listening sockets.
const LISTENING_MAX: usize = 100_000;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const FLAGS: u16 = 0x301;
const IPPROTO_TCP: u8 = 6;
/// A set of states that holds only `TCP_LISTEN`.
const LISTEN: u32 = 1 << 10;

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Its local address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// What descriptors of it are known by.
    pub inode: u64,
}

/// All listening TCP sockets of this network namespace, or those of one port.
///
/// # Errors
/// The kernel does not answer questions of this kind.
pub fn listening(port: Option<u16>) -> io::Result<Vec<Listening>> {
    let mut found = ask(AddressFamily::INET, port)?;
    // Java listens on IPv6 by default: half an answer would say that a server does not listen.
    found.extend(ask(AddressFamily::INET6, port)?);
    Ok(found)
}

fn ask(family: AddressFamily, port: Option<u16>) -> io::Result<Vec<Listening>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIME))?;
    let question = question(u8::try_from(family.as_raw()).unwrap_or(0), port.unwrap_or(0));
    sendto(&socket, &question, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut found = Vec::new();
    while found.len() < LISTENING_MAX {
        let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let datagram = buffer.get(..length).unwrap_or_default();
        if read(datagram, &mut found)? == Rest::Over || datagram.is_empty() {
            return Ok(found);
        }
    }
    Ok(found)
}

/// `nlmsghdr` and `inet_diag_req_v2`. Numbers are in this machine's byte order, ports in the network's.
fn question(family: u8, port: u16) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    let length = u32::try_from(REQUEST).unwrap_or(0);
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&FLAGS.to_ne_bytes());
    bytes[16] = family;
    bytes[17] = IPPROTO_TCP;
    bytes[20..24].copy_from_slice(&LISTEN.to_ne_bytes());
    bytes[24..26].copy_from_slice(&port.to_be_bytes());
    bytes
}

/// Whether more of the answer is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Follows,
    Over,
}

/// One datagram of the answer.
fn read(mut datagram: &[u8], found: &mut Vec<Listening>) -> io::Result<Rest> {
    while let Some(header) = datagram.get(..HEADER) {
        let length = usize::try_from(u32_at(header, 0)).unwrap_or(usize::MAX);
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = datagram.get(HEADER..length) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a cut answer of the kernel"));
        };
        match kind {
            NLMSG_DONE => return Ok(Rest::Over),
            NLMSG_ERROR => {
                let code =
                    body.get(..4).map_or(0, |code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]]));
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY => found.extend(entry(body)),
            // A message of a later kernel.
            _ => {}
        }
        // Messages begin at multiples of four.
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Rest::Follows)
}

fn entry(body: &[u8]) -> Option<Listening> {
    let body: &[u8; ENTRY] = body.first_chunk()?;
    let source: [u8; 16] = *body[8..].first_chunk()?;
    let address = match body[0] {
        // AF_INET; in the network's byte order.
        2 => IpAddr::V4(Ipv4Addr::new(source[0], source[1], source[2], source[3])),
        _ => IpAddr::V6(Ipv6Addr::from(source)).to_canonical(),
    };
    Some(Listening {
        address,
        port: u16::from_be_bytes([body[4], body[5]]),
        inode: u64::from(u32_at(body, ENTRY - 4)),
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_ne_bytes(*four))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernel_names_a_listening_socket_of_this_process_and_not_one_that_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let Ok(all) = listening(None) else {
            eprintln!("skipped: this system answers no netlink");
            return;
        };
        let own = |sockets: &[Listening]| sockets.iter().find(|socket| socket.port == port).copied();
        let socket = own(&all).expect("it listens");
        assert_eq!(socket.address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(listening(Some(port)).unwrap(), [socket], "the kernel filters by port");
        let link = format!("socket:[{}]", socket.inode);
        let held = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let held = held.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        assert!(held.into_iter().any(|to| to.to_str() == Some(&link)), "{link}");
        drop(listener);
        assert_eq!(listening(Some(port)).unwrap(), []);
    }

    #[test]
    fn an_answer_that_is_cut_or_refused_is_an_error() {
        let mut found = Vec::new();
        let mut message = [0; 20];
        message[0..4].copy_from_slice(&20_u32.to_ne_bytes());
        message[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        message[16..20].copy_from_slice(&(-13_i32).to_ne_bytes());
        assert_eq!(read(&message, &mut found).unwrap_err().raw_os_error(), Some(13));
        message[0..4].copy_from_slice(&21_u32.to_ne_bytes());
        assert_eq!(read(&message, &mut found).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(found, []);
    }
}
