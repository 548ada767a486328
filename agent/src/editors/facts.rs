//! What /proc tells of a process. Read as soon as the process is heard of, since `cp` or a redirect of a shell has ended
//! a moment later.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fleet::editor::Editor;

use super::log::Writer;
use crate::process::is_server_of;

/// Processes that are remembered; beyond that all are looked at anew.
const KNOWN_MAX: usize = 1_000;
/// What is known of a process that has ended counts for this long: numbers are used again.
const GONE_TIME: Duration = Duration::from_secs(5);
/// How far up the way to the login is searched.
const ANCESTORS_MAX: usize = 16;
/// An audit login that was never set.
const NO_LOGIN: u32 = u32::MAX;
/// Major numbers of pseudo terminals begin here, 256 terminals each.
const PTS: u32 = 136;

/// The start of `/proc/PID/stat`.
struct Stat {
    name: String,
    parent: u32,
    terminal: u32,
    start: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The name is in parentheses and may itself hold spaces and parentheses.
    let (head, rest) = text.rsplit_once(')')?;
    let rest: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        name: head.split_once('(')?.1.to_owned(),
        parent: rest.get(1)?.parse().ok()?,
        terminal: rest.get(4)?.parse::<i32>().ok()?.cast_unsigned(),
        start: rest.get(19)?.parse().ok()?,
    })
}

/// The user with whose rights it writes.
fn user(pid: u32) -> Option<u32> {
    let bytes = fs::read(format!("/proc/{pid}/status")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn login(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|id| *id != NO_LOGIN)
}

/// `pts/3`, `tty1`; empty: none.
fn terminal(device: u32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        PTS..=143 => format!("pts/{}", (major - PTS) * 256 + minor),
        _ => String::new(),
    }
}

/// The address in `SSH_CONNECTION`. It is the session's own word, so anything that is none is left out.
fn remote(environment: &[u8]) -> Option<String> {
    let is_it = |line: &&[u8]| line.starts_with(b"SSH_CONNECTION=");
    let line = environment.split(|byte| *byte == 0).find(is_it)?;
    let value = String::from_utf8_lossy(line.get("SSH_CONNECTION=".len()..)?).into_owned();
    let address = value.split(' ').next()?;
    let plain = address.split('%').next()?;
    plain.parse::<std::net::IpAddr>().ok().map(|address| address.to_string())
}

/// Names of users by number. Those of a directory (SSSD, LDAP) come later than the first question.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(Arc<Mutex<BTreeMap<u32, Option<String>>>>);

impl Names {
    /// The name, or the number as long as no name is known.
    pub(super) fn of(&self, id: u32) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(&id) {
            return name.clone().unwrap_or_else(|| id.to_string());
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
        });
        known.insert(id, name.clone());
        drop(known);
        name.unwrap_or_else(|| {
            self.ask(id);
            id.to_string()
        })
    }

    /// The name service may be slow, so nobody waits for it.
    fn ask(&self, id: u32) {
        let names = self.clone();
        let asking = std::thread::Builder::new().name("names".to_owned()).spawn(move || {
            let Ok(output) = std::process::Command::new("id").args(["-nu", &id.to_string()]).output() else {
                return;
            };
            let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if output.status.success() && !name.is_empty() {
                names.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Some(name));
            }
        });
        // The number stays its name.
        drop(asking);
    }

    /// With the names that have come meanwhile.
    pub(super) fn resolve(&self, mut editor: Editor) -> Editor {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for word in [&mut editor.user, &mut editor.login] {
            let name = word.parse().ok().and_then(|id: u32| known.get(&id)).cloned().flatten();
            *word = name.unwrap_or_else(|| std::mem::take(word));
        }
        editor
    }
}

/// Processes that were heard of.
#[derive(Debug)]
pub(super) struct Processes {
    known: BTreeMap<u32, (Writer, Instant)>,
    names: Names,
}

impl Processes {
    /// None yet.
    pub(super) fn new(names: Names) -> Self {
        Self { known: BTreeMap::new(), names }
    }

    /// What can be known of a process now, or could be a moment ago.
    pub(super) fn see(&mut self, pid: i32, home: &Path, now: Instant) -> Writer {
        let pid = u32::try_from(pid).unwrap_or(0);
        let unseen = Writer { start: None, editor: Editor { pid, ..Editor::default() } };
        if pid == 0 {
            return unseen;
        }
        let Some(stat) = stat(pid) else {
            let known =
                self.known.get(&pid).filter(|(_, seen)| now.saturating_duration_since(*seen) < GONE_TIME);
            return known.map_or(unseen, |(writer, _)| writer.clone());
        };
        if let Some((writer, seen)) = self.known.get_mut(&pid)
            && writer.start == Some(stat.start)
            && writer.editor.process == stat.name
        {
            *seen = now;
            return writer.clone();
        }
        let writer = Writer { start: Some(stat.start), editor: self.look(pid, &stat, home) };
        if KNOWN_MAX <= self.known.len() {
            self.known.clear();
        }
        self.known.insert(pid, (writer.clone(), now));
        writer
    }

    fn look(&self, pid: u32, stat: &Stat, home: &Path) -> Editor {
        // Its own facts first: it may end at any moment.
        let (user, login) = (user(pid), login(pid));
        let is_server = stat.name == "java" && is_server_of(pid, home);
        let parent = self::stat(stat.parent).map(|parent| parent.name);
        let name = |id: Option<u32>| id.map_or_else(String::new, |id| self.names.of(id));
        Editor {
            pid,
            process: stat.name.clone(),
            user: name(user),
            login: name(login),
            parent: parent.unwrap_or_default(),
            terminal: terminal(stat.terminal),
            remote: origin(pid, stat.parent).unwrap_or_default(),
            is_server,
            circumstances: None,
        }
        .bounded()
    }
}

/// Where the session of a process came from. `sudo` and `su` take the variable away, and whoever edits may set it, so the
/// one farthest up counts: that is the shell which the SSH server started.
fn origin(pid: u32, parent: u32) -> Option<String> {
    let (mut next, mut found) = (pid, None);
    let mut above = Some(parent);
    for _ in 0..ANCESTORS_MAX {
        let environment = fs::read(format!("/proc/{next}/environ")).unwrap_or_default();
        found = remote(&environment).or(found);
        match above.filter(|above| 1 < *above) {
            Some(pid) => (next, above) = (pid, stat(pid).map(|stat| stat.parent)),
            None => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_and_addresses_are_named_as_people_know_them() {
        let device = |major: u32, minor: u32| (major << 8) | (minor & 0xff) | ((minor & 0xfff00) << 12);
        for (of, said) in [
            (device(136, 3), "pts/3"),
            (device(137, 1), "pts/257"),
            (device(4, 1), "tty1"),
            (device(4, 64), "ttyS0"),
            (0, ""),
            (device(5, 0), ""),
        ] {
            assert_eq!(terminal(of), said);
        }
        let environment = |value: &str| format!("A=b\0SSH_CONNECTION={value}\0C=d\0").into_bytes();
        assert_eq!(remote(&environment("10.1.2.3 50000 10.0.0.1 22")).unwrap(), "10.1.2.3");
        assert_eq!(remote(&environment("fe80::1%eth0 50000 fe80::2 22")).unwrap(), "fe80::1");
        assert_eq!(remote(&environment("\u{1b}[2J 1 2 3")), None);
        assert_eq!(remote(b"A=b\0"), None);
    }

    #[test]
    fn this_process_is_seen_and_one_that_has_ended_is_known_for_a_while() {
        let mut processes = Processes::new(Names::default());
        let (now, home) = (Instant::now(), Path::new("/nowhere"));
        let own = processes.see(std::process::id().cast_signed(), home, now);
        assert!(own.editor.is_known() && own.start.is_some() && !own.editor.user.is_empty(), "{own:?}");
        assert!(!own.editor.parent.is_empty() && !own.editor.is_server, "{own:?}");
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let alive = processes.see(child.id().cast_signed(), home, now);
        child.kill().unwrap();
        child.wait().unwrap();
        let ended = processes.see(child.id().cast_signed(), home, now + GONE_TIME / 2);
        assert_eq!(ended, alive);
        let later = processes.see(child.id().cast_signed(), home, now + GONE_TIME);
        assert!(!later.editor.is_known(), "{later:?}");
        assert_eq!(processes.see(0, home, now).editor, Editor::default());
    }
}
