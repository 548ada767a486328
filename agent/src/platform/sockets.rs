//! Who listens on which TCP port. Linux reads /proc, macOS asks `lsof`, Windows asks `netstat`: all three are parts of
//! their systems, and none needs privileges for the agent's own processes.

use std::net::{IpAddr, Ipv4Addr};
#[cfg(any(test, target_os = "linux"))]
use std::{collections::BTreeMap, net::Ipv6Addr};

use fleet::preflight::facts::Seen;

/// A listening TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket {
    /// The local address; unspecified means all of the host's.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Who holds it; `None` if this user is not told.
    pub pid: Option<u32>,
}

/// All listening TCP sockets, IPv4 and IPv6.
///
/// # Errors
/// The system's tables cannot be read: why.
pub fn listening() -> Seen<Vec<Socket>> {
    #[cfg(target_os = "linux")]
    let sockets = linux::listening();
    #[cfg(all(unix, not(target_os = "linux")))]
    let sockets = output_of("lsof", &["-nP", "-iTCP", "-sTCP:LISTEN", "-Fpn"]).map(|text| from_lsof(&text));
    #[cfg(windows)]
    let sockets = output_of("netstat", &["-ano", "-p", "TCP"]).and_then(|four| {
        Ok(from_netstat(&format!("{four}\n{}", output_of("netstat", &["-ano", "-p", "TCPv6"])?)))
    });
    sockets
}

/// Inodes of the sockets that listen on a port.
///
/// # Errors
/// The system's tables cannot be read: why.
#[cfg(target_os = "linux")]
pub fn inodes_on(port: u16) -> Seen<std::collections::BTreeSet<u64>> {
    Ok(linux::inodes(Some(port))?.into_keys().collect())
}

/// The ports on which any of these processes listens.
///
/// # Errors
/// The system's tables cannot be read: why.
pub fn ports_of(pids: &[u32]) -> Seen<Vec<u16>> {
    let own = |socket: &Socket| socket.pid.is_some_and(|pid| pids.contains(&pid));
    let mut ports: Vec<u16> = listening()?.iter().filter(|socket| own(socket)).map(|it| it.port).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// Whether this process listens on the port, by what the system tells of its sockets; `None` if it does not tell whose
/// they are.
#[cfg(any(test, not(target_os = "linux")))]
pub fn is_held_by(sockets: &[Socket], port: u16, pid: u32) -> Option<bool> {
    let mut on_port = sockets.iter().filter(|socket| socket.port == port);
    if on_port.clone().any(|socket| socket.pid == Some(pid)) {
        return Some(true);
    }
    let tells = sockets.iter().any(|socket| socket.pid.is_some());
    (tells && on_port.all(|socket| socket.pid.is_some())).then_some(false)
}

#[cfg(not(target_os = "linux"))]
fn output_of(program: &str, args: &[&str]) -> Seen<String> {
    let output = std::process::Command::new(program)
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("{program} does not run: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `/proc/net/tcp` or `tcp6`: address and port by socket inode, listening ones only (state 0A).
#[cfg(any(test, target_os = "linux"))]
fn from_proc(text: &str) -> BTreeMap<u64, (IpAddr, u16)> {
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        if *state != "0A" {
            return None;
        }
        let (address, port) = local.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some((inode.parse().ok()?, (kernel_address(address)?, port)))
    };
    text.lines().skip(1).filter_map(entry).collect()
}

/// The kernel prints each 32 bits of an address as the number that this machine reads in its own byte order.
#[cfg(any(test, target_os = "linux"))]
fn kernel_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_mut(4).enumerate() {
                part.copy_from_slice(&word(index * 8)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

/// `*`, `127.0.0.1`, `[::1]`, with or without a zone.
#[cfg(any(test, not(target_os = "linux")))]
fn printed_address(text: &str) -> IpAddr {
    let plain = text.trim_matches(['[', ']']).split('%').next().unwrap_or_default();
    plain.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// `lsof -Fpn`: a line `p<pid>` before the lines `n<host>:<port>` of that process.
#[cfg(any(test, all(unix, not(target_os = "linux"))))]
fn from_lsof(text: &str) -> Vec<Socket> {
    let mut pid = None;
    let mut sockets = Vec::new();
    for line in text.lines() {
        if let Some(number) = line.strip_prefix('p') {
            pid = number.parse().ok();
        } else if let Some((address, port)) = line.strip_prefix('n').and_then(|name| name.rsplit_once(':')) {
            let address = printed_address(address);
            sockets.extend(port.parse().ok().map(|port| Socket { address, port, pid }));
        }
    }
    sockets
}

/// `netstat -ano`: a listening socket is known by its remote end, since the word LISTENING is translated.
#[cfg(any(test, windows))]
fn from_netstat(text: &str) -> Vec<Socket> {
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (protocol, local, remote, pid) =
            (fields.first()?, fields.get(1)?, fields.get(2)?, fields.last()?);
        if !protocol.starts_with("TCP") || !(*remote == "0.0.0.0:0" || *remote == "[::]:0") {
            return None;
        }
        let (address, port) = local.rsplit_once(':')?;
        Some(Socket { address: printed_address(address), port: port.parse().ok()?, pid: pid.parse().ok() })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{collections::BTreeMap, fs, net::IpAddr};

    use super::{Seen, Socket, from_proc};
    use crate::platform::sock_diag;

    /// Address and port of the listening sockets, or of those on one port, by inode.
    pub(super) fn inodes(port: Option<u16>) -> Seen<BTreeMap<u64, (IpAddr, u16)>> {
        if let Ok(sockets) = sock_diag::listening(port) {
            return Ok(sockets.iter().map(|it| (it.inode, (it.address, it.port))).collect());
        }
        let mut ports = BTreeMap::new();
        let four = fs::read_to_string("/proc/net/tcp").map_err(|error| format!("/proc/net/tcp: {error}"))?;
        ports.extend(from_proc(&four));
        // A host without IPv6 has no such table.
        ports.extend(from_proc(&fs::read_to_string("/proc/net/tcp6").unwrap_or_default()));
        ports.retain(|_, (_, of)| port.is_none_or(|port| port == *of));
        Ok(ports)
    }

    pub(super) fn listening() -> Seen<Vec<Socket>> {
        let ports = inodes(None)?;
        let mut sockets: Vec<Socket> = Vec::new();
        let holders = holders(&ports);
        for (inode, (address, port)) in ports {
            match holders.get(&inode) {
                // A socket inherited by a child belongs to both.
                Some(pids) => {
                    sockets.extend(pids.iter().map(|&pid| Socket { address, port, pid: Some(pid) }));
                }
                None => sockets.push(Socket { address, port, pid: None }),
            }
        }
        Ok(sockets)
    }

    /// Processes by the inode of a listening socket that they hold, as far as this user may look.
    fn holders(ports: &BTreeMap<u64, (IpAddr, u16)>) -> BTreeMap<u64, Vec<u32>> {
        let mut holders: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let Ok(processes) = fs::read_dir("/proc") else { return holders };
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
            for descriptor in descriptors.flatten() {
                let Ok(target) = fs::read_link(descriptor.path()) else { continue };
                let inode = target
                    .to_str()
                    .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok());
                if let Some(inode) = inode.filter(|inode| ports.contains_key(inode)) {
                    let pids = holders.entry(inode).or_default();
                    if !pids.contains(&pid) {
                        pids.push(pid);
                    }
                }
            }
        }
        holders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:24E3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0\n\
             1: 0100007F:24E4 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0\n\
             2: 00000000000000000000000000000000:2613 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 4713 1\n";
        let found = from_proc(text);
        let at = |inode: u64| found.get(&inode).map(|(address, port)| format!("{address} {port}"));
        assert_eq!(found.len(), 2);
        // The table is in this machine's byte order; the sample is of one that stores the small end first.
        #[cfg(target_endian = "little")]
        assert_eq!(at(4711).as_deref(), Some("127.0.0.1 9443"));
        assert_eq!(at(4713).as_deref(), Some(":: 9747"));
    }

    #[test]
    fn lsof_is_read() {
        let text = "p312\nf5\nn*:9443\nf6\nn127.0.0.1:9999\np400\nn[::1]:5432\n";
        let socket =
            |address: &str, port, pid| Socket { address: address.parse().unwrap(), port, pid: Some(pid) };
        let expected =
            [socket("0.0.0.0", 9443, 312), socket("127.0.0.1", 9999, 312), socket("::1", 5432, 400)];
        assert_eq!(from_lsof(text), expected);
    }

    #[test]
    fn netstat_is_read_in_every_language() {
        let text = "\r\nAktive Verbindungen\r\n\r\n  Proto  Lokale Adresse  Remoteadresse  Status  PID\r\n\
             \u{20} TCP    0.0.0.0:9443     0.0.0.0:0        ABH\u{d6}REN      312\r\n\
             \u{20} TCP    127.0.0.1:9443   127.0.0.1:50123  HERGESTELLT  312\r\n\
             \u{20} TCP    [::]:9763        [::]:0           LISTENING    312\r\n";
        let socket = |address: &str, port| Socket { address: address.parse().unwrap(), port, pid: Some(312) };
        assert_eq!(from_netstat(text), [socket("0.0.0.0", 9443), socket("::", 9763)]);
    }

    #[test]
    fn a_socket_without_an_owner_is_nobodys_and_not_anothers() {
        let socket = |port, pid| Socket { address: Ipv4Addr::UNSPECIFIED.into(), port, pid };
        let sockets = [socket(9443, Some(312)), socket(9763, Some(400)), socket(9999, None)];
        let held = |port| is_held_by(&sockets, port, 312);
        assert_eq!([9443, 9763, 9999, 1].map(held), [Some(true), Some(false), None, Some(false)]);
        assert_eq!(is_held_by(&[], 9443, 312), None);
    }

    #[cfg(not(windows))]
    #[test]
    fn a_socket_of_this_process_is_found_as_its_own() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let Ok(ports) = ports_of(&[std::process::id()]) else {
            eprintln!("skipped: this system tells nothing of its sockets");
            return;
        };
        assert!(ports.contains(&port), "{port} not in {ports:?}");
        assert!(!ports_of(&[1]).unwrap_or_default().contains(&port));
    }
}
