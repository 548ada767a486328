//! What lies on a host (ADR 0017): the question, the answer, and the facts as they are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet::{
    bundle::HomePath,
    host::{
        ALLOWED_MAX, ALLOWED_TEXT_MAX, AskDatabases, AskKeyManagers, ConfigRead, FoundEntry, FoundFile,
        FoundProduct, FoundServer, HomeHistory, HostFacts, HostQuestion, LOOK_CONTENT_MAX, LOOK_PATHS_MAX,
        Original, OtherKind, WantedContents,
    },
    ids::{Digest, Generation},
    node::{Allowed, Authorities},
    time::Timestamp,
    words::{Said, ServiceWord},
};
use prost::Message as _;

use crate::{
    convert::{
        ConvertError,
        bundle::digest,
        databases::{limit_to_wire, limits_from_wire},
        invalid,
        link::{bounded, foreign},
        peers::{found_from_wire, found_to_wire, peer_from_wire, peer_to_wire},
        registered::{registered_from_wire, registered_to_wire},
        required,
    },
    wire::agent as wire,
};

/// The protocol number from which on an agent answers questions about its home.
pub const LOOK_PROTOCOL: u32 = 1;
/// Bytes of an encoded answer at most: contents, facts and framing.
pub const ANSWER_SIZE_MAX: usize = LOOK_CONTENT_MAX as usize + (4 << 20);
/// Entries of one answer: every path of a question, deployment.toml, and a few keystores.
const ENTRIES_MAX: usize = LOOK_PATHS_MAX + 64;
/// Keystores that one deployment.toml names.
const KEYSTORES_MAX: usize = 32;

/// One part of a question; `more` says that others follow.
pub fn look_to_wire(id: u64, part: &HostQuestion, more: bool) -> wire::Look {
    let (contents, known) = match &part.contents {
        WantedContents::None => (false, Vec::new()),
        WantedContents::Unknown { known } => (true, known.iter().map(|digest| digest.0.to_vec()).collect()),
    };
    wire::Look {
        id,
        home: part.home.clone().unwrap_or_default(),
        paths: part.paths.iter().map(ToString::to_string).collect(),
        contents,
        known,
        more,
        peers: part.peers.iter().map(peer_to_wire).collect(),
        key_managers: part.key_managers == AskKeyManagers::Yes,
        databases: part.databases == AskDatabases::Yes,
    }
}

/// One part of a question as it arrived.
#[derive(Debug)]
pub struct LookPart {
    /// Pairs the answer.
    pub id: u64,
    /// What is asked.
    pub question: HostQuestion,
    /// Further parts follow.
    pub more: bool,
}

impl TryFrom<wire::Look> for LookPart {
    type Error = ConvertError;

    fn try_from(look: wire::Look) -> Result<Self, ConvertError> {
        let paths =
            look.paths.iter().map(|path| home_path(path, "Look", "paths")).collect::<Result<_, _>>()?;
        let known: Result<BTreeSet<Digest>, _> =
            look.known.iter().map(|known| digest(known, "Look", "known")).collect();
        let contents =
            if look.contents { WantedContents::Unknown { known: known? } } else { WantedContents::None };
        let home = Some(look.home).filter(|home| !home.is_empty());
        let peers = look.peers.iter().map(peer_from_wire).collect::<Result<Vec<_>, _>>()?;
        let peers = peers.into_iter().flatten().collect();
        let key_managers = if look.key_managers { AskKeyManagers::Yes } else { AskKeyManagers::No };
        let databases = if look.databases { AskDatabases::Yes } else { AskDatabases::No };
        let question = HostQuestion { home, paths, contents, peers, key_managers, databases };
        Ok(Self { id: look.id, question, more: look.more })
    }
}

fn home_path(text: &str, message: &'static str, field: &'static str) -> Result<HomePath, ConvertError> {
    HomePath::parse(text).map_err(|error| invalid(message, field, error.to_string()))
}

/// The bytes of an answer: facts, or why there are none.
pub fn encode_answer(answer: &Result<HostFacts, String>) -> Vec<u8> {
    let answer = match answer {
        Ok(facts) => wire::HostAnswer {
            refused: String::new(),
            facts: Some(facts.into()),
            contents: facts.contents.values().map(|content| content.to_vec()).collect(),
        },
        Err(why) => wire::HostAnswer { refused: bounded(why), facts: None, contents: Vec::new() },
    };
    answer.encode_to_vec()
}

/// Reads an answer. Contents that no entry names are refused.
///
/// # Errors
/// Bytes that are no answer, or one that contradicts itself.
pub fn decode_answer(bytes: &[u8]) -> Result<Result<HostFacts, String>, ConvertError> {
    let encoding = |source| ConvertError::Encoding { message: "HostAnswer", source };
    let answer = wire::HostAnswer::decode(bytes).map_err(encoding)?;
    if !answer.refused.is_empty() {
        return Ok(Err(foreign(&answer.refused)));
    }
    let mut facts = HostFacts::try_from(required(answer.facts, "HostAnswer", "facts")?)?;
    let named: BTreeSet<Digest> = facts.digests().collect();
    for content in answer.contents {
        let digest = Digest::of(&content);
        if !named.contains(&digest) {
            return Err(invalid("HostAnswer", "contents", "one of them is of no file of the answer"));
        }
        facts.contents.insert(digest, Arc::from(content));
    }
    Ok(Ok(facts))
}

impl From<&HostFacts> for wire::HostFacts {
    fn from(facts: &HostFacts) -> Self {
        Self {
            at_ms: facts.at.0,
            home: facts.home.clone(),
            product: facts.product.as_ref().map(|product| wire::FoundProduct {
                id: product.id.clone().unwrap_or_default(),
                name: product.name.clone(),
                version: product.version.clone(),
            }),
            offset: facts.offset.map(u32::from),
            server: Some(server_to_wire(facts.server)),
            started: match facts.history {
                HomeHistory::NeverStarted => false,
                HomeHistory::Started => true,
            },
            keystores: facts.keystores.iter().map(ToString::to_string).collect(),
            entries: facts.entries.iter().map(entry_to_wire).collect(),
            original: facts.original.as_ref().map(Into::into),
            allowed: facts.allowed.as_ref().and_then(allowed_to_wire),
            peers: facts.peers.iter().map(found_to_wire).collect(),
            key_managers: facts.registered.as_ref().map(registered_to_wire),
            databases: facts.databases.iter().map(limit_to_wire).collect(),
        }
    }
}

impl TryFrom<wire::HostFacts> for HostFacts {
    type Error = ConvertError;

    fn try_from(facts: wire::HostFacts) -> Result<Self, ConvertError> {
        if ENTRIES_MAX < facts.entries.len() || KEYSTORES_MAX < facts.keystores.len() {
            return Err(invalid("HostFacts", "entries", "more than any question asks for"));
        }
        let offset = facts.offset.map(u16::try_from).transpose();
        let mut entries = BTreeMap::new();
        for entry in facts.entries {
            let path = home_path(&entry.path, "FoundEntry", "path")?;
            entries.insert(path, entry_from_wire(entry.found)?);
        }
        let keystores = facts.keystores.iter().map(|path| home_path(path, "HostFacts", "keystores"));
        Ok(Self {
            at: Timestamp(facts.at_ms),
            home: foreign(&facts.home),
            product: facts.product.map(|product| FoundProduct {
                id: Some(foreign(&product.id)).filter(|id| !id.is_empty()),
                name: foreign(&product.name),
                version: foreign(&product.version),
            }),
            offset: offset.map_err(|_| invalid("HostFacts", "offset", "no port offset"))?,
            server: server_from_wire(facts.server),
            history: if facts.started { HomeHistory::Started } else { HomeHistory::NeverStarted },
            keystores: keystores.collect::<Result<_, _>>()?,
            entries,
            contents: BTreeMap::new(),
            original: facts.original.map(Original::try_from).transpose()?,
            allowed: facts.allowed.map(allowed_from_wire).transpose()?,
            peers: found_from_wire(facts.peers)?,
            registered: facts.key_managers.as_ref().map(registered_from_wire),
            databases: limits_from_wire(facts.databases)?,
        })
    }
}

/// Lists that are too long are not told: a part of them would let the rest look refused.
fn allowed_to_wire(allowed: &Allowed) -> Option<wire::Allowances> {
    let Allowed { commands, sockets, hosts, files, authorities } = allowed;
    let fits = |list: &&Vec<String>| {
        list.len() <= ALLOWED_MAX && list.iter().all(|line| line.len() <= ALLOWED_TEXT_MAX)
    };
    let authorities = match authorities {
        Authorities::None => false,
        Authorities::Listed => true,
    };
    [commands, sockets, hosts, files].iter().all(fits).then(|| wire::Allowances {
        commands: commands.clone(),
        sockets: sockets.clone(),
        hosts: hosts.clone(),
        files: files.clone(),
        authorities,
    })
}

fn allowed_from_wire(allowed: wire::Allowances) -> Result<Allowed, ConvertError> {
    let read = |list: Vec<String>, field| {
        let fits = list.len() <= ALLOWED_MAX && list.iter().all(|line| line.len() <= ALLOWED_TEXT_MAX);
        // What is not printable is in no fleet directory either, so it is not compared in another form.
        let lines = || list.iter().map(|line| foreign(line)).collect();
        fits.then(lines).ok_or_else(|| invalid("Allowances", field, "more than any agent sends"))
    };
    Ok(Allowed {
        commands: read(allowed.commands, "commands")?,
        sockets: read(allowed.sockets, "sockets")?,
        hosts: read(allowed.hosts, "hosts")?,
        files: read(allowed.files, "files")?,
        authorities: if allowed.authorities { Authorities::Listed } else { Authorities::None },
    })
}

fn server_to_wire(server: FoundServer) -> wire::FoundServer {
    let (state, since, config) = match server {
        FoundServer::Running { since, config } => (ServiceWord::Running, since, config),
        FoundServer::Stopped => (ServiceWord::Stopped, Timestamp(0), ConfigRead::OnDisk),
        FoundServer::Unknown => (ServiceWord::Unknown, Timestamp(0), ConfigRead::OnDisk),
    };
    let config_unread = match config {
        ConfigRead::OnDisk => false,
        ConfigRead::Earlier => true,
    };
    wire::FoundServer { state: state.to_string(), since_ms: since.0, config_unread }
}

/// A state of a later version is one that this one cannot tell.
fn server_from_wire(server: Option<wire::FoundServer>) -> FoundServer {
    match server {
        Some(server) if Said::of(&server.state).is(ServiceWord::Running) => {
            let config = if server.config_unread { ConfigRead::Earlier } else { ConfigRead::OnDisk };
            FoundServer::Running { since: Timestamp(server.since_ms), config }
        }
        Some(server) if Said::of(&server.state).is(ServiceWord::Stopped) => FoundServer::Stopped,
        _ => FoundServer::Unknown,
    }
}

fn entry_to_wire((path, entry): (&HomePath, &FoundEntry)) -> wire::FoundEntry {
    use wire::found_entry::Found;
    let found = match entry {
        FoundEntry::Absent => None,
        FoundEntry::File(file) => Some(Found::File(wire::FoundFile {
            digest: file.digest.0.to_vec(),
            meaning: file.meaning.0.to_vec(),
            size: file.size,
            mode: file.mode,
            owner: file.owner.clone(),
            group: file.group.clone(),
            modified_ms: file.modified.0,
        })),
        FoundEntry::Other { kind } => Some(Found::Other(kind.as_str().to_owned())),
        FoundEntry::Unreadable { why } => Some(Found::Unreadable(bounded(why))),
    };
    wire::FoundEntry { path: path.to_string(), found }
}

fn entry_from_wire(found: Option<wire::found_entry::Found>) -> Result<FoundEntry, ConvertError> {
    use wire::found_entry::Found;
    Ok(match found {
        None => FoundEntry::Absent,
        Some(Found::File(file)) => FoundEntry::File(FoundFile {
            digest: digest(&file.digest, "FoundFile", "digest")?,
            meaning: digest(&file.meaning, "FoundFile", "meaning")?,
            size: file.size,
            mode: file.mode & 0o7777,
            owner: foreign(&file.owner),
            group: foreign(&file.group),
            modified: Timestamp(file.modified_ms),
        }),
        // A kind of a later version cannot be replaced either.
        Some(Found::Other(word)) => FoundEntry::Other {
            kind: OtherKind::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or(OtherKind::Special),
        },
        Some(Found::Unreadable(why)) => FoundEntry::Unreadable { why: foreign(&why) },
    })
}

impl From<&Original> for wire::Original {
    fn from(original: &Original) -> Self {
        Self {
            taken_ms: original.taken.0,
            digest: original.digest.0.to_vec(),
            before: original.before.0,
            files: u32::try_from(original.files).unwrap_or(u32::MAX),
            bytes: original.bytes,
        }
    }
}

impl TryFrom<wire::Original> for Original {
    type Error = ConvertError;

    fn try_from(original: wire::Original) -> Result<Self, ConvertError> {
        Ok(Self {
            taken: Timestamp(original.taken_ms),
            digest: digest(&original.digest, "Original", "digest")?,
            before: Generation(original.before),
            files: usize::try_from(original.files).unwrap_or(usize::MAX),
            bytes: original.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> HostFacts {
        let path = |text: &str| HomePath::parse(text).unwrap();
        let file = |content: &[u8]| {
            FoundEntry::File(FoundFile {
                digest: Digest::of(content),
                meaning: Digest::of(b"meaning"),
                size: content.len() as u64,
                mode: 0o640,
                owner: "wso2".to_owned(),
                group: "801".to_owned(),
                modified: Timestamp(5),
            })
        };
        let others = OtherKind::ALL.map(|kind| (path(kind.as_str()), FoundEntry::Other { kind }));
        let entries = [
            (path("repository/conf/deployment.toml"), file(b"a = 1")),
            (path("absent"), FoundEntry::Absent),
            (path("locked"), FoundEntry::Unreadable { why: "permission denied".to_owned() }),
        ];
        HostFacts {
            at: Timestamp(7),
            home: "/opt/is".to_owned(),
            product: Some(FoundProduct {
                id: Some("wso2is-7.2".to_owned()),
                name: "WSO2 Identity Server".to_owned(),
                version: "7.2.0".to_owned(),
            }),
            offset: Some(3),
            server: FoundServer::Running { since: Timestamp(3), config: ConfigRead::Earlier },
            history: HomeHistory::Started,
            keystores: vec![path("repository/resources/security/a.p12")],
            entries: entries.into_iter().chain(others).collect(),
            contents: BTreeMap::from([(Digest::of(b"a = 1"), Arc::from(&b"a = 1"[..]))]),
            original: Some(Original {
                taken: Timestamp(1),
                digest: Digest::of(b"o"),
                before: Generation(4),
                files: 3,
                bytes: 99,
            }),
            allowed: Some(Allowed {
                commands: vec!["/usr/bin/drain".to_owned()],
                sockets: vec!["/run/haproxy.sock".to_owned()],
                hosts: vec!["lb.acme.internal:8080".to_owned()],
                files: vec!["lib/*".to_owned()],
                authorities: Authorities::Listed,
            }),
            peers: Vec::new(),
            registered: None,
            databases: vec![fleet::preflight::databases::DatabaseLimit {
                addresses: vec![fleet::preflight::needs::Address { host: "db".to_owned(), port: 3306 }],
                connections_max: 151,
            }],
        }
    }

    #[test]
    fn an_answer_comes_back_as_it_was_given() {
        let answer = Ok(facts());
        assert_eq!(decode_answer(&encode_answer(&answer)).unwrap(), answer);
        let refused = Err("no home".to_owned());
        assert_eq!(decode_answer(&encode_answer(&refused)).unwrap(), refused);
    }

    #[test]
    fn what_a_host_says_is_printable_bounded_and_no_more_than_asked() {
        let mut said = facts();
        said.product =
            Some(FoundProduct { id: None, name: "a\u{1b}[2J\nb".to_owned(), version: String::new() });
        let read = decode_answer(&encode_answer(&Ok(said.clone()))).unwrap().unwrap();
        assert_eq!(read.product.unwrap().name, r"a\u001b[2J b");
        said.contents.insert(Digest::of(b"more"), Arc::from(&b"more"[..]));
        assert!(decode_answer(&encode_answer(&Ok(said.clone()))).is_err());
        said.contents.clear();
        let path = |n: usize| HomePath::parse(&n.to_string()).unwrap();
        said.entries.extend((0..ENTRIES_MAX).map(|n| (path(n), FoundEntry::Absent)));
        assert!(decode_answer(&encode_answer(&Ok(said))).is_err());
        assert!(decode_answer(b"\xff\xff").is_err());
    }

    #[test]
    fn allow_lists_that_are_too_long_are_not_told_in_part() {
        let mut said = facts();
        let allowed = said.allowed.as_mut().unwrap();
        allowed.commands = vec!["/usr/bin/drain".to_owned(); ALLOWED_MAX + 1];
        assert_eq!(decode_answer(&encode_answer(&Ok(said.clone()))).unwrap().unwrap().allowed, None);
        said.allowed.as_mut().unwrap().commands = vec!["/".repeat(ALLOWED_TEXT_MAX + 1)];
        let wire = wire::HostFacts::from(&said);
        assert_eq!(wire.allowed, None);
        let longer = wire::Allowances {
            hosts: vec!["a:1".to_owned(); ALLOWED_MAX + 1],
            ..wire::Allowances::default()
        };
        assert!(HostFacts::try_from(wire::HostFacts { allowed: Some(longer), ..wire }).is_err());
    }

    #[test]
    fn a_question_comes_back_and_leads_nowhere_else() {
        let path = HomePath::parse("bin/a.sh").unwrap();
        let mut question = HostQuestion::contents(vec![path]);
        question.home = Some("/opt/is".to_owned());
        if let WantedContents::Unknown { known } = &mut question.contents {
            known.insert(Digest::of(b"x"));
        }
        let part = LookPart::try_from(look_to_wire(9, &question, true)).unwrap();
        assert_eq!((part.id, part.question, part.more), (9, question.clone(), true));
        let mut look = look_to_wire(9, &question, false);
        look.paths.push("../etc/shadow".to_owned());
        assert!(LookPart::try_from(look).is_err());
    }
}
