//! The command line as a JVM would see it: options, main class, arguments.
//!
//! Properties may stand before the main class (for the JVM) or after it (Carbon's `Main` turns `-Dk=v`
//! arguments into system properties). Both count here, and a later one wins.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Main class of every Carbon server; its presence in `/proc/<pid>/cmdline` identifies the server.
pub const BOOTSTRAP: &str = "org.wso2.carbon.bootstrap.Bootstrap";
/// Main class of the key generator that API Manager 4.7 runs before its server.
pub const KEY_GENERATOR: &str = "org.wso2.carbon.apimgt.encryption.key.generator.EncryptionKeyGenerator";

/// What this `java` was asked to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// `java -version`
    Version,
    /// A Carbon server.
    Server,
    /// The key generator, with the directory of deployment.toml.
    KeyGenerator { conf: PathBuf },
    /// Any other main class (the diagnostics tool): it stays alive until it is told to go.
    Companion { class: String },
}

/// A parsed `java` command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    pub program: Program,
    /// System properties, from both sides of the main class.
    pub properties: BTreeMap<String, String>,
    /// Everything after the main class, as typed.
    pub arguments: Vec<String>,
}

impl Launch {
    /// Reads the arguments after `argv[0]`. `None` if there is no main class to run.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Option<Launch> {
        let mut properties = BTreeMap::new();
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "-version" | "--version" => {
                    return Some(Launch { program: Program::Version, properties, arguments: Vec::new() });
                }
                "-cp" | "-classpath" | "--class-path" => {
                    rest.next();
                }
                option if option.starts_with('-') => note_property(&mut properties, option),
                class => {
                    let arguments: Vec<String> = rest.collect();
                    for argument in &arguments {
                        note_property(&mut properties, argument);
                    }
                    let program = program(class, &arguments);
                    return Some(Launch { program, properties, arguments });
                }
            }
        }
        None
    }

    /// `-Dcarbon.home=`, the identity of a server on its host.
    pub fn carbon_home(&self) -> Option<PathBuf> {
        self.properties.get("carbon.home").map(PathBuf::from)
    }

    /// `-DportOffset=N`, which beats `[server] offset`.
    pub fn port_offset(&self) -> Option<u16> {
        self.properties.get("portOffset").and_then(|offset| offset.trim().parse().ok())
    }

    /// Whether any argument asks for the usage text (Carbon tests for the end of the word).
    pub fn asks_for_help(&self) -> bool {
        self.arguments.iter().any(|argument| argument.ends_with("help"))
    }
}

fn program(class: &str, arguments: &[String]) -> Program {
    match class {
        BOOTSTRAP => Program::Server,
        KEY_GENERATOR => {
            Program::KeyGenerator { conf: PathBuf::from(arguments.first().map_or("", String::as_str)) }
        }
        other => Program::Companion { class: other.to_owned() },
    }
}

fn note_property(properties: &mut BTreeMap<String, String>, argument: &str) {
    if let Some(property) = argument.strip_prefix("-D") {
        let (name, value) = property.split_once('=').unwrap_or((property, ""));
        properties.insert(name.to_owned(), value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Launch> {
        Launch::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn properties_count_on_both_sides_of_the_main_class_and_the_later_wins() {
        let launch =
            parse("-Xmx1g -cp a:b -DportOffset=1 -Dcarbon.home=/h org.wso2.carbon.bootstrap.Bootstrap run -DportOffset=7")
                .expect("a main class");
        assert_eq!(launch.program, Program::Server);
        assert_eq!(launch.port_offset(), Some(7));
        assert_eq!(launch.carbon_home(), Some(PathBuf::from("/h")));
        assert_eq!(launch.arguments, ["run", "-DportOffset=7"]);
    }

    #[test]
    fn a_class_path_is_not_the_main_class() {
        assert_eq!(parse("-cp Main"), None);
        assert_eq!(parse("-version").map(|launch| launch.program), Some(Program::Version));
    }
}
