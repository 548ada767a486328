//! What an agent's own configuration allows; no coordinator can widen it.

use super::allowed::Allowed;
use crate::{
    bundle::{Bundle, ServiceSettings},
    call::{Call, Hooks},
    node::Failure,
    observed::RefusalReason,
};

/// The host owner's allow-lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Homes that may be managed, as absolute paths.
    pub homes: Vec<String>,
    /// Start arguments that may be used: exact, or a prefix that ends in `*`.
    pub args: Vec<String>,
    /// What hooks and gates may reach, and which files may be written.
    pub allowed: Allowed,
}

/// Words of the start scripts that do something else than run a server in the foreground, in every dash form.
const COMMAND_WORDS: [&str; 9] =
    ["start", "stop", "restart", "debug", "version", "test", "dump", "optimize", "cleanregistry"];

/// Environment names that would make the script or the loader run something else.
const ENV_REFUSED: [&str; 8] =
    ["CARBON_HOME", "JAVACMD", "JAVA_HOME", "PATH", "ENV", "BASH_ENV", "IFS", "SHELLOPTS"];

/// Options of the JVM that only set sizes.
const SIZE_OPTIONS: [&str; 10] = [
    "-Xms",
    "-Xmx",
    "-Xmn",
    "-Xss",
    "-XX:MetaspaceSize=",
    "-XX:MaxMetaspaceSize=",
    "-XX:MaxDirectMemorySize=",
    "-XX:ReservedCodeCacheSize=",
    "-XX:InitialRAMPercentage=",
    "-XX:MaxRAMPercentage=",
];

impl Limits {
    /// # Errors
    /// A home, an argument or an environment name that is not allowed.
    pub fn check(&self, service: &ServiceSettings) -> Result<(), Failure> {
        let wanted = service.home.trim_end_matches('/');
        if !self.homes.iter().any(|home| home.trim_end_matches('/') == wanted) {
            return Err(Failure {
                reason: RefusalReason::HomeNotAllowed,
                detail: format!("{wanted} is not among `homes` of the agent's configuration"),
            });
        }
        for arg in &service.args {
            if let Some(why) = self.arg_refused(arg) {
                return Err(Failure {
                    reason: RefusalReason::CommandNotAllowed,
                    detail: format!("start argument {:?} {why}", name_of(arg)),
                });
            }
        }
        let refused = |name: &&String| ENV_REFUSED.contains(&name.as_str()) || name.starts_with("LD_");
        if let Some(name) = service.env.keys().find(refused) {
            return Err(Failure {
                reason: RefusalReason::CommandNotAllowed,
                detail: format!("environment variable {name} is the agent's own"),
            });
        }
        for (name, value) in service.env.iter().filter(|(name, _)| holds_options(name)) {
            let refused = value.split_whitespace().filter(|option| !is_size(option));
            let refused = refused.filter_map(|option| Some((option, self.arg_refused(option)?))).next();
            if let Some((option, why)) = refused {
                let detail = format!("environment variable {name}: {:?} {why}", name_of(option));
                return Err(Failure { reason: RefusalReason::CommandNotAllowed, detail });
            }
        }
        Ok(())
    }

    /// # Errors
    /// See [`Allowed::check_files`].
    pub fn check_files(&self, bundle: &Bundle) -> Result<(), Failure> {
        self.allowed.check_files(bundle)
    }

    /// # Errors
    /// See [`Allowed::check_hooks`].
    pub fn check_hooks(&self, hooks: &Hooks) -> Result<(), Failure> {
        self.allowed.check_hooks(hooks)
    }

    /// # Errors
    /// See [`Allowed::check_call`].
    pub fn check_call(&self, call: &Call) -> Result<(), Failure> {
        self.allowed.check_call(call)
    }

    fn arg_refused(&self, arg: &str) -> Option<&'static str> {
        let word = arg.trim_start_matches('-').to_ascii_lowercase();
        if arg.is_empty() || arg.contains(|c: char| c.is_whitespace() || c.is_control() || "*?[".contains(c))
        {
            // The scripts expand their arguments unquoted.
            return Some("holds white space or a wildcard, which the start script would split or expand");
        }
        if COMMAND_WORDS.contains(&word.as_str()) || word.ends_with("help") {
            return Some("is a command of the start script, not an option of a server");
        }
        if word.starts_with("dsetup") {
            return Some("recreates database tables");
        }
        if word.starts_with("dportoffset") {
            return Some(
                "would beat `[server] offset` without anybody seeing it; set the offset of the node",
            );
        }
        let allowed = self.args.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => arg.starts_with(prefix),
            None => arg == pattern,
        });
        (!allowed).then_some("is not among `args` of the agent's configuration")
    }
}

/// Whether the start script or the JVM takes the value of this variable for options: `JAVA_OPTS`, `JAVA_TOOL_OPTIONS`,
/// `JVM_MEM_OPTS`, `CATALINA_OPTS` and their like.
fn holds_options(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["OPTS", "OPTIONS", "ARGS"].iter().any(|end| name.ends_with(end))
}

fn is_size(option: &str) -> bool {
    SIZE_OPTIONS
        .iter()
        .filter_map(|prefix| option.strip_prefix(prefix))
        .any(|size| !size.is_empty() && size.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'))
}

/// The part of an argument before its value, which may be a secret.
fn name_of(arg: &str) -> &str {
    arg.split('=').next().unwrap_or(arg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_arguments_are_refused_even_if_listed() {
        let limits = Limits { args: vec!["*".into()], ..Limits::default() };
        for bad in [
            "stop",
            "--start",
            "-restart",
            "-Dsetup",
            "--cleanRegistry",
            "-DportOffset=1",
            "a b",
            "",
            "xhelp",
        ] {
            assert!(limits.arg_refused(bad).is_some(), "{bad}");
        }
        assert_eq!(limits.arg_refused("-Dprofile=gateway-worker"), None);
    }

    #[test]
    fn an_argument_must_be_listed() {
        let limits = Limits { args: vec!["-Dprofile=*".into(), "-Dx=1".into()], ..Limits::default() };
        assert_eq!(limits.arg_refused("-Dprofile=a"), None);
        assert_eq!(limits.arg_refused("-Dx=1"), None);
        assert!(limits.arg_refused("-Dx=2").is_some());
    }

    #[test]
    fn options_in_the_environment_are_judged_as_arguments_are() {
        let bundle = crate::node::tests::bundle("a = 1", "x");
        let limits = Limits { args: vec!["-Dx=*".into()], ..crate::node::tests::limits() };
        let refused = |name: &str, value: &str| {
            let mut service = bundle.service.clone();
            service.env.insert(name.to_owned(), value.to_owned());
            limits.check(&service).err().map(|failure| failure.detail)
        };
        for (name, value) in [
            ("JAVA_OPTS", "-Xmx2g -Dx=1"),
            ("JVM_MEM_OPTS", "-Xms256m -Xmx1024m -XX:MaxRAMPercentage=75.0"),
            ("DB_PASSWORD", "-javaagent:/tmp/a.jar"),
        ] {
            assert_eq!(refused(name, value), None, "{name}={value}");
        }
        for (name, value) in [
            ("JAVA_OPTS", "-Xmx1g -javaagent:/tmp/a.jar=s3cret"),
            ("JAVA_TOOL_OPTIONS", "-agentpath:/tmp/a.so"),
            ("JDK_JAVA_OPTIONS", "@/tmp/options"),
            ("_JAVA_OPTIONS", "-XX:OnOutOfMemoryError=/tmp/a"),
            ("CATALINA_OPTS", "-Dy=1"),
            ("JVM_MEM_OPTS", "-Xmx1g;id"),
        ] {
            let said = refused(name, value).unwrap_or_default();
            assert!(said.contains(name) && !said.contains("s3cret"), "{name}={value}: {said}");
        }
    }
}
