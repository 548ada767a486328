//! `convoy trust --out`: truststores with the public certificates of the members that a node connects to, as files of the
//! fleet. What a store holds already stays; only what an earlier run put there is made anew.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use fleet::{
    bundle::HomePath,
    keystore::{self, Entry, Format},
    preflight::{
        Password,
        needs::{self, Given, Keystore},
    },
    spec::{ComposedNode, Fleet},
    time::Timestamp,
    trust::{self, Truster, Whom},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::Serialize;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::exit::Failure;

/// Of every alias that is made here, so that the next run knows it.
const PREFIX: &str = "convoy-";
/// Of those of `--add`; no node has a name with a full stop.
const ADDED: &str = "convoy-added.";
const SECURITY: &str = "repository/resources/security/";
/// Every pack's default.
const SHIPPED_PASSWORD: &str = "wso2carbon";

/// What is given beside the fleet directory.
#[derive(Debug, Default)]
pub struct Beside {
    /// The product's truststore, for nodes whose own is not in the fleet: name and content.
    pub base: Option<(String, Vec<u8>)>,
    /// Certificates that every store gets, in DER.
    pub extra: Vec<Vec<u8>>,
}

impl Beside {
    /// Reads the files that were named.
    ///
    /// # Errors
    /// One cannot be read, or holds no certificate.
    pub fn read(base: Option<&Path>, add: &[PathBuf]) -> Result<Self, Failure> {
        let open = |path: &Path| {
            let remedy = "name a file that can be read";
            fs::read(path).map_err(|error| {
                Failure::failed(format!("cannot read {}", path.display()), remedy).because(error)
            })
        };
        let base = match base {
            None => None,
            Some(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Some((name, open(path)?))
            }
        };
        let mut extra = Vec::new();
        for path in add {
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&open(path)?).collect();
            let read = read.unwrap_or_default();
            if read.is_empty() {
                return Err(Failure::failed(
                    format!("{} holds no certificate", path.display()),
                    "name a PEM file with -----BEGIN CERTIFICATE-----",
                ));
            }
            extra.extend(read.into_iter().map(|der| der.to_vec()));
        }
        Ok(Self { base, extra })
    }
}

/// The truststore of one node.
#[derive(Debug, Serialize)]
pub struct Made {
    pub node: String,
    /// Below home; absent if none could be made.
    pub file: Option<String>,
    pub added: Vec<Added>,
    /// Aliases of an earlier run that are not needed any more.
    pub removed: Vec<String>,
    /// How many other entries there are.
    pub kept: usize,
    /// What could not be put in, and why.
    pub missing: Vec<String>,
    /// `None` if it would hold what it holds already.
    #[serde(skip)]
    content: Option<Vec<u8>>,
}

/// An entry that is made.
#[derive(Debug, Serialize)]
pub struct Added {
    pub alias: String,
    /// As the certificate has it.
    pub subject: String,
    /// When it ends, in seconds since 1970.
    pub until: i64,
}

impl Made {
    /// Nothing of this node is made yet.
    pub(super) fn of(node: String) -> Self {
        let (added, removed, missing) = (Vec::new(), Vec::new(), Vec::new());
        Self { node, file: None, added, removed, kept: 0, missing, content: None }
    }

    /// Whether it gets a certificate of `--add`.
    pub fn is_given(&self) -> bool {
        self.added.iter().any(|one| one.alias.starts_with(ADDED))
    }

    /// Whether the store differs from the one that is there.
    pub fn is_new(&self) -> bool {
        self.content.is_some()
    }

    /// Writes the store below a directory, as `NODE/FILE`; nothing if it holds what it should.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, out: &Path) -> Result<(), Failure> {
        let (Some(file), Some(content)) = (&self.file, &self.content) else { return Ok(()) };
        let path = out.join(&self.node).join(file);
        let write = || -> std::io::Result<()> {
            let parent = path.parent().unwrap_or(out);
            fs::create_dir_all(parent)?;
            let mut staged = tempfile::NamedTempFile::new_in(parent)?;
            staged.write_all(content)?;
            staged.as_file().sync_all()?;
            staged.persist(&path)?;
            Ok(())
        };
        write().map_err(|error| {
            Failure::failed(
                format!("cannot write {}", path.display()),
                "name a directory that can be written",
            )
            .because(error)
        })
    }
}

/// The store of each node that connects to anybody.
pub fn make(fleet: &Fleet, trusters: &[Truster], beside: &Beside, now: Timestamp) -> Vec<Made> {
    let members: Vec<Vec<u8>> = fleet.nodes.values().filter_map(|node| shown(node).ok()).collect();
    let one = |truster: &Truster| {
        let mut made = Made::of(truster.node.to_string());
        let filled = match fleet.nodes.get(&truster.node) {
            None => Err("it is not in the fleet".to_owned()),
            Some(node) => {
                let (named, is_whole) = wanted(fleet, truster, beside, &mut made.missing);
                let wanted = Wanted { named, is_whole, members: &members };
                fill(node, beside, &wanted, (&mut made, now))
            }
        };
        made.missing.extend(filled.err());
        made
    };
    trusters.iter().map(one).collect()
}

/// A certificate under the alias that it gets.
type Named = (String, Vec<u8>);

/// What a store is to hold beside what it held.
struct Wanted<'a> {
    named: Vec<Named>,
    /// Whether the certificate of each member that the node connects to is among them.
    is_whole: bool,
    /// What all members of the fleet show.
    members: &'a [Vec<u8>],
}

/// What a node has to trust as far as the fleet has it, and whether that is all of its members.
fn wanted(
    fleet: &Fleet,
    truster: &Truster,
    beside: &Beside,
    missing: &mut Vec<String>,
) -> (Vec<Named>, bool) {
    let (mut wanted, mut is_whole): (Vec<Named>, bool) = (Vec::new(), true);
    for connection in &truster.connections {
        let members = match &connection.whom {
            Whom::Itself => vec![&truster.node],
            Whom::Node(name) => vec![name],
            Whom::InFrontOf(names) => names.iter().collect(),
            Whom::Balancer(_) | Whom::Outside => {
                let (whom, address) = (&connection.whom, &connection.address);
                missing.push(format!("{address} ({whom}): add who vouches for it with --add FILE"));
                continue;
            }
        };
        for name in members {
            let alias = format!("{PREFIX}{name}");
            if wanted.iter().any(|(known, _)| *known == alias) {
                continue;
            }
            match fleet.nodes.get(name).ok_or("it is not in the fleet".to_owned()).and_then(shown) {
                Ok(der) => wanted.push((alias, der)),
                Err(why) => {
                    is_whole = false;
                    missing.push(format!("{name}: {why}"));
                }
            }
        }
    }
    let extra = beside.extra.iter().enumerate();
    wanted.extend(extra.map(|(number, der)| (format!("{ADDED}{}", number + 1), der.clone())));
    (wanted, is_whole)
}

/// The certificate that a member shows.
fn shown(node: &ComposedNode) -> Result<Vec<u8>, String> {
    let Some(store) = trust::shown_store(node) else {
        return Err(
            "it shows the certificate of the product's own keystore, which is not in the fleet".to_owned()
        );
    };
    let Some(content) = content(node, &store.file) else {
        return Err(format!("its keystore {} is not in the fleet", store.file));
    };
    let (_, entries) = keystore::read(content, password(&store)?).map_err(|why| {
        format!("{}: {why}; if its password is a secret, give --secrets-file FILE", store.file)
    })?;
    let alias = store.alias.as_deref().unwrap_or("wso2carbon").to_lowercase();
    let own = entries.into_iter().find(|entry| entry.has_key && entry.alias.to_lowercase() == alias);
    own.map(|entry| entry.certificate).ok_or_else(|| format!("{} holds no key {alias:?}", store.file))
}

fn password(store: &Keystore) -> Result<&Password, String> {
    match &store.password {
        Given::Plain(password) => Ok(password),
        Given::Unknown(why) => Err(format!("the password of {}: {why}", store.file)),
    }
}

/// A file that the fleet directory brings.
fn content<'n>(node: &'n ComposedNode, file: &str) -> Option<&'n [u8]> {
    let entry = node.bundle.files.get(&HomePath::parse(file).ok()?)?;
    node.contents.get(&entry.digest).map(AsRef::as_ref)
}

/// Puts `wanted` into the store that the node has, or into the product's.
fn fill(
    node: &ComposedNode,
    beside: &Beside,
    wanted: &Wanted<'_>,
    (made, now): (&mut Made, Timestamp),
) -> Result<(), String> {
    let shipped = Password::new(SHIPPED_PASSWORD.to_owned());
    // An earlier run may have put the product's own into the fleet.
    let put = || needs::shipped_truststores().into_iter().find(|store| content(node, &store.file).is_some());
    let named = trust::truststore(node).or_else(put);
    let in_fleet = named.as_ref().and_then(|store| content(node, &store.file));
    let (file, before) = match (&named, in_fleet, &beside.base) {
        (Some(store), Some(content), _) => (store.file.clone(), content),
        (Some(store), None, Some((_, content))) => (store.file.clone(), content.as_slice()),
        (None, _, Some((name, content))) => (format!("{SECURITY}{name}"), content.as_slice()),
        (_, None, None) | (None, Some(_), None) => {
            return Err("its truststore is not in the fleet: name the product's with --base FILE, so that whom it trusts \
                        already stays"
                .to_owned());
        }
    };
    if HomePath::parse(&file).is_err() {
        return Err(format!("its truststore {file} is not below its home"));
    }
    let password = named.as_ref().map_or(Ok(&shipped), password)?;
    // The product's own has the product's own password.
    let (format, entries) = keystore::read(before, if in_fleet.is_some() { password } else { &shipped })
        .map_err(|why| format!("{file}: {why}; if its password is a secret, give --secrets-file FILE"))?;
    if let Some(key) = entries.iter().find(|entry| entry.has_key) {
        return Err(format!(
            "{file} holds the private key {:?}, which is not copied: make it by hand",
            key.alias
        ));
    }
    // Another product's store under this name would lack what this product ships.
    let is_p12 = file.to_lowercase().ends_with(".p12");
    if in_fleet.is_none() && is_p12 != (format == Format::Pkcs12) {
        return Err(format!(
            "--base is {format}, and its truststore is {file}: name that of its own product"
        ));
    }
    made.file = Some(file);
    let all = merge(entries, wanted, made);
    let is_as_before = in_fleet.is_some() && made.added.is_empty() && made.removed.is_empty();
    if !is_as_before {
        made.content = Some(keystore::truststore(format, &all, password, now)?);
    }
    Ok(())
}

/// What the store will hold. A certificate that is there is not added once more under another alias.
fn merge(before: Vec<Entry>, wanted: &Wanted<'_>, made: &mut Made) -> Vec<Named> {
    let mut all: Vec<Named> = Vec::new();
    for entry in before {
        if goes(&entry, wanted) {
            made.removed.push(entry.alias);
        } else {
            made.kept += 1;
            all.push((entry.alias, entry.certificate));
        }
    }
    for (alias, der) in &wanted.named {
        if all.iter().any(|(_, known)| known == der) {
            continue;
        }
        let alias = free(alias, &all);
        made.added.push(told(&alias, der));
        all.push((alias, der.clone()));
    }
    all
}

/// Whether an entry is of an earlier run and not needed, or not under this alias. While a member's certificate is not
/// known, nothing of a member goes: it may be the one that is shown. What `--add` put in stays until a member shows it.
fn goes(entry: &Entry, wanted: &Wanted<'_>) -> bool {
    let alias = entry.alias.to_lowercase();
    let as_wanted: Vec<&str> = wanted
        .named
        .iter()
        .filter(|(_, der)| *der == entry.certificate)
        .map(|(alias, _)| alias.as_str())
        .collect();
    if alias.starts_with(ADDED) {
        let is_added_again = as_wanted.iter().any(|alias| alias.starts_with(ADDED));
        wanted.members.contains(&entry.certificate) && !is_added_again
    } else {
        alias.starts_with(PREFIX) && as_wanted.is_empty() && wanted.is_whole
    }
}

/// The alias, with a number behind it while another entry has it.
fn free(alias: &str, all: &[Named]) -> String {
    let is_taken = |alias: &str| all.iter().any(|(known, _)| known.eq_ignore_ascii_case(alias));
    let numbered = (2_u32..).map(|number| format!("{alias}-{number}"));
    let mut all = std::iter::once(alias.to_owned()).chain(numbered);
    all.find(|alias| !is_taken(alias)).unwrap_or_else(|| alias.to_owned())
}

fn told(alias: &str, der: &[u8]) -> Added {
    let read = X509Certificate::from_der(der).ok().map(|(_, read)| read);
    let subject = read.as_ref().map(|read| read.subject().to_string()).unwrap_or_default();
    let until = read.map_or(0, |read| read.validity().not_after.timestamp());
    Added { alias: alias.to_owned(), subject, until }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(alias: &str, certificate: &[u8]) -> Entry {
        Entry { alias: alias.to_owned(), has_key: false, certificate: certificate.to_vec() }
    }

    /// Aliases of what is there after a run, and those that are gone. `shown` is what `is-1` shows; `None`: nobody knows.
    fn run(before: &[(&str, &[u8])], shown: Option<&[u8]>, add: &[&[u8]]) -> (Vec<String>, Vec<String>) {
        let mut named: Vec<Named> =
            shown.iter().map(|der| ("convoy-is-1".to_owned(), der.to_vec())).collect();
        named.extend(add.iter().enumerate().map(|(n, der)| (format!("{ADDED}{}", n + 1), der.to_vec())));
        let members: Vec<Vec<u8>> = shown.iter().map(|der| der.to_vec()).collect();
        let wanted = Wanted { named, is_whole: shown.is_some(), members: &members };
        let before = before.iter().map(|(alias, der)| entry(alias, der)).collect();
        let mut made = Made::of("n".to_owned());
        let all = merge(before, &wanted, &mut made);
        (all.into_iter().map(|(alias, _)| alias).collect(), made.removed)
    }

    #[test]
    fn keys_change_in_three_phases_and_what_others_put_in_stays() {
        let first: [(&str, &[u8]); 2] = [("digicert", b"ca"), ("convoy-is-1", b"old")];
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(run(&first, Some(b"old"), &[]), (names(&["digicert", "convoy-is-1"]), vec![]));
        let both = (names(&["digicert", "convoy-is-1", "convoy-added.1"]), vec![]);
        assert_eq!(run(&first, Some(b"old"), &[b"new"]), both);
        let second: [(&str, &[u8]); 3] = [first[0], first[1], ("convoy-added.1", b"new")];
        assert_eq!(run(&second, Some(b"old"), &[]), both, "what is to come stays");
        let third = (names(&["digicert", "convoy-is-1"]), names(&["convoy-is-1", "convoy-added.1"]));
        assert_eq!(run(&second, Some(b"new"), &[]), third);
    }

    #[test]
    fn nothing_of_a_member_goes_while_nobody_knows_what_it_shows() {
        let before: [(&str, &[u8]); 1] = [("convoy-is-1", b"old")];
        assert_eq!(run(&before, None, &[]), (vec!["convoy-is-1".to_owned()], vec![]));
        let authority: [(&str, &[u8]); 1] = [("convoy-added.1", b"ca of the balancer")];
        assert_eq!(run(&authority, Some(b"x"), &[]).1, [""; 0], "not typed again, and still needed");
    }

    #[test]
    fn a_certificate_that_is_there_is_not_put_in_twice_and_no_alias_is_taken_from_another() {
        assert_eq!(run(&[("own", b"x")], Some(b"x"), &[]), (vec!["own".to_owned()], vec![]));
        assert_eq!(run(&[("convoy-added.1", b"x")], None, &[b"x"]).0, ["convoy-added.1"]);
        assert_eq!(free("A", &[("a".to_owned(), Vec::new())]), "A-2");
    }
}
