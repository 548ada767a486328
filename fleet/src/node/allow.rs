//! What an agent's own configuration allows; no coordinator can widen it.

use crate::{bundle::ServiceSettings, node::Failure, observed::RefusalReason};

/// The host owner's allow-lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Homes that may be managed, as absolute paths.
    pub homes: Vec<String>,
    /// Start arguments that may be used: exact, or a prefix that ends in `*`.
    pub args: Vec<String>,
}

/// Words of the start scripts that do something else than run a server in the foreground, in every dash form.
const COMMAND_WORDS: [&str; 9] =
    ["start", "stop", "restart", "debug", "version", "test", "dump", "optimize", "cleanregistry"];

/// Environment names that would make the script or the loader run something else.
const ENV_REFUSED: [&str; 8] =
    ["CARBON_HOME", "JAVACMD", "JAVA_HOME", "PATH", "ENV", "BASH_ENV", "IFS", "SHELLOPTS"];

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
        Ok(())
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

/// The part of an argument before its value, which may be a secret.
fn name_of(arg: &str) -> &str {
    arg.split('=').next().unwrap_or(arg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_arguments_are_refused_even_if_listed() {
        let limits = Limits { homes: Vec::new(), args: vec!["*".into()] };
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
        let limits = Limits { homes: Vec::new(), args: vec!["-Dprofile=*".into(), "-Dx=1".into()] };
        assert_eq!(limits.arg_refused("-Dprofile=a"), None);
        assert_eq!(limits.arg_refused("-Dx=1"), None);
        assert!(limits.arg_refused("-Dx=2").is_some());
    }
}
