//! Collects findings while a fleet is read, so that people see all of them at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    finding::{Finding, Place, Severity},
    ids::NodeName,
};

/// More findings than this help nobody; the last one then says that there are more.
pub const FINDINGS_MAX: usize = 500;
/// At most this many are kept before those that are alike become one.
const FOUND_MAX: usize = 4 * FINDINGS_MAX;

/// A finding, and every node that it was found on.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) finding: Finding,
    pub(crate) nodes: BTreeSet<NodeName>,
}

/// The findings so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    found: Vec<Found>,
    dropped: bool,
    /// Set while one node is composed.
    pub(crate) node: Option<NodeName>,
}

impl Report {
    pub(crate) fn error(
        &mut self,
        code: &'static str,
        place: Option<Place>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(code, Severity::Error, place, (message.into(), remedy.into()));
    }

    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        place: Option<Place>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(code, Severity::Warning, place, (message.into(), remedy.into()));
    }

    pub(crate) fn info(
        &mut self,
        code: &'static str,
        place: Option<Place>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(code, Severity::Info, place, (message.into(), remedy.into()));
    }

    fn push(
        &mut self,
        code: &'static str,
        severity: Severity,
        place: Option<Place>,
        (message, remedy): (String, String),
    ) {
        let node = self.node.clone();
        self.add(Finding { code, severity, place, node, message, remedy });
    }

    /// Takes a finding over. One that is known already is noted for one node more: a mistake in a shared layer would
    /// otherwise be reported once per node.
    pub(crate) fn add(&mut self, finding: Finding) {
        let node = finding.node.clone();
        let is_same = |other: &Finding| {
            other.code == finding.code && other.place == finding.place && other.message == finding.message
        };
        if let Some(known) = self.found.iter_mut().find(|found| is_same(&found.finding)) {
            known.nodes.extend(node);
        } else if self.found.len() < FOUND_MAX {
            self.found.push(Found { finding, nodes: node.into_iter().collect() });
        } else {
            self.dropped = true;
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|found| found.finding.severity == Severity::Error)
    }

    /// Whether a finding already points into `file`.
    pub(crate) fn mentions(&self, file: &str) -> bool {
        let file_of = |found: &Found| found.finding.place.as_ref().is_some_and(|place| place.file == file);
        self.found.iter().any(file_of)
    }

    /// Whether a finding already points at that very place.
    pub(crate) fn is_told(&self, place: &Place) -> bool {
        self.found.iter().any(|found| found.finding.place.as_ref() == Some(place))
    }

    /// Errors first, then by file, line and column; findings without a place last.
    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.into_findings_by(|found| found.into_iter().map(|one| one.finding).collect())
    }

    /// The same, where `merge` may make one finding of several.
    pub(crate) fn into_findings_by(self, merge: impl FnOnce(Vec<Found>) -> Vec<Finding>) -> Vec<Finding> {
        let mut findings = merge(self.found);
        findings.sort_by(|a, b| {
            let key = |f: &Finding| (f.severity, f.place.is_none(), f.place.clone(), f.code);
            key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message))
        });
        let is_cut = FINDINGS_MAX < findings.len();
        findings.truncate(FINDINGS_MAX);
        if self.dropped || is_cut {
            findings.push(Finding {
                code: "CV000",
                severity: Severity::Info,
                place: None,
                node: None,
                message: format!("there are more than {FINDINGS_MAX} findings; the rest is not shown"),
                remedy: "repair these first".to_owned(),
            });
        }
        findings
    }
}

/// `did you mean "x"`, or what there is to choose from.
pub fn suggest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    // What begins alike is meant, most of all the longest: "wso2is-7.2.0" is "wso2is-7.2" and not "wso2is-7.0".
    let begins = known.iter().filter(|name| 2 < name.len() && given.starts_with(**name));
    if let Some(name) = begins.max_by_key(|name| name.len()) {
        return format!("did you mean {name:?}?");
    }
    let best = known.iter().map(|name| (distance(given, name), *name)).min();
    match best {
        Some((distance, name)) if distance <= 1 + given.chars().count() / 3 => {
            format!("did you mean {name:?}?")
        }
        Some(_) if known.len() <= 24 => format!("use one of: {}", known.join(", ")),
        Some((_, name)) => format!("the nearest known name is {name:?}"),
        None => "there is none to choose from".to_owned(),
    }
}

/// What was probably meant by the key that a configuration file of ours refuses, out of the refusal's own words
/// (``unknown field `x`, expected one of `a`, `b` ``); nothing if it is another refusal.
pub fn meant_field(refusal: &str) -> Option<String> {
    let (given, known) = refusal.strip_prefix("unknown field `")?.split_once("`, expected ")?;
    // Every second part stands between back quotes.
    Some(suggest(given, known.split('`').skip(1).step_by(2)))
}

/// As [`suggest`], for products: the same product in the nearest version is meant, and not the one whose name has the
/// fewest other letters. Which versions there are is said as well.
pub fn suggest_product<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let mut products: BTreeMap<&str, Vec<Versioned<'_>>> = BTreeMap::new();
    for version in known.iter().filter_map(|name| version_of(name)) {
        products.entry(version.product).or_default().push(version);
    }
    for versions in products.values_mut() {
        versions.sort_by_key(|version| (version.major, version.minor));
    }
    let typed = version_of(given);
    let product = typed.as_ref().map_or(given, |typed| typed.product);
    let Some(versions) = products.get(product).or_else(|| products.get(nearest(product, products.keys())?))
    else {
        let all: Vec<&str> = products.keys().copied().collect();
        return match products.values().flatten().next_back() {
            Some(last) => format!(
                "the known products are {}, each with its version, as in {:?}",
                all.join(", "),
                last.name
            ),
            None => suggest(given, known),
        };
    };
    // A digit too many: "wso2is-7.22" is "wso2is-7.2".
    let begins = versions.iter().filter(|version| given.starts_with(version.name));
    let begins = begins.max_by_key(|version| version.name.len());
    let near = versions.iter().min_by_key(|version| match &typed {
        Some(typed) => (version.major.abs_diff(typed.major), version.minor.abs_diff(typed.minor)),
        // Without a version the newest is shown.
        None => (u32::MAX - version.major, u32::MAX - version.minor),
    });
    let Some(meant) = begins.or(near) else { return suggest(given, known) };
    let there: Vec<&str> = versions.iter().map(Versioned::version).collect();
    format!("did you mean {:?}? Known versions of {}: {}", meant.name, meant.product, there.join(", "))
}

/// The product whose own name, without the maker's, is a slip away.
fn nearest<'a, 'b: 'a>(given: &str, known: impl Iterator<Item = &'a &'b str>) -> Option<&'b str> {
    let own = |name: &str| name.strip_prefix("wso2").unwrap_or(name).to_owned();
    let given = own(given);
    let best = known.map(|name| (distance(&given, &own(name)), *name)).min()?;
    (best.0 <= 1 + given.chars().count() / 4).then_some(best.1)
}

#[derive(Debug)]
struct Versioned<'a> {
    name: &'a str,
    product: &'a str,
    major: u32,
    minor: u32,
}

impl<'a> Versioned<'a> {
    /// As its name says it.
    fn version(&self) -> &'a str {
        self.name.get(self.product.len() + 1..).unwrap_or_default()
    }
}

/// `wso2is-7.2.0` is wso2is in version 7.2.
fn version_of(id: &str) -> Option<Versioned<'_>> {
    let (product, version) = id.rsplit_once('-')?;
    let mut numbers = version.split('.').map(str::parse);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next().map_or(Ok(0), |minor| minor).ok()?;
    Some(Versioned { name: id, product, major, minor })
}

/// Edit distance with neighbouring letters swapped counting as one edit (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if 1 < i && 1 < j && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_nobody_knows_is_told_with_the_one_that_was_meant() {
        let one = "unknown field `home`, expected `homes`";
        assert_eq!(meant_field(one).as_deref(), Some("did you mean \"homes\"?"));
        let many = "unknown field `javahome`, expected one of `data_dir`, `homes`, `java_home`";
        assert_eq!(meant_field(many).as_deref(), Some("did you mean \"java_home\"?"));
        assert_eq!(meant_field("missing field `homes`"), None);
    }

    #[test]
    fn an_unknown_product_is_the_same_one_in_the_nearest_version() {
        let known = ["wso2is", "wso2is-5.11", "wso2is-7.0", "wso2is-7.2", "wso2is-km-5.10", "wso2am-4.5"];
        for (given, meant) in [
            ("wso2is-7.9", "wso2is-7.2"),
            ("wso2is-7.2.0", "wso2is-7.2"),
            ("wso2is-7.01", "wso2is-7.0"),
            ("wso2is-5.12", "wso2is-5.11"),
            ("wso2is-6", "wso2is-7.0"),
            ("wso2is-km-7.2", "wso2is-km-5.10"),
            ("wso2am-4.9.1", "wso2am-4.5"),
            ("wso2ma-4.5", "wso2am-4.5"),
            ("wso2apim-4.5", "wso2am-4.5"),
            ("wso2is", "wso2is-7.2"),
        ] {
            let said = suggest_product(given, known);
            assert!(said.starts_with(&format!("did you mean {meant:?}?")), "{given}: {said}");
        }
        assert!(suggest_product("wso2is-7.9", known).ends_with("Known versions of wso2is: 5.11, 7.0, 7.2"));
        for strange in ["wso2esb-6.0", "identity", "7.2"] {
            let said = suggest_product(strange, known);
            let wanted = "the known products are wso2am, wso2is, wso2is-km, each with its version, as in ";
            assert!(said.starts_with(wanted), "{strange}: {said}");
        }
    }
}
