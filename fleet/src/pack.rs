//! The configuration resources of one installed product, as they lie on a host: what decides which files a server
//! makes of its deployment.toml (CONFIG section 1). Read by the agent, kept by the coordinator, evaluated by `carbon`.
//!
//! Whoever reads a home asks [`belongs`] which files matter. Whoever gets resources from elsewhere makes them by
//! [`Resources::new`], which holds every bound; what is inside of the files is `carbon`'s to doubt.

use std::collections::BTreeMap;

use carbon::{
    Pack, PackError,
    pack::{RESOURCES, RULE_FILES, TEMPLATES},
};

use crate::lint::PackFacts;

/// Most files of one pack; the largest product has fewer than 100.
pub const FILES_MAX: usize = 2_016;
/// Most bytes of one file.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// Most bytes of all files; the largest product has 1.6 MB.
pub const BYTES_MAX: usize = 16 << 20;
/// Where the product says what it is, below the home.
pub const VERSION_FILE: &str = "bin/version.txt";
/// Where the mapper's jar and its template engine's lie, below the home. Their names tell versions.
pub const JARS: &str = "lib/";

/// What is wrong with what should be resources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourcesError {
    /// A file that the mapper does not read, or a path that is none.
    #[error("{0:?} is no configuration resource")]
    Foreign(String),
    /// One file.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes")]
    File {
        /// Below the home.
        path: String,
    },
    /// All files.
    #[error("the configuration resources are larger than {BYTES_MAX} bytes")]
    Bytes,
    /// Their number.
    #[error("there are more than {FILES_MAX} configuration resources")]
    Files,
}

/// Whether the mapper reads the file at `path`, below the home and with `/`.
pub fn belongs(path: &str) -> bool {
    if path == VERSION_FILE {
        return true;
    }
    if let Some(name) = path.strip_prefix(JARS) {
        let tells = ["jinjava", "config.mapper", "config-mapper"].iter().any(|part| name.contains(part));
        return tells && name.ends_with(".jar") && !name.contains('/');
    }
    let Some(resource) = path.strip_prefix(RESOURCES) else { return false };
    let is_safe = |part: &str| !matches!(part, "" | "." | "..");
    RULE_FILES.contains(&resource)
        || (resource.starts_with(TEMPLATES) && resource.ends_with(".j2") && resource.split('/').all(is_safe))
}

/// The files, by path below the home. Jars have no content.
#[derive(Clone, PartialEq, Eq)]
pub struct Resources(BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for Resources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resources").field("files", &self.0.len()).finish()
    }
}

impl Resources {
    /// Takes files that all belong.
    ///
    /// # Errors
    /// One that does not, or more than the bounds allow.
    pub fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, ResourcesError> {
        let (mut taken, mut bytes) = (BTreeMap::new(), 0);
        for (path, content) in files {
            if !belongs(&path) || 1024 < path.len() {
                return Err(ResourcesError::Foreign(path.chars().take(80).collect()));
            }
            let content = if path.starts_with(JARS) { Vec::new() } else { content };
            if FILE_BYTES_MAX < content.len() {
                return Err(ResourcesError::File { path });
            }
            bytes += content.len();
            taken.insert(path, content);
            if BYTES_MAX < bytes {
                return Err(ResourcesError::Bytes);
            }
            if FILES_MAX < taken.len() {
                return Err(ResourcesError::Files);
            }
        }
        Ok(Self(taken))
    }

    /// The files, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(path, content)| (path.as_str(), content.as_slice()))
    }

    /// What can be known of the pack.
    ///
    /// # Errors
    /// The files make no pack: a rule file is missing or cannot be read, or there is no template.
    pub fn facts(self) -> Result<PackFacts, PackError> {
        Ok(PackFacts::new(Pack::load(self.0.into_iter())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_mapper_reads_belongs() {
        let cases = [
            ("repository/resources/conf/default.json", true),
            ("repository/resources/conf/templates/repository/conf/carbon.xml.j2", true),
            ("bin/version.txt", true),
            ("lib/jinjava_2.7.2.wso2v1.jar", true),
            ("lib/org.wso2.config.mapper_1.0.23.jar", true),
            ("repository/resources/conf/.metadata/references.properties", false),
            ("repository/resources/conf/templates/notes.txt", false),
            ("repository/resources/conf/templates/../../../../etc/shadow.j2", false),
            ("repository/resources/conf/templates//a.j2", false),
            ("repository/resources/conf/other.json", false),
            ("repository/conf/deployment.toml", false),
            ("lib/tomcat.jar", false),
            ("lib/deep/jinjava-1.jar", false),
        ];
        for (path, expected) in cases {
            assert_eq!(belongs(path), expected, "{path}");
        }
    }

    #[test]
    fn resources_are_bounded() {
        let template = |name: usize| format!("repository/resources/conf/templates/{name}.j2");
        let foreign = Resources::new([("repository/conf/deployment.toml".to_owned(), Vec::new())]);
        assert!(matches!(foreign, Err(ResourcesError::Foreign(_))));
        let large = Resources::new([(template(0), vec![0; FILE_BYTES_MAX + 1])]);
        assert_eq!(large.unwrap_err(), ResourcesError::File { path: template(0) });
        let heavy = (0..5).map(|name| (template(name), vec![0; FILE_BYTES_MAX]));
        assert_eq!(Resources::new(heavy).unwrap_err(), ResourcesError::Bytes);
        let many = (0..=FILES_MAX).map(|name| (template(name), Vec::new()));
        assert_eq!(Resources::new(many).unwrap_err(), ResourcesError::Files);
        let jar = Resources::new([("lib/jinjava-2.7.jar".to_owned(), vec![1; 9])]).unwrap();
        assert_eq!(jar.iter().next(), Some(("lib/jinjava-2.7.jar", [].as_slice())));
    }
}
