//! The configuration resources of one installed product, read once and shared.
//!
//! `Pack::load` takes files as (path, bytes) from whoever does I/O. A pack never changes afterwards: templates are
//! parsed, rules compiled. Updates of a product change templates in place, so a pack is known by its digest, not by
//! the product's version.

use std::collections::BTreeMap;
use std::sync::Arc;

use md5::{Digest, Md5};

use crate::dialect::{Dialect, Product, Version};
use crate::infer::Inference;
use crate::json::{self, JsonError};
use crate::mapping::Mappings;
use crate::template::Template;
use crate::units::Units;
use crate::validate::Rules;
use crate::value::{Table, Value};

/// Where the resources live below a product's home.
pub const RESOURCES: &str = "repository/resources/conf/";
/// Below `RESOURCES`.
pub const TEMPLATES: &str = "templates/";

/// The five rule files, with the error that the mapper gives when one cannot be read.
pub const RULE_FILES: [&str; 5] =
    ["key-mappings.json", "infer.json", "default.json", "unit-resolve.json", "validator.json"];

/// Most templates of one pack. The largest product has 81.
const TEMPLATES_MAX: usize = 2000;
/// Most bytes of one file.
const FILE_MAX: usize = 4 << 20;
/// Bytes of all files together; real packs have one to two million.
const PACK_MAX: usize = 16 << 20;
/// Entries of infer.json and of validator.json, each of which may be an expression to compile; real ones have up to 35.
const RULES_MAX: usize = 1000;

/// Why files do not make a pack.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A rule file is not there.
    #[error("{RESOURCES}{file} is missing: is this the home of a WSO2 product?")]
    Missing { file: &'static str },
    /// A rule file cannot be read.
    #[error("cannot read {RESOURCES}{file}")]
    Json { file: &'static str, source: JsonError },
    /// There is no template.
    #[error("no template (*.j2) below {RESOURCES}{TEMPLATES}: is this the home of a WSO2 product?")]
    NoTemplates,
    /// A file or the number of files is beyond a limit.
    #[error("{what}: more than {limit} {unit}")]
    Limit { what: String, limit: usize, unit: &'static str },
}

/// A template of the pack.
#[derive(Debug)]
pub struct TemplateFile {
    /// Path of the output below the home: `repository/conf/carbon.xml`.
    pub output: Arc<str>,
    /// The parsed template.
    pub template: Template,
}

/// Resources of one installed product.
#[derive(Debug)]
pub struct Pack {
    /// key-mappings.json.
    pub mappings: Mappings,
    /// infer.json.
    pub inference: Inference,
    /// default.json.
    pub defaults: Table,
    /// unit-resolve.json.
    pub units: Units,
    /// validator.json.
    pub rules: Rules,
    /// Templates, sorted by output path.
    pub templates: Vec<TemplateFile>,
    /// MD5 of each resource file as the mapper records it, by path below the home.
    pub checksums: BTreeMap<Arc<str>, String>,
    /// What the product says it is (`bin/version.txt`).
    pub product: Option<(Product, Version)>,
    /// The mapper's and the template engine's version.
    pub dialect: Dialect,
    digest: String,
}

#[derive(Default)]
struct Files {
    rules: BTreeMap<&'static str, Vec<u8>>,
    templates: BTreeMap<String, Vec<u8>>,
    checksums: BTreeMap<Arc<str>, String>,
    product: Option<(Product, Version)>,
    mapper_jar: Option<Version>,
    jinjava_jar: Option<Version>,
    bytes: usize,
}

impl Pack {
    /// Builds a pack from files of a home: paths below the home with `/`, in any order. Files that the mapper does
    /// not read are ignored. `lib/*.jar` names tell versions; their bytes are not looked at and may be empty.
    pub fn load(files: impl Iterator<Item = (String, Vec<u8>)>) -> Result<Self, PackError> {
        Self::load_as(files, None)
    }

    /// The same with a given dialect, for packs whose jars are known otherwise.
    pub fn load_as(
        files: impl Iterator<Item = (String, Vec<u8>)>,
        dialect: Option<Dialect>,
    ) -> Result<Self, PackError> {
        let files = Files::sort(files)?;
        let dialect = dialect.unwrap_or_else(|| files.dialect());
        if files.templates.is_empty() {
            return Err(PackError::NoTemplates);
        }
        let digest = files.digest(dialect);
        let rule = |file: &'static str| -> Result<Table, PackError> {
            let bytes = files.rules.get(file).ok_or(PackError::Missing { file })?;
            json::object(bytes).map_err(|source| PackError::Json { file, source })
        };
        let (infer, validator) = (rule("infer.json")?, rule("validator.json")?);
        for (file, object) in [("infer.json", &infer), ("validator.json", &validator)] {
            if RULES_MAX < object.iter().map(|(_, rules)| rules_in(rules)).sum() {
                let what = format!("{RESOURCES}{file}");
                return Err(PackError::Limit { what, limit: RULES_MAX, unit: "rules" });
            }
        }
        let templates = files.templates.iter().map(|(output, bytes)| TemplateFile {
            output: Arc::from(output.as_str()),
            template: Template::parse(&String::from_utf8_lossy(bytes), dialect),
        });
        Ok(Self {
            mappings: Mappings::new(&rule("key-mappings.json")?),
            inference: Inference::new(&infer),
            defaults: rule("default.json")?,
            units: Units::new(&rule("unit-resolve.json")?),
            rules: Rules::new(&validator),
            templates: templates.collect(),
            checksums: files.checksums,
            product: files.product,
            dialect,
            digest,
        })
    }

    /// Names this content: equal digests render equally. Hex, 32 digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// validator.json may list several rules for one key.
fn rules_in(value: &Value) -> usize {
    match value {
        Value::List(rules) => rules.len(),
        _ => 1,
    }
}

impl Files {
    fn sort(files: impl Iterator<Item = (String, Vec<u8>)>) -> Result<Self, PackError> {
        let mut sorted = Self::default();
        for (path, bytes) in files {
            sorted.take(&path, bytes)?;
            if TEMPLATES_MAX < sorted.templates.len() {
                let what = "templates of the pack".into();
                return Err(PackError::Limit { what, limit: TEMPLATES_MAX, unit: "files" });
            }
        }
        Ok(sorted)
    }

    fn take(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), PackError> {
        if path == "bin/version.txt" {
            self.product = product(&String::from_utf8_lossy(&bytes));
            return Ok(());
        }
        if let Some(jar) = path.strip_suffix(".jar") {
            let name = jar.rsplit('/').next().unwrap_or(jar);
            if let Some(version) = jar_version(name, "jinjava") {
                self.jinjava_jar = Some(version);
            } else if let Some(version) =
                jar_version(name, "config.mapper").or(jar_version(name, "config-mapper"))
            {
                self.mapper_jar = Some(version);
            }
            return Ok(());
        }
        let Some(resource) = path.strip_prefix(RESOURCES) else { return Ok(()) };
        let rule = RULE_FILES.iter().find(|file| **file == resource);
        let template = resource.strip_prefix(TEMPLATES);
        if rule.is_none() && template.is_none() {
            return Ok(());
        }
        if FILE_MAX < bytes.len() {
            return Err(PackError::Limit { what: path.to_owned(), limit: FILE_MAX, unit: "bytes" });
        }
        self.bytes += bytes.len();
        if PACK_MAX < self.bytes {
            let what = "files of the pack".into();
            return Err(PackError::Limit { what, limit: PACK_MAX, unit: "bytes" });
        }
        self.checksums.insert(Arc::from(path), hex(&Md5::digest(&bytes)));
        if let Some(rule) = rule {
            self.rules.insert(rule, bytes);
        } else if let Some(output) = template.and_then(|template| template.strip_suffix(".j2")) {
            self.templates.insert(output.to_owned(), bytes);
        }
        Ok(())
    }

    /// Jars beat the product's table.
    fn dialect(&self) -> Dialect {
        let known = self.product.map_or(Dialect::NEWEST, |(product, version)| Dialect::of(product, version));
        Dialect {
            mapper: self.mapper_jar.unwrap_or(known.mapper),
            jinjava: self.jinjava_jar.unwrap_or(known.jinjava),
        }
    }

    fn digest(&self, dialect: Dialect) -> String {
        let mut digest = Md5::new();
        for (path, checksum) in &self.checksums {
            digest.update(path.as_bytes());
            digest.update([0]);
            digest.update(checksum.as_bytes());
        }
        digest.update(format!("{} {}", dialect.mapper, dialect.jinjava).as_bytes());
        hex(&digest.finalize())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `WSO2 API Manager v4.5.0`.
fn product(text: &str) -> Option<(Product, Version)> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let product = if line.contains("Identity Server") {
        Product::IdentityServer
    } else if line.contains("API") || line.contains("Gateway") || line.contains("Traffic Manager") {
        Product::ApiManager
    } else {
        return None;
    };
    let version = line.rsplit(|c: char| c.is_whitespace()).next()?.trim_start_matches(['v', 'V']);
    Some((product, version.parse().ok()?))
}

/// `jinjava-2.7.2`, `jinjava_2.7.2.wso2v1`, `org.wso2.config.mapper_1.0.23`.
fn jar_version(name: &str, jar: &str) -> Option<Version> {
    let rest = &name[name.find(jar)? + jar.len()..];
    let rest = rest.strip_prefix(['-', '_'])?;
    let numbers: Vec<&str> = rest.split(['.', '-', '_']).take(3).collect();
    numbers.join(".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(extra: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<(String, Vec<u8>)> =
            RULE_FILES.iter().map(|file| (format!("{RESOURCES}{file}"), b"{}".to_vec())).collect();
        files.push((format!("{RESOURCES}templates/repository/conf/a.xml.j2"), b"<a/>".to_vec()));
        for (path, text) in extra {
            files.retain(|(other, _)| other != path);
            files.push(((*path).to_owned(), text.as_bytes().to_vec()));
        }
        files
    }

    #[test]
    fn the_product_and_the_jars_tell_the_dialect() {
        let pack =
            Pack::load(files(&[("bin/version.txt", "WSO2 API Manager v4.2.0\n")]).into_iter()).unwrap();
        assert_eq!(pack.dialect.jinjava.to_string(), "2.6.0");
        let updated = [("bin/version.txt", "WSO2 API Manager v4.2.0"), ("lib/jinjava-2.7.5.wso2v1.jar", "")];
        let pack = Pack::load(files(&updated).into_iter()).unwrap();
        assert_eq!(
            (pack.dialect.mapper.to_string(), pack.dialect.jinjava.to_string()),
            ("1.0.20".into(), "2.7.5".into())
        );
        assert_eq!(
            product("WSO2 Identity Server v7.2.0"),
            Some((Product::IdentityServer, Version::new(7, 2, 0)))
        );
    }

    #[test]
    fn the_digest_follows_the_content_only() {
        let digest =
            |files: Vec<(String, Vec<u8>)>| Pack::load(files.into_iter()).unwrap().digest().to_owned();
        let mut reversed = files(&[]);
        reversed.reverse();
        assert_eq!(digest(files(&[])), digest(reversed));
        assert_ne!(
            digest(files(&[])),
            digest(files(&[("repository/resources/conf/default.json", "{\"a\": 1}")]))
        );
        assert_eq!(digest(files(&[])), digest(files(&[("repository/conf/deployment.toml", "a = 1")])));
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let mut without = files(&[]);
        without.retain(|(path, _)| !path.ends_with("infer.json"));
        assert!(Pack::load(without.into_iter()).unwrap_err().to_string().contains("infer.json is missing"));
        let broken = files(&[("repository/resources/conf/default.json", "{\"a\":")]);
        assert!(Pack::load(broken.into_iter()).unwrap_err().to_string().contains("default.json"));
        assert!(matches!(Pack::load(std::iter::empty()), Err(PackError::NoTemplates)));
    }

    #[test]
    fn packs_that_are_too_large_are_refused() {
        let refused = |files: Vec<(String, Vec<u8>)>| Pack::load(files.into_iter()).unwrap_err().to_string();
        let template = |n: usize, bytes: usize| {
            (format!("{RESOURCES}templates/repository/conf/{n}.xml.j2"), vec![b'x'; bytes])
        };
        assert!(refused(vec![template(0, FILE_MAX + 1)]).contains("more than 4194304 bytes"));
        assert!(
            refused((0..5).map(|n| template(n, FILE_MAX)).collect()).contains("more than 16777216 bytes")
        );
        assert!(
            refused((0..=TEMPLATES_MAX).map(|n| template(n, 1)).collect()).contains("more than 2000 files")
        );
        let rules: Vec<String> = (0..=RULES_MAX).map(|n| format!("\"a.{n}\": {{}}")).collect();
        let infer = format!("{{{}}}", rules.join(","));
        let text = refused(files(&[("repository/resources/conf/infer.json", &infer)]));
        assert!(text.contains("infer.json: more than 1000 rules"), "{text}");
    }
}
