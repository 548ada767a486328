//! Reads the configuration resources of an unpacked product from its home.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use carbon::{
    Product,
    pack::{RESOURCES, TEMPLATES},
};
use fleet::{
    lint::{PackFacts, Packs},
    pack::{Resources, belongs},
    spec::{Absent, Secrets, Sources, compose_with},
};
use proto::convert::pack::encode_pack;

use crate::exit::Failure;

/// The largest product has fewer than 100 resources; more than this is another directory.
const FILES_MAX: usize = 5_000;
const FILE_SIZE_MAX: u64 = 4 << 20;

/// A pack that goes with a plan, for nodes whose own is not known.
pub struct GivenPack {
    /// Of the fleet, those that it is the pack of.
    pub products: Vec<String>,
    /// Encoded.
    pub content: Vec<u8>,
}

/// Reads the pack at `home`.
///
/// # Errors
/// No home of a product, or resources that cannot be read.
pub fn read(home: &Path) -> Result<PackFacts, Failure> {
    resources(home)?.facts().map_err(|error| unusable(home, error))
}

fn unusable(home: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::failed(
        format!("{} is no pack that can be used", home.display()),
        "name the home of an unpacked product, the directory that holds bin and repository",
    )
    .because(error)
}

fn resources(home: &Path) -> Result<Resources, Failure> {
    let unreadable = |error: io::Error| {
        Failure::failed(
            format!("cannot read the pack at {}", home.display()),
            "name the home of an unpacked product, the directory that holds bin and repository",
        )
        .because(error)
    };
    let mut files = Vec::new();
    let resources = home.join(RESOURCES);
    for (path, name) in entries(&resources).map_err(unreadable)? {
        if name.ends_with(".json") {
            files.push((format!("{RESOURCES}{name}"), content(&path).map_err(unreadable)?));
        }
    }
    let templates = resources.join(TEMPLATES);
    for entry in walkdir::WalkDir::new(&templates).follow_links(false).sort_by_file_name() {
        let entry = entry.map_err(|error| unreadable(error.into()))?;
        if !entry.file_type().is_file() {
            continue;
        }
        let below = entry.path().strip_prefix(&templates).unwrap_or(entry.path());
        let parts: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        let name = format!("{RESOURCES}{TEMPLATES}{}", parts.join("/"));
        files.push((name, content(entry.path()).map_err(unreadable)?));
        if FILES_MAX < files.len() {
            return Err(Failure::failed(
                format!("{} holds more than {FILES_MAX} files", templates.display()),
                "name the home of an unpacked product",
            ));
        }
    }
    if let Ok(version) = content(&home.join("bin/version.txt")) {
        files.push(("bin/version.txt".to_owned(), version));
    }
    // The names of the mapper's and its template engine's jars tell their versions.
    for (_, name) in entries(&home.join("lib")).unwrap_or_default() {
        if name.ends_with(".jar") {
            files.push((format!("lib/{name}"), Vec::new()));
        }
    }
    // What the mapper does not read stays where it is.
    files.retain(|(path, _)| belongs(path));
    Resources::new(files).map_err(|error| unusable(home, error))
}

/// Files and directories of one directory, by name.
fn entries(directory: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((entry.path(), name));
        }
    }
    found.sort();
    Ok(found)
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    if FILE_SIZE_MAX < fs::metadata(path)?.len() {
        return Err(io::Error::other(format!("{} is larger than {FILE_SIZE_MAX} bytes", path.display())));
    }
    fs::read(path)
}

/// Reads what `typed` names, `HOME` or `PRODUCT=HOME`, and gives it to the products of the fleet that it is the pack of.
///
/// # Errors
/// It cannot be read, or is the pack of none of them.
pub fn assign(typed: &Path, products: &[&str], packs: &mut Packs) -> Result<(), Failure> {
    let (home, own) = matching(typed, products)?;
    for product in own {
        packs.insert(product, read(&home)?);
    }
    Ok(())
}

/// Reads what each of `typed` names, for the products of a fleet directory.
///
/// # Errors
/// One cannot be read, or is the pack of none of them.
pub fn given(typed: &[PathBuf], sources: &Sources) -> Result<Vec<GivenPack>, Failure> {
    if typed.is_empty() {
        return Ok(Vec::new());
    }
    let composition = compose_with(sources, &Secrets::new(BTreeMap::new(), Absent::Placeholder));
    // A directory that does not compose is refused by the coordinator, with every reason.
    let Some(fleet) = composition.fleet else { return Ok(Vec::new()) };
    let products: Vec<&str> = fleet.groups.values().map(|group| group.product.as_str()).collect();
    let one = |typed: &PathBuf| {
        let (home, products) = matching(typed, &products)?;
        Ok(GivenPack { products, content: encode_pack(&resources(&home)?) })
    };
    typed.iter().map(one).collect()
}

/// The home that is meant and the products that it is the pack of; at least one.
fn matching(typed: &Path, products: &[&str]) -> Result<(PathBuf, Vec<String>), Failure> {
    let text = typed.to_string_lossy();
    let named = text.split_once('=').filter(|(product, _)| products.contains(product));
    if let Some((product, home)) = named {
        return Ok((PathBuf::from(home), vec![product.to_owned()]));
    }
    let line = fs::read_to_string(typed.join("bin/version.txt")).unwrap_or_default();
    let version = read(typed)?.pack.product;
    let is_own = |product: &&&str| {
        version.is_some_and(|(kind, version)| {
            is_of(product, kind, &format!("{}.{}", version.major, version.minor), &line)
        })
    };
    let mut own: Vec<String> = products.iter().filter(is_own).map(|product| (*product).to_owned()).collect();
    own.dedup();
    if !own.is_empty() {
        return Ok((typed.to_owned(), own));
    }
    Err(Failure::failed(
        format!("no group of this fleet has the product at {}", typed.display()),
        format!(
            "the groups have {}; name one as in --pack {}={}",
            products.join(", "),
            products.first().unwrap_or(&"PRODUCT"),
            typed.display()
        ),
    ))
}

/// Whether a catalogue id such as `wso2am-universal-gw-4.5` names the product of a pack.
fn is_of(id: &str, kind: Product, minor: &str, line: &str) -> bool {
    let family = match kind {
        Product::IdentityServer => "wso2is-",
        Product::ApiManager => "wso2am-",
    };
    let Some(rest) = id.strip_prefix(family) else { return false };
    let component = if line.contains("Control Plane") {
        Some("acp-")
    } else if line.contains("Gateway") {
        Some("universal-gw-")
    } else if line.contains("Traffic Manager") {
        Some("tm-")
    } else {
        None
    };
    let rest = match component {
        Some(component) => rest.strip_prefix(component),
        None => Some(rest.strip_prefix("km-").unwrap_or(rest)),
    };
    rest.and_then(|rest| rest.strip_prefix(minor))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_belongs_to_the_products_of_its_name_and_minor_version() {
        let table = [
            ("wso2is-7.2", Product::IdentityServer, "7.2", "WSO2 Identity Server v7.2.0", true),
            ("wso2is-7.1", Product::IdentityServer, "7.2", "WSO2 Identity Server v7.2.0", false),
            ("wso2am-4.5", Product::ApiManager, "4.5", "WSO2 API Manager v4.5.0", true),
            ("wso2am-4.2-gateway-worker", Product::ApiManager, "4.2", "WSO2 API Manager v4.2.0", true),
            ("wso2am-universal-gw-4.5", Product::ApiManager, "4.5", "WSO2 API Manager v4.5.0", false),
            ("wso2am-universal-gw-4.5", Product::ApiManager, "4.5", "WSO2 Universal Gateway v4.5.0", true),
            ("wso2am-4.5", Product::ApiManager, "4.5", "WSO2 Universal Gateway v4.5.0", false),
        ];
        for (id, kind, minor, line, expected) in table {
            assert_eq!(is_of(id, kind, minor, line), expected, "{id} and {line}");
        }
    }
}
